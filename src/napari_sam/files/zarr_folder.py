"""OME-Zarr, versions 0.4 and 0.5, and plain Zarr arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr

from napari_sam.files.image_file import ImageFileError
from napari_sam.files.read import Content
from napari_sam.placement import UNNAMED, placement


def read_zarr(path: Path) -> Content:
    """Open the full resolution of an OME-Zarr image or label image, or a plain array.

    Raises
    ------
    ImageFileError
        If the folder holds neither.
    """
    # Consolidated metadata may be older than what is there, such as labels that were added.
    try:
        node = zarr.open(path, mode="r", use_consolidated=False)
    except FileNotFoundError as error:
        raise ImageFileError(
            f"{path} is a folder and no Zarr: expected one image. Name an image in it; planes in files of "
            "their own become a stack when they are saved as one file."
        ) from error
    if isinstance(node, zarr.Array):
        return Content(node, _named(node) or UNNAMED.get(node.ndim, "?" * node.ndim), {})
    root, node = node, _first_image(node)
    described = _metadata(node)
    if "multiscales" not in described:
        names = sorted(node.group_keys())
        hint = f" It holds the folders {', '.join(names)}: name one of them." if names else ""
        raise ImageFileError(f"{path.name} is a Zarr folder, but no OME-Zarr image was found in it.{hint}")
    multiscale = described["multiscales"][0]
    array: Any = node[multiscale["datasets"][0]["path"]]
    letters, scale, first, units = placement(multiscale, array.ndim)
    sizes = {n: (float(f), u) for n, f, u in zip(letters, scale, units, strict=True)}
    origin = {n: float(o) for n, o in zip(letters, first, strict=True)}
    return Content(array, letters, sizes, note=_others_note(root, node, path), origin=origin)


def labels_within(path: Path) -> list[Path]:
    """Return the label images that lie in the OME-Zarr of an image; of anything else there are none.

    Parameters
    ----------
    path : Path
    """
    try:
        node = zarr.open(path, mode="r", use_consolidated=False)
    # What is wrong with it is said when it is read.
    except Exception:  # noqa: BLE001
        return []
    if not isinstance(node, zarr.Group):
        return []
    image = _first_image(node)
    described = _metadata(image)
    labels = image.get("labels")
    if "multiscales" not in described or "image-label" in described or not isinstance(labels, zarr.Group):
        return []
    # A group that is listed may have been taken away, and one that is there may not be listed.
    names = sorted({*map(str, _metadata(labels).get("labels", ())), *labels.group_keys()})
    places = [path / image.path / "labels" / name for name in names]
    return [place for place in places if place.is_dir()]


def _first_image(node: zarr.Group) -> zarr.Group:
    """Return the image that a folder of images begins with, as bioformats2raw writes it; else the node."""
    first = node.get("0") if "multiscales" not in _metadata(node) else None
    return first if isinstance(first, zarr.Group) else node


def _others_note(root: zarr.Group, first: zarr.Group, path: Path) -> str:
    """Say that there are more images in a folder than the one that is read."""
    if first.path == root.path:
        return ""
    images = [name for name, group in root.groups() if name.isdecimal() and "multiscales" in _metadata(group)]
    if len(images) < 2:
        return ""
    another = path / min(set(images) - {"0"}, key=int)
    return (
        f"It holds {len(images)} images, of which the first is read: name the folder of another, "
        f"such as {another}."
    )


def _named(array: zarr.Array[Any]) -> str:
    """Letters of the axes where a plain array names each by its own, Y and X among them; else nothing."""
    names = "".join(name or "?" for name in getattr(array.metadata, "dimension_names", None) or ()).upper()
    known = set("YX") <= set(names) <= set("TZCYX") and len(set(names)) == len(names)
    return names if known and len(names) == array.ndim else ""


def _metadata(group: zarr.Group) -> dict[str, Any]:
    """OME's metadata of a group, in version 0.5 or before."""
    attributes: dict[str, Any] = dict(group.attrs)
    return attributes.get("ome", attributes)

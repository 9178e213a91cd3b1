"""OME-Zarr, versions 0.4 and 0.5, and plain Zarr arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from napari_sam.axes import unit_name
from napari_sam.files.image_file import ImageFileError
from napari_sam.files.read import Content

_DEFAULT = {2: "YX", 3: "ZYX", 4: "TZYX", 5: "TCZYX"}


def read_zarr(path: Path) -> Content:
    """Open the full resolution of an OME-Zarr image or label image, or a plain array.

    Raises
    ------
    ImageFileError
        If the folder holds neither.
    """
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return Content(node, _named(node) or _DEFAULT.get(node.ndim, "?" * node.ndim), {})
    node = _first_image(node)
    described = _metadata(node)
    if "multiscales" not in described:
        names = sorted(node.group_keys())
        hint = f" It holds the folders {', '.join(names)}: name one of them." if names else ""
        raise ImageFileError(f"{path.name} is a Zarr folder, but no OME-Zarr image was found in it.{hint}")
    multiscale = described["multiscales"][0]
    dataset = multiscale["datasets"][0]
    array: Any = node[dataset["path"]]
    letters, units = _axes(multiscale.get("axes"), array.ndim)
    factors = np.ones(array.ndim)
    for transforms in (dataset, multiscale):
        for transform in transforms.get("coordinateTransformations", []):
            if transform["type"] == "scale":
                factors = factors * np.asarray(transform["scale"], float)
    sizes = {n: (float(f), u) for n, f, u in zip(letters, factors, units, strict=True)}
    return Content(array, letters, sizes)


def labels_within(path: Path) -> list[Path]:
    """Return the label images that lie in the OME-Zarr of an image; of anything else there are none.

    Parameters
    ----------
    path : Path
    """
    try:
        node = zarr.open(path, mode="r")
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


def _named(array: zarr.Array[Any]) -> str:
    """Letters of the axes where a plain array names each by its own, Y and X among them; else nothing."""
    names = "".join(name or "?" for name in getattr(array.metadata, "dimension_names", None) or ()).upper()
    known = set("YX") <= set(names) <= set("TZCYX") and len(set(names)) == len(names)
    return names if known and len(names) == array.ndim else ""


def _metadata(group: zarr.Group) -> dict[str, Any]:
    """OME's metadata of a group, in version 0.5 or before."""
    attributes: dict[str, Any] = dict(group.attrs)
    return attributes.get("ome", attributes)


def _axes(axes: Any, ndim: int) -> tuple[str, list[str]]:
    """Letters and units of the axes; in the oldest files they are letters alone, or are not named."""
    entries = [{"name": a} if isinstance(a, str) else a for a in axes or _DEFAULT.get(ndim, "?" * ndim)]
    return "".join(e["name"].upper()[:1] for e in entries), [unit_name(e.get("unit")) for e in entries]

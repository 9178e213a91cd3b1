"""Label images as OME-Zarr: in chunks, with a pyramid, on their own or beside their image.

On its own, a label image is a multiscale image whose metadata say that it holds labels. Where the image is
given, or ``path`` is the OME-Zarr of an image already, the labels become its ``labels/objects``, as the
specification asks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_sam.axes import METRES, SECONDS, SPACE, Axes
from napari_sam.export.atomic import replacing
from napari_sam.export.formats import ExportError
from napari_sam.export.labelled import Labelled, Source
from napari_sam.placement import Placement, placement

NAME = "objects"
CHUNK = 512
SMALLEST = 256
"""The pyramid ends with a level of which both sides are at most this."""

_ORDER = "TCZYX"
_TYPES = {"T": "time", "C": "channel"}
Version = Literal["0.4", "0.5"]


def write(labelled: Labelled, path: Path) -> None:
    """Write the labels; an image that is at ``path`` already stays and gets them added."""
    if holds_image(path):
        _add_to_image(labelled, path)
        return
    if path.exists() and "multiscales" not in _metadata_of(path):
        raise ExportError(f"{path} is there already and is no OME-Zarr. Choose another name.")
    with replacing(path, folder=True) as beside:
        if labelled.image is None:
            _write_labels(labelled, beside, "0.5", source=None)
            return
        axes, image, shape = labelled.axes, labelled.image, labelled.image.shape
        if len(shape) > len(axes.names):
            # Channels at the end become an axis of their own in front of Y and X.
            axes, shape = _with_channels(axes), (*shape[:-3], shape[-1], *shape[-3:-1])
        planes = _planes(image, len(labelled.shape))
        attributes = _write_pyramid(
            beside, planes, shape, image.dtype, axes, labelled.image_name, "0.5", labelled.origin
        )
        _set_attributes(beside, attributes, "0.5")
        _write_labels(labelled, beside / "labels" / NAME, "0.5", source="../../")
        _list_labels(beside / "labels", NAME, "0.5")


def _planes(image: Source, axes: int) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Read the planes of an image one by one, where there are more axes with each channel of its own."""
    for index in np.ndindex(image.shape[: axes - 2]):
        pixels = image[index]
        if pixels.ndim == 2:
            yield index, pixels
        else:
            yield from (((*index, c), plane) for c, plane in enumerate(np.moveaxis(pixels, -1, 0)))


def holds_image(path: Path) -> bool:
    """Whether the OME-Zarr of an image is at a path, to which labels are added."""
    present = _metadata_of(path)
    return "multiscales" in present and "image-label" not in present


def labels_at(path: Path) -> Path:
    """Place at which labels lie that are written to a path: in the OME-Zarr of an image, a folder in it."""
    return path / "labels" / NAME if holds_image(path) else path


def refuse_labels_within(path: Path) -> None:
    """Refuse a place at which labels lie in the OME-Zarr of an image: it is the image that a person named.

    Raises
    ------
    ExportError
    """
    place = labels_at(path)
    if place != path and place.exists():
        raise ExportError(
            f"{place} is there already. Choose another place for the labels, or "
            "add --overwrite to replace it."
        )


def _add_to_image(labelled: Labelled, path: Path) -> None:
    """Add labels to the OME-Zarr of an image, in its version of the format."""
    multiscale = _metadata_of(path)["multiscales"][0]
    shape = zarr.open_array(path / multiscale["datasets"][0]["path"], mode="r").shape
    image = placement(multiscale, len(shape))
    _check_shape(labelled, path, image, shape)
    version: Version = "0.4" if zarr.open_group(path, mode="r").metadata.zarr_format == 2 else "0.5"
    folder = path / "labels"
    try:
        zarr.open_group(folder, mode="a", zarr_format=_zarr_format(version))
    except OSError as error:
        raise ExportError(f"{path} cannot be written to ({error}). Choose another folder.") from error
    axes, origin = _placed_as(labelled.axes, image)
    with replacing(folder / NAME, folder=True) as beside:
        _write_labels(replace(labelled, axes=axes, origin=origin), beside, version, source="../../")
    # Listed last: a reader never meets a name without its labels.
    _list_labels(folder, NAME, version)
    _consolidate_again(path)


def _consolidate_again(path: Path) -> None:
    """Bring consolidated metadata up to date where there are some: readers of these see nothing else.

    The image may be one of several in a folder, such as that of a plate, which has its own.
    """
    place = path.absolute()
    while (place / "zarr.json").exists() or (place / ".zgroup").exists():
        described = zarr.open_group(place, mode="r").metadata
        if described.consolidated_metadata is not None:
            try:
                with warnings.catch_warnings():
                    # Format 3 has them by agreement only, and whoever made this image knew.
                    warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
                    zarr.consolidate_metadata(place, zarr_format=described.zarr_format)
            except OSError as error:
                raise ExportError(
                    f"The labels lie in {path}, but the consolidated metadata of {place} cannot be "
                    f"written ({error}). Ask for permission to write there, and export again."
                ) from error
        place = place.parent


def _placed_as(axes: Axes, image: Placement) -> tuple[Axes, dict[str, float]]:
    """Axes of labels with the calibration of their image where they have none, and its origin by axis."""
    known = {n: (float(s), u, float(o)) for n, s, o, u in zip(*image, strict=True)}
    # Sizes in pixels say how much larger one is than another, which then is no size that is not known.
    relative = any(size != 1 and unit == "pixel" for size, unit in map(axes.of, axes.space))
    sizes, origin = [], {}
    for name in axes.names:
        own = axes.of(name)
        size, unit, start = known.get(name, (*own, 0.0))
        if own != (1.0, "pixel") or (relative and name in SPACE):
            start *= _times(unit, own[1])
            size, unit = own
        sizes.append((size, unit))
        origin[name] = start
    return Axes(axes.names, tuple(s for s, _ in sizes), tuple(u for _, u in sizes)), origin


def _times(unit: str, other: str) -> float:
    """How many of another unit make up one; 1 where they cannot be compared."""
    tables = (t for t in (METRES, SECONDS) if unit in t and other in t)
    return next((t[unit] / t[other] for t in tables), 1.0)


def _check_shape(labelled: Labelled, path: Path, image: Placement, shape: tuple[int, ...]) -> None:
    """Refuse labels that are not as large as the image; axes of one position and channels do not count."""
    names = image.names

    def sizes(letters: str, lengths: tuple[int, ...]) -> list[int]:
        return [
            n for axis, n in zip(letters, lengths, strict=True) if axis in "YX" or (axis != "C" and n > 1)
        ]

    if sizes(names, shape) != sizes(labelled.axes.names, labelled.shape):
        raise ExportError(
            f"{path} holds an image of the shape {tuple(shape)} with the axes {names}, to which labels of "
            f"the shape {labelled.shape} with the axes {labelled.axes.names} do not belong. Choose the image "
            "that was labelled, or another name."
        )


def _write_labels(
    labelled: Labelled,
    place: Path,
    version: Version,
    source: str | None,
) -> None:
    """Write the label pyramid and its metadata."""
    planes = ((p.index, p.labels.astype(labelled.dtype)) for p in labelled.planes())
    attributes = _write_pyramid(
        place, planes, labelled.shape, labelled.dtype, labelled.axes, NAME, version, labelled.origin
    )
    described: dict[str, Any] = {"version": version}
    known = labelled.features.everywhere()
    if known:
        described["properties"] = [{"label-value": label, **row} for label, row in sorted(known.items())]
    if source is not None:
        described["source"] = {"image": source}
    _set_attributes(place, {**attributes, "image-label": described}, version)


def _write_pyramid(
    place: Path,
    planes: Iterable[tuple[tuple[int, ...], Any]],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: Axes,
    name: str,
    version: Version,
    origin: Mapping[str, float],
) -> dict[str, Any]:
    """Write the levels plane by plane, each with every second pixel of the one before; return metadata."""
    group = zarr.open_group(place, mode="w", zarr_format=_zarr_format(version))
    order = [axes.names.index(n) for n in _ORDER if n in axes.names]
    shapes = [tuple(shape[i] for i in order)]
    while max(shapes[-1][-2:]) > SMALLEST:
        shapes.append((*shapes[-1][:-2], *(-(-s // 2) for s in shapes[-1][-2:])))
    ordered = axes.pick("".join(n for n in _ORDER if n in axes.names))
    levels = [_level(group, str(k), s, dtype, ordered.names, version) for k, s in enumerate(shapes)]
    for index, plane in planes:
        at = tuple(index[i] for i in order[:-2])
        for level in levels:
            level[at] = plane
            plane = plane[::2, ::2]
    # Every second pixel starting at the first: the origin, a pixel's centre, stays where it is.
    start = [origin.get(n, 0.0) for n in ordered.names]
    moved = [{"type": "translation", "translation": start}] if any(start) else []
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [{"type": "scale", "scale": _scale(ordered, 2**k)}, *moved],
        }
        for k in range(len(levels))
    ]
    multiscale = {"name": name, "axes": _axes(ordered), "datasets": datasets, "type": "nearest"}
    return {"multiscales": [{**multiscale, "version": version} if version == "0.4" else multiscale]}


def _level(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    names: str,
    version: Version,
) -> Any:
    """Return an empty array of one level."""
    chunks = (*(1,) * (len(shape) - 2), *(min(s, CHUNK) for s in shape[-2:]))
    encoding: dict[str, Any] = {"name": "v2", "separator": "/"} if version == "0.4" else {"name": "default"}
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        chunk_key_encoding=encoding,
        dimension_names=None if version == "0.4" else list(names.lower()),
    )


def _axes(axes: Axes) -> list[dict[str, str]]:
    """Axes as the metadata name them; units only where they are some."""
    found = []
    for name, unit in zip(axes.names, axes.units, strict=True):
        entry = {"name": name.lower(), "type": _TYPES.get(name, "space")}
        if unit in (SECONDS if name == "T" else METRES):
            entry["unit"] = unit
        found.append(entry)
    return found


def _scale(axes: Axes, step: int) -> list[float]:
    """Distance between the pixels of a level."""
    pairs = zip(axes.names, axes.spacing, strict=True)
    return [size * step if name in "YX" else size for name, size in pairs]


def _with_channels(axes: Axes) -> Axes:
    """Return the axes with channels in front of Y and X."""
    (*front, y, x), (*front_units, y_unit, x_unit) = axes.spacing, axes.units
    names = f"{axes.names[:-2]}CYX"
    return Axes(names, (*front, 1.0, y, x), (*front_units, "pixel", y_unit, x_unit))


def _zarr_format(version: Version) -> Literal[2, 3]:
    """Version of zarr that a version of OME-Zarr builds on."""
    return 2 if version == "0.4" else 3


def _set_attributes(place: Path, attributes: dict[str, Any], version: Version) -> None:
    """Write metadata where the version keeps them."""
    group = zarr.open_group(place, mode="r+", zarr_format=_zarr_format(version))
    group.attrs.update(attributes if version == "0.4" else {"ome": {"version": version, **attributes}})


def _list_labels(folder: Path, name: str, version: Version) -> None:
    """Name the labels of an image in the group that holds them."""
    zarr.open_group(folder, mode="a", zarr_format=_zarr_format(version))
    names = _metadata_of(folder).get("labels", [])
    _set_attributes(folder, {"labels": sorted({*names, name})}, version)


def _metadata_of(path: Path) -> dict[str, Any]:
    """Metadata of OME-Zarr at a path; empty where there is none."""
    if not path.is_dir():
        return {}
    try:
        attributes = dict(zarr.open_group(path, mode="r", use_consolidated=False).attrs)
    except (OSError, ValueError, KeyError):
        return {}
    ome = attributes.get("ome", attributes)
    return dict(ome) if isinstance(ome, dict) else {}

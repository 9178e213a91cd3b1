"""What napari calls when a Labels layer is saved: one function for each format."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari_sam.axes import ORDER, SECONDS, Axes, make_axes, unit_name
from napari_sam.export import export
from napari_sam.export.formats import refuse_other_endings
from napari_sam.spacing import first_pixel, pixel_spacing

MARK = "napari_sam"
"""Key of a layer's metadata that says what the plugin made it for."""

_SIZES = re.compile(r"area|planes|volume_\w+3")
"""Columns of features in which the plugin notes how large an object is when it is made."""
_WORDS = {"time": "T", "frame": "T", "plane": "Z", "depth": "Z", "slice": "Z", "channel": "C"}


@contextmanager
def told_by_napari() -> Iterator[None]:
    """Let napari show why nothing was written.

    It takes any `ValueError` of a writer to mean that there is no writer, and says so instead.

    Raises
    ------
    OSError
        In place of a `ValueError`, with its words.
    """
    try:
        yield
    except ValueError as error:
        raise OSError(str(error)) from error


def write_tiff(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer as a calibrated TIFF; see `write_layer`."""
    return _save(path, data, attributes)


def write_png(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer as PNG; see `write_layer`."""
    return _save(path, data, attributes, "png")


def write_coco(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer as COCO JSON; see `write_layer`."""
    return _save(path, data, attributes, "coco")


def write_imagej(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer as ImageJ ROIs; see `write_layer`."""
    return _save(path, data, attributes, "imagej")


def write_geojson(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer as GeoJSON for QuPath; see `write_layer`."""
    return _save(path, data, attributes, "geojson")


def write_ome_zarr(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a Labels layer as OME-Zarr; see `write_layer`."""
    return _save(path, data, attributes, "ome-zarr")


def write_table(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save the measurements of a Labels layer as CSV; see `write_layer`."""
    return _save(path, data, attributes, "table")


def _save(path: str, data: Any, attributes: dict[str, Any], format_name: str | None = None) -> list[str]:
    with told_by_napari():
        return write_layer(path, data, attributes, format_name)


def write_layer(
    path: str,
    data: Any,
    attributes: dict[str, Any],
    format_name: str | None = None,
    image: Any = None,
) -> list[str]:
    """Export a Labels layer with its scale, units, axes and features.

    Parameters
    ----------
    path : str
        Where to write.
    data : array of int, or list of such
        The layer's data; of a multiscale layer the finest level is taken.
    attributes : dict
        The layer's attributes as napari gives them: ``name``, ``units``, ``axis_labels``, ``features``,
        ``multiscale``, ``metadata``, and how large its pixels are (see `layer_axes`).
    format_name : str, optional
        Name of the format; by default the file name's ending says it.
    image : array, optional
        Pixels of the image, of the labels' shape, with its channels last: their intensities are measured.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    ExportError
        If the name ends as another format does, or the layer cannot be written in this one.
    """
    if format_name is not None:
        refuse_other_endings(path, format_name)
    finest = data[0] if attributes.get("multiscale") else data
    axes, first = layer_axes(len(finest.shape), attributes), first_pixel(attributes)
    written = export(
        finest,
        path,
        format=format_name,
        axes=axes,
        origin=None if first is None else dict(zip(axes.names, first, strict=True)),
        features=_without_sizes(attributes.get("features")),
        image=image,
        image_name=attributes.get("name"),
        linked=attributes.get("metadata", {}).get(MARK, {}).get("linked", True),
    )
    return [str(written)]


def _without_sizes(features: Any) -> Any:
    """Features without sizes from when an object was made: it may have been painted in since.

    Sizes are measured anew where a format has them. Columns of a table that is not ours stay.
    """
    if features is None or "predicted_iou" not in features or not hasattr(features, "drop"):
        return features
    sizes = [name for name in features if _SIZES.fullmatch(str(name))]
    return features.drop(columns=[name for name in sizes if features[name].dtype.kind in "iuf"])


def layer_axes(ndim: int, attributes: dict[str, Any]) -> Axes:
    """Return the axes of a layer from its attributes.

    Axis labels count where each names an axis (T, Z, C, Y, X or words such as "time"); else the axis of a
    stack is time if it has a unit of time, and Z otherwise.

    Parameters
    ----------
    ndim : int
        Number of axes.
    attributes : dict
        ``scale``, ``units`` and ``axis_labels`` of the layer, and what else says how large its pixels are
        (`napari_sam.spacing.PLACED`), as far as they are known. A sheared layer is measured in pixels.
    """
    scale, units = pixel_spacing(attributes), attributes.get("units")
    names = _letters(attributes.get("axis_labels"), ndim)
    unit_names = [] if units is None or isinstance(units, str) else [unit_name(u) for u in units]
    if names is None and ndim == 3 and unit_names and unit_names[0] in SECONDS:
        names = "TYX"
    return make_axes(ndim, names, scale, (unit_names or units) if scale is not None else None)


def _letters(labels: Any, ndim: int) -> str | None:
    """Letters of axis labels, or None if they do not name every axis."""
    words = [str(label).strip().lower() for label in labels or ()]
    letters = "".join(_WORDS.get(w, w.upper() if len(w) == 1 else "?") for w in words)
    proper = len(letters) == ndim == len(set(letters)) and not set(letters) - set(ORDER)
    return letters if proper and letters.endswith("YX") else None

"""What napari calls when a Labels layer is saved: one function for each format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from napari_sam.axes import ORDER, SECONDS, Axes, make_axes, unit_name
from napari_sam.export import FORMATS, ExportError, export, format_of

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
    path: str, data: Any, attributes: dict[str, Any], format_name: str | None = None
) -> list[str]:
    """Export a Labels layer with its scale, units, axes and features.

    Parameters
    ----------
    path : str
        Where to write.
    data : array of int, or list of such
        The layer's data; of a multiscale layer the finest level is taken.
    attributes : dict
        The layer's attributes as napari gives them: ``name``, ``scale``, ``units``, ``axis_labels``,
        ``features``, ``multiscale``.
    format_name : str, optional
        Name of the format; by default the file name's ending says it.

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
        _refuse_other_endings(path, format_name)
    finest = data[0] if attributes.get("multiscale") else data
    written = export(
        finest,
        path,
        format=format_name,
        axes=layer_axes(len(finest.shape), attributes),
        features=attributes.get("features"),
        image_name=attributes.get("name"),
    )
    return [str(written)]


def _refuse_other_endings(path: str, format_name: str) -> None:
    """Refuse a name that says one format where the file type of the dialog says another."""
    wanted = format_of(path, format_name)
    other = next((f for f in FORMATS if f is not wanted and path.lower().endswith(f.suffixes)), None)
    if other is not None and not path.lower().endswith(wanted.suffixes):
        raise ExportError(
            f"{path} ends as {other.title} does, and the file type that was chosen is {wanted.title}. "
            f"Choose one or the other: {wanted.suffixes[0]} is the ending of this type."
        )


def layer_axes(ndim: int, attributes: dict[str, Any]) -> Axes:
    """Return the axes of a layer from its attributes.

    Axis labels count where each names an axis (T, Z, C, Y, X or words such as "time"); else the axis of a
    stack is time if it has a unit of time, and Z otherwise.

    Parameters
    ----------
    ndim : int
        Number of axes.
    attributes : dict
        ``scale``, ``units`` and ``axis_labels`` of the layer, as far as they are known.
    """
    scale = attributes.get("scale")
    units = attributes.get("units")
    names = _letters(attributes.get("axis_labels"), ndim)
    unit_names = [] if units is None or isinstance(units, str) else [unit_name(u) for u in units]
    if names is None and ndim == 3 and unit_names and unit_names[0] in SECONDS:
        names = "TYX"
    if scale is not None:
        # A layer that was mirrored has negative steps; sizes are what counts here.
        scale = [abs(float(s)) for s in scale]
    return make_axes(ndim, names, scale, unit_names or units)


def _letters(labels: Any, ndim: int) -> str | None:
    """Letters of axis labels, or None if they do not name every axis."""
    words = [str(label).strip().lower() for label in labels or ()]
    letters = "".join(_WORDS.get(w, w.upper() if len(w) == 1 else "?") for w in words)
    proper = len(letters) == ndim == len(set(letters)) and not set(letters) - set(ORDER)
    return letters if proper and letters.endswith("YX") else None

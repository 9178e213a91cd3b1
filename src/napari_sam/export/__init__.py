"""Write labels so that Fiji, QuPath and Python open them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_sam.export.formats import FORMATS, ExportError, Format, format_of

__all__ = ["FORMATS", "ExportError", "Format", "export", "format_of"]


def export(
    labels: Any,
    path: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - the word that users look for
    spacing: float | Sequence[float] | None = None,
    units: Any = None,
    axes: Any = None,
    origin: Mapping[str, float] | None = None,
    features: Any = None,
    image: Any = None,
    image_name: str | None = None,
    linked: bool = True,
) -> Path:
    """Write a label image in one of the formats of `FORMATS`.

    The file is put in place only when it is complete; until then an older one stays.

    Parameters
    ----------
    labels : array of int, shape (H, W), (D, H, W) or with T, Z or C in front
        Labels, 0 is background. A lazy array (dask, zarr) is read plane by plane.
    path : str or Path
        Where to write; the ending chooses the format.
    format : str, optional
        Name of the format, where the ending does not say it.
    spacing : float or sequence of float, optional
        Pixel size: one number for all axes of space, or one for each axis (the time between frames for T).
    units : str or sequence of str, optional
        Unit of ``spacing``, for example ``"µm"``.
    axes : str or Axes, optional
        Letters of the axes, by default YX, ZYX or TZYX; or all three at once.
    origin : mapping of str to float, optional
        Where the centre of the first pixel lies by axis, in the axis' unit, 0 by default. An OME-Zarr says
        it, so that labels lie on an image that was moved; other formats count from the first pixel.
    features : DataFrame or mapping, optional
        What is known of each object; the column ``index`` or ``label`` holds the ids, ``predicted_iou``
        becomes the score. In a movie a row counts for the time point in the column ``t``. A column ``label``
        beside ``index`` that holds something else is written as ``label_2``.
    image : array, optional
        The labelled image: the table and QuPath's measurements then hold intensities, and an OME-Zarr holds
        the image too.
    image_name : str, optional
        File name of the labelled image; COCO refers to it.
    linked : bool
        Whether an id is the same object in all planes of a stack; if not, the table measures each plane on
        its own.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    ExportError
        If the format is unknown, cannot hold these labels, or the file cannot be written; if the labels or
        the image cannot be read; if the features are those of other labels, or count time points from 1.
    napari_sam.axes.AxesError
        If the axes, pixel sizes or units do not fit the array.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import numpy as np
    >>> labels = np.zeros((32, 32), np.int32)
    >>> labels[4:12, 4:12] = 1
    >>> export(labels, mkdtemp() + "/cells.tif", spacing=0.25, units="µm").name
    'cells.tif'
    """
    import numpy as np

    from napari_sam.axes import Axes, make_axes
    from napari_sam.export.features import read_features
    from napari_sam.export.formats import without_suffix
    from napari_sam.export.labelled import Labelled, Source, check_places, in_order, reading

    path = Path(path)
    chosen = format_of(path, format)
    array = labels if hasattr(labels, "shape") and hasattr(labels, "__getitem__") else np.asarray(labels)
    known = axes if isinstance(axes, Axes) else make_axes(len(array.shape), axes, spacing, units)
    if known.names[-2:] != "YX" or len(known.names) != len(array.shape):
        raise ExportError(f"Expected labels with the axes {known.names}, found the shape {array.shape}.")
    if image is not None:
        if len(image.shape) < len(array.shape):
            raise ExportError(
                f"Expected an image with the labels' axes {known.names}, found the shape "
                f"{tuple(image.shape)}."
            )
        with reading("image"):
            image = Source(in_order(image, known)[0], "image")
    with reading("label image"):
        array, known = in_order(array, known)
    if image is not None and image.shape[: len(array.shape)] != tuple(array.shape):
        raise ExportError(
            f"Expected an image of the labels' shape {tuple(array.shape)}, with its channels, if any, last; "
            f"found {image.shape}. Choose the image that was labelled, or leave it out."
        )
    # The name of a file may hold bytes that are no text, which no format can keep.
    name = (image_name or without_suffix(path)).encode(errors="backslashreplace").decode()
    source = Source(array, "label image")
    known_of_objects = read_features(features, known.names)
    labelled = Labelled(source, known, known_of_objects, image, name, linked, origin or {})
    check_places(labelled)
    chosen.writer()(labelled, path)
    return path

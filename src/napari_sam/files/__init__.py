"""Read images plane by plane: TIFF, OME-TIFF, ImageJ stacks, PNG, JPEG, NumPy and OME-Zarr."""

from __future__ import annotations

from napari_sam.files.find import SUFFIXES, find_images
from napari_sam.files.image_file import ImageFile, ImageFileError
from napari_sam.files.read import open_beside, open_image, open_labels

__all__ = [
    "SUFFIXES",
    "ImageFile",
    "ImageFileError",
    "find_images",
    "open_beside",
    "open_image",
    "open_labels",
]

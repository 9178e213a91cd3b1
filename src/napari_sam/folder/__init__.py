"""Segment files and folders without a window."""

from __future__ import annotations

from napari_sam.folder.cluster import Cluster, ClusterError, NamedModel, connect, local_workers, shared_out
from napari_sam.folder.image import Segmented, segment_image
from napari_sam.folder.manifest import MANIFEST, Report, read_manifest, read_writers
from napari_sam.folder.ours import images_among, refuse_sources
from napari_sam.folder.pictures import Pictures, recipe_picture, settle_contrast, stack_contrast
from napari_sam.folder.run import FileDone, Job, plan, segment_files

__all__ = [
    "MANIFEST",
    "Cluster",
    "ClusterError",
    "FileDone",
    "Job",
    "NamedModel",
    "Pictures",
    "Report",
    "Segmented",
    "connect",
    "images_among",
    "local_workers",
    "plan",
    "read_manifest",
    "read_writers",
    "recipe_picture",
    "refuse_sources",
    "segment_files",
    "segment_image",
    "settle_contrast",
    "shared_out",
    "stack_contrast",
]

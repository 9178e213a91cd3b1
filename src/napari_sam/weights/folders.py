"""Where models are kept on this machine; apart from ``fetch``, which loads what downloads need."""

from __future__ import annotations

import os
from pathlib import Path

import pooch


def cache_folder() -> Path:
    """The folder of downloaded models: ``NAPARI_SAM_CACHE``, or the system's cache folder."""
    root = os.environ.get("NAPARI_SAM_CACHE") or pooch.os_cache("napari-sam")
    return Path(root).expanduser() / "models"


def micro_sam_folder() -> Path:
    """The folder where micro-sam keeps models: ``MICROSAM_CACHEDIR``, or the system's."""
    root = os.environ.get("MICROSAM_CACHEDIR") or pooch.os_cache("micro_sam")
    return Path(root).expanduser() / "models"

"""The command line, ``napari-sam``."""

from __future__ import annotations

from napari_sam.cli.commands import app, main

__all__ = ["app", "main"]

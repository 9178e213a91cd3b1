"""Segment Anything inside napari, for biologists.

The public names are loaded when they are first used, so that ``import napari_sam`` stays cheap:
neither torch nor Qt is imported before it is needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_sam.everything import segment_everything
    from napari_sam.predictor import Predictor, load_model

__all__ = ["Predictor", "__version__", "load_model", "segment_everything"]

_HOME = {
    "Predictor": "napari_sam.predictor",
    "load_model": "napari_sam.predictor",
    "segment_everything": "napari_sam.everything",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-sam-cells")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

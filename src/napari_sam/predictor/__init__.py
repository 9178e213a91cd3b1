"""Embed a plane once, then predict at every prompt.

* `base`: what every predictor does, whatever its model;
* `official`: SAM and its relatives (ViT-B/L/H, MobileSAM, fine-tuned encoders);
* `builtin`: the small model that comes with the package;
* `load`: a predictor by name or file.
"""

from napari_sam.predictor.base import Batch, Predictor, Seeds
from napari_sam.predictor.load import load_model

__all__ = ["Batch", "Predictor", "Seeds", "load_model"]

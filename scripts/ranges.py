"""Write what the numbers of the built-in encoder span beside the weights in the package.

Run after the weights have changed: ``python scripts/ranges.py``. They are read from the calibration
pictures, as they are at every start for weights of your own.
"""

from __future__ import annotations

import json

from napari_sam.model.builtin import load_builtin
from napari_sam.model.builtin_quick import RANGES, optimise_builtin, ranges_on_drawn_cells
from napari_sam.predictor.load import builtin_weights, fingerprint_of

weights = builtin_weights()
model = optimise_builtin(load_builtin(weights), "cpu", "fp32")
kept = {"weights": fingerprint_of(weights), "ranges": ranges_on_drawn_cells(model)}
weights.with_name(RANGES).write_text(json.dumps(kept) + "\n")

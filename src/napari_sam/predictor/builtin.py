"""Predictor for the built-in model: one feature map of the plane, a small window around every prompt.

The plane is brought to the scale at which the model was trained (a typical object has
`MODEL_DIAMETER` model pixels), encoded once, and every prompt is decoded on the window around it. An
object too large for a window is decoded on the same plane at half that scale, or half again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from napari_sam.candidates import Candidate, Candidates
from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame, Window
from napari_sam.image import RGB
from napari_sam.model.builtin import (
    CELL,
    LOGIT_STRIDE,
    MODEL_DIAMETER,
    WINDOW_CELLS,
    BuiltIn,
    Features,
)
from napari_sam.model.builtin_quick import exact
from napari_sam.predictor.base import (
    BOX_CORNER,
    OPPOSITE_CORNER,
    Batch,
    Predictor,
    Seeds,
    tokens,
)
from napari_sam.predictor.diameter import estimate_diameter
from napari_sam.predictor.official import mask_prompt
from napari_sam.predictor.tiled import crop_features, encode_plane
from napari_sam.prompts import Prompts

WINDOW = CELL * WINDOW_CELLS
"""Side of a window in model pixels."""
FILL = 0.55
"""Largest part of a window's side that an object may take before a coarser scale is used."""
SCALES = (0.05, 8.0)
"""Smallest and largest factor between image and model pixels."""


class BuiltInPredictor(Predictor):
    """Run a `napari_sam.model.builtin.BuiltIn`.

    Parameters
    ----------
    model : BuiltIn
        In evaluation mode, on ``device``.
    name, model_id : str
    device : torch.device
    """

    batch_size = 64

    def __init__(self, model: BuiltIn, name: str, model_id: str, device: torch.device) -> None:
        super().__init__(name, model_id, device)
        self.model = model
        self._exact = exact(model)
        self._coarse: OrderedDict[tuple[str, int], Features] = OrderedDict()

    @property
    def uses_diameter(self) -> bool:
        """The plane is brought to a scale by the objects' diameter."""
        return True

    def _encode(self, image: RGB, diameter: float | None) -> tuple[dict[str, torch.Tensor], Frame]:
        plane = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        if diameter is None:
            diameter = self.estimate_diameter(image)
        factor = float(np.clip(MODEL_DIAMETER / diameter, *SCALES))
        frame = Frame.scaled((image.shape[0], image.shape[1]), factor)
        features = self._encode_plane(plane, frame)
        return {"plane": plane, **features._asdict()}, frame

    def estimate_diameter(self, image: RGB) -> float:
        """Typical object diameter in image pixels as the model sees it.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
        """
        plane = torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device)
        # Two distances may be nearly as good as each other: rounding must not choose between them.
        return estimate_diameter(self._exact, plane)

    def _encode_plane(self, plane: torch.Tensor, frame: Frame) -> Features:
        """Features of a plane (H, W, 3) at the scale of ``frame``."""
        height, width = frame.model_shape
        picture = plane.to(self.device).permute(2, 0, 1)[None].float()
        if picture.shape[-2:] != (height, width):
            picture = F.interpolate(
                picture, size=(height, width), mode="bilinear", antialias=True, align_corners=False
            )
        return encode_plane(self.model, picture)

    def _level_frame(self, embedding: Embedding, level: int) -> Frame:
        """Frame of the plane at ``1 / 2**level`` of its own scale."""
        if level == 0:
            return embedding.frame
        return Frame.scaled(embedding.frame.image_shape, embedding.frame.scale[0] / 2**level)

    def _level_features(self, embedding: Embedding, level: int) -> Features:
        """Features at a coarser level, encoded when first asked for."""
        if level == 0:
            return Features(**{n: embedding.features[n].to(self.device) for n in Features._fields})
        key = (embedding.pixels, level)
        if key not in self._coarse:
            frame = self._level_frame(embedding, level)
            self._coarse[key] = self._encode_plane(embedding.features["plane"], frame)
            while len(self._coarse) > 8:
                self._coarse.popitem(last=False)
        self._coarse.move_to_end(key)
        return self._coarse[key]

    def _level(self, embedding: Embedding, side: float) -> int:
        """Level at which an extent of ``side`` image pixels fits a window."""
        room = FILL * WINDOW
        ratio = side * max(embedding.frame.scale) / room
        return 0 if ratio <= 1 else int(np.ceil(np.log2(ratio)))

    def _group(self, embedding: Embedding, prompts: Prompts, previous: Candidate | None) -> Hashable:
        extent = prompts.extent
        level = self._level(embedding, max(extent.height, extent.width))
        if previous is not None:
            # Corrections stay at the scale of the mask that they correct, unless they reach further.
            ratio = embedding.frame.scale[0] / previous.window.frame.scale[0]
            level = max(level, round(np.log2(ratio)))
        return level, prompts.mask is not None or previous is not None

    def _decode(
        self,
        embedding: Embedding,
        group: Hashable,
        prompts: Sequence[Prompts],
        previous: Sequence[Candidate | None],
    ) -> Batch:
        level, masked = cast(tuple[int, bool], group)
        frame = self._level_frame(embedding, level)
        windows = [self._window(frame, p, c) for p, c in zip(prompts, previous, strict=True)]
        origins = torch.tensor([[w.origin[0] // CELL, w.origin[1] // CELL] for w in windows])
        features, starts = crop_features(self._level_features(embedding, level), origins, WINDOW_CELLS)
        points, labels = tokens(prompts, frame)
        # This model was trained with boxes that reach to the outer edges of their first and last pixels.
        half = 0.5 * torch.tensor(frame.scale[::-1])
        points[labels == BOX_CORNER] -= half
        points[labels == OPPOSITE_CORNER] += half
        dense = None
        if masked:
            planes = [mask_prompt(p, c, w) for p, c, w in zip(prompts, previous, windows, strict=True)]
            dense = torch.from_numpy(np.stack(planes))[:, None].to(self.device)
        # Positions count from the cropped maps' corner, like the windows.
        points -= CELL * (origins[0] - starts[0]).flip(0)
        decoded = self.model.decode(
            features,
            torch.zeros(len(prompts), dtype=torch.int64, device=self.device),
            starts.to(self.device),
            points.to(self.device),
            labels.to(self.device),
            dense,
        )
        return Batch(decoded.iou.float().cpu().numpy(), windows, decoded)

    def _window(self, frame: Frame, prompts: Prompts, previous: Candidate | None) -> Window:
        """Window on the cell grid around a prompt; a correction keeps the window if its clicks fit in."""
        shape = (WINDOW // LOGIT_STRIDE, WINDOW // LOGIT_STRIDE)
        extent = prompts.extent
        if previous is not None and previous.window.frame == frame and previous.window.shape == shape:
            box = previous.window.image_box
            if extent.intersect(box) == extent:
                return previous.window
        centre = frame.to_model(np.array(extent.centre))
        oy, ox = (int(np.floor((c + 0.5 - WINDOW / 2) / CELL + 0.5)) * CELL for c in centre)
        return Window(frame, (oy, ox), LOGIT_STRIDE, shape)

    def widen(
        self, embedding: Embedding, prompts: Sequence[Prompts], offers: Sequence[Candidates]
    ) -> list[Candidates]:
        """Candidates of objects that run out of their windows, seen again at half the scale or less."""
        offers = list(offers)
        for _ in range(3):
            groups: dict[tuple[int, bool], list[int]] = {}
            for i, offer in enumerate(offers):
                best = offer.best
                if max(best.window.frame.model_shape) > WINDOW and best.window.cuts(best.mask):
                    scale = best.window.frame.scale[0]
                    level = 1 + round(np.log2(embedding.frame.scale[0] / scale))
                    groups.setdefault((level, prompts[i].mask is not None), []).append(i)
            if not groups:
                break
            for group, rows in groups.items():
                for start in range(0, len(rows), self.batch_size):
                    part = rows[start : start + self.batch_size]
                    asked = [prompts[i] for i in part]
                    with torch.inference_mode():
                        batch = self._decode(embedding, group, asked, [None] * len(part))
                    for i, offer in zip(part, batch.offers([p.ambiguous for p in asked]), strict=True):
                        offers[i] = offer
        return offers

    def seeds(self, embedding: Embedding) -> Seeds:
        """Places where the dense head expects an object's middle."""
        with torch.inference_mode():
            points, scores = self.model.seeds(embedding.features["dense"][0].to(self.device))
        places = embedding.frame.to_image(points.double().cpu().numpy())
        height, width = embedding.frame.image_shape
        inside = ((places > -0.5) & (places < (height - 0.5, width - 0.5))).all(1)
        return Seeds(places[inside], scores.double().cpu().numpy()[inside])

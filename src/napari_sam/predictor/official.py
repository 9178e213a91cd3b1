"""Predictor for SAM and its relatives: the whole plane is one window of 1024 model pixels."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Sequence
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from PIL import Image

from napari_sam.candidates import Candidate
from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame, Window
from napari_sam.image import RGB
from napari_sam.model.sam import PIXEL_MEAN, PIXEL_STD, DecoderState, Sam
from napari_sam.predictor.base import Batch, Predictor, tokens
from napari_sam.prompts import Prompts

STATES = 4
"""Embeddings whose decoder states are kept: a state is five times as large as its embedding."""
CERTAIN = 7.0
"""Logit of a mask prompt: the sigmoid is .999 inside and .001 outside."""


class SamPredictor(Predictor):
    """Run a `napari_sam.model.sam.Sam`.

    Parameters
    ----------
    model : Sam
        In evaluation mode, on ``device``.
    name, model_id : str
    device : torch.device
    """

    def __init__(self, model: Sam, name: str, model_id: str, device: torch.device) -> None:
        super().__init__(name, model_id, device)
        self.model = model
        self._states: WeakKeyDictionary[Embedding, DecoderState] = WeakKeyDictionary()
        self._lock = threading.Lock()
        self._positions: torch.Tensor | None = None

    def _encode(self, image: RGB, diameter: float | None) -> tuple[dict[str, torch.Tensor], Frame]:
        side = self.model.image_size
        frame = Frame.longest_side((image.shape[0], image.shape[1]), side)
        picture = preprocess(image, frame, side).to(self.device)
        return {"image": self.model.encode(picture)}, frame

    def _group(self, embedding: Embedding, prompts: Prompts, previous: Candidate | None) -> Hashable:
        # Padding tokens change the model's answer a little: prompts of one group need none.
        masked = prompts.mask is not None or previous is not None
        return len(prompts.points), prompts.box is not None, masked

    def _decode(
        self,
        embedding: Embedding,
        group: Hashable,
        prompts: Sequence[Prompts],
        previous: Sequence[Candidate | None],
    ) -> Batch:
        window = self.window(embedding.frame)
        points, labels = tokens(prompts, embedding.frame)
        dense = None
        _, _, masked = cast(tuple[int, bool, bool], group)
        if masked:
            planes = [mask_prompt(p, c, window) for p, c in zip(prompts, previous, strict=True)]
            dense = torch.from_numpy(np.stack(planes))[:, None].to(self.device)
        decoded = self.model.decode(
            self.state(embedding), points.to(self.device), labels.to(self.device), dense
        )
        return Batch(decoded.iou.float().cpu().numpy(), [window] * len(prompts), decoded)

    def window(self, frame: Frame) -> Window:
        """Window of the logits: a quarter of the padded square."""
        cells = self.model.image_size // 4
        return Window(frame, (0, 0), 4, (cells, cells))

    def state(self, embedding: Embedding) -> DecoderState:
        """Return the part of the decoder's work that depends on the image only.

        It is kept for the last few embeddings that were prompted.
        """
        with self._lock:
            state = self._states.pop(embedding, None)
        if state is None:
            state = self.model.prepare(embedding.features["image"].to(self.device), self._positions)
        with self._lock:
            self._positions = state.image.positions  # the same for every image
            self._states[embedding] = state
            while len(self._states) > STATES:
                del self._states[next(iter(self._states))]
        return state


def preprocess(image: RGB, frame: Frame, side: int) -> torch.Tensor:
    """Resize, normalise and pad a plane as SAM expects it.

    Parameters
    ----------
    image : ndarray of uint8, shape (H, W, 3)
    frame : Frame
    side : int
        Side of the padded square in model pixels.

    Returns
    -------
    Tensor of float32, shape (1, 3, side, side)
        Padding (bottom and right) is 0 after the normalisation.
    """
    height, width = frame.model_shape
    picture: Image.Image = Image.fromarray(np.ascontiguousarray(image))
    if picture.size != (width, height):
        # The reference resizes 8-bit pictures with Pillow's bilinear filter (antialiased).
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v)[:, None, None] for v in (PIXEL_MEAN, PIXEL_STD))
    out = torch.zeros(1, 3, side, side)
    out[0, :, :height, :width] = (pixels - mean) / std
    return out


def mask_prompt(prompts: Prompts, previous: Candidate | None, window: Window) -> np.ndarray:
    """Mask prompt of one object on the window's cells.

    The previous candidate's logits count where there are any; a drawn mask otherwise.
    """
    if previous is not None:
        return previous.window.resample(previous.logits, window, outside=-CERTAIN)
    if prompts.mask is None:
        return np.zeros(window.shape, np.float32)
    return window.sample_mask(prompts.mask, CERTAIN, -CERTAIN)

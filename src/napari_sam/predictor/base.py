"""What every predictor does: `embed` a plane once, `decode` prompts in batches, `predict` candidates."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from napari_sam.candidates import Candidate, Candidates
from napari_sam.embedding import Embedding, TiledEmbedding
from napari_sam.geometry import Frame, Window
from napari_sam.image import RGB, ImageError, fingerprint
from napari_sam.masks import Box, Mask
from napari_sam.predictor.mosaic import decode_in_tiles
from napari_sam.prompts import PromptError, Prompts, points_from_array

FOREGROUND, BACKGROUND, BOX_CORNER, OPPOSITE_CORNER, PADDING = 1, 0, 2, 3, -1
"""Labels of the tokens of the prompt encoder (paper, appendix A)."""


class Decoded(Protocol):
    """What a model's decoder returns: qualities at once, logits on demand."""

    @property
    def iou(self) -> torch.Tensor:
        """Predicted IoU, shape (N, 4)."""
        ...

    def logits(self, rows: torch.Tensor, columns: torch.Tensor, /) -> torch.Tensor:
        """Logits (n, h, w) of output ``columns[i]`` for prompt ``rows[i]``."""
        ...


class Seeds(NamedTuple):
    """Places where the model expects an object.

    ``points`` has the shape (N, 2) in image pixels (y, x), ``scores`` the shape (N,) in [0, 1], best first.
    """

    points: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Batch:
    """Decoded prompts: predicted IoU at once, logits only for the masks that are asked for.

    The IoU head reads tokens only, so it decides which masks deserve to be computed.

    Parameters
    ----------
    iou : ndarray of float32, shape (N, 4)
        Predicted IoU of the single mask (0) and the three ambiguity masks (1 to 3).
    windows : sequence of Window, length N
        Where each prompt's logits lie.
    decoded : Decoded
        The model's own record.
    """

    iou: NDArray[np.float32]
    windows: Sequence[Window]
    decoded: Decoded

    def logits(self, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> NDArray[np.float32]:
        """Logits of output ``cols[i]`` of prompt ``rows[i]``.

        Returns
        -------
        ndarray of float32, shape (n, h, w)
        """
        index = [torch.from_numpy(np.asarray(i, np.int64)) for i in (rows, cols)]
        with torch.inference_mode():
            return self.decoded.logits(*index).float().cpu().numpy()

    def offers(self, ambiguous: Sequence[bool], rows: Sequence[int] | None = None) -> list[Candidates]:
        """Candidates of prompts; only the masks that are offered are computed.

        Parameters
        ----------
        ambiguous : sequence of bool, length N
            Whether each prompt was one point only.
        rows : sequence of int, optional
            Which prompts; all of them if not given.
        """
        chosen = range(len(self.iou)) if rows is None else rows
        levels = [Candidates.levels(self.iou[i], ambiguous=ambiguous[i]) for i in chosen]
        places = np.repeat(chosen, [len(x) for x in levels])
        logits = self.logits(places, np.concatenate(levels))
        return [
            Candidates.offer(logits[places == i], self.iou[i], x, self.windows[i])
            for i, x in zip(chosen, levels, strict=True)
        ]


class Predictor(ABC):
    """A promptable model on a device.

    Parameters
    ----------
    name : str
        Name to show, such as ``"built-in"`` or ``"vit_b"``.
    model_id : str
        Identity of the weights; embeddings are found by it.
    device : torch.device
    """

    batch_size = 16
    """Prompts decoded at once: as quick as larger batches on a processor, with less memory."""

    def __init__(self, name: str, model_id: str, device: torch.device) -> None:
        self.name = name
        self.model_id = model_id
        self.device = device

    def embed(self, image: RGB, *, diameter: float | None = None) -> Embedding:
        """Run the image encoder on one plane.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
            See `napari_sam.image.plane_to_rgb`.
        diameter : float, optional
            Typical object diameter in image pixels, for models that scale by it; estimated if not given.

        Returns
        -------
        Embedding

        Raises
        ------
        ImageError
            If the array is not an 8-bit RGB plane.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(
                f"Expected an 8-bit RGB plane of shape (H, W, 3), found {image.dtype} {image.shape}. "
                "Use napari_sam.image.plane_to_rgb first."
            )
        if diameter is not None and not 0 < diameter < np.inf:
            raise ImageError(f"Expected an object diameter above zero in pixels, found {diameter}.")
        start = time.perf_counter()
        with torch.inference_mode():
            features, frame = self._encode(image, diameter)
        key = self.pixels_key(image, diameter)
        return Embedding(features, frame, self.model_id, key, time.perf_counter() - start)

    def pixels_key(self, image: RGB, diameter: float | None = None) -> str:
        """Return what `Embedding.pixels` would be for this picture, without encoding it."""
        return self.pixels_keys(image, (diameter,))[0]

    def pixels_keys(self, image: RGB, diameters: Sequence[float | None]) -> list[str]:
        """Return the `pixels_key` at each of several diameters; the picture is gone through once."""
        pixels = fingerprint(image)
        return [pixels + (f"@{d:g}" if d and self.uses_diameter else "") for d in diameters]

    def predict(
        self, embedding: Embedding, prompts: Prompts, *, previous: Candidate | None = None
    ) -> Candidates:
        """Candidates for one object.

        Parameters
        ----------
        embedding : Embedding
            Made by this predictor.
        prompts : Prompts
        previous : Candidate, optional
            The candidate chosen before the last click; its logits are given to the decoder as a mask prompt.

        Raises
        ------
        PromptError
            If the prompts ask for nothing or lie outside the image.
        """
        return self.predict_each(embedding, [prompts], [previous])[0]

    def predict_each(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompts],
        previous: Sequence[Candidate | None] | None = None,
    ) -> list[Candidates]:
        """Candidates for many objects at once, one for each element of ``prompts``."""
        before = previous or [None] * len(prompts)
        offers: list[Candidates] = []
        for start in range(0, len(prompts), self.batch_size):
            part = slice(start, start + self.batch_size)
            batch = self.decode(embedding, prompts[part], before[part])
            offers += batch.offers([p.ambiguous for p in prompts[part]])
        return self.refocus(embedding, prompts, offers, before)

    def suits(self, embedding: Embedding, window: Window, mask: Mask) -> bool:
        """Whether an object lies well in the window in which it was seen; `refocus` looks again if not."""
        return not window.cuts(mask)

    def refocus(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompts],
        offers: Sequence[Candidates],
        previous: Sequence[Candidate | None],
    ) -> list[Candidates]:
        """Candidates of objects that do not suit the decoder's window, seen from further away or from nearer.

        Models whose window is the whole plane return the offers as they are.
        """
        return list(offers)

    def decode(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompts],
        previous: Sequence[Candidate | None] | None = None,
    ) -> Batch:
        """Run prompt encoder and mask decoder on many prompts, one object each.

        Raises
        ------
        PromptError
            If there is no prompt, or one asks for nothing or lies outside the image.
        ValueError
            If the embedding was made by another model.
        """
        if embedding.model_id != self.model_id:
            raise ValueError(
                f"This embedding was made by the model {embedding.model_id}, "
                f"the predictor runs {self.model_id}. Embed the plane again."
            )
        if not prompts:
            raise PromptError("There is no prompt to decode. Click inside an object or draw a box around it.")
        for p in prompts:
            p.require_inside(embedding.frame.image_shape)
        before = previous or [None] * len(prompts)
        if isinstance(embedding, TiledEmbedding):
            return decode_in_tiles(self, embedding, prompts, before)
        groups: dict[Hashable, list[int]] = {}
        for i, p in enumerate(prompts):
            groups.setdefault(self._group(embedding, p, before[i]), []).append(i)
        with torch.inference_mode():
            parts = [
                self._decode(embedding, key, [prompts[i] for i in rows], [before[i] for i in rows])
                for key, rows in groups.items()
            ]
        return parts[0] if len(parts) == 1 else join(parts, list(groups.values()))

    def decode_points(self, embedding: Embedding, points: NDArray[np.floating]) -> Batch:
        """Decode one positive point per object; ``points`` has the shape (N, 2) in image pixels (y, x)."""
        return self.decode(embedding, [Prompts((p,)) for p in points_from_array(np.asarray(points))])

    @property
    def uses_diameter(self) -> bool:
        """Whether the model brings the plane to a scale by the objects' diameter."""
        return False

    def estimate_diameter(self, image: RGB) -> float | None:
        """Typical object diameter in image pixels; None where no object is seen, or it does not matter."""
        return None

    def seeds(self, embedding: Embedding) -> Seeds | None:
        """Places to prompt at for automatic masks, or None if the model proposes none."""
        return None

    def overlooked(self, embedding: Embedding, covered: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Places where the model sees objects that no mask covers yet.

        Parameters
        ----------
        embedding : Embedding
        covered : ndarray of bool, shape (H, W)
            Pixels that belong to a mask.

        Returns
        -------
        ndarray of float64, shape (N, 2)
            (y, x) in image pixels; none from models that propose no seeds.
        """
        return np.empty((0, 2))

    def judge(self, embedding: Embedding, mask: Mask, predicted_iou: float) -> float:
        """Quality of an automatic mask, by all that the model knows of it.

        Parameters
        ----------
        embedding : Embedding
        mask : Mask
            In pixels of the embedding's plane.
        predicted_iou : float
            The decoder's estimate, which models that look at objects only where they are prompted return.
        """
        return predicted_iou

    def least_iou(self, quality: float) -> float:
        """Return the decoder's estimate below which `judge` never gives a quality."""
        return quality

    @abstractmethod
    def _encode(self, image: RGB, diameter: float | None) -> tuple[dict[str, torch.Tensor], Frame]:
        """Features and frame of one checked picture."""

    @abstractmethod
    def _group(self, embedding: Embedding, prompts: Prompts, previous: Candidate | None) -> Hashable:
        """Return what prompts must have in common to be decoded together."""

    @abstractmethod
    def _decode(
        self,
        embedding: Embedding,
        group: Hashable,
        prompts: Sequence[Prompts],
        previous: Sequence[Candidate | None],
    ) -> Batch:
        """Decode checked prompts of one group."""


@dataclass(frozen=True, eq=False)
class _Joined:
    """Several decoded groups seen as one."""

    iou: torch.Tensor
    parts: Sequence[Decoded]
    place: NDArray[np.int64]
    """(N, 2): which part a prompt is in, and its row there."""

    def logits(self, rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
        """Gather the logits from the parts."""
        where = torch.from_numpy(self.place[rows.numpy()])
        out: torch.Tensor | None = None
        for number, part in enumerate(self.parts):
            mine = torch.nonzero(where[:, 0] == number)[:, 0]
            if len(mine):
                found = part.logits(where[mine, 1], cols[mine])
                if out is None:
                    out = found.new_empty(len(rows), *found.shape[1:])
                out[mine.to(found.device)] = found
        return torch.empty(0, 0, 0) if out is None else out


def join(parts: Sequence[Batch], members: Sequence[Sequence[int]]) -> Batch:
    """One batch in the order of the prompts out of the batches of the groups."""
    count = sum(len(m) for m in members)
    iou = np.empty((count, parts[0].iou.shape[1]), np.float32)
    place = np.empty((count, 2), np.int64)
    windows: list[Window | None] = [None] * count
    for number, (part, rows) in enumerate(zip(parts, members, strict=True)):
        iou[list(rows)] = part.iou
        for k, row in enumerate(rows):
            place[row] = number, k
            windows[row] = part.windows[k]
    decoded = _Joined(torch.from_numpy(iou), [p.decoded for p in parts], place)
    return Batch(iou, [w for w in windows if w is not None], decoded)


def tokens(prompts: Sequence[Prompts], frame: Frame) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompt tokens in model pixels.

    Parameters
    ----------
    prompts : sequence of Prompts, length N
    frame : Frame

    Returns
    -------
    points : Tensor of float32, shape (N, P, 2)
        Positions (x, y) in model pixels; rows with fewer tokens are padded.
    labels : Tensor of int64, shape (N, P)
        1 foreground, 0 background, 2 and 3 the corners of a box, or of what the plane leaves of it,
        -1 padding. As in the reference, points without a box are followed by one padding token.
    """
    plane = Box(0, 0, *frame.image_shape)
    rows: list[list[tuple[float, float, int]]] = []
    for p in prompts:
        row = [(point.y, point.x, FOREGROUND if point.positive else BACKGROUND) for point in p.points]
        if p.box is not None:
            y0, x0, y1, x1 = p.box.intersect(plane)
            row += [(y0, x0, BOX_CORNER), (y1 - 1, x1 - 1, OPPOSITE_CORNER)]
        elif p.points:
            row.append((0.0, 0.0, PADDING))
        rows.append(row)
    width = max(len(row) for row in rows)
    table = np.zeros((len(rows), width, 3))
    table[..., 2] = PADDING
    for i, row in enumerate(rows):
        if row:
            table[i, : len(row)] = row
    xy = frame.to_model(table[..., :2])[..., ::-1]
    return torch.from_numpy(xy.astype(np.float32)), torch.from_numpy(table[..., 2].astype(np.int64))

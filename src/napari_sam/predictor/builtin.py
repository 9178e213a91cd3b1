"""Predictor for the built-in model: one feature map of the plane, a small window around every prompt.

The plane is brought to the scale at which the model was trained (a typical object has
`MODEL_DIAMETER` model pixels), encoded once, and every prompt is decoded on the window around it. An
object too large for a window is decoded on the same plane at half that scale, or half again; one that
is much smaller than the others, at twice the scale.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.candidates import Candidate, Candidates
from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame, Window
from napari_sam.image import RGB
from napari_sam.masks import Box, Mask
from napari_sam.model.builtin import (
    CELL,
    DENSE_CHANNELS,
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
from napari_sam.predictor.tiled import crop_features, encode_part, encode_plane
from napari_sam.prompts import Prompts

WINDOW = CELL * WINDOW_CELLS
"""Side of a window in model pixels."""
FILL = 0.55
"""Largest part of a window's side that an object may take before a coarser scale is used."""
SMALL = 30.0
"""Diameter (model pixels) below which an object is looked at from nearer; chosen on training images."""
SMALL_BOX = 28.0
"""The same for the longer side of a box."""
NEAR = -1
"""Level at twice the plane's own scale."""
NEAR_PIXELS = 2**25
"""Largest plane, in model pixels at twice the scale, that is looked at from nearer."""
SEEN = 0.5
"""Chance of foreground above which a place that no mask covers is prompted once more."""
LEAST_DEPTH = 1.2
"""Least depth of such a place, in steps of the dense head's maps."""
SEEN_WEIGHT = 1 / 3
"""What the chance of foreground under a mask counts for its quality; chosen on training images."""
SAMPLES = 64
"""Rows and columns of a mask, about, at which the foreground is looked up."""
SCALES = (0.05, 8.0)
"""Smallest and largest factor between image and model pixels."""
MOST_PIXELS = 2**28
"""Largest plane, in model pixels, whose features take 6 GB: objects of a larger one are seen smaller."""


def _resized(plane: torch.Tensor, frame: Frame) -> torch.Tensor:
    """(H, W, 3) -> (1, 3, h, w) of the same dtype, at the scale of ``frame``.

    On the processor: GPUs do not resize whole numbers, and each resizes others in its own way.
    """
    picture = plane.permute(2, 0, 1)[None]
    if picture.shape[-2:] == frame.model_shape:
        return picture
    return F.interpolate(
        picture, size=frame.model_shape, mode="bilinear", antialias=True, align_corners=False
    )


def _extent(frame: Frame, prompts: Prompts) -> Box:
    """What prompts ask for, as far as it lies in the plane."""
    return prompts.extent.intersect(Box(0, 0, *frame.image_shape))


def _level_of(embedding: Embedding, window: Window) -> int:
    """Level that a window lies on."""
    return round(math.log2(embedding.frame.scale[0] / window.frame.scale[0]))


def _model_diameter(window: Window, mask: Mask) -> float:
    """Diameter, in model pixels, of a disc of a mask's area."""
    return math.sqrt(mask.area * 4 / math.pi) * window.frame.scale[0]


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
        self._levels: OrderedDict[tuple[str, int], Features] = OrderedDict()
        self._near: tuple[str, torch.Tensor] | None = None
        self._seen: WeakKeyDictionary[Embedding, NDArray[np.float32]] = WeakKeyDictionary()
        self._exact = exact(model)

    @property
    def uses_diameter(self) -> bool:
        """The plane is brought to a scale by the objects' diameter."""
        return True

    def _encode(self, image: RGB, diameter: float | None) -> tuple[dict[str, torch.Tensor], Frame]:
        # A copy: other levels are encoded later, when the caller may have used the array for something else.
        plane = torch.from_numpy(np.array(image, order="C"))
        if diameter is None:
            # Where no object is seen the plane stays at its own scale.
            diameter = self.estimate_diameter(image) or MODEL_DIAMETER
        factor = float(np.clip(MODEL_DIAMETER / diameter, *SCALES))
        factor = min(factor, math.sqrt(MOST_PIXELS / math.prod(image.shape[:2])))
        frame = Frame.scaled((image.shape[0], image.shape[1]), factor)
        features = self._encode_plane(plane, frame)
        return {"plane": plane, **features._asdict()}, frame

    def estimate_diameter(self, image: RGB) -> float | None:
        """Typical object diameter in image pixels as the model sees it; None if it sees no object.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
        """
        plane = torch.from_numpy(np.require(image, requirements=["C", "W"]))
        # Two distances may be nearly as good as each other: rounding must not choose between them.
        return estimate_diameter(self._exact, plane)

    def _encode_plane(self, plane: torch.Tensor, frame: Frame) -> Features:
        """Features of a plane (H, W, 3) at the scale of ``frame``."""
        return encode_plane(self.model, _resized(plane.float(), frame).to(self.device))

    def _level_frame(self, embedding: Embedding, level: int) -> Frame:
        """Frame of the plane at ``1 / 2**level`` of its own scale."""
        if level == 0:
            return embedding.frame
        return Frame.scaled(embedding.frame.image_shape, embedding.frame.scale[0] / 2**level)

    def _level_features(self, embedding: Embedding, level: int) -> Features:
        """Features of the whole plane at another level, encoded when first asked for."""
        if level == 0:
            return Features(**{n: embedding.features[n].to(self.device) for n in Features._fields})
        key = (embedding.pixels, level)
        if key not in self._levels:
            frame = self._level_frame(embedding, level)
            self._levels[key] = self._encode_plane(embedding.features["plane"], frame)
            near = [k for k in self._levels if k[1] == NEAR]
            for old in near[:-1]:  # these are large: one is kept
                del self._levels[old]
            while len(self._levels) > 8:
                self._levels.popitem(last=False)
        self._levels.move_to_end(key)
        return self._levels[key]

    def _features(
        self, embedding: Embedding, level: int, origins: torch.Tensor
    ) -> tuple[Features, torch.Tensor]:
        """Features that the windows at ``origins`` see, and the windows' first cells in them."""
        if level == NEAR:
            span = (origins.amax(0) - origins.amin(0) + WINDOW_CELLS) * CELL
            if 3 * int(span.prod()) < math.prod(self._level_frame(embedding, level).model_shape):
                return encode_part(self.model, self._near_picture(embedding), origins, WINDOW_CELLS)
        return crop_features(self._level_features(embedding, level), origins, WINDOW_CELLS)

    def _near_picture(self, embedding: Embedding) -> torch.Tensor:
        """The plane of the last embedding at twice its scale, uint8."""
        if self._near is None or self._near[0] != embedding.pixels:
            plane, frame = embedding.features["plane"], self._level_frame(embedding, NEAR)
            self._near = embedding.pixels, _resized(plane, frame).to(self.device)
        return self._near[1]

    def _may_be_near(self, embedding: Embedding) -> bool:
        """Whether the plane may be looked at at twice its scale."""
        return (
            4 * math.prod(embedding.frame.model_shape) <= NEAR_PIXELS
            and 2 * embedding.frame.scale[0] <= SCALES[1]
        )

    def _level(self, embedding: Embedding, prompts: Prompts) -> int:
        """Level at which the extent of the prompts fits a window and a box is not too small."""
        extent = _extent(embedding.frame, prompts)
        side = max(extent.height, extent.width) * max(embedding.frame.scale)
        if prompts.box is not None and side < SMALL_BOX and self._may_be_near(embedding):
            return NEAR
        return max(0, int(np.ceil(np.log2(max(side, 1.0) / (FILL * WINDOW)))))

    def _group(self, embedding: Embedding, prompts: Prompts, previous: Candidate | None) -> Hashable:
        level = self._level(embedding, prompts)
        if previous is not None:
            # Corrections stay at the scale of the mask that they correct, unless they reach further.
            before = _level_of(embedding, previous.window)
            level = max(level, before) if level > 0 else before
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
        features, starts = self._features(embedding, level, origins)
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
        extent = _extent(frame, prompts)
        if previous is not None and previous.window.frame == frame and previous.window.shape == shape:
            box = previous.window.image_box
            if extent.intersect(box) == extent:
                return previous.window
        centre = frame.to_model(np.array(extent.centre))
        oy, ox = (int(np.floor((c + 0.5 - WINDOW / 2) / CELL + 0.5)) * CELL for c in centre)
        return Window(frame, (oy, ox), LOGIT_STRIDE, shape)

    def suits(self, embedding: Embedding, window: Window, mask: Mask) -> bool:
        """Whether an object is neither cut off by its window nor small, where it may be seen from nearer."""
        if window.cuts(mask):
            return False
        near = _level_of(embedding, window) == 0 and self._may_be_near(embedding)
        return not near or not 0 < _model_diameter(window, mask) < SMALL

    def refocus(
        self,
        embedding: Embedding,
        prompts: Sequence[Prompts],
        offers: Sequence[Candidates],
        previous: Sequence[Candidate | None],
    ) -> list[Candidates]:
        """Candidates of objects that their windows do not suit, seen from further away or nearer."""
        offers = list(offers)
        for _ in range(3):
            groups: dict[tuple[int, bool], list[int]] = {}
            for i, offer in enumerate(offers):
                level = self._better_level(embedding, prompts[i], offer.best, previous[i])
                if level is not None:
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

    def _better_level(
        self, embedding: Embedding, prompts: Prompts, best: Candidate, previous: Candidate | None
    ) -> int | None:
        """Level at which an object should be seen again; None where it is."""
        frame, level = best.window.frame, _level_of(embedding, best.window)
        if max(frame.model_shape) > WINDOW and best.window.cuts(best.mask):
            return level + 1
        # Only a first click: what follows corrects a mask at the scale at which it was made.
        if level or previous is not None or not prompts.ambiguous or not self._may_be_near(embedding):
            return None
        return NEAR if 0 < _model_diameter(best.window, best.mask) < SMALL else None

    def seeds(self, embedding: Embedding) -> Seeds:
        """Places where the dense head expects an object's middle."""
        with torch.inference_mode():
            points, scores = self.model.seeds(embedding.features["dense"][0].to(self.device))
        places = embedding.frame.to_image(points.cpu().double().numpy())
        height, width = embedding.frame.image_shape
        inside = ((places > -0.5) & (places < (height - 0.5, width - 0.5))).all(1)
        return Seeds(places[inside], scores.cpu().double().numpy()[inside])

    def judge(self, embedding: Embedding, mask: Mask, predicted_iou: float) -> float:
        """Quality of an automatic mask: the decoder's estimate, and whether the dense head sees an object.

        The two err in different ways: the decoder answers every prompt with some mask, the dense head was not
        told of the prompt.
        """
        if not mask.pixels.size:
            return predicted_iou
        step = max(1, max(mask.pixels.shape) // SAMPLES)
        pixels, seen = mask.pixels[::step, ::step], self._foreground(embedding)
        rows, cols = (
            self._dense_places(embedding, start + np.arange(0, length, step), axis).clip(
                0, seen.shape[axis] - 1
            )
            for axis, (start, length) in enumerate(zip((mask.y0, mask.x0), mask.pixels.shape, strict=True))
        )
        chance = float(seen[np.ix_(rows, cols)][pixels].mean()) if pixels.any() else 0.0
        return (1 - SEEN_WEIGHT) * predicted_iou + SEEN_WEIGHT * chance

    def least_iou(self, quality: float) -> float:
        """Return the decoder's estimate of a mask with foreground everywhere that is judged so."""
        return (quality - SEEN_WEIGHT) / (1 - SEEN_WEIGHT)

    @staticmethod
    def _dense_places(embedding: Embedding, places: NDArray[np.integer], axis: int) -> NDArray[np.int64]:
        """Positions in the dense head's maps of rows (axis 0) or columns (axis 1) of the image."""
        model = embedding.frame.to_model(np.repeat(places, 2).reshape(-1, 2))[:, axis]
        return np.round((model - 1.5) / 4).astype(np.int64)

    def _foreground(self, embedding: Embedding) -> NDArray[np.float32]:
        """Chance that there is an object at each position of the dense head's maps, shape (h, w)."""
        if embedding not in self._seen:
            logits = embedding.features["dense"][0, DENSE_CHANNELS.index("foreground")]
            self._seen[embedding] = torch.sigmoid(logits.float()).cpu().numpy()
        return self._seen[embedding]

    def overlooked(self, embedding: Embedding, covered: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Middles of what the dense head takes for objects where no mask is."""
        seen = self._foreground(embedding) > SEEN
        # The maps are coarser than the plane: each position stands for the pixel in its middle.
        rows, cols = (
            np.round(embedding.frame.to_image(np.repeat(np.arange(n) * 4.0 + 1.5, 2).reshape(n, 2))[:, axis])
            for axis, n in enumerate(seen.shape)
        )
        rows, cols = (x.astype(np.int64)[x < n] for x, n in zip((rows, cols), covered.shape, strict=True))
        free = seen[: len(rows), : len(cols)] & ~covered[np.ix_(rows, cols)]
        return np.asarray(embedding.frame.to_image(middles(free, LEAST_DEPTH) * 4.0 + 1.5))


def middles(region: NDArray[np.bool_], least: float) -> NDArray[np.float64]:
    """Peaks of the distance transform of a region that are at least ``least`` deep, the deepest first.

    Parameters
    ----------
    region : ndarray of bool, shape (H, W)
    least : float

    Returns
    -------
    ndarray of float64, shape (N, 2)
    """
    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    depth = np.where(region, ndimage.gaussian_filter(depth, 0.7), 0)
    peaks = np.argwhere((ndimage.maximum_filter(depth, 5) == depth) & (depth > least))
    return peaks[np.argsort(-depth[tuple(peaks.T)], kind="stable")].astype(np.float64)

"""The built-in model: a small promptable network for cells, shipped with the package.

It is SAM's recipe at small width (image encoder, prompt encoder, two-way mask decoder with three
candidates, a single mask and predicted qualities), with two differences. The encoder is
convolutional and runs once over a whole plane. The decoder does not look at the whole plane but at a
window of 256 x 256 model pixels around each prompt, with positions relative to the window: what it
says does not depend on where in the plane, or in how large a plane, an object lies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_sam.model.builtin_decoder import Decoded, Decoder
from napari_sam.model.builtin_encoder import DENSE_CHANNELS, Encoder, Features
from napari_sam.model.builtin_window import CELL, LOGIT_STRIDE, WINDOW_CELLS
from napari_sam.model.unfilled import unfilled

__all__ = [
    "CELL",
    "DENSE_CHANNELS",
    "LOGIT_STRIDE",
    "MODEL_DIAMETER",
    "WINDOW_CELLS",
    "BuiltIn",
    "Decoded",
    "Features",
    "deepened",
    "load_builtin",
    "save_builtin",
]

MODEL_DIAMETER = 44.0
"""Diameter (model pixels, of a disc of the same area) at which objects are segmented best."""
SEED_THRESHOLD = 0.45
"""Height of a seed that is worth a prompt; chosen on training images."""
GLANCE_THRESHOLD = 0.3
"""Height of a seed that says something about the objects' size, also at a wrong scale."""
FAR = 8.0
"""Largest difference, in octaves, from `MODEL_DIAMETER` that is believed."""
_MEAN, _SPREAD = 127.5, 63.75


class BuiltIn(nn.Module):
    """The built-in promptable model.

    Parameters
    ----------
    channels : tuple of int
        Widths of the encoder at strides 2, 4, 8, 16 and 32.
    depths : tuple of int
        Residual blocks of the encoder at strides 4, 8, 16 and 32.
    width : int
        Width E of the embedding and the tokens; a multiple of 16.
    """

    def __init__(
        self,
        channels: tuple[int, ...] = (24, 48, 96, 160, 224),
        depths: tuple[int, ...] = (1, 2, 3, 2),
        width: int = 128,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            "channels": list(channels),
            "depths": list(depths),
            "width": width,
        }
        self.encoder: nn.Module = Encoder(tuple(channels), tuple(depths), width)
        self.decoder = Decoder(width)

    @staticmethod
    def normalise(rgb: Tensor) -> Tensor:
        """(..., 3, H, W) RGB in 0..255, after the contrast window -> float32, 0 at mid-grey."""
        return (rgb.float() - _MEAN) / _SPREAD

    def encode(self, x: Tensor) -> Features:
        """Encode planes.

        Parameters
        ----------
        x : Tensor
            Shape (B, 3, H, W), as `normalise` returns it; H and W are multiples of 32.

        Returns
        -------
        Features
        """
        features: Features = self.encoder(x)
        return features

    def decode(
        self,
        features: Features,
        batch_index: Tensor,
        window_origin: Tensor,
        points: Tensor,
        labels: Tensor,
        mask: Tensor | None = None,
    ) -> Decoded:
        """Decode N prompts, each in its own window.

        Parameters
        ----------
        features : Features
            What `encode` returned for B planes.
        batch_index : Tensor
            Shape (N,), int64: the plane of each prompt.
        window_origin : Tensor
            Shape (N, 2), int64, (y, x): first cell of the window in units of 16 pixels; windows
            may reach past the plane on every side.
        points : Tensor
            Shape (N, P, 2), (x, y) in model pixels of the plane; 0 is the centre of a pixel.
        labels : Tensor
            Shape (N, P), int64: 1 object, 0 background, 2 and 3 first and last corner of a box,
            -1 padding.
        mask : Tensor or None
            Shape (N, 1, h, w): logits of an earlier mask, over the same windows.

        Returns
        -------
        Decoded
        """
        decoded: Decoded = self.decoder(features, batch_index, window_origin, points, labels, mask)
        return decoded

    @staticmethod
    def seeds(dense: Tensor, threshold: float = SEED_THRESHOLD) -> tuple[Tensor, Tensor]:
        """Peaks of the seed map: one point in each object that the dense head sees.

        Parameters
        ----------
        dense : Tensor
            Shape (4, h, w): the dense map of one plane, stride 4.
        threshold : float
            Least height of a peak, 0 to 1.

        Returns
        -------
        points : Tensor
            Shape (n, 2), float32, (y, x) in model pixels, highest peak first.
        scores : Tensor
            Shape (n,), heights of the peaks, 0 to 1.
        """
        heat = torch.sigmoid(dense[0].float())[None, None]
        smooth = F.avg_pool2d(heat, 3, 1, 1, count_include_pad=False)
        peak = (F.max_pool2d(smooth, 5, 1, 2) == smooth) & (smooth > threshold)
        y, x = peak[0, 0].nonzero().unbind(-1)
        scores = smooth[0, 0, y, x]
        order = scores.argsort(descending=True)
        points = torch.stack([y, x], -1)[order] * 4.0 + 1.5
        return points, scores[order]

    @staticmethod
    def estimate_diameter(dense: Tensor) -> float | None:
        """Median object diameter in model pixels, each object counting once; None if none is seen.

        Parameters
        ----------
        dense : Tensor
            Shape (4, h, w): the dense map of one plane, stride 4.
        """
        points, _ = BuiltIn.seeds(dense, GLANCE_THRESHOLD)
        if not len(points):
            return None
        y, x = ((points - 1.5) / 4).long().unbind(-1)
        octaves = dense[DENSE_CHANNELS.index("log_diameter")].float()[y, x].median()
        # A model that has learned nothing may say anything.
        return float(MODEL_DIAMETER * 2 ** octaves.nan_to_num().clamp(-FAR, FAR))


def save_builtin(state: Mapping[str, Tensor], config: Mapping[str, Any], path: Path, notes: str = "") -> None:
    """Write weights in half precision, with the architecture in the file's metadata.

    Parameters
    ----------
    state : mapping of str to Tensor
        State of a `BuiltIn`.
    config : mapping
        Its `config`.
    path : Path
        File to write (safetensors); replaced as a whole.
    notes : str
        Free text kept in the metadata, e.g. where the weights come from.

    Raises
    ------
    ExportError
        If the file cannot be written.
    """
    from safetensors.torch import save

    from napari_sam.export.atomic import replacing

    # counters of the batch norms are of no use at inference
    half = {name: tensor.half().contiguous() for name, tensor in state.items() if tensor.is_floating_point()}
    with replacing(path) as temporary:
        # Not save_file, whose files only their owner may read.
        temporary.write_bytes(save(half, {"config": json.dumps(dict(config)), "notes": notes}))


def load_builtin(path: Path | str | None = None) -> BuiltIn:
    """Load the built-in model, ready for inference.

    Parameters
    ----------
    path : Path, str or None
        A safetensors file written by `save_builtin`; by default the weights in the package.

    Returns
    -------
    BuiltIn
        In evaluation mode, float32.

    Raises
    ------
    ValueError
        If the file does not hold a built-in model, or numbers that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    if path is None:
        with as_file(files("napari_sam") / "weights" / "builtin.safetensors") as packaged:
            return load_builtin(packaged)
    try:
        opened = safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} was expected to hold weights of the built-in model, but {_fault(Path(path), error)}. "
            "Choose a file written by `napari-sam train`."
        ) from error
    with opened as file:
        metadata = file.metadata() or {}
        if "config" not in metadata:
            raise ValueError(
                f"{path} was expected to hold weights of the built-in model, but says nothing of "
                "its architecture. Choose a file written by `napari-sam train`."
            )
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    model = _build(metadata["config"], path)
    expected = model.state_dict()
    missing = [n for n in expected.keys() - state.keys() if not n.endswith("num_batches_tracked")]
    misfits = [n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape]
    unexpected = state.keys() - expected.keys()
    if missing or unexpected or misfits:
        raise ValueError(
            f"{path} does not fit the built-in model: missing {sorted(missing)[:3]}, unexpected "
            f"{sorted(unexpected)[:3]}, of another shape {sorted(misfits)[:3]}. "
            "It was probably written by another version."
        )
    for name, tensor in state.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(
                f"{path} was expected to hold finite numbers as weights, but has infinite ones, NaN, or no "
                f"floating-point numbers in {name}. The file is damaged, or the training that wrote it had "
                "failed: choose an earlier one."
            )
    weights = {name: tensor.float() for name, tensor in state.items()}
    counters = {
        n: torch.zeros(tuple(expected[n].shape), dtype=expected[n].dtype)
        for n in expected.keys() - state.keys()
    }
    model.load_state_dict(weights | counters, assign=True)
    return model.eval()


def deepened(model: BuiltIn, more: Sequence[int]) -> BuiltIn:
    """A copy with more residual blocks in the encoder, which begin as the identity: it answers the same.

    Parameters
    ----------
    model : BuiltIn
    more : sequence of 4 int
        Blocks to add at strides 4, 8, 16 and 32.
    """
    depths = [depth + extra for depth, extra in zip(model.config["depths"], more, strict=True)]
    deeper = BuiltIn(**{**model.config, "depths": depths})
    deeper.load_state_dict({**deeper.state_dict(), **model.state_dict()})
    return deeper.eval()


def _fault(path: Path, error: Exception) -> str:
    """Say why a file of weights cannot be opened; the reader's own words name neither folders nor pickles."""
    if path.is_dir():
        return "it is a folder"
    if not path.exists():
        return "there is no such file"
    if isinstance(error, OSError) and error.strerror:
        return f"it cannot be read ({error.strerror})"
    return "it is no safetensors file, or a damaged one"


def _build(config: str, path: Path | str) -> BuiltIn:
    """Build the model that a file's metadata describe, as yet without numbers.

    Raises
    ------
    ValueError
        If they describe none.
    """
    try:
        with unfilled():
            return BuiltIn(**json.loads(config))
    # Sizes that do not fit together fail in whichever layer comes first.
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} was expected to hold weights of the built-in model, but its architecture "
            f"({config[:80]}) cannot be built. Choose a file written by `napari-sam train`."
        ) from error

"""A predictor by name or file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from threading import Lock

import torch

import napari_sam
from napari_sam.predictor.base import Predictor

BUILT_IN = "built-in"
_BUILDING = Lock()
"""One model is built at a time: several that are chosen one after the other do not fill the memory."""


def choose_device(device: str = "auto") -> torch.device:
    """Return the device to run on.

    Parameters
    ----------
    device : str
        ``"auto"`` takes CUDA, then Apple's MPS, then the processor; or a torch device such as ``"cuda:1"``.

    Raises
    ------
    ValueError
        If the device is unknown or not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]  # pages of what torch is made of may follow
        raise ValueError(
            f"The device {device!r} cannot be used on this machine ({reason}). Use 'auto' or 'cpu'."
        ) from error
    return chosen


def load_model(
    name: str | Path = BUILT_IN,
    *,
    device: str = "auto",
    precision: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Predictor:
    """Load a model by name or file and make it ready to predict.

    Parameters
    ----------
    name : str or Path
        ``"built-in"``, a name of the registry (``napari-sam models`` lists them; it is downloaded when it is
        not there yet), or a checkpoint file of SAM, MobileSAM or a fine-tuned model.
    device : str
        See `choose_device`.
    precision : {"auto", "fp32", "bf16"}
        Arithmetic. ``"auto"`` takes what the processor or GPU is built for: bf16 for official models, 8-bit
        numbers for the built-in model's encoder.
    progress : callable, optional
        Called with (bytes done, bytes in all) during a download.
    cancelled : callable, optional
        Asked during a download, and before the model is built, whether to stop.

    Returns
    -------
    Predictor

    Raises
    ------
    napari_sam.weights.fetch.DownloadCancelled
        If ``cancelled`` said so.

    Examples
    --------
    >>> from napari_sam import load_model
    >>> predictor = load_model("built-in", device="cpu")
    >>> predictor.name
    'built-in'
    """
    place = choose_device(device)
    if str(name) == BUILT_IN:
        with _BUILDING:
            return _load_built_in(builtin_weights(), BUILT_IN, place, precision)
    return _load_file_or_registry(name, place, precision, progress, cancelled)


def builtin_weights() -> Path:
    """Return the file of the built-in model's weights in the package."""
    return Path(napari_sam.__file__).parent / "weights" / "builtin.safetensors"


def fingerprint_of(path: Path) -> str:
    """Fingerprint of a file of weights of the built-in model: the identity of the model."""
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def model_file(name: str | Path) -> Path | None:
    """Return the file that is meant as `load_model` takes it; None where it is the name of a model."""
    from napari_sam.weights.registry import ENTRIES

    known = {BUILT_IN, *(entry.name for entry in ENTRIES)}
    return None if str(name) in known else Path(name).expanduser()


def _load_built_in(path: Path, name: str, place: torch.device, precision: str) -> Predictor:
    """Predictor of a file that `napari-sam train` wrote, or of the package's own."""
    from napari_sam.model.builtin import load_builtin
    from napari_sam.model.builtin_quick import kept_ranges, optimise_builtin
    from napari_sam.model.precision import one_thread
    from napari_sam.predictor.builtin import BuiltInPredictor

    digest = fingerprint_of(path)
    with one_thread():
        model = optimise_builtin(load_builtin(path), place, precision, kept_ranges(digest))
    return BuiltInPredictor(model, name, digest, place)


def _load_file_or_registry(
    name: str | Path,
    place: torch.device,
    precision: str,
    progress: Callable[[int, int], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Predictor:
    """Predictor of an official or fine-tuned checkpoint, downloaded when it is not there yet."""
    from napari_sam.model import optimise
    from napari_sam.predictor.official import SamPredictor
    from napari_sam.weights.checkpoint import load_checkpoint, model_hash
    from napari_sam.weights.fetch import DownloadCancelled, fetch
    from napari_sam.weights.registry import ENTRIES, find_entry

    file = model_file(name)
    if file is None:
        entry = find_entry(str(name))
        path, title = fetch(entry, progress=progress, cancelled=cancelled), entry.name
    else:
        path, title = file, file.stem
    if not path.is_file():
        known = ", ".join([BUILT_IN, *(e.name for e in ENTRIES if e.licence)])
        raise ValueError(
            f"Expected the name of a model ({known}) or a checkpoint file, "
            f"found {str(name)!r}, which is neither."
        )
    with _BUILDING:
        if cancelled is not None and cancelled():
            raise DownloadCancelled(f"{title} is not wanted any more.")
        if _is_built_in(path):
            return _load_built_in(path, title, place, precision)
        model = optimise(load_checkpoint(path), place, precision)
        return SamPredictor(model, title, model_hash(path), place)


def _is_built_in(path: Path) -> bool:
    """Whether a safetensors file says of what architecture it is, and has the names of a built-in model."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Others, too, note a "config" of their own.
            ours = all(name.startswith(("encoder.", "decoder.")) for name in file.keys())  # noqa: SIM118
            return ours and "config" in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False

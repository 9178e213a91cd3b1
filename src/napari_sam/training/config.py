"""The configuration of a training run: one TOML file, read into frozen values.

A run may have several parts, ``[[part]]`` in the file, each of which starts from the weights of the one
before with a schedule of its own.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from napari_sam.training.data import Source, load_folder, load_stack
from napari_sam.training.examples import Recipe
from napari_sam.training.limits import ANY, SHARE, SOME, check_ranges, most_at_once
from napari_sam.training.losses import OVERLAPS

__all__ = [
    "BUILT_IN",
    "CHECKPOINT",
    "CURVES",
    "METRICS",
    "WEIGHTS",
    "DataEntry",
    "TrainConfig",
    "load_config",
    "load_sources",
]

BUILT_IN = "built-in"
"""Start from the weights in the package."""
PRECISIONS = ("auto", "bfloat16", "float32")
WIDTH_STEP = 16
"""What the width of the network is a multiple of."""
CHECKPOINT, WEIGHTS, METRICS = "checkpoint.pt", "weights.safetensors", "metrics.csv"
"""Files in the output folder of a part."""
CURVES = "metrics.png"
"""Beside them, in the last part: the curves of all."""


@dataclass(frozen=True)
class DataEntry:
    """One set of labelled planes.

    Parameters
    ----------
    name : str
    weight : float
        Share among the crops that are not drawn; need not sum to one.
    folder : str
        Folder with ``images`` and ``labels``, relative to the data folder.
    image, labels : str
        Instead of a folder: a stack and its labels.
    axes : str
        Letters of the axes of the images, where their files do not say them, as ``napari-sam segment`` takes
        them.
    every : int
        Take each n-th plane of a stack.
    balance : str
        Column of the folder's ``index.csv`` that names groups to be balanced.
    crowding : float
        Planes of a folder are drawn by this power of the number of their objects: 0 draws all planes
        alike, 1 all objects.
    pasted : float
        Share of the crops into which objects from elsewhere in their planes are pasted.
    """

    name: str
    weight: float = 1.0
    folder: str = ""
    image: str = ""
    labels: str = ""
    axes: str = ""
    every: int = 1
    balance: str = ""
    crowding: float = 0.5
    pasted: float = 0.0

    def __post_init__(self) -> None:
        """Refuse entries that name no data."""
        stack = self.image and self.labels
        if bool(self.folder) == bool(stack):
            raise ValueError(
                f"Expected a folder, or an image and its labels, found {'both' if stack else 'neither'} in "
                f'the data {self.name!r}. Write folder = "...", or image = "..." and labels = "...": for '
                "both, a [[data]] each."
            )
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"Expected a weight above 0 of the data {self.name!r}, found {self.weight}. To leave them "
                "out, delete their [[data]]."
            )
        # What would be passed over in silence; as refused as a setting that is not known.
        other, idle = ("folder", ("balance", "crowding")) if stack else ("stack", ("every",))
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        if given := [name for name in idle if getattr(self, name) != defaults[name]]:
            raise ValueError(
                f"Expected no {' or '.join(given)} in the data {self.name!r}: only a {other} has it. "
                "Leave it out."
            )
        if self.every < 1:
            raise ValueError(
                f"Expected every = 1 or more in the data {self.name!r}, found {self.every}: "
                "it says how many planes of a stack there are to each one that is taken."
            )
        check_ranges(self, {"crowding": SHARE, "pasted": SHARE})


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run depends on.

    Parameters
    ----------
    output : Path
        Folder of checkpoints, metrics and weights.
    data_root : Path
        Folder that the entries of `data` are relative to; that of the configuration file if it names none.
    data : tuple of DataEntry
    recipe : Recipe
    channels, depths, width
        Architecture of a new network, see `napari_sam.model.builtin.BuiltIn`.
    start_from : str
        Weights to start from (fine-tuning): a safetensors file, "built-in", or empty for none. The network is
        then theirs.
    deepen : tuple of int
        Residual blocks to add to those of the network that is started from, at strides 4, 8, 16 and 32. They
        begin as the identity.
    minutes : float
        Training time; 0 to go by `steps`.
    steps : int
        Number of steps, where `minutes` is 0.
    rounds : int
        Longest sequence of prompts of one object.
    learning_rate, warmup, weight_decay, clip
        Peak rate of Muon and AdamW, its warm-up in steps (0 for none), weight decay, and largest gradient
        norm.
    ema : float
        Decay of the averaged weights, per step.
    settle : float
        Last share of the training in which the batch norms keep still.
    quality : float
        Weight of the squared error on the predicted IoU.
    overlap : str
        "dice" or "iou", beside the focal loss; see `napari_sam.training.losses.mask_loss`.
    keep : float
        Share of the weights to start from in the weights that are written. Between a network and itself
        after more training lies one that is better than both on images unlike those of the training
        (Wortsman et al. 2022, arXiv:2109.01903).
    seed : int
    device : str
        "auto", "cpu" or "cuda".
    precision : str
        "auto", "bfloat16" or "float32".
    threads, workers : int
        Threads of the training process (0: as torch decides) and loader processes.
    checkpoint_minutes : float
    """

    output: Path
    data_root: Path = Path()
    data: tuple[DataEntry, ...] = ()
    recipe: Recipe = field(default_factory=Recipe)
    channels: tuple[int, ...] = (32, 64, 128, 192, 256)
    depths: tuple[int, ...] = (1, 2, 3, 2)
    width: int = 128
    start_from: str = ""
    deepen: tuple[int, ...] = (0, 0, 0, 0)
    minutes: float = 0.0
    steps: int = 2000
    rounds: int = 11
    learning_rate: float = 1.5e-3
    warmup: int = 150
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998
    settle: float = 0.0
    quality: float = 1.0
    overlap: str = "dice"
    keep: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    threads: int = 0
    workers: int = 1
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        """Refuse trainings without a length, and settings that cannot be."""
        if self.minutes < 0 or (self.minutes == 0 and self.steps < 1):
            raise ValueError(
                f"Expected minutes above 0, or minutes = 0 and steps of 1 or more, found minutes = "
                f"{self.minutes} and steps = {self.steps}. Say how long to train."
            )
        if self.warmup < 0:
            raise ValueError(f"Expected warmup = 0 steps or more, found {self.warmup}.")
        if self.keep and not self.start_from:
            raise ValueError(
                f"Expected keep = 0 where there is no start_from, found {self.keep}: the weights would be "
                "mixed with random numbers. Name the weights to start from, or leave keep out."
            )
        if any(self.deepen) and not self.start_from:
            raise ValueError(
                "Expected no deepen where there is no start_from: a new network is as deep as depths say."
            )
        if self.start_from and Path(self.start_from).resolve() == (self.output / WEIGHTS).resolve():
            raise ValueError(
                f"Expected another output than the folder of start_from, found {self.start_from}: the "
                "training would write over the weights that it starts from. Choose another output."
            )
        for name, count, least in (("channels", 5, 1), ("depths", 4, 0), ("deepen", 4, 0)):
            sizes = getattr(self, name)
            if len(sizes) != count or not all(type(size) is int and size >= least for size in sizes):
                raise ValueError(
                    f"Expected {count} whole numbers of {least} or more as {name}, found {list(sizes)}."
                )
        if self.width % WIDTH_STEP:
            raise ValueError(f"Expected a width that is a multiple of {WIDTH_STEP}, found {self.width}.")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"Expected a precision out of {', '.join(PRECISIONS)}, found {self.precision!r}."
            )
        if self.overlap not in OVERLAPS:
            raise ValueError(f"Expected an overlap out of {', '.join(OVERLAPS)}, found {self.overlap!r}.")
        check_ranges(
            self,
            dict.fromkeys(("ema", "settle", "keep"), SHARE)
            | dict.fromkeys(("rounds", "width"), SOME)
            | dict.fromkeys(
                ("minutes", "learning_rate", "weight_decay", "clip", "quality", "checkpoint_minutes"), ANY
            )
            | dict.fromkeys(("threads", "workers"), (0, most_at_once()))
            | {"seed": (0, 2**32 - 1)},
        )  # fmt: skip


_TOML: dict[Any, tuple[type, ...]] = {
    float: (float, int), int: (int,), bool: (bool,), str: (str,), Path: (str,), tuple: (list,)
}  # fmt: skip
"""What a file must hold for a setting of a type."""


def _checked(kind: type[Any], table: dict[str, Any], where: str) -> dict[str, Any]:
    known = {f.name for f in dataclasses.fields(kind)}
    if unknown := sorted(set(table) - known):
        raise ValueError(f"{where} has unknown settings {unknown}. Known are {sorted(known)}.")
    hints = get_type_hints(kind)
    for name, value in table.items():
        wanted = get_origin(hints[name]) or hints[name]
        if type(value) not in _TOML[wanted]:
            words = " or ".join(t.__name__ for t in _TOML[wanted])
            raise ValueError(f"Expected {name} in {where} to be of the type {words}, found {value!r}.")
    return {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}


def load_config(path: Path, **changes: Any) -> tuple[TrainConfig, ...]:
    """Read a TOML file; paths in it are relative to the file, and so are data where it names no data folder.

    Parameters
    ----------
    path : Path
    **changes
        Settings that replace those of the file, in every part.

    Returns
    -------
    tuple of TrainConfig
        The parts of the run, to be trained one after the other: one, unless the file has several
        ``[[part]]``. A part's settings replace those of the file; in its ``recipe`` and ``data`` (settings
        of data sets, by their names) it says only what differs. Its ``name`` is its folder in the output.

    Raises
    ------
    ValueError
        If a setting is not known, cannot be, or is missing.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ValueError(f"The configuration {path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise ValueError(f"{path} is no TOML file: {error}. See the user guide for an example.") from error
    for name in ("data", "part"):
        if not _is_list_of_tables(table.get(name, [])):
            raise ValueError(f"Expected [[{name}]] with two brackets in {path}, found {table[name]!r}.")
    names: list[Any] = []
    for number, entry in enumerate(table.get("data", []), 1):
        if "name" not in entry:
            raise ValueError(f'[[data]] {number} of {path} has no name. Write name = "..." below it.')
        if entry["name"] in names:
            raise ValueError(
                f"Expected a name of its own for each [[data]] of {path}, found {entry['name']!r} twice."
            )
        names.append(entry["name"])
    parts = table.pop("part", [])
    for where, holder in ((str(path), table), *((f"a [[part]] of {path}", own) for own in parts)):
        if not isinstance(holder.get("recipe", {}), dict):
            raise ValueError(
                f"Expected [recipe] with settings of its own in {where}, found {holder['recipe']!r}."
            )
        for name in ("output", "name"):
            if type(holder.get(name, "")) is not str:
                raise ValueError(f"Expected {name} in {where} to be of the type str, found {holder[name]!r}.")
    if not parts:
        return (_part(path, table, changes),)
    out: list[TrainConfig] = []
    root = Path(changes.pop("output", path.parent / table.get("output", path.stem)))
    for number, own in enumerate(parts, 1):
        folder = root / own.pop("name", f"part{number}")
        if folder in [part.output for part in out]:
            raise ValueError(
                f"Expected a name of its own for each [[part]] of {path}, found {folder.name!r} twice: it is "
                "a part's folder, in which the second would find the training of the first finished."
            )
        changed = own.pop("data", {})
        if not isinstance(changed, dict) or not all(isinstance(v, dict) for v in changed.values()):
            raise ValueError(
                "Expected data = {NAME = {weight = 1.0}}, with what differs by the names of data sets, in "
                f"[[part]] {number} of {path}, found {changed!r}."
            )
        merged = table | own | {"recipe": table.get("recipe", {}) | own.get("recipe", {})}
        sets = [entry | changed.pop(entry["name"], {}) for entry in table.get("data", [])]
        if changed:
            raise ValueError(
                f"[[part]] {number} of {path} changes data that is not in the file: {sorted(changed)}."
            )
        start = {"start_from": str((out[-1].output / WEIGHTS).absolute())} if out else {}
        out.append(_part(path, merged | {"data": sets} | start, changes | {"output": folder}))
    return tuple(out)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _part(path: Path, table: dict[str, Any], changes: dict[str, Any]) -> TrainConfig:
    """Return the configuration that a table of the file at `path` describes."""
    table = dict(table)
    data = tuple(
        DataEntry(**_checked(DataEntry, entry, f"[[data]] of {path}")) for entry in table.pop("data", [])
    )
    recipe = Recipe(**_checked(Recipe, table.pop("recipe", {}), f"[recipe] of {path}"))
    values = _checked(TrainConfig, table, str(path)) | changes
    for key in ("output", "data_root"):
        if key in values and key not in changes:
            values[key] = path.parent / values[key]
        elif key in values:
            values[key] = Path(values[key])
    if values.get("start_from", "") not in ("", BUILT_IN):
        values["start_from"] = str(path.parent / values["start_from"])
    beside = {"output": path.parent / path.stem, "data_root": path.parent}
    return TrainConfig(**(beside | values | {"data": data, "recipe": recipe}))


def load_sources(config: TrainConfig) -> tuple[list[Source], list[float]]:
    """Read the labelled planes of a configuration, and the weight of each source."""
    sources: Sequence[Source] = [
        load_folder(
            entry.name,
            config.data_root / entry.folder,
            entry.balance or None,
            entry.crowding,
            axes=entry.axes or None,
        )
        if entry.folder
        else load_stack(
            entry.name,
            config.data_root / entry.image,
            config.data_root / entry.labels,
            entry.every,
            axes=entry.axes or None,
        )
        for entry in config.data
    ]
    sources = [
        replace(source, pasted=entry.pasted) for source, entry in zip(sources, config.data, strict=True)
    ]
    return sources, [entry.weight for entry in config.data]

"""What lies in the output folder of a training: its own, which it goes on with, or what is another's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from napari_sam.training.config import CHECKPOINT, CURVES, METRICS, WEIGHTS, TrainConfig
from napari_sam.training.metrics import read_metrics

__all__ = ["parts_to_train", "refuse_others"]


def refuse_others(output: Path) -> None:
    """Refuse a folder in which a new training would write over what another has left.

    A training writes its checkpoint before anything else: what lies there without one is not its own.

    Raises
    ------
    ValueError
    """
    if output.is_file():
        raise ValueError(f"Expected a folder as output, found the file {output}. Choose another name.")
    if (output / CHECKPOINT).exists():
        return
    log = output / METRICS
    found = [name for name in (WEIGHTS, CURVES) if (output / name).exists()]
    if log.exists() and read_metrics(log):
        found.append(METRICS)
    if found:
        raise ValueError(
            f"Expected an empty folder as output, or one with the {CHECKPOINT} of this training, found "
            f"{' and '.join(found)} in {output} without it: a new training would write over what another has "
            "left, or a run that was stopped before its first checkpoint. Choose another output, where "
            "start_from may name weights of before; or move all of it elsewhere."
        )


def parts_to_train(parts: Sequence[TrainConfig]) -> Sequence[TrainConfig]:
    """The last part that has begun, and those behind it.

    A part from whose weights the next one has begun is finished, whatever the length that is asked for now:
    if it went on, the next one would have begun from weights that are no more.

    Raises
    ------
    ValueError
        If a part before it is not there any more.
    """
    begun = [n for n, part in enumerate(parts) if (part.output / CHECKPOINT).exists()]
    last = max(begun, default=0)
    for part in parts[:last]:
        missing = [name for name in (CHECKPOINT, WEIGHTS) if not (part.output / name).exists()]
        if missing:
            raise ValueError(
                f"Expected {part.output} to hold the finished part from whose weights {parts[last].output} "
                f"went on, found no {' and no '.join(missing)} there. Put them back; or, to train that part "
                "anew, move the folders of the parts behind it elsewhere as well."
            )
    return parts[last:]

"""Long runs: memory that stays flat, time that grows linearly, results that survive being killed.

python -m benchmarks.endurance --planes 1000 --kills 51
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import torch
from tests.conftest import draw_cells
from tests.interrupt import kill_until_done

from napari_sam import load_model
from napari_sam.export import export
from napari_sam.folder import plan, segment_files
from napari_sam.image import plane_to_rgb
from napari_sam.progress import finish
from napari_sam.recipe import Recipe
from napari_sam.stack import PlaneDone, segment_stack
from napari_sam.store import EmbeddingStore, embed_stack

DIAMETER = 18.0
RECIPE = Recipe(diameter=DIAMETER, contrast=((0.0, 255.0),))


class Drawn(list[int]):
    """Planes of cells that are drawn when they are asked for."""

    def __getitem__(self, number):  # noqa: ANN001, ANN204
        return plane_to_rgb(draw_cells((96, 96), seed=super().__getitem__(number)).image)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def flat_memory(planes: int) -> list[dict[str, float]]:
    """Segment and link a long stack; memory and time after every twentieth of it."""
    predictor = load_model(device="cpu")
    started, rows = time.monotonic(), []
    stack = (Drawn(range(planes))[n] for n in range(planes))
    for step in segment_stack(predictor, stack, diameter=DIAMETER):
        if isinstance(step, PlaneDone) and step.done % max(planes // 20, 1) == 0:
            row = {"planes": step.done, "seconds": time.monotonic() - started, "resident_mb": resident_mb()}
            rows.append(row)
            print("{planes:>6} planes {seconds:>8.1f} s {resident_mb:>8.1f} MB".format(**row), flush=True)
    return rows


def write_stack(path: Path, planes: int) -> None:
    stack = np.stack([draw_cells((96, 96), seed=n).image for n in range(planes)])
    tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})


def embed(folder: str, planes: int) -> None:
    torch.set_num_threads(1)
    store = EmbeddingStore(Path(folder) / "store")
    finish(embed_stack(load_model(device="cpu"), Drawn(range(planes)), store, diameter=DIAMETER))


def segment(folder: str, planes: int) -> None:
    torch.set_num_threads(1)
    place = Path(folder)
    place.mkdir(exist_ok=True)
    source = place.parent / f"stack{planes}.tif"
    jobs = plan([source], place / "out")
    reports = finish(
        segment_files(load_model(device="cpu"), jobs, RECIPE, manifest=place / "out" / "m.jsonl", resume=True)
    )
    assert reports[0].status in ("done", "kept"), reports


def write(folder: str, planes: int) -> None:
    place = Path(folder)
    place.mkdir(exist_ok=True)
    with np.errstate(over="ignore"):
        labels = np.stack([draw_cells((512, 512), seed=n).labels for n in range(planes)])
    for name in ("labels.tif", "labels.ome.zarr", "labels.csv"):
        if not (place / name).exists():
            export(labels, place / name)


def contents(folder: Path) -> dict[str, bytes]:
    """All files but manifests and marks, which hold times."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("m.jsonl", "zarr.json")]
    # What a killed writer left has a name that begins with a dot, belongs to nothing, and is swept up later.
    files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def killed(work: Callable[[str, int], None], planes: int, kills: int, longest: float) -> dict[str, object]:
    """Kill a run again and again, and compare what it leaves with an undisturbed one."""
    place = Path(tempfile.mkdtemp(prefix="endurance-"))
    try:
        write_stack(place / f"stack{planes}.tif", planes)
        done = rounds = 0
        while done < kills:
            # A run that was finished is taken away, so that every kill meets work in progress.
            done += kill_until_done(
                work, (str(place / f"killed{rounds}"), planes), kills=10, longest=longest, seed=rounds
            )
            rounds += 1
        kill_until_done(work, (str(place / "whole"), planes), kills=0, longest=0)
        whole = contents(place / "whole")
        same = all(contents(place / f"killed{n}") == whole for n in range(rounds))
        return {"kills": done, "runs": rounds, "files": len(whole), "identical": same}
    finally:
        shutil.rmtree(place, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.endurance", description=__doc__)
    parser.add_argument("--planes", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=51, help="of embed, segment and export together")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    for work, planes, longest in ((embed, 40, 4.0), (segment, 20, 4.0), (write, 8, 1.5)):
        name = work.__name__
        found[name] = killed(work, planes, -(-options.kills // 3), longest)
        print(name, found[name], flush=True)
    if options.planes:
        found["stack"] = flat_memory(options.planes)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

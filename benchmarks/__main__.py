"""Measure ours and the reference in turn, print a table, write a file, compare with the record."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.records import latest_record, machine_class, record_path, slower, write
from benchmarks.steps import STEPS, run
from benchmarks.timing import machine
from napari_sam import __version__

HEAD = (
    f"{'step':<26}{'ours':>10}{'reference':>12}{'ratio':>9}{'of peak':>9}{'theirs':>8}{'error':>10}{'MB':>7}"
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--record", type=Path, help="compare with this record; by default with the newest")
    parser.add_argument("--keep", action="store_true", help="keep the results as this release's record")
    parser.add_argument("--rows", nargs="*", default=[], choices=[s.__name__ for s in STEPS])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; its own choice if 0")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    start = time.perf_counter()
    about = machine()
    print(json.dumps(about, indent=2))
    print(HEAD, flush=True)
    results = {"rows": {}, "machine": about}
    for name, row in run(options.rows, options.repeat):
        found = results["rows"][name] = row.as_record(about["peak_tflops"])
        share = [f"{found[k]:.0%}" if k in found else "" for k in ("of_peak", "reference_of_peak")]
        peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        print(
            f"{name:<26}{row.ours_s:>9.3f}s{row.reference_s:>11.3f}s{row.ratio:>8.1f}x"
            f"{share[0]:>9}{share[1]:>8}{row.error:>10.1e}{peak:>7}",
            flush=True,
        )
    print(f"{time.perf_counter() - start:.0f} s in all")
    if options.json:
        write(options.json, results)
    path = options.record or latest_record(about)
    if options.keep:
        write(record_path(__version__, about), results)
    if path is None or not path.exists():
        print(f"There is no record yet for machines of the class {machine_class(about)}.")
        return 0
    problems = slower(results, json.loads(path.read_text()))
    for problem in problems:
        print(f"Slower than the record {path.name}: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure, print a table, write a file, compare with the record."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.steps import STEPS, run
from benchmarks.timing import machine

FALL = 0.75
"""The benchmark fails when a ratio is below this part of its record."""


def slower(rows: dict[str, Any], record: dict[str, Any]) -> list[str]:
    """Say in words which rows have lost more than a quarter of their recorded ratio."""
    return [
        f"{name}: {rows[name]['ratio']:.1f}x, recorded {known['ratio']:.1f}x"
        for name, known in record["rows"].items()
        if name in rows and rows[name]["ratio"] < FALL * known["ratio"]
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--record", type=Path, help="fail where a ratio fell by more than a quarter")
    parser.add_argument("--rows", nargs="*", default=[], choices=[s.__name__ for s in STEPS])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch; its own choice if 0")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    about = machine()
    print(json.dumps(about, indent=2))
    print(f"{'step':<26}{'ours':>10}{'reference':>12}{'ratio':>9}{'error':>10}{'peak MB':>9}", flush=True)
    rows = {}
    for name, row in run(options.rows, options.repeat):
        rows[name] = row.as_record()
        peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        print(
            f"{name:<26}{row.ours_s:>9.3f}s{row.reference_s:>11.3f}s{row.ratio:>8.1f}x{row.error:>10.1e}{peak:>9}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "machine": about}, indent=2) + "\n")
    problems = slower(rows, json.loads(options.record.read_text())) if options.record else []
    for problem in problems:
        print(f"Slower than the record: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

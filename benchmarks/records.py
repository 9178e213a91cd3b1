"""The records of releases: one file for each release and class of machines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "records"
FALL = 0.75
"""The benchmark fails when a ratio is below this part of its record."""

Results = Mapping[str, Any]


def machine_class(about: Mapping[str, Any]) -> str:
    """Name what makes ratios comparable: the best instructions for products, and the threads."""
    best = about["instructions"][-1] if about["instructions"] else about["processor"].split()[0].lower()
    return f"{best}-{about['threads']}threads"


def record_path(release: str, about: Mapping[str, Any]) -> Path:
    """Where the record of a release lies for machines like this one."""
    return FOLDER / f"{release}-{machine_class(about)}.json"


def latest_record(about: Mapping[str, Any]) -> Path | None:
    """Newest record of machines like this one."""
    known = FOLDER.glob(f"*-{machine_class(about)}.json")
    return max(known, key=lambda path: _version(path.name.split("-")[0]), default=None)


def write(path: Path, results: Results) -> None:
    """Write results as a file that reads well in a comparison of versions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def slower(found: Results, record: Results) -> list[str]:
    """Say in words which rows have lost more than a quarter of their recorded ratio.

    Results of another class of machines say nothing about these, and are not compared.
    """
    if machine_class(found["machine"]) != machine_class(record["machine"]):
        return []
    rows, known = found["rows"], record["rows"]
    return [
        f"{name}: {rows[name]['ratio']:.1f}x, recorded {known[name]['ratio']:.1f}x"
        for name in known
        if name in rows and rows[name]["ratio"] < FALL * known[name]["ratio"]
    ]


def _version(release: str) -> tuple[int, ...]:
    return tuple(int("".join(c for c in part if c.isdigit()) or 0) for part in release.split("."))

"""Names for the labels of images, so that no two images share a file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

from napari_sam.export.formats import without_suffix


def longer_names(sources: Sequence[Path]) -> list[str]:
    """Names that differ: with the folders that the images do not share, and the endings where they must."""
    paths = [source.absolute() for source in sources]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    names = ["_".join([*p.parent.relative_to(common).parts, without_suffix(p)]) for p in paths]
    several = twice(names)
    longer = [
        f"{name}_{_ending(path)}" if name.casefold() in several else name
        for name, path in zip(names, paths, strict=True)
    ]
    return numbered(longer)


def twice(names: Sequence[str]) -> set[str]:
    """Names that come up more than once, in lower case."""
    counts = Counter(name.casefold() for name in names)
    return {name for name, count in counts.items() if count > 1}


def _ending(path: Path) -> str:
    """All that follows the stem: ``"ome_tif"`` of ``"cells.ome.tif"``."""
    return path.name[len(without_suffix(path)) :].strip(".").replace(".", "_")


def numbered(names: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """Put a number behind each name that is there already, in upper or lower case.

    Examples
    --------
    >>> numbered(["a", "b", "A"]), numbered(["a"], ["a", "a_2"])
    (['a', 'b', 'A_2'], ['a_3'])
    """
    seen = {name.casefold() for name in taken}
    found = []
    for name in names:
        tries = chain([name], (f"{name}_{number}" for number in count(2)))
        found.append(next(t for t in tries if t.casefold() not in seen))
        seen.add(found[-1].casefold())
    return found

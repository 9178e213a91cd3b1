"""Names for the labels of images, so that no two images share a file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from napari_sam.export.formats import without_suffix
from napari_sam.files.pairs import MADE_SUFFIX
from napari_sam.folder.manifest import known_as, read_manifest, read_writers


def distinct_names(sources: Sequence[Path], noted: Mapping[str, str]) -> list[str]:
    """Names that differ: where they come up twice with the folders and endings that tell images apart.

    Parameters
    ----------
    sources : sequence of Path
    noted : mapping of str to str
        Names that stay as they are, by the image (`names_in`): one more image must not rename the labels of
        those that were there.
    """
    # By another path or link the same image may come once more; the name is that of the first.
    left = dict(noted)
    kept = [left.pop(known_as(source), "") for source in sources]
    names = [old or without_suffix(source) for old, source in zip(kept, sources, strict=True)]
    if not twice(names):
        return names
    paths = [source.absolute() for source in sources]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    folders = ["_".join([*path.parent.relative_to(common).parts, without_suffix(path)]) for path in paths]
    names = _replaced(names, kept, folders)
    longer = [f"{name}_{_ending(path)}" for name, path in zip(names, paths, strict=True)]
    names = _replaced(names, kept, longer)
    fresh = iter(
        numbered([name for name, old in zip(names, kept, strict=True) if not old], filter(None, kept))
    )
    return [old or next(fresh) for old in kept]


def _replaced(names: Sequence[str], kept: Sequence[str], longer: Sequence[str]) -> list[str]:
    """Take the longer name of those that come up twice and are not kept."""
    several = twice(names)
    return [
        long if name.casefold() in several and not old else name
        for name, old, long in zip(names, kept, longer, strict=True)
    ]


def names_in(manifest: Path) -> dict[str, str]:
    """Names under which labels of images lie beside a manifest, by the image (`known_as`); no two the same.

    Where another image's labels have taken an output since, its name is not the first one's any more.
    """
    owners = read_writers(manifest)
    folder = Path(known_as(manifest)).parent
    found: dict[str, str] = {}
    # The last line about an image says it, unless nothing was written then.
    for report in (*owners.values(), *read_manifest(manifest).values()):
        for output in map(Path, report.outputs):
            stem = without_suffix(output)
            own = owners[str(output)].source == report.source and output.parent == folder
            if own and stem.endswith(MADE_SUFFIX):
                found[report.source] = stem.removesuffix(MADE_SUFFIX)
    # Two images may have files that differ in their endings only.
    seen = {name.casefold(): source for source, name in reversed(found.items())}
    return {source: name for source, name in found.items() if seen[name.casefold()] == source}


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

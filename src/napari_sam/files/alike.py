"""Names that look the same, though they are not the same letters.

macOS takes an umlaut apart into its letter and the dots above it; other systems keep it as one.
"""

from __future__ import annotations

from collections.abc import Iterable
from unicodedata import normalize


def composed(name: str) -> str:
    r"""Return a name with each letter and its marks as one, by which names are compared.

    Examples
    --------
    >>> composed("u\u0308.tif") == "\u00fc.tif"
    True
    """
    return normalize("NFC", name)


def spelled(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    r"""Return each name as it is spelled among those that are known; what is not known is left out.

    Parameters
    ----------
    names, known : iterable of str
        A known name that looks like another one is that one's only if it is no other's exactly.

    Examples
    --------
    >>> found = spelled(["\u00fc", "b", "c"], ["u\u0308", "b"])
    >>> found == {"\u00fc": "u\u0308", "b": "b"}
    True
    """
    wanted, there = list(names), set(known)
    free = {composed(name): name for name in there - set(wanted)}
    found = [(name, name if name in there else free.pop(composed(name), None)) for name in wanted]
    return {name: other for name, other in found if other is not None}

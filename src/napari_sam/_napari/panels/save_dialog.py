"""Ask for the name of a file to write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qtpy.QtWidgets import QFileDialog, QMessageBox, QWidget


def ask_for_file(parent: QWidget, title: str, start: str, kind: str, suffixes: Sequence[str]) -> str:
    """Ask for the name of a file to write; an ending that was not typed is added.

    Qt asks before a file is replaced, but for the name as it was typed: with another ending it is asked here.

    Parameters
    ----------
    parent : QWidget
    title : str
    start : str
        Name to begin with.
    kind : str
        What the file is, in words.
    suffixes : sequence of str
        Endings of such files; the first one is added.

    Returns
    -------
    str
        Empty if nothing is to be written.
    """
    filters = f"{kind} ({' '.join('*' + suffix for suffix in suffixes)})"
    typed, _ = QFileDialog.getSaveFileName(parent, title, start, filters)
    if not typed or typed.lower().endswith(tuple(suffixes)):
        return typed
    path = Path(typed).with_name(Path(typed).name + suffixes[0])
    return str(path) if not path.exists() or may_replace(parent, title, path.name) else ""


def may_replace(parent: QWidget, title: str, what: str) -> bool:
    """Ask whether something that is there already is to be replaced."""
    yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
    asked = f"{what} is there already. Replace it?"
    return QMessageBox.question(parent, title, asked, yes | no, no) == yes

"""Keys that work while the canvas has the focus, whichever layer is active.

Qt shortcuts of the window's central part, and not ``viewer.bind_key``: napari asks the active layer first, so
that ``1`` would change the tool of a Points layer; and Qt moves the focus on ``Tab`` before napari sees it.
A shortcut that would take a key from the active layer's own tools is switched off meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QAbstractSpinBox, QApplication, QLineEdit, QPlainTextEdit, QTextEdit, QWidget

Need = Literal["offer", "image", "object", "trail", "folder"]


@dataclass(frozen=True, slots=True)
class Key:
    """One shortcut.

    Parameters
    ----------
    action : str
        What it does, as the dock calls it.
    keys : tuple of str
        Key sequences in Qt's words.
    text : str
        What it does, for a person.
    need : {"offer", "image", "object", "trail", "folder"}
        Whether candidates must be on offer, an image is enough, there must be something to commit, an
        object that is followed, or a folder that is gone through.
    leave : mapping of str to tuple of str
        Keys that are left to a layer of this type while it is active: its own tools use them.
    """

    action: str
    keys: tuple[str, ...]
    text: str
    need: Need = "image"
    leave: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


KEYS = (
    Key("choose 0", ("1",), "Choose the first candidate", "offer"),
    Key("choose 1", ("2",), "Choose the second candidate", "offer"),
    Key("choose 2", ("3",), "Choose the third candidate", "offer"),
    Key("choose next", ("Tab",), "Choose the next candidate", "offer"),
    Key(
        "commit",
        ("C", "Return", "Enter"),
        "Commit the chosen mask, or the object that is followed",
        "object",
        # Return finishes an outline that is being drawn.
        {"shapes": ("Return", "Enter"), "labels": ("Return", "Enter")},
    ),
    Key("undo", ("Ctrl+Z",), "Undo the last click or commit", leave={"labels": ("Ctrl+Z",)}),
    Key("redo", ("Ctrl+Shift+Z",), "Redo", leave={"labels": ("Ctrl+Shift+Z",)}),
    Key("toggle sign", ("T",), "Next click: inside or outside", leave={"shapes": ("T",)}),
    Key("toggle tool", ("B",), "Clicks or boxes", leave={"labels": ("B",)}),
    Key(
        "clear",
        ("Shift+C", "Escape"),
        "Clear the prompts",
        leave={"shapes": ("Escape",), "labels": ("Escape",)},
    ),
    Key("toggle hover", ("H",), "Preview under the mouse on or off"),
    Key("everything", ("Shift+E",), "Segment all objects of the plane"),
    Key("follow", ("Shift+F",), "Follow the object through the stack"),
    Key("weakest", ("Shift+W",), "Go to its weakest plane", "trail"),
    Key("next image", ("N",), "Next image of the folder", "folder"),
    Key("previous image", ("Shift+N",), "Previous image of the folder", "folder"),
    Key("finish image", ("Shift+D",), "Image is done, next one", "folder"),
)


def listing() -> list[tuple[str, str]]:
    """Keys and what they do, for the dock."""
    lines = [("1  2  3", "Choose a candidate")]
    for key in KEYS:
        if not key.action.startswith("choose ") or key.action == "choose next":
            shown = dict.fromkeys("Enter" if k == "Return" else k for k in key.keys)
            lines.append((", ".join(shown), key.text))
    lines.append(("Space", "Hold to move the image (napari)"))
    return lines


class Shortcuts(QObject):
    """The shortcuts of a dock, installed once and removed as a whole.

    Qt gives a key that two ask for to neither: of several docks in a window, the one used last has the keys.

    Parameters
    ----------
    central : QWidget
        They work while this or something in it has the focus.
    dock : QWidget
        Who has the keys from when something in it gets the focus.
    run : callable
        Called with the action's name.
    """

    def __init__(self, central: QWidget, dock: QWidget, run: Callable[[str], None]) -> None:
        super().__init__(central)
        self._dock = dock
        self._in_use = False
        self._wanted: set[QShortcut] = set()
        self._typing = False
        self._installed: list[tuple[Key, str, QShortcut]] = []
        for key in KEYS:
            for sequence in key.keys:
                shortcut = QShortcut(QKeySequence(sequence), central)
                shortcut.setContext(Qt.ShortcutContext.WidgetWithChildrenShortcut)
                shortcut.activated.connect(lambda action=key.action: run(action))
                self._installed.append((key, sequence, shortcut))
        QApplication.instance().focusChanged.connect(self._on_focus)
        self._take_over(central)

    def adapt(self, *, image: bool, offer: bool, trail: bool, active: str, folder: bool = False) -> None:
        """Switch shortcuts on or off.

        Parameters
        ----------
        image, offer, trail : bool
            Whether an image is chosen, candidates are on offer, and an object is followed.
        active : str
            Type of the active layer in lower case; empty if there is none.
        folder : bool
            Whether a folder of images is gone through.
        """
        there = {
            "image": image,
            "offer": offer,
            "object": offer or trail,
            "trail": trail,
            "folder": folder,
        }
        self._wanted = {
            shortcut
            for key, sequence, shortcut in self._installed
            if there[key.need] and sequence not in key.leave.get(active, ())
        }
        self._switch()

    def remove(self) -> None:
        """Give the keys back."""
        QApplication.instance().focusChanged.disconnect(self._on_focus)
        for _, _, shortcut in self._installed:
            shortcut.setEnabled(False)
            shortcut.deleteLater()
        self._installed = []
        central = self.parent()
        self.setParent(None)
        self.deleteLater()
        others = central.findChildren(Shortcuts)
        if self._in_use and others:
            others[-1]._take_over(central)

    def _take_over(self, central: QObject) -> None:
        """Take the keys from the other docks of the window."""
        for one in central.findChildren(Shortcuts):
            one._in_use = one is self
            one._switch()

    def _on_focus(self, _: QWidget | None, now: QWidget | None) -> None:
        """Leave all keys to a field that is typed into, such as that of a slider's position."""
        if not self._in_use and now is not None and self._dock.isAncestorOf(now):
            self._take_over(self.parent())
        self._typing = isinstance(now, QLineEdit | QAbstractSpinBox | QTextEdit | QPlainTextEdit)
        self._switch()

    def _switch(self) -> None:
        for _, _, shortcut in self._installed:
            shortcut.setEnabled(self._in_use and not self._typing and shortcut in self._wanted)

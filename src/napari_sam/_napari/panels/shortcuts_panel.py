"""The keys, to look up."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QGridLayout, QLabel, QWidget


class ShortcutsPanel(QWidget):
    """A table of keys and what they do."""

    def __init__(self, shortcuts: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(8, 2, 4, 8)
        grid.setHorizontalSpacing(12)
        grid.setVerticalSpacing(2)
        grid.setColumnStretch(1, 1)
        for number, (keys, what) in enumerate(shortcuts):
            key = QLabel(keys)
            font = key.font()
            font.setBold(True)
            key.setFont(font)
            text = QLabel(what)
            text.setWordWrap(True)
            grid.addWidget(key, number, 0)
            grid.addWidget(text, number, 1)

"""A folder of images to work through."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QPushButton,
)

from napari_sam._napari.panels.form import column, note, row
from napari_sam._napari.panels.panel import Panel

if TYPE_CHECKING:
    from napari_sam.folder.annotate import Entry

SIGNS = {"new": "○", "in work": "◐", "done": "●", "broken": "✕"}
ROWS = 8
"""Images that are listed without scrolling."""


class FolderPanel(Panel):
    """Choose a folder, go through its images."""

    folder_picked = Signal(str, str)
    """Folder of the images and folder of the labels."""
    image_picked = Signal(int)
    previous_requested = Signal()
    next_requested = Signal()
    done_requested = Signal()
    done_toggled = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self.choose = QPushButton("Open a folder…")
        self.choose.setToolTip("Images that are to be labelled one after the other")
        self.elsewhere = QPushButton("Labels into…")
        self.elsewhere.setToolTip(
            "The folder that the labels are saved into: 'labels' among the images, else"
        )
        self.place = note()
        self.images = QListWidget()
        self.images.setUniformItemSizes(True)
        self.images.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.images.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.previous = QPushButton("Previous")
        self.previous.setToolTip("The image before (Shift+N)")
        self.next = QPushButton("Next")
        self.next.setToolTip("The next image (N)")
        self.finish = QPushButton("Done, next")
        self.finish.setToolTip("This image is done: go to the next that is not (Shift+D)")
        self.done = QCheckBox("This image is done")
        self.count = QLabel()
        layout = column(self)
        layout.addLayout(row(self.choose, self.elsewhere))
        layout.addWidget(self.place)
        layout.addWidget(self.images)
        layout.addLayout(row(self.previous, self.next, self.finish))
        layout.addLayout(row(self.done, self.count, stretch=0))
        layout.addWidget(self.text)
        self.choose.clicked.connect(self._on_choose)
        self.elsewhere.clicked.connect(self._on_elsewhere)
        self.images.currentRowChanged.connect(self._on_row)
        self.previous.clicked.connect(self.previous_requested)
        self.next.clicked.connect(self.next_requested)
        self.finish.clicked.connect(self.done_requested)
        self.done.toggled.connect(self.done_toggled)
        self._folder = ""
        self.show_entries((), None)
        self.show_folder("", "")

    def show_folder(self, images: str, labels: str) -> None:
        """Show which folders are open."""
        self._folder = images
        self.place.setText(f"Labels: {labels}" if images else "Images that are labelled one by one.")
        self.elsewhere.setEnabled(bool(images))

    def show_entries(self, entries: Sequence[Entry], current: int | None) -> None:
        """Show the images, their state, and which one is open."""
        with QSignalBlocker(self.images), QSignalBlocker(self.done):
            while self.images.count() > len(entries):
                self.images.takeItem(self.images.count() - 1)
            while self.images.count() < len(entries):
                self.images.addItem(QListWidgetItem())
            for number, entry in enumerate(entries):
                item = self.images.item(number)
                text = _line(entry)
                if item.text() != text:
                    item.setText(text)
                    item.setToolTip(entry.error or str(entry.source))
            self.images.setCurrentRow(-1 if current is None else current)
            self.done.setChecked(current is not None and entries[current].state == "done")
        for widget in (self.images, self.done, self.previous, self.next, self.finish, self.count):
            widget.setVisible(bool(entries))
        for button in (self.previous, self.next, self.finish, self.done):
            button.setEnabled(current is not None)
        done = sum(entry.state == "done" for entry in entries)
        self.count.setText(f"{done} of {len(entries)} done")
        height = self.images.sizeHintForRow(0) if entries else 0
        self.images.setFixedHeight(
            height * min(max(len(entries), 1), ROWS) + 2 * self.images.frameWidth() + 2
        )

    def _on_choose(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of images", self._folder)
        if path:
            self.folder_picked.emit(path, str(Path(path) / "labels"))

    def _on_elsewhere(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of labels", self._folder)
        if path:
            self.folder_picked.emit(self._folder, path)

    def _on_row(self, number: int) -> None:
        if number >= 0:
            self.image_picked.emit(number)


def _line(entry: Entry) -> str:
    """State, name and number of objects."""
    objects = f" · {entry.objects} object{'s' if entry.objects != 1 else ''}" if entry.objects else ""
    return (
        f"{SIGNS[entry.state]}  {entry.name}{' · cannot be opened' if entry.state == 'broken' else objects}"
    )

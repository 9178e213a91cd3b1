"""The folder in which embeddings are kept."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QFileDialog, QLineEdit, QPushButton

from napari_sam._napari.panels.form import choice, column, form, row
from napari_sam._napari.panels.panel import Panel
from napari_sam._napari.panels.progress_row import ProgressRow


class StorePanel(Panel):
    """Choose a folder, embed every plane into it."""

    folder_picked = Signal(str, bool, float)
    """Path (empty for none), whether it is only read, and its limit in GB."""
    run_requested = Signal()
    cancel_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.path = QLineEdit()
        self.path.setPlaceholderText("none: memory only")
        self.path.setToolTip(
            "Embeddings are kept in this folder, so that no plane is computed twice. A folder of micro-sam's "
            "embeddings is read too."
        )
        self.choose = QPushButton("Choose…")
        self.read_only = QCheckBox("Only read it, as a folder that is shared")
        self.limit = QDoubleSpinBox()
        self.limit.setRange(0.1, 100_000)
        self.limit.setDecimals(1)
        self.limit.setSuffix(" GB")
        self.limit.setKeyboardTracking(False)
        self.limit.setToolTip("When the folder holds this much, what was used longest ago makes room")
        self.axis = choice(tip="The axis of Z or T to walk along; other sliders stay where they are")
        self.run = QPushButton("Embed every plane")
        self.run.setToolTip("The plane on show and its neighbours come first")
        self.progress = ProgressRow()
        layout = column(self)
        layout.addLayout(row(self.path, self.choose, stretch=0))
        layout.addWidget(self.read_only)
        fields = form()
        fields.addRow("At most", self.limit)
        fields.addRow("Along", self.axis)
        layout.addLayout(fields)
        layout.addWidget(self.run)
        layout.addWidget(self.progress)
        layout.addWidget(self.text)
        self.choose.clicked.connect(self._on_choose)
        self.path.editingFinished.connect(self._on_edited)
        self.read_only.toggled.connect(lambda _: self._tell())
        self.limit.valueChanged.connect(lambda _: self._tell())
        self.run.clicked.connect(self.run_requested)
        self.progress.cancelled.connect(self.cancel_requested)
        self._told = ""
        self._chosen: int | None = None

    def show_folder(self, path: str, read_only: bool, gigabytes: float) -> None:
        """Show what was chosen earlier, without choosing it again."""
        with QSignalBlocker(self.path), QSignalBlocker(self.read_only), QSignalBlocker(self.limit):
            self.path.setText(path)
            self.read_only.setChecked(read_only)
            self.limit.setValue(gigabytes)
        self._told = path

    def set_axes(self, axes: Sequence[tuple[str, int, int]]) -> None:
        """Offer axes by (name, number, size); the one chosen last stays chosen if it is among them."""
        now = self.axis.currentData()
        self._chosen = chosen = self._chosen if now is None else now
        with QSignalBlocker(self.axis):
            self.axis.clear()
            for name, number, size in axes:
                self.axis.addItem(f"{name} ({size} planes)", number)
            self.axis.setCurrentIndex(max(self.axis.findData(chosen), 0 if axes else -1))

    def set_able(self, able: bool, *, large: bool = False) -> None:
        """Tell whether planes can be embedded now, and whether they are large: these go tile by tile."""
        self.run.setEnabled(able and (large or self.axis.count() > 0))
        self.run.setText("Embed every tile" if large and not self.axis.count() else "Embed every plane")

    def _on_choose(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Folder of embeddings", self.path.text())
        if path:
            self.path.setText(path)
            self._on_edited()

    def _on_edited(self) -> None:
        # Qt says so too when the field merely loses the focus.
        if self.path.text().strip() != self._told:
            self._tell()

    def _tell(self) -> None:
        self._told = self.path.text().strip()
        self.folder_picked.emit(self._told, self.read_only.isChecked(), self.limit.value())

"""The three candidates side by side."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QSizePolicy, QToolButton, QWidget

from napari_sam._napari.panels.form import column, note, row
from napari_sam._napari.panels.thumbnail import common_view, thumbnail, to_pixmap
from napari_sam.image import RGB
from napari_sam.session import Offer

SIDE = 92
"""Side of a thumbnail in pixels of the screen."""
WAITING = "Click inside an object: three masks are offered here."
LEVELS = ("one mask", "sub-part", "part", "whole")


class CandidatePanel(QWidget):
    """Three thumbnails with predicted IoU, stability and area; a click chooses."""

    candidate_picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.buttons = [self._make_button(index) for index in range(3)]
        self.text = note(WAITING)
        layout = column(self)
        layout.addLayout(row(*self.buttons))
        layout.addWidget(self.text)
        self.show_offer(None, None, 0)

    def show_offer(self, offer: Offer | None, rgb: RGB | None, count: int) -> None:
        """Show the candidates of one object.

        Parameters
        ----------
        offer : Offer, optional
            None empties the panel.
        rgb : ndarray of uint8, shape (H, W, 3), optional
            The plane.
        count : int
            How many objects are on offer.
        """
        candidates = tuple(offer.candidates) if offer is not None and rgb is not None else ()
        view = common_view([c.mask for c in candidates], rgb.shape[:2]) if candidates else None
        for index, button in enumerate(self.buttons):
            there = index < len(candidates)
            button.setVisible(bool(candidates))
            button.setEnabled(there)
            button.setChecked(there and offer.chosen == index)
            if not there:
                button.setIcon(QIcon())
                button.setText("")
                continue
            candidate = candidates[index]
            picture = thumbnail(rgb, candidate.mask, view, SIDE * 2)
            button.setIcon(QIcon(to_pixmap(picture, SIDE, self.devicePixelRatioF())))
            button.setText(
                f"{index + 1}: {LEVELS[candidate.level]}\nIoU {candidate.predicted_iou:.2f}\n"
                f"stable {candidate.stability:.2f}\n{candidate.area:,} px".replace(",", "\u2009")
            )
            button.setToolTip(
                f"Predicted IoU {candidate.predicted_iou:.3f}: how good the model thinks this mask is.\n"
                f"Stability {candidate.stability:.3f}: how little the mask depends on its threshold."
            )
        self.text.setText(self._say(count) if candidates else WAITING)
        self.text.setVisible(not candidates or count > 1)

    @staticmethod
    def _say(count: int) -> str:
        return f"{count} objects; the last one is shown, a choice applies to all."

    def _make_button(self, index: int) -> QToolButton:
        button = QToolButton()
        button.setCheckable(True)
        button.setAutoExclusive(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        button.setIconSize(QSize(SIDE, SIDE))
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: self.candidate_picked.emit(index))
        return button

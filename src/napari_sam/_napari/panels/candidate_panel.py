"""The three candidates side by side."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QLabel, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_sam._napari.panels.form import column, note, row, thousands
from napari_sam._napari.panels.thumbnail import common_view, thumbnail, to_pixmap
from napari_sam.candidates import Candidate
from napari_sam.image import RGB
from napari_sam.session import Offer

SIDE = 88
"""Side of a thumbnail in pixels of the screen."""
WAITING = "Click inside an object: three masks are offered here."


class CandidateCard(QPushButton):
    """A button with the picture of a candidate and its numbers; checked if it is the chosen one."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.setCheckable(True)
        self.setAutoExclusive(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        # As many lines as there will be, so that the height is right before anything is shown.
        self.picture, self.text = QLabel(), QLabel("\n\n\n")
        self._number = number
        layout = QVBoxLayout(self)
        layout.setContentsMargins(4, 4, 4, 4)
        layout.setSpacing(2)
        for label in (self.picture, self.text):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            layout.addWidget(label)
        self.picture.setFixedHeight(SIDE)

    def sizeHint(self) -> QSize:
        """Size of the picture and the text below it."""
        return self.layout().sizeHint()

    def minimumSizeHint(self) -> QSize:
        """The same: nothing may be cut off."""
        return self.sizeHint()

    def show_candidate(self, candidate: Candidate, pixmap: QPixmap) -> None:
        """Show a candidate."""
        self.picture.setPixmap(pixmap)
        self.text.setText(
            f"{self._number}\nIoU {candidate.predicted_iou:.2f}\n"
            f"stable {candidate.stability:.2f}\n{thousands(candidate.area)} px"
        )
        self.setToolTip(
            f"Predicted IoU {candidate.predicted_iou:.3f}: how good the model thinks this mask is.\n"
            f"Stability {candidate.stability:.3f}: how little the mask depends on its threshold.\n"
            f"Press {self._number} to choose it, Tab for the next."
        )
        self.updateGeometry()


class CandidatePanel(QWidget):
    """Three thumbnails with predicted IoU, stability and area; a click chooses."""

    candidate_picked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.cards = [CandidateCard(number) for number in (1, 2, 3)]
        self.text = note(WAITING)
        self._row = QWidget()
        cards = row(*self.cards)
        cards.setContentsMargins(0, 0, 0, 0)
        self._row.setLayout(cards)
        layout = column(self)
        layout.addWidget(self._row)
        layout.addWidget(self.text)
        for index, card in enumerate(self.cards):
            card.clicked.connect(lambda _, index=index: self.candidate_picked.emit(index))
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
        if candidates:
            seen = candidates[0].picture
            rgb = rgb if seen is None else seen
            view = common_view([c.picture_mask for c in candidates], rgb.shape[:2])
            for index, candidate in enumerate(candidates):
                picture = thumbnail(rgb, candidate.picture_mask, view, 2 * SIDE)
                pixmap = to_pixmap(picture, SIDE, self.devicePixelRatioF())
                self.cards[index].show_candidate(candidate, pixmap)
                self.cards[index].setChecked(index == offer.chosen)
        self._row.setVisible(bool(candidates))
        self.text.setText(
            f"{count} objects; the last is shown, a choice applies to all." if candidates else WAITING
        )
        self.text.setVisible(not candidates or count > 1)

"""Small pieces that the panels are made of."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFormLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget


def column(parent: QWidget) -> QVBoxLayout:
    """Vertical layout of a panel."""
    layout = QVBoxLayout(parent)
    layout.setContentsMargins(8, 2, 4, 8)
    layout.setSpacing(6)
    return layout


def row(*widgets: QWidget, stretch: int | None = None) -> QHBoxLayout:
    """Widgets side by side; the one with the number ``stretch`` takes the room that is left."""
    layout = QHBoxLayout()
    layout.setSpacing(4)
    for number, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if stretch in (None, number) else 0)
    return layout


def form() -> QFormLayout:
    """Rows of a name and a field; the field takes the width."""
    layout = QFormLayout()
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setHorizontalSpacing(8)
    layout.setVerticalSpacing(4)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft)
    return layout


def choice(*entries: tuple[str, object], tip: str = "") -> QComboBox:
    """Combo box of (text, value); narrow if need be."""
    box = QComboBox()
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(6)
    box.setToolTip(tip)
    for text, value in entries:
        box.addItem(text, value)
    return box


def note(text: str = "") -> QLabel:
    """Text that wraps, and that can be copied."""
    label = QLabel(text)
    label.setWordWrap(True)
    any_width(label)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def any_width(widget: QWidget) -> None:
    """Let what a widget says, such as the long name of a file, not make the dock's content wider."""
    policy = widget.sizePolicy()
    policy.setHorizontalPolicy(QSizePolicy.Policy.Ignored)
    widget.setSizePolicy(policy)


def thousands(number: int) -> str:
    """Whole number with thin spaces, which every language reads alike."""
    return f"{number:,}".replace(",", "\u2009")

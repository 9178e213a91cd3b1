"""A person who goes through a folder without a window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from tests.fakes import DiscPredictor, disc_image
from tests.runner import QueueRunner

from napari_sam.folder.annotate import Snapshot
from napari_sam.session import AnnotationSession
from napari_sam.session.annotator import FolderAnnotator
from napari_sam.session.folder_jobs import Look
from napari_sam.store import EmbeddingCache


def picture(number=0, shape=(48, 60)):
    return disc_image(shape, [(20, 24 + number, 9)])


def folder_of_pictures(parent: Path) -> Path:
    folder = parent / "images"
    folder.mkdir()
    for i in range(4):
        tifffile.imwrite(folder / f"img{i}.tif", picture(i))
    return folder


class Person:
    """Draws on what is shown, as the window would let a person do."""

    def __init__(self, images: Path, labels: Path | None = None, predictor=None) -> None:
        self.predictor = predictor or DiscPredictor()
        self.session = AnnotationSession(EmbeddingCache(10**8), lambda name, **_: self.predictor)
        self.runner = QueueRunner(self.session)
        self.annotator = FolderAnnotator(self.session, self.snapshot, lambda: Look(None, "displayed", None))
        self.shown = None
        self.labels = None
        self.features = None
        self.said: list[str] = []
        self.annotator.opened.connect(self.show)
        self.annotator.said.connect(self.said.append)
        self.session.failed.connect(self.said.append)
        self.session.use_model("discs")
        self.runner.drain()
        self.annotator.begin(str(images), str(labels or images / "labels"))
        self.runner.drain()

    def show(self, opened):
        self.shown = opened
        self.labels = np.zeros(opened.shape, np.uint16) if opened.labels is None else opened.labels.copy()
        self.features = opened.features

    def snapshot(self, number):
        return Snapshot(number, self.labels.copy(), self.features, self.shown.axes)

    def draw(self, label, value=None):
        self.labels[..., 5 * label : 5 * label + 4, :8] = label
        self.annotator.touch()

    def do(self, act, *args):
        getattr(self.annotator, act)(*args)
        self.runner.drain()

    @property
    def name(self):
        return self.annotator.entries[self.annotator.current].name

    @property
    def states(self):
        return [(e.state, e.objects) for e in self.annotator.entries]

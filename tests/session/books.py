"""What a session talks to, without a viewer: planes, labels and prompts."""

from __future__ import annotations

from functools import partial

import numpy as np
from tests.fakes import disc_image

from napari_sam.prompts import Point, Prompts

DISCS = [(20, 24, 8), (20, 70, 10), (60, 40, 12)]


def picture(discs=DISCS, value=200):
    return np.repeat(disc_image((90, 100), discs, value)[..., None], 3, axis=2)


class Planes:
    """Planes that count how often they are read."""

    def __init__(self, *planes):
        self.planes = planes or (picture(), picture(DISCS[:2]))
        self.reads = 0

    def __getitem__(self, index):
        return partial(self.read, index)

    def read(self, index):
        self.reads += 1
        return self.planes[index]


class LabelBook:
    """Stands for a Labels layer: remembers what is written, and takes it out again."""

    def __init__(self):
        self.written = []

    def write(self, objects):
        self.written += objects

        def revert():
            for one in objects:
                self.written.remove(one)

        return revert


class PromptBook:
    """Stands for the prompt layers: holds prompts, tells the session of every change."""

    def __init__(self, session):
        self.session = session
        self.prompts = ()
        self.tell()

    def tell(self):
        self.session.set_prompts(self.prompts, partial(self.put, self.prompts))

    def put(self, prompts):
        self.prompts = tuple(prompts)
        self.tell()

    def click(self, y, x, positive=True):
        self.put((Prompts.merge([*self.prompts, Prompts((Point(y, x, positive),))]),))

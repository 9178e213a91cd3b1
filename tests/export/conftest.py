from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def odd_shapes():
    """Labels with everything that outlines get wrong: holes, corners that touch, parts, single pixels, the
    plane's edge, neighbours, an island in a hole, an id left out."""
    labels = np.zeros((24, 30), np.int32)
    labels[0:3, 0:4] = 1  # at the corner of the plane
    labels[5:12, 2:10] = 2  # a ring ...
    labels[7:10, 4:8] = 0
    labels[8, 5] = 3  # ... with an island of one pixel
    labels[2:4, 12:14] = 4  # two parts that touch at a corner
    labels[4:6, 14:16] = 4
    labels[10:14, 14:18] = 5  # two holes that touch at a corner
    labels[11, 15] = labels[12, 16] = 0
    labels[16:20, 2:6] = 7  # neighbours that share an edge
    labels[16:20, 6:9] = 8
    labels[17:24, 20:30] = 9  # a C that closes over a corner
    labels[19:22, 22:28] = 0
    labels[18, 24] = 0
    labels[17, 25] = 0
    labels[6:8, 20] = 10  # far apart
    labels[6:8, 28] = 10
    return labels


@pytest.fixture
def random_shapes(rng):
    return rng.integers(0, 4, (40, 37)).astype(np.uint16)


@pytest.fixture
def stack():
    """Three planes of Z with two objects, one of them in two planes only."""
    labels = np.zeros((3, 20, 26), np.uint16)
    labels[0:2, 3:9, 4:10] = 1
    labels[1:3, 11:17, 8:20] = 2
    return labels

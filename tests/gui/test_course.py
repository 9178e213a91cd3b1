"""What is said along the planes of a stack."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from napari.components import ViewerModel
from tests.gui.bound import Bound

from napari_sam._napari.coordinates import PlaneIndex
from napari_sam._napari.course import Course, ground_of
from napari_sam._napari.planes import Channels, iter_planes
from napari_sam.propagation import PropagationSettings


@dataclass(frozen=True)
class FlatPlane:
    """What a course knows of a plane."""

    index: PlaneIndex
    shape: tuple[int, int] = (40, 50)


def course(bound: Bound, count: int) -> Course:
    return Course([FlatPlane(bound.plane.moved(0, z)) for z in range(count)], axis=0)


def test_of_many_planes_only_those_are_read_on_which_something_may_be_said(monkeypatch):
    bound = Bound((1500, 40, 50), scale=(2, 0.5, 0.5))
    binding = bound.binding
    along = course(bound, 1500)
    assert along.said(binding) == {}
    binding.points.add([3, 5, 6])
    binding.points.add([1499, 5, 6])
    binding.shapes.add([[7, 5, 5], [7, 5, 15], [7, 15, 15], [7, 15, 5]], shape_type="rectangle")
    theirs = bound.viewer.add_points([[10.2, 3, 3], [20, 4, 4]], scale=(2, 0.5, 0.5), translate=(10, 0, 0))
    binding.adopt(theirs)
    expected = {z: binding.read(bound.plane.moved(0, z)) for z in (3, 7, 15, 25, 1499)}
    read, whole = [], binding.read
    monkeypatch.setattr(binding, "read", lambda plane: read.append(plane.index[0]) or whole(plane))
    assert along.said(binding) == expected
    assert read == list(expected)


def test_what_has_no_place_along_the_planes_is_said_on_each():
    bound = Bound((4, 40, 50))
    flat = bound.viewer.add_points([[5, 6]])
    bound.binding.adopt(flat)
    assert list(course(bound, 4).said(bound.binding)) == [0, 1, 2, 3]
    bound.binding.release(flat)
    painted = np.zeros((4, 40, 50), np.uint8)
    painted[2, 5:9, 5:9] = 1
    bound.binding.adopt(bound.viewer.add_labels(painted))
    assert list(course(bound, 4).said(bound.binding)) == [2]


def test_an_object_is_followed_anew_where_the_model_sees_another_picture(rng):
    """Of another channel, or in another contrast, nothing that was followed before may be used again."""
    viewer = ViewerModel()
    image = viewer.add_image(rng.integers(0, 4000, (3, 4, 64, 64)).astype(np.uint16))
    options = [
        {"channels": Channels(0, 0, 0, axis=0)},
        {"channels": Channels(1, 1, 1, axis=0)},
        {"channels": Channels(0, 1, None, axis=0)},
        {"contrast": "percentiles"},
        {"contrast": "range"},
        {},
    ]
    grounds = [
        ground_of("model", iter_planes(viewer, image, 1, **option)[0], 1, PropagationSettings(), None)
        for _ in range(2)
        for option in options
    ]
    assert grounds[: len(options)] == grounds[len(options) :]
    different = grounds[: len(options)]
    assert not any(a == b for a, b in combinations(different, 2))

from itertools import permutations

import numpy as np
import pytest

from napari_sam.linking import MOVIE, Linker, LinkSettings, Overlaps, best_pairs, link_labels, overlaps


def disc(shape, y, x, r):
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= r * r


def stack_of(*planes, shape=(40, 60)):
    """Planes of discs ``(y, x, r)`` numbered from 1 in the order given."""
    out = np.zeros((len(planes), *shape), np.int32)
    for plane, discs in zip(out, planes, strict=True):
        for number, (y, x, r) in enumerate(discs, start=1):
            plane[disc(shape, y, x, r)] = number
    return out


def ids_at(linked, *places):
    return [int(linked[place]) for place in places]


def test_overlaps_agree_with_masks_compared_one_by_one(rng):
    a, b = (rng.integers(0, 6, (20, 30)) for _ in range(2))
    found = {(i, j): measures for i, j, *measures in zip(*overlaps(a, b), strict=True)}
    for i in range(1, 6):
        for j in range(1, 6):
            union = np.count_nonzero((a == i) | (b == j))
            common = np.count_nonzero((a == i) & (b == j))
            smaller = min(np.count_nonzero(a == i), np.count_nonzero(b == j))
            assert found.get((i, j), (0, 0)) == pytest.approx((common / union, common / smaller))


def test_best_pairs_is_the_best_of_all_assignments(rng):
    for _ in range(30):
        dense = rng.random((4, 5)) * (rng.random((4, 5)) < 0.5)
        i, j = np.nonzero(dense)
        chosen = best_pairs(Overlaps(i, j, dense[i, j], dense[i, j]))
        best = max(sum(dense[row, col] for row, col in enumerate(p)) for p in permutations(range(5), 4))
        assert chosen.iou.sum() == pytest.approx(best)
        assert len(set(chosen.first)) == len(set(chosen.second)) == len(chosen.iou)


def test_objects_keep_their_id_whatever_their_number_in_the_plane():
    linked = link_labels(
        stack_of([(10, 10, 6), (25, 45, 7)], [(25, 44, 7), (10, 11, 6)], [(11, 12, 6), (24, 44, 7)])
    )
    assert ids_at(linked, (0, 10, 10), (1, 10, 11), (2, 11, 12)) == [1, 1, 1]
    assert ids_at(linked, (0, 25, 45), (1, 25, 44), (2, 24, 44)) == [2, 2, 2]


def test_the_better_total_wins_over_the_greedy_choice():
    """Two neighbours move by half a width: the one on the right must not take the left one's id."""
    first = np.zeros((4, 30), np.int32)
    first[:, 0:10], first[:, 10:20] = 1, 2
    second = np.zeros_like(first)
    second[:, 4:14], second[:, 14:24] = 1, 2
    linked = link_labels([first, second], LinkSettings(min_iou=0.2))
    assert ids_at(linked, (1, 0, 5), (1, 0, 20)) == [1, 2]


def test_a_gap_is_closed_only_as_far_as_allowed():
    planes = stack_of([(20, 20, 8)], [], [(20, 20, 8)], [], [], [(20, 20, 8)])
    linked = link_labels(planes, LinkSettings(max_gap=1))
    assert ids_at(linked, (0, 20, 20), (2, 20, 20), (5, 20, 20)) == [1, 1, 2]
    linked = link_labels(planes, LinkSettings(max_gap=0))
    assert ids_at(linked, (0, 20, 20), (2, 20, 20), (5, 20, 20)) == [1, 2, 3]
    assert link_labels(planes, LinkSettings(max_gap=2)).max() == 1


def test_what_went_on_is_not_taken_by_a_newcomer_at_its_old_place():
    """The first object moves on; another appears where it was. The gap must not hand over the id."""
    planes = stack_of([(20, 12, 8)], [(20, 18, 8)], [(20, 24, 8), (20, 8, 7)])
    linked = link_labels(planes, LinkSettings(min_iou=0.3, max_gap=1))
    assert ids_at(linked, (0, 20, 12), (1, 20, 18), (2, 20, 24)) == [1, 1, 1]
    assert linked[2, 20, 8] == 2


def test_short_objects_are_dropped_and_ids_close_up():
    planes = stack_of([(10, 10, 5), (30, 50, 5)], [(30, 50, 5)], [(30, 50, 5)])
    linked = link_labels(planes, LinkSettings(min_length=2))
    assert linked[0, 10, 10] == 0
    assert ids_at(linked, (0, 30, 50), (2, 30, 50)) == [1, 1]
    assert linked.max() == 1


def test_too_little_overlap_is_another_object():
    planes = stack_of([(20, 10, 6)], [(20, 19, 6)])
    assert link_labels(planes).max() == 2


def test_memory_holds_the_last_planes_only():
    linker = Linker(LinkSettings(max_gap=2))
    plane = stack_of([(20, 20, 8)])[0]
    for _ in range(50):
        linker.add(plane)
    assert len(linker._recent) == 3
    assert linker.lengths.tolist() == [0, 50]


def test_truth_cut_into_planes_is_put_together_again(rng):
    """Spheres at random places, numbered anew in each plane, come out as spheres."""
    z, y, x = np.ogrid[:24, :80, :80]
    truth = np.zeros((24, 80, 80), np.int32)
    centres = [(6, 15, 15), (8, 15, 50), (15, 45, 20), (12, 50, 60), (18, 20, 30)]
    for number, (cz, cy, cx) in enumerate(centres, start=1):
        truth[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= 81] = number
    planes = [np.concatenate(([0], rng.permutation(5) + 1))[plane] for plane in truth]
    linked = link_labels(planes)
    pairs = {(int(t), int(p)) for t, p in zip(truth.ravel(), linked.ravel(), strict=True)}
    assert len(pairs) == 6


def test_a_cap_belongs_to_its_cell_but_not_in_a_movie():
    planes = stack_of([(20, 20, 9)], [(20, 22, 3)])
    assert link_labels(planes).max() == 1
    assert link_labels(planes, LinkSettings(min_inside=2)).max() == 2


def test_what_grows_fast_over_time_stays_one():
    """A bud that becomes twice as large from frame to frame overlaps by less than a half with itself."""
    planes = stack_of([(20, 20, 5)], [(20, 20, 8)], [(20, 20, 12)])
    assert link_labels(planes, MOVIE).max() == 1
    assert MOVIE.min_iou < LinkSettings().min_iou == 0.5
    assert LinkSettings(min_iou=0.1).over_time().min_iou == 0.1


def test_one_object_does_not_become_two_of_the_same_id_in_a_plane():
    planes = stack_of([(20, 20, 12)], [(20, 14, 4), (20, 26, 5)])
    assert ids_at(link_labels(planes), (1, 20, 14), (1, 20, 26)) == [2, 1]


def test_cells_on_top_of_each_other_are_two():
    """A cell that tapers and swells again is another one."""
    radii = [4, 9, 12, 9, 5, 8, 12, 10, 5]
    planes = stack_of(*([(20, 20, r)] for r in radii))
    linked = link_labels(planes)
    assert [np.unique(plane)[1:].tolist() for plane in linked] == [[1]] * 5 + [[2]] * 4
    assert link_labels(planes, LinkSettings(swell=0)).max() == 1
    # What is outlined a little differently in each plane stays one.
    planes = stack_of(*([(20, 20, r)] for r in (10, 12, 11, 12, 11, 12, 9)))
    assert link_labels(planes).max() == 1


@pytest.mark.parametrize(
    "wrong",
    [{"min_iou": 0}, {"min_iou": 1.5}, {"min_inside": 0}, {"swell": 1.2}, {"max_gap": -1}, {"min_length": 0}],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="Expected"):
        LinkSettings(**wrong)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint32, np.uint64, np.int64])
def test_labels_of_any_whole_numbers_are_linked(dtype):
    planes = np.zeros((2, 6, 6), dtype)
    planes[:, 1:4, 1:4] = 1
    np.testing.assert_array_equal(link_labels(planes), planes.astype(np.int32))


def test_planes_of_different_shapes_and_no_planes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        link_labels([np.ones((3, 4), int), np.ones((4, 4), int)])
    with pytest.raises(ValueError, match="no plane to link"):
        link_labels([])


def test_lengths_and_gaps_count_as_what_they_are():
    """The same object, in thin and in thick slices, is judged by its size and not by its planes."""
    assert LinkSettings.measured(2, gap=3, length=5) == LinkSettings(max_gap=1, min_length=3)
    assert LinkSettings.measured(0.1, gap=0.3, length=0.3) == LinkSettings(max_gap=3, min_length=3)
    assert LinkSettings.measured(1, gap=0, length=0) == LinkSettings(max_gap=0, min_length=1)
    planes = stack_of([(10, 10, 6)], [(10, 10, 6)], [], [], [(10, 10, 6)])
    for step, count in ((0.5, 1), (1.0, 1), (2.0, 2)):
        linked = link_labels(planes, LinkSettings.measured(step, gap=2, length=0))
        assert linked.max() == count
    assert link_labels(planes, LinkSettings.measured(0.5, gap=0, length=1)).max() == 1
    with pytest.raises(ValueError, match="distance between planes above 0"):
        LinkSettings.measured(0, gap=1, length=1)


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        (np.array([[-1, 1]]), "labels of 0 and above, found -1"),
        (np.array([[0.5, 1]]), "whole numbers as labels, found fractions"),
        (np.array([["a", "b"]]), "whole numbers as labels, found dtype"),
    ],
)
def test_what_is_no_label_plane_is_refused_in_words(plane, words):
    with pytest.raises(ValueError, match=words):
        link_labels(plane[None])


@pytest.mark.parametrize("large", [2**40, 2**64 - 1])
def test_ids_may_be_of_any_size(large):
    planes = stack_of([(10, 10, 6), (25, 45, 7)], [(10, 11, 6), (25, 44, 7)])
    sparse = planes.astype(np.uint64)
    sparse[planes == 2] = large
    assert np.array_equal(link_labels(sparse), link_labels(planes))

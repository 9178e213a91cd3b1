from __future__ import annotations

import numpy as np
import pytest

from napari_sam.axes import (
    Axes,
    AxesError,
    make_axes,
    movie_axes,
    unit_name,
    unit_symbol,
    voxel_volume,
)
from napari_sam.measure import region_table


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("µm", "micrometer"),
        ("μm", "micrometer"),  # the Greek letter, not the sign
        ("\\u00B5m", "micrometer"),  # as ImageJ writes it
        ("micron", "micrometer"),
        ("Micrometres", "micrometer"),
        ("nm", "nanometer"),
        ("sec", "second"),
        ("Seconds", "second"),
        ("", "pixel"),
        (None, "pixel"),
        ("pixels", "pixel"),
        ("furlong", "furlong"),
    ],
)
def test_units_have_one_name(given, expected):
    assert unit_name(given) == expected


def test_a_pint_unit_is_understood():
    from napari.layers import Image

    layer = Image(np.zeros((2, 2)), units=("µm", "nm"))
    assert make_axes(2, units=layer.units).units == ("micrometer", "nanometer")
    assert unit_symbol("micrometer") == "µm"


def test_one_number_is_for_the_axes_of_space():
    assert make_axes(4, spacing=0.5, units="um") == Axes(
        "TZYX", (1, 0.5, 0.5, 0.5), ("pixel", "micrometer", "micrometer", "micrometer")
    )


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.int64(2)])
def test_a_number_of_numpy_is_one_number(number):
    assert make_axes(3, spacing=number).spacing == (float(number),) * 3
    area = region_table(np.ones((2, 2), int), spacing=number, units="um")["area_um2"]
    assert area.tolist() == [4 * float(number) ** 2]


def test_pixel_sizes_come_in_the_unit_of_x():
    axes = make_axes(3, "ZYX", (2000, 0.5, 0.5), ("nm", "um", "um"))
    sizes, unit = axes.pixel_size()
    assert sizes == pytest.approx((2, 0.5, 0.5))
    assert unit == "micrometer"
    with pytest.raises(AxesError, match="Give all axes the same unit"):
        make_axes(2, "YX", (1, 1), ("furlong", "um")).pixel_size()


def test_an_axis_without_a_unit_does_not_spoil_the_others():
    flat = make_axes(3, "ZYX", (1, 250, 0.5), ("px", "nm", "um"))
    known = flat.in_one_unit()
    assert (known.names, known.units) == ("YX", ("micrometer", "micrometer"))
    assert known.spacing == pytest.approx((0.25, 0.5))
    assert flat.pixel_size() == ((1, 250, 0.5), "micrometer")
    whole = make_axes(4, "TZYX", (9, 2, 0.5, 0.5), ("s", "um", "um", "um"))
    assert whole.in_one_unit() == whole.pick("ZYX")
    for units in (("um", "px", "px"), ("px", "px", "um"), ("um", "furlong", "um")):
        assert make_axes(3, "ZYX", 1, units).in_one_unit() is None
    assert make_axes(3).in_one_unit() is None
    assert make_axes(3, spacing=(3, 1, 1)).in_one_unit() == make_axes(3, spacing=(3, 1, 1))


@pytest.mark.parametrize(
    ("ndim", "names", "spacing", "units", "words"),
    [
        (1, None, None, None, "2 to 5 axes, found 1"),
        (3, "XYZ", None, None, "Y and X last, found 'XYZ'"),
        (3, "YX", None, None, "3 different axes"),
        (2, "YX", (1, 0), None, "above 0"),
        (2, "YX", (1, float("nan")), None, "above 0"),
        (2, "YX", (1, 1, 1), None, "one pixel size"),
        (2, "YX", None, ("um",), "one unit"),
    ],
)
def test_what_does_not_fit_is_refused(ndim, names, spacing, units, words):
    with pytest.raises(AxesError, match=words):
        make_axes(ndim, names, spacing, units)


def test_axes_are_known_as_calibrated_by_size_or_unit():
    assert not make_axes(2).calibrated
    assert make_axes(2, units="um").calibrated
    assert make_axes(2, spacing=2).calibrated
    assert not make_axes(3, "TYX", (5, 1, 1), ("s", "px", "px")).calibrated
    assert make_axes(3, "TYX").of("Z") == (1.0, "pixel")


def test_a_movie_begins_with_time_whatever_its_axes_were_called():
    assert movie_axes(3, (-30, 0.5, 0.5), ("s", "µm", "µm")) == make_axes(
        3, "TYX", (30, 0.5, 0.5), ("s", "µm", "µm")
    )
    assert movie_axes(4).names == "TZYX"
    with pytest.raises(AxesError, match="found 2 axes"):
        movie_axes(2)


def test_the_volume_of_a_voxel():
    assert voxel_volume((2, 0.5, 0.5), ("µm",) * 3) == (0.5, "micrometer")
    assert voxel_volume((2, 0.5, 0.5), ("pixel", "µm", "µm")) is None
    assert voxel_volume((30, 0.5, 0.5), ("s", "µm", "µm")) is None

"""The built-in encoder made quick: the same features, and masks that do not change."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skimage import data
from tests.model.small import randomise

from napari_sam import load_model
from napari_sam.image import plane_to_rgb
from napari_sam.masks import mask_iou
from napari_sam.model import builtin_quick
from napari_sam.model.builtin import BuiltIn, load_builtin, save_builtin
from napari_sam.model.builtin_quick import (
    QuickEncoder,
    calibration_pictures,
    exact,
    kept_ranges,
    optimise_builtin,
    ranges_on_drawn_cells,
)
from napari_sam.model.eight_bit import EightBit, Range, has_eight_bits, quantise
from napari_sam.predictor.load import builtin_weights, fingerprint_of
from napari_sam.prompts import Prompts, points_from_array
from napari_sam.training.drawn import KINDS, draw_plane

needs_eight_bits = pytest.mark.skipif(
    not has_eight_bits(), reason="this processor has no instructions for products of 8-bit numbers"
)


@pytest.fixture(scope="module")
def model():
    return randomise(BuiltIn(channels=(16, 16, 32, 32, 48), depths=(1, 0, 2, 1), width=32)).eval()


@pytest.fixture(scope="module")
def own_weights(model, tmp_path_factory):
    """A file of weights that are not those in the package."""
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_builtin(model.state_dict(), model.config, path)
    return path


@pytest.fixture(scope="module")
def planes():
    return torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)


def error(found, expected):
    return float((found - expected).norm() / expected.norm())


@torch.inference_mode()
def test_fused_steps_give_the_same_features(model, planes):
    quick = optimise_builtin(copy.deepcopy(model), "cpu", "fp32")
    assert isinstance(quick.encoder, QuickEncoder)
    for ours, theirs in zip(quick.encode(planes), model.encode(planes), strict=True):
        assert ours.shape == theirs.shape
        assert error(ours, theirs) < 1e-5


@torch.inference_mode()
def test_fused_steps_without_onednn(model, planes, monkeypatch):
    monkeypatch.setattr("napari_sam.model.conv.has_onednn", lambda dtype: False)
    quick = optimise_builtin(copy.deepcopy(model), "cpu", "fp32")
    for ours, theirs in zip(quick.encode(planes), model.encode(planes), strict=True):
        assert error(ours, theirs) < 1e-5


@needs_eight_bits
@torch.inference_mode()
def test_eight_bit_steps_give_nearly_the_same_features(model, planes):
    quick = QuickEncoder(copy.deepcopy(model.encoder))
    quick.to_eight_bits(quick.ranges(planes))
    for ours, theirs in zip(quick(planes), model.encode(planes), strict=True):
        assert ours.dtype == torch.float32
        assert error(ours, theirs) < 0.1


@needs_eight_bits
@torch.inference_mode()
def test_the_exact_model_beside_the_quick_one(model, planes):
    quick = optimise_builtin(copy.deepcopy(model), "cpu")
    twin = exact(quick)
    assert error(twin.encode(planes).embedding, model.encode(planes).embedding) < 1e-5
    assert error(quick.encode(planes).embedding, model.encode(planes).embedding) > 1e-4
    assert {p.data_ptr() for p in twin.parameters()} == {p.data_ptr() for p in quick.parameters()}


@needs_eight_bits
@torch.inference_mode()
@pytest.mark.parametrize("quicker", [True, False])
def test_how_many_threads_are_quickest_is_found_out_by_use(model, quicker, two_threads, monkeypatch):
    """Nobody waits for a trial, and a moment in which the processor is busy does not settle it."""
    seen, encode, now = [], QuickEncoder._maps, 0.0

    def noted(self, x):
        nonlocal now
        seen.append(torch.get_num_threads())
        slow = (seen[-1] == 1) != quicker
        now += 3 if len(seen) < 4 else 2 if slow else 1
        return encode(self, x)

    quick = optimise_builtin(copy.deepcopy(model), "cpu")
    monkeypatch.setattr(builtin_quick, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(QuickEncoder, "_maps", noted)
    quick.encode(torch.zeros(1, 3, 480, 1024))
    assert seen == [1]  # a small plane needs one, and says nothing
    for _ in range(2 * builtin_quick.ROUNDS + 2):
        quick.encode(torch.zeros(1, 3, 512, 544))
    assert seen[1:] == [2, 1] * builtin_quick.ROUNDS + [1 if quicker else 2] * 2
    assert torch.get_num_threads() == 2


@needs_eight_bits
@torch.inference_mode()
def test_both_ways_on_trial_give_the_same(model, two_threads):
    quick = optimise_builtin(copy.deepcopy(model), "cpu")
    picture = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    several, one = (quick.encode(picture) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(several, one, strict=True))


@needs_eight_bits
def test_the_model_is_loaded_in_one_thread(own_weights, monkeypatch, two_threads):
    """Its steps are small: several threads cost more, and many times more on a busy machine."""
    seen, encode = [], QuickEncoder._maps
    monkeypatch.setattr(
        QuickEncoder, "_maps", lambda self, x: seen.append(torch.get_num_threads()) or encode(self, x)
    )
    load_model(own_weights, device="cpu")
    assert seen == [1]
    assert torch.get_num_threads() == 2


@needs_eight_bits
def test_ranges_are_read_for_weights_of_your_own_and_kept_for_those_in_the_package(own_weights, monkeypatch):
    seen, read = [], builtin_quick.ranges_on_drawn_cells
    monkeypatch.setattr(
        builtin_quick, "ranges_on_drawn_cells", lambda model: seen.append(read(model)) or seen[-1]
    )
    load_model("built-in", device="cpu")
    assert not seen
    own = load_model(own_weights, device="cpu")
    assert own.model.encoder.embed.eight.source == seen[0]["embed"].source


def test_kept_ranges_are_those_of_the_weights_in_the_package():
    """If this fails, the weights have changed: run scripts/ranges.py."""
    weights = builtin_weights()
    kept = kept_ranges(fingerprint_of(weights))
    read = ranges_on_drawn_cells(optimise_builtin(load_builtin(weights), "cpu", "fp32"))
    assert kept is not None
    assert kept.keys() == read.keys()
    for name, parts in read.items():
        for ours, theirs in zip(kept[name], parts, strict=True):
            assert ours == (None if theirs is None else pytest.approx(theirs, rel=1e-3, abs=1e-3))


@needs_eight_bits
@torch.inference_mode()
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_eight_bit_convolution(relu, stride):
    conv = randomise(torch.nn.Conv2d(16, 24, 3, stride, 1))
    x = torch.rand(1, 16, 10, 12, generator=torch.Generator().manual_seed(0))
    plus = torch.randn(1, 24, 10 // stride, 12 // stride, generator=torch.Generator().manual_seed(2))
    expected = conv(x) + plus
    expected = expected.relu() if relu else expected
    out = Range.of(expected)
    step = EightBit(conv, Range(0, 1), out, Range.of(plus), relu=relu)
    last = torch.channels_last
    x, added = x.contiguous(memory_format=last), quantise(plus.contiguous(memory_format=last), Range.of(plus))
    found = (step(x, added).float() - out.zero) * out.scale
    assert error(found, expected) < 0.02


@needs_eight_bits
@torch.inference_mode()
def test_weights_are_packed_once_for_a_size_and_a_number_of_threads(two_threads):
    """In another layout they would be brought to the wanted one at every call."""
    step = EightBit(randomise(torch.nn.Conv2d(192, 192, 3, 1, 1)), Range(0, 1), None, relu=False)
    planes = [torch.rand(1, 192, s, s).contiguous(memory_format=torch.channels_last) for s in (8, 32, 9)]
    alone = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found = [step(plane) for plane in (*planes[:2], *planes[:2])]
        assert torch.equal(found[0], found[2])
        alone = alone or found
        assert all(torch.equal(a, b) for a, b in zip(alone, found, strict=True))
    known = step.packed.cache_info()
    assert (known.hits, known.misses) == (4, 4)
    step(planes[2])
    assert step.packed.cache_info().currsize == 4


def test_eight_bits_tell_a_range_from_end_to_end():
    x = torch.tensor([-1.5, 0.0, 0.25, 3.0])
    for values in (x, x.relu()):
        span = Range.of(values)
        again = (quantise(values, span).float() - span.zero) * span.scale
        assert torch.allclose(again, values, atol=span.scale / 2 + 1e-6)
        assert again[1 if values is x else 0] == 0


@needs_eight_bits
def test_masks_of_a_real_image_do_not_change():
    """The bar for doing without the bits: a mean IoU of 0.99 with the masks of single precision."""
    rgb = plane_to_rgb(data.coins())  # comes with scikit-image: nothing is downloaded
    plain, quick = (
        load_model("built-in", device="cpu", precision="fp32"),
        load_model("built-in", device="cpu"),
    )
    diameter = plain.estimate_diameter(rgb)
    assert quick.estimate_diameter(rgb) == pytest.approx(diameter)
    one, other = (p.embed(rgb, diameter=diameter) for p in (plain, quick))
    places = plain.seeds(one).points[:40]
    prompts = [Prompts((p,)) for p in points_from_array(places)]
    overlaps = []
    for a, b in zip(plain.predict_each(one, prompts), quick.predict_each(other, prompts), strict=True):
        same = next(c for c in b if c.level == a.best.level)
        overlaps.append(mask_iou(a.best.mask, same.mask))
    assert len(overlaps) >= 5
    assert np.mean(overlaps) >= 0.99


def test_calibration_pictures_are_drawn_cells_of_every_kind():
    pictures = calibration_pictures()
    assert pictures.shape == (len(KINDS), 3, 128, 128)
    drawn = draw_plane(np.random.default_rng([2**32 - 1, 50]), 128, next(iter(KINDS))).image[..., 0]
    assert np.abs(pictures[0, 0].numpy().astype(int) - drawn).max() <= 2
    assert pictures[0, 0].float().std() > 10


def test_another_precision_is_refused(model):
    with pytest.raises(ValueError, match="Expected the precision"):
        optimise_builtin(copy.deepcopy(model), "cpu", "fp64")

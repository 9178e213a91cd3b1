"""The built-in model: shapes, windows, and what must not depend on where an object lies."""

import json

import pytest
import torch

from napari_sam.model.builtin import (
    CELL,
    LOGIT_STRIDE,
    MODEL_DIAMETER,
    WINDOW_CELLS,
    BuiltIn,
    deepened,
    load_builtin,
    save_builtin,
)
from napari_sam.model.builtin_prompts import BOX_END, BOX_START, FOREGROUND, PADDING
from napari_sam.model.builtin_window import nest, unnest, window_rows

SIDE = WINDOW_CELLS * CELL // LOGIT_STRIDE


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return BuiltIn(channels=(4, 8, 8, 8, 16), depths=(1, 0, 1, 0), width=32).eval()


def decode(model, planes, points, labels, origin, mask=None, batch_index=None):
    n = len(points)
    index = torch.zeros(n, dtype=torch.int64) if batch_index is None else torch.tensor(batch_index)
    with torch.inference_mode():
        features = model.encode(planes)
        decoded = model.decode(
            features,
            index,
            torch.tensor(origin),
            torch.tensor(points, dtype=torch.float32),
            torch.tensor(labels),
            mask,
        )
        rows = torch.arange(n).repeat_interleave(4)
        columns = torch.arange(4).repeat(n)
        return decoded, decoded.logits(rows, columns).view(n, 4, SIDE, SIDE)


def test_shapes(model):
    planes = torch.randn(2, 3, 96, 64)
    features = model.encode(planes)
    assert features.embedding.shape == (2, 32, 6, 4)
    assert features.skip8.shape == (2, 16, 12, 8)
    assert features.skip4.shape == (2, 8, 24, 16)
    assert features.dense.shape == (2, 4, 24, 16)
    decoded, logits = decode(
        model,
        planes,
        [[[10, 20]], [[30, 40]], [[5, 5]]],
        [[1]] * 3,
        [[-6, -7]] * 3,
        batch_index=[0, 1, 1],
    )
    assert decoded.iou.shape == (3, 4)
    assert logits.shape == (3, 4, SIDE, SIDE)
    assert torch.isfinite(logits).all()


def test_sides_must_be_multiples_of_32(model):
    with pytest.raises(ValueError, match="multiples of 32 pixels, found 100 x 64"):
        model.encode(torch.zeros(1, 3, 100, 64))


def test_nest_and_unnest_are_inverse():
    image = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).view(2, 3, 16, 16)
    rows = nest(image, 2)
    assert rows.shape == (2, 16, 16, 3)
    assert torch.equal(unnest(rows, 2), image)
    # the first cell of four by four pixels: its four children, each two by two
    assert rows[0, 0, :4, 0].tolist() == [0, 1, 16, 17]


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_windows_are_cut_where_they_lie(levels):
    fine = 2**levels
    feature = torch.randn(2, 5, 20 * fine, 24 * fine)
    outside = torch.full((5,), 7.0)
    origin = torch.tensor([[-3, 2], [6, 12]])
    rows = window_rows(feature, outside, torch.tensor([1, 0]), origin, levels)
    windows = unnest(rows.view(2, WINDOW_CELLS**2, 4**levels, 5), levels)
    padded = torch.nn.functional.pad(feature, (16 * fine,) * 4, value=7.0)
    for window, plane, (y, x) in zip(windows, (1, 0), origin.tolist(), strict=True):
        top, left, size = (y + 16) * fine, (x + 16) * fine, WINDOW_CELLS * fine
        assert torch.equal(window, padded[plane, :, top : top + size, left : left + size])


def test_answers_move_with_the_object(model):
    """Shift plane, prompt and window by two cells of stride 32: the answer is the same."""
    torch.manual_seed(1)
    plane = torch.zeros(1, 3, 512, 512)
    plane[..., 192:320, 192:320] = torch.randn(1, 3, 128, 128)
    moved = plane.roll((64, 32), (-2, -1))
    _, before = decode(model, plane, [[[250.0, 240.0]]], [[1]], [[7, 8]])
    _, after = decode(model, moved, [[[282.0, 304.0]]], [[1]], [[11, 10]])
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_answers_do_not_depend_on_the_batch(model):
    planes = torch.randn(2, 3, 128, 128)
    points, labels = [[[40, 50], [0, 0]], [[20, 20], [70, 90]]], [[1, -1], [2, 3]]
    origin = [[-5, -4], [-4, -3]]
    _, together = decode(model, planes, points, labels, origin, batch_index=[0, 1])
    for k in range(2):
        _, alone = decode(model, planes[k : k + 1], points[k : k + 1], labels[k : k + 1], origin[k : k + 1])
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-4, rtol=1e-4)


def test_logits_give_the_pairs_that_are_asked_for(model):
    planes = torch.randn(1, 3, 64, 64)
    decoded, every = decode(model, planes, [[[9, 9]], [[40, 50]]], [[1], [1]], [[-6, -6], [-5, -4]])
    with torch.inference_mode():
        some = decoded.logits(torch.tensor([1, 0, 1]), torch.tensor([3, 2, 0]))
    torch.testing.assert_close(some, every[[1, 0, 1], [3, 2, 0]])


def test_every_prompt_counts(model):
    """A second click, its sign, a box and a mask each change the answer."""
    planes = torch.randn(1, 3, 128, 128)
    click, box = [[60.0, 60.0], [80.0, 84.0]], [[40.0, 40.0], [90.0, 90.0]]
    answers = [
        decode(model, planes, [points], [labels], [[-4, -4]], mask)[1]
        for points, labels, mask in (
            (click, [FOREGROUND, PADDING], None),
            (click, [FOREGROUND, FOREGROUND], None),
            (click, [FOREGROUND, 0], None),
            (box, [BOX_START, BOX_END], None),
            (click, [FOREGROUND, PADDING], torch.full((1, 1, SIDE, SIDE), -5.0)),
            (click, [FOREGROUND, PADDING], torch.full((1, 1, SIDE, SIDE), 5.0)),
        )
    ]
    for i, a in enumerate(answers):
        for b in answers[:i]:
            assert (a - b).abs().max() > 1e-4


def test_drawn_box_covers_the_box(model):
    points = torch.tensor([[[39.5, 79.5], [119.5, 99.5]]])
    maps = model.decoder.prompts.maps(points, torch.tensor([[BOX_START, BOX_END]]), None)
    drawn = unnest(maps, 2)[0, -1]
    assert drawn.sum() * 16 == pytest.approx(80 * 20)
    ys, xs = torch.nonzero(drawn).unbind(1)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (20, 24, 10, 29)


def test_seeds_are_the_peaks():
    dense = torch.full((4, 32, 48), -6.0)
    for y, x, height in ((5, 7, 3.0), (20, 40, 1.0)):
        dense[0, y - 1 : y + 2, x - 1 : x + 2] = height
        dense[0, y, x] = height + 1
    points, scores = BuiltIn.seeds(dense)
    assert points.tolist() == [[21.5, 29.5], [81.5, 161.5]]
    assert 1 > scores[0] > scores[1] > 0.3


def test_diameter_is_the_median_of_the_seeds():
    dense = torch.full((4, 32, 48), -6.0)
    for (y, x), octaves in {(5, 7): -1.0, (20, 40): 1.0, (20, 10): 1.0}.items():
        dense[0, y - 1 : y + 2, x - 1 : x + 2] = 3.0
        dense[0, y, x] = 4.0
        dense[3, y, x] = octaves
    assert BuiltIn.estimate_diameter(dense) == pytest.approx(2 * MODEL_DIAMETER)
    assert BuiltIn.estimate_diameter(torch.full((4, 8, 8), -6.0)) is None
    for nonsense in (-2000.0, 2000.0, torch.nan):
        dense[3] = nonsense
        assert 0 < BuiltIn.estimate_diameter(dense) < 1e5


def test_weights_survive_a_file(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_builtin(model.state_dict(), model.config, path)
    loaded = load_builtin(path)
    assert loaded.config == model.config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert torch.equal(loaded.state_dict()[name], tensor.half().float()), name


def test_a_deeper_network_answers_as_the_one_it_came_from(model):
    deeper = deepened(model, (1, 2, 0, 1))
    assert deeper.config == {**model.config, "depths": [2, 2, 1, 1]}
    planes = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        pairs = list(zip(model.encode(planes), deeper.encode(planes), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert sum(p.numel() for p in deeper.parameters()) > sum(p.numel() for p in model.parameters())


def test_a_foreign_file_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="says nothing of its architecture"):
        load_builtin(tmp_path / "other.safetensors")


def test_what_is_no_file_of_weights_is_named(tmp_path):
    (tmp_path / "folder").mkdir()
    torch.save({"x": torch.zeros(1)}, tmp_path / "pickled.pth")
    for name, words in (
        ("folder", "it is a folder"),
        ("none.safetensors", "there is no such file"),
        ("pickled.pth", "it is no safetensors file, or a damaged one"),
    ):
        with pytest.raises(ValueError, match=rf"{name} was expected .*, but {words}\. Choose a file"):
            load_builtin(tmp_path / name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 48}, r"does not fit the built-in model: .*of another shape \['decoder"),
        ({"depths": [1]}, r"does not fit the built-in model: .*unexpected \['encoder.stages"),
        ({"channels": []}, r"its architecture \(.*\) cannot be built"),
        ({"channels": [4, 8]}, "cannot be built"),
        ({"channels": [4, 8, 8, 8, "16"]}, "cannot be built"),
        ({"width": -32}, "cannot be built"),
        ({"depth": 1}, "cannot be built"),
    ],
)
def test_a_file_of_another_architecture_is_refused(model, tmp_path, changes, words):
    path = tmp_path / "weights.safetensors"
    save_builtin(model.state_dict(), model.config | changes, path)
    with pytest.raises(ValueError, match=f"weights.safetensors .*{words}"):
        load_builtin(path)


@pytest.mark.parametrize("config", ["vit", "[1, 2]", "null", ""])
def test_a_file_that_says_something_else_of_itself_is_refused(model, tmp_path, config):
    from safetensors.torch import save_file

    save_file(model.state_dict(), tmp_path / "other.safetensors", {"config": config})
    with pytest.raises(ValueError, match="cannot be built"):
        load_builtin(tmp_path / "other.safetensors")


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, None])
def test_weights_that_are_no_finite_numbers_are_refused(model, tmp_path, wrong):
    from safetensors.torch import save_file

    state = {n: t.half() for n, t in model.state_dict().items() if t.is_floating_point()}
    name = "encoder.top.weight"
    state[name] = state[name].int() if wrong is None else torch.full_like(state[name], wrong)
    save_file(state, tmp_path / "wrong.safetensors", {"config": json.dumps(model.config)})
    with pytest.raises(ValueError, match=r"wrong.safetensors .*finite numbers .* in encoder\.top\.weight"):
        load_builtin(tmp_path / "wrong.safetensors")

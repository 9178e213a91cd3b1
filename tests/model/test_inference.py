"""A model made quick gives the answers of the same model left as it was."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tests.model.small import TINY, VIT, image, relative_error, small_sam
from torch import Tensor

from napari_sam.model import Sam, VitConfig, optimise, pad_prompts
from napari_sam.model import precision as machine
from napari_sam.model import relative_attention as attention
from napari_sam.model.linear import Linear, linear, linear_each
from napari_sam.model.vit import join_windows, split_windows

LARGE = VitConfig(48, 2, 3, (1,), image_size=320, window=7, out_channels=128)
"""A plane of more tokens than the next constant, over several runs of rows."""


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "ROWS", 150)


TOLERANCE = {"fp32": 1e-5, "bf16": 4e-2}
"""Of bf16: eight bits, and random weights that amplify noise."""


def outputs(model: Sam, pixels: Tensor, mask: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Embedding, predicted IoU and logits of nine prompts."""
    embedding = model.encode(pixels)
    state = model.prepare(embedding)
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(9, 2, 2, generator=generator) * pixels.shape[-1]
    side = 4 * embedding.shape[-1]
    dense = torch.randn(9, 1, side, side, generator=generator) if mask else None
    decoded = model.decode(state, *pad_prompts(points, torch.ones(9, 2, dtype=torch.long)), dense)
    rows, columns = torch.cartesian_prod(torch.arange(9), torch.arange(4)).T
    return embedding, decoded.iou, decoded.logits(rows, columns)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("mask", [False, True], ids=["points", "points and mask"])
@pytest.mark.parametrize("encoder", [VIT, LARGE, TINY], ids=["vit", "large vit", "tiny_vit"])
def test_same_answers(encoder: VitConfig, mask: bool, precision: str) -> None:
    plain = small_sam(encoder)
    quick = optimise(copy.deepcopy(plain), "cpu", precision)
    pixels = image(encoder.image_size)
    with torch.inference_mode():
        expected, found = outputs(plain, pixels, mask), outputs(quick, pixels, mask)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert relative_error(ours, theirs) <= TOLERANCE[precision]
    agreement = ((found[2] > 0) == (expected[2] > 0)).float().mean()
    assert agreement >= (0.99999 if precision == "fp32" else 0.98)


def test_with_and_without_gradient_recording() -> None:
    quick = optimise(small_sam(LARGE), "cpu", "fp32")
    with torch.inference_mode():
        expected = quick.encode(image(LARGE.image_size))
    assert torch.equal(quick.encode(image(LARGE.image_size)), expected)


def test_precision_decides_the_type_of_the_weights() -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        model = optimise(small_sam(), "cpu", precision)
        assert model.image_encoder.pos_embed.dtype == dtype
        assert model.mask_decoder.iou_token.weight.dtype == dtype
        # Qualities that are rounded to eight bits tie where masks compete.
        assert {p.dtype for p in model.mask_decoder.iou_prediction_head.parameters()} == {torch.float32}
        # Angles of the positional encoding would lose their meaning.
        assert model.prompt_encoder.no_mask.dtype == torch.float32


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx2": True}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_automatic_precision_follows_the_processor(
    features: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "capabilities", lambda: features)
    assert machine.choose_dtype("auto", "cpu") == expected
    assert machine.choose_dtype("fp32", "cpu") == torch.float32
    assert machine.choose_dtype("bf16", "cpu") == torch.bfloat16


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected the precision auto, fp32 or bf16, but found 'f8'"):
        optimise(small_sam(), "cpu", "f8")


def attend_directly(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    logits += (rows[..., :, None] + columns[..., None, :]).flatten(-2)
    return logits.softmax(-1) @ v


@pytest.mark.parametrize("shape", [(5, 5), (4, 7), (18, 20)])
@pytest.mark.parametrize("way", ["folded", "rows", "rows without onednn", "at once"])
def test_ways_to_attend_agree(way: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "rows without onednn":
        monkeypatch.setattr("napari_sam.model.linear.has_onednn", lambda dtype: False)
    height, width = shape
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, height * width, 8, generator=generator)
    rel_h = torch.randn(2 * height - 1, 8, generator=generator)
    rel_w = torch.randn(2 * width - 1, 8, generator=generator)
    rows, columns = attention.offset_terms(q, rel_h, rel_w, shape)
    expected = attend_directly(q, k, v, rows, columns)
    if way == "folded":
        found = attention.attend_folded(q, k, v, rows, columns)
    elif way.startswith("rows"):
        found = attention.attend_by_rows(q, k, v, rows, columns)
    else:
        offsets = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
        found = attention.attend_at_once(q, k, v, offsets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_offset_terms_are_products_with_the_vector_of_the_offset() -> None:
    height, width = 3, 4
    q = torch.randn(1, 2, height * width, 5)
    rel_h, rel_w = torch.randn(2 * height - 1, 5), torch.randn(2 * width - 1, 5)
    rows, columns = attention.offset_terms(q, rel_h, rel_w, (height, width))
    for token in range(height * width):
        y, x = divmod(token, width)
        for key_y in range(height):
            expected = q[0, :, token] @ rel_h[y - key_y + height - 1]
            torch.testing.assert_close(rows[0, :, token, key_y], expected)
        for key_x in range(width):
            expected = q[0, :, token] @ rel_w[x - key_x + width - 1]
            torch.testing.assert_close(columns[0, :, token, key_x], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_whole_offsets_are_sums_of_the_terms_of_row_and_column(dtype: torch.dtype) -> None:
    rows, columns = torch.randn(2, 3, 20, 4).to(dtype), torch.randn(2, 3, 20, 5).to(dtype)
    expected = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
    assert torch.equal(attention.whole_offsets(rows, columns), expected)


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (3, 2), (4, 6), (9, 4)])
def test_windows_hold_the_plane_and_the_filling(shape: tuple[int, int]) -> None:
    height, width = shape
    plane, fill = torch.randn(2, height, width, 3), torch.randn(3)
    windows = split_windows(plane, 4, fill)
    rows, columns = -(-height // 4), -(-width // 4)
    padded = fill.expand(2, 4 * rows, 4 * columns, 3).clone()
    padded[:, :height, :width] = plane
    expected = [
        padded[image, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        for image, row, column in np.ndindex(2, rows, columns)
    ]
    assert torch.equal(windows, torch.stack(expected))
    assert torch.equal(join_windows(windows, 2, height, width), plane)


def test_packed_layer_and_products() -> None:
    layer = Linear(12, 7).requires_grad_(False)
    x, plus = torch.randn(2, 5, 12), torch.randn(2, 5, 7)
    calls = [{}, {"plus": plus}, {"gelu": True}, {"plus": plus, "gelu": True}]
    expected = [layer(x, **call) for call in calls]
    layer.pack()
    for call, result in zip(calls, expected, strict=True):
        torch.testing.assert_close(layer(x, **call), result)
    each = torch.stack([a @ b.T for a, b in zip(x, x + 1, strict=True)])
    torch.testing.assert_close(linear_each(x, x + 1), each)
    torch.testing.assert_close(linear_each(x[:1], x[:1] + 1), each[:1])


def test_products_are_differentiable() -> None:
    x, weight = torch.randn(3, 4), torch.randn(5, 4, requires_grad=True)
    linear(x, weight, plus=torch.ones(3, 5), gelu=True).sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


@pytest.mark.parametrize("encoder", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_a_torch_without_the_fused_operators_gives_the_same(
    encoder: VitConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = image(encoder.image_size)
    with torch.inference_mode():
        expected = outputs(optimise(small_sam(encoder), "cpu", "fp32"), pixels, mask=True)
        monkeypatch.setattr("napari_sam.model.linear.has_onednn", lambda dtype: False)
        monkeypatch.setattr("napari_sam.model.conv.has_onednn", lambda dtype: False)
        found = outputs(optimise(small_sam(encoder), "cpu", "fp32"), pixels, mask=True)
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) <= 1e-5

"""TinyViT against a direct, slow formula for each of its parts."""

from __future__ import annotations

import math

import pytest
import torch
from tests.model.small import randomise
from torch import Tensor

from napari_sam.model.tiny_vit import AttentionBlock, WindowAttention


def attend_directly(layer: WindowAttention, x: Tensor) -> Tensor:
    """One window at a time: zero padding, normalise, one head at a time, biased softmax."""
    height, width, dim = x.shape
    side, width_of_head = layer.window, dim // layer.heads
    out = torch.zeros_like(x)
    for top in range(0, height, side):
        for left in range(0, width, side):
            tile = torch.zeros(side, side, dim)
            part = x[top : top + side, left : left + side]
            tile[: part.shape[0], : part.shape[1]] = part
            qkv = layer.qkv(layer.norm(tile.reshape(-1, dim)))
            heads = []
            for head, of_head in enumerate(qkv.view(side * side, layer.heads, -1).unbind(1)):
                q, k, v = of_head.split(width_of_head, dim=1)
                logits = q @ k.T / math.sqrt(width_of_head)
                for i in range(side * side):
                    for j in range(side * side):
                        dy, dx = abs(i // side - j // side), abs(i % side - j % side)
                        logits[i, j] += layer.attention_biases[head, dy * side + dx]
                heads.append(logits.softmax(1) @ v)
            mixed = layer.proj(torch.cat(heads, dim=1)).view(side, side, dim)
            out[top : top + side, left : left + side] = mixed[: part.shape[0], : part.shape[1]]
    return out


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (6, 9)])
def test_window_attention(shape: tuple[int, int]) -> None:
    layer = randomise(WindowAttention(24, heads=3, window=4)).requires_grad_(False)
    x = torch.randn(2, *shape, 24, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([attend_directly(layer, plane) for plane in x])
    torch.testing.assert_close(layer.add(x), x + expected, rtol=1e-4, atol=1e-5)


def test_block_applies_attention_then_convolution_then_feed_forward() -> None:
    block = randomise(AttentionBlock(24, heads=3, window=4, hidden=2)).eval().requires_grad_(False)
    x = torch.randn(1, 24, 8, 8, generator=torch.Generator().manual_seed(0))
    tokens = x.permute(0, 2, 3, 1)
    expected = block.attn.add(tokens).permute(0, 3, 1, 2)
    expected = block.local_conv(expected)
    expected = block.mlp.add(expected.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x), expected)

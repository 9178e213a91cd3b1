"""Attention whose logits carry a learned term for the offset between two tokens.

For query token (y, x) and key token (y', x') the logit is
``scale * q . k + q . r_h[y - y'] + q . r_w[x - x']`` (Li et al. 2022, section 3). The two
offset terms need no full matrix: they are a short vector per query, one number for every key
row and one for every key column.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def relative_attention(
    q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Attend over a plane of tokens with decomposed relative positions.

    Parameters
    ----------
    q, k, v : Tensor, (B, heads, H * W, D)
        Queries, keys and values of the plane's tokens in reading order.
    rel_h, rel_w : Tensor, (2 H - 1, D) and (2 W - 1, D)
        One vector per row offset and per column offset, from the most negative.
    shape : tuple of int
        (H, W).

    Returns
    -------
    Tensor, (B, heads, H * W, D)
    """
    rows, columns = offset_terms(q, rel_h, rel_w, shape)
    batch, heads, tokens, _ = q.shape
    out = torch.empty_like(q)
    # One head at a time keeps the offset matrix at (tokens, tokens) whatever the head count.
    for head in range(heads):
        bias = rows[:, head, :, :, None] + columns[:, head, :, None, :]
        out[:, head] = F.scaled_dot_product_attention(
            q[:, head : head + 1],
            k[:, head : head + 1],
            v[:, head : head + 1],
            attn_mask=bias.view(batch, 1, tokens, tokens),
        )[:, 0]
    return out


def offset_terms(q: Tensor, rel_h: Tensor, rel_w: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The offset part of the logits, by key row and by key column.

    Parameters and shapes as in ``relative_attention``.

    Returns
    -------
    rows : Tensor, (B, heads, H * W, H)
    columns : Tensor, (B, heads, H * W, W)
    """
    height, width = shape
    batch, heads, tokens, dim = q.shape
    plane = q.reshape(batch * heads, height, width, dim)
    table_h = offset_table(rel_h, height).to(q.dtype)
    table_w = offset_table(rel_w, width).to(q.dtype)
    rows = torch.einsum("nyxd,ykd->nyxk", plane, table_h)
    columns = torch.einsum("nyxd,xkd->nyxk", plane, table_w)
    return (
        rows.reshape(batch, heads, tokens, height),
        columns.reshape(batch, heads, tokens, width),
    )


def offset_table(rel: Tensor, side: int) -> Tensor:
    """Vectors by (query index, key index): (side, side, D) from rel (2 side - 1, D)."""
    index = torch.arange(side, device=rel.device)
    return rel[index[:, None] - index[None, :] + side - 1]

"""Attention whose logits carry a learned term for the offset between two tokens.

For query token (y, x) and key token (y', x') the logit is
``scale * q . k + q . r_h[y - y'] + q . r_w[x - x']`` (Li et al. 2022, section 3). The two
offset terms need no full matrix: they are a short vector per query, one number for every key
row and one for every key column. Two exact ways to use them are here; which one is quicker
depends on the processor.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .linear import linear, packed
from .precision import has_matrix_unit

ROWS = 512
"""Query tokens whose logits are held at once: few enough for the cache, and many enough that
threads seldom wait for each other."""
ALIGNED = 32
"""Fused attention is quicker when a head's width is a multiple of this."""


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
    learns = torch.is_grad_enabled() and q.requires_grad
    if learns or q.device.type != "cpu" or (q.dtype == torch.bfloat16 and has_matrix_unit()):
        return attend_folded(q, k, v, rows, columns)
    if q.shape[2] > ROWS:
        return attend_by_rows(q, k, v, rows, columns)
    return attend_at_once(q, k, v, whole_offsets(rows, columns))


def attend_folded(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attend with the fused operator, the offset terms folded into queries and keys.

    The queries are followed by their offset terms, and each key by two unit vectors that pick
    the term of its row and of its column. Nothing of the size of the logits is ever stored.
    """
    height, width = rows.shape[-1], columns.shape[-1]
    dim = q.shape[-1]
    spare = q.new_zeros(-(dim + height + width) % ALIGNED)
    picks = torch.cat([picks_of_keys(height, width, q), spare.expand(height * width, -1)], -1)
    long_q = torch.cat([q * dim**-0.5, rows, columns, spare.expand(*q.shape[:-1], -1)], -1)
    long_k = torch.cat([k, picks.expand(*k.shape[:-1], -1)], -1)
    long_v = F.pad(v, (0, long_k.shape[-1] - dim))
    return F.scaled_dot_product_attention(long_q, long_k, long_v, scale=1.0)[..., :dim]


def attend_by_rows(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attend with plain matrix products, a few query tokens of one head at a time.

    On processors whose fused attention is no quicker than this, the logits of ``ROWS`` tokens
    stay in the cache while the offset terms and the softmax pass over them.
    """
    tokens, dim = q.shape[-2:]
    height, width = rows.shape[-1], columns.shape[-1]
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    # Numbers that lie apart are copied side by side first: turned over at once, they take four times as long.
    given = (q * dim**-0.5, k, v.contiguous(), rows, columns, out)
    heads = (t.reshape(-1, tokens, t.shape[-1]) for t in given)
    for q_, k_, v_, rows_, columns_, out_ in zip(*heads, strict=True):
        keys, values = packed(k_), packed(v_.t())
        for start in range(0, tokens, ROWS):
            part = slice(start, start + ROWS)
            logits = linear(q_[part], keys).view(-1, height, width)
            # In place: a sum of the two terms first would be one more matrix of the size of the logits.
            logits += rows_[part, :, None]
            logits += columns_[part, None, :]
            flat = logits.view(-1, tokens)
            out_[part] = linear(torch.softmax(flat, dim=-1, out=flat), values)
    return out


def attend_at_once(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor) -> Tensor:
    """Attend with all offset terms written out, for windows, whose logits are few.

    Shapes: q, k, v (B, heads, N, D), ``offsets`` (B or 1, heads, N, N) -> (B, heads, N, D).
    """
    if q.dtype == torch.float32 or q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, attn_mask=offsets)
    # The fused operator does not use the processor's bf16 instructions; plain products do.
    tokens, dim = q.shape[-2:]
    flat_q, flat_k, flat_v = (t.reshape(-1, tokens, dim) for t in (q * dim**-0.5, k, v))
    flat_offsets = offsets.expand(*q.shape[:2], -1, -1).reshape(-1, tokens, tokens)
    logits = torch.baddbmm(flat_offsets, flat_q, flat_k.transpose(1, 2))
    return torch.bmm(logits.softmax(dim=-1), flat_v).view(q.shape)


def whole_offsets(rows: Tensor, columns: Tensor) -> Tensor:
    """Offset part of all logits, (B, heads, H * W, H * W), from the terms of ``offset_terms``."""
    if rows.dtype == torch.float32:
        return (rows[..., :, None] + columns[..., None, :]).flatten(-2)
    # The same numbers: in bf16 a product is quicker than sums in which a number is repeated.
    picks = picks_of_keys(rows.shape[-1], columns.shape[-1], rows)
    return linear(torch.cat([rows, columns], -1), picks)


def picks_of_keys(height: int, width: int, like: Tensor) -> Tensor:
    """Two unit vectors for each key, which pick the terms of its row and column: (H * W, H + W)."""
    picks_row, picks_column = (torch.eye(n, dtype=like.dtype, device=like.device) for n in (height, width))
    return torch.cat([picks_row.repeat_interleave(width, 0), picks_column.repeat(height, 1)], -1)


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
    # One product for each query row, and one for each query column.
    by_row = plane.transpose(0, 1).reshape(height, -1, dim)
    by_column = plane.permute(2, 0, 1, 3).reshape(width, -1, dim)
    rows = torch.bmm(by_row, offset_table(rel_h, height).transpose(1, 2))
    columns = torch.bmm(by_column, offset_table(rel_w, width).transpose(1, 2))
    rows = rows.view(height, -1, width, height).transpose(0, 1)
    columns = columns.view(width, -1, height, width).permute(1, 2, 0, 3)
    return (
        rows.reshape(batch, heads, tokens, height),
        columns.reshape(batch, heads, tokens, width),
    )


def offset_table(rel: Tensor, side: int) -> Tensor:
    """Vectors by (query index, key index): (side, side, D) from rel (2 side - 1, D)."""
    index = torch.arange(side, device=rel.device)
    return rel[index[:, None] - index[None, :] + side - 1]

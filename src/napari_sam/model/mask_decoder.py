"""The mask decoder: tokens first, masks when asked (Kirillov et al. 2023, appendix A).

The predicted IoU of a mask comes from the tokens alone. Most masks of a grid of prompts are
dropped by it, so ``MaskDecoder.forward`` stops there, and ``Decoded.logits`` paints only the
masks that somebody wants. Parameter names follow the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from .layers import Head
from .linear import linear
from .transformer import ImageSide, TwoWayTransformer


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of the prompt encoder and the mask decoder.

    Attributes
    ----------
    dim : int
        Channels of the embedding and of a token.
    depth, heads, hidden, inner : int
        Blocks of the transformer, attention heads, width of its feed-forward layers, and
        channels inside the attention between tokens and image.
    masks : int
        Mask tokens: the single-mask output and the ambiguity masks.
    iou_depth, iou_hidden : int
        Layers and width of the head that predicts the IoU.
    mask_channels : int
        Channels before the last layer of the mask prompt's branch.
    """

    dim: int = 256
    depth: int = 2
    heads: int = 8
    hidden: int = 2048
    inner: int = 128
    masks: int = 4
    iou_depth: int = 3
    iou_hidden: int = 256
    mask_channels: int = 16


class MaskDecoder(nn.Module):
    """Image and prompt tokens -> predicted IoUs, and masks on demand."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim = config.dim
        self.transformer = TwoWayTransformer(config.depth, dim, config.heads, config.hidden, config.inner)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(config.masks, dim)
        self.output_upscaling = Upscaling(dim)
        self.output_hypernetworks_mlps = nn.ModuleList(
            Head((dim, dim, dim, dim // 8)) for _ in range(config.masks)
        )
        hidden = (config.iou_hidden,) * (config.iou_depth - 1)
        self.iou_prediction_head = Head((dim, *hidden, config.masks))

    def forward(self, image: ImageSide, prompts: Tensor) -> Decoded:
        """Decode prompts (N, P, C) against an image, as far as the predicted IoU."""
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        outputs = outputs.expand(prompts.shape[0], -1, -1)
        inputs = torch.cat([outputs, prompts.to(outputs)], 1)
        parts = image.split(inputs)
        decoded = [self.transformer(tokens, part) for tokens, part in parts]
        tokens = torch.cat([tokens for tokens, _ in decoded])
        planes = [plane for _, keys in decoded for group in keys for plane in group]
        # In single precision whatever the rest is: numbers rounded to 1/256 would tie where masks compete.
        iou: Tensor = self.iou_prediction_head(tokens[:, 0].float())
        return Decoded(iou, tokens[:, 1 : 1 + iou.shape[1]], planes, self)

    def paint(self, tokens: Tensor, planes: Sequence[Tensor], rows: Tensor, columns: Tensor) -> Tensor:
        """Logits of chosen masks.

        Parameters
        ----------
        tokens : Tensor, (N, masks, C)
        planes : sequence of N Tensor, (g * g, C) each
        rows, columns : Tensor, (n,), integer
            Prompt and mask of each wanted output.

        Returns
        -------
        Tensor, (n, 4 g, 4 g), float32
        """
        grid = round(len(planes[0]) ** 0.5) if planes else 0
        out = torch.empty(len(rows), 4 * grid, 4 * grid, device=tokens.device)
        # One prompt after the other: its sub-pixels are many, and stay in the cache.
        for row in sorted(set(rows.tolist())):
            chosen = (rows == row).nonzero()[:, 0]
            weights = [self.weigh(tokens[row, column], column) for column in columns[chosen].tolist()]
            flat = linear(torch.stack(weights), self.output_upscaling(planes[row]))
            out[chosen] = shuffle_pixels(flat)
        return out

    def weigh(self, token: Tensor, column: int) -> Tensor:
        """Weights (C / 8,) of the sub-pixels' channels, from the token (C,) of a mask."""
        weights: Tensor = self.output_hypernetworks_mlps[column](token)
        return weights


class Upscaling(nn.Sequential):
    """Four times the resolution, an eighth of the channels.

    The outputs stay in the order (pixel, sub-pixel, sub-sub-pixel), row by row; finished masks,
    which have one channel, are brought into reading order by ``shuffle_pixels``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(
            Doubling(dim, dim // 4),
            nn.LayerNorm(dim // 4, eps=1e-6),
            nn.GELU(),
            Doubling(dim // 4, dim // 8),
            nn.GELU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map pixels x (M, C) to sub-pixels (16 * M, C / 8)."""
        double, norm, activate, double_again, _ = self
        out: Tensor = double_again(activate(norm(double(x))), gelu=True)
        return out


class Doubling(nn.ConvTranspose2d):
    """Twice the resolution: a transposed convolution whose stride is its kernel.

    It writes every output pixel once, so it is a matrix product per pixel.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=2, stride=2)

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:  # type: ignore[override]
        """Map pixels x (M, inputs) to sub-pixels (4 * M, outputs), then GELU where asked."""
        matrix = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat(4)
        return linear(x, matrix, bias, gelu=gelu).view(-1, self.out_channels)


@dataclass(frozen=True)
class Decoded:
    """Prompts decoded as far as their tokens.

    Attributes
    ----------
    iou : Tensor, (N, masks), float32
        Predicted IoU. Column 0 is the single-mask output, the others the ambiguity masks.
    tokens : Tensor, (N, masks, C)
        Mask tokens.
    planes : sequence of N Tensor, (g * g, C) each
        The image as each prompt sees it.
    decoder : MaskDecoder
        The decoder that can paint them.
    """

    iou: Tensor
    tokens: Tensor
    planes: Sequence[Tensor]
    decoder: MaskDecoder

    def logits(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Mask logits (n, S / 4, S / 4), float32, of the asked prompts and masks.

        Parameters
        ----------
        rows, columns : Tensor, (n,), integer
            Prompt (0 .. N - 1) and mask (column of ``iou``) of each output. A pixel belongs to
            the mask where its logit is above 0.
        """
        return self.decoder.paint(self.tokens, self.planes, rows, columns)


def shuffle_pixels(flat: Tensor) -> Tensor:
    """Bring sub-pixels (n, g * g * 2 * 2 * 2 * 2) into reading order: (n, 4 g, 4 g), float32."""
    grid = round((flat.shape[1] // 16) ** 0.5)
    ordered = flat.float().index_select(1, reading_order(grid, flat.device))
    return ordered.view(-1, 4 * grid, 4 * grid)


@cache
def reading_order(grid: int, device: torch.device) -> Tensor:
    """Index of each of 4 g * 4 g pixels among sub-pixels ordered as (y, x, y', x', y'', x'')."""
    with torch.inference_mode(False):  # so that training may use it as well
        index = torch.arange(16 * grid * grid, device=device)
        parts = index.view(grid, grid, 2, 2, 2, 2).permute(0, 2, 4, 1, 3, 5)
        return parts.reshape(-1)

"""The mask decoder: tokens first, masks when asked (Kirillov et al. 2023, appendix A).

The predicted IoU of a mask comes from the tokens alone. Most masks of a grid of prompts are
dropped by it, so ``MaskDecoder.forward`` stops there, and ``Decoded.logits`` paints only the
masks that somebody wants. Parameter names follow the official checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Head
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
        # Pixels are rows here, so the normalisation over channels is an ordinary one.
        self.output_upscaling = nn.Sequential(
            Doubling(dim, dim // 4),
            nn.LayerNorm(dim // 4, eps=1e-6),
            nn.GELU(),
            Doubling(dim // 4, dim // 8),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Head((dim, dim, dim, dim // 8)) for _ in range(config.masks)
        )
        hidden = (config.iou_hidden,) * (config.iou_depth - 1)
        self.iou_prediction_head = Head((dim, *hidden, config.masks))

    def forward(self, image: ImageSide, prompts: Tensor) -> Decoded:
        """Decode prompts (N, P, C) against an image, as far as the predicted IoU."""
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])
        outputs = outputs.expand(prompts.shape[0], -1, -1)
        tokens, keys = self.transformer(torch.cat([outputs, prompts.to(outputs)], 1), image)
        iou = self.iou_prediction_head(tokens[:, 0]).float()
        return Decoded(iou, tokens[:, 1 : 1 + iou.shape[1]], keys, self)

    def paint(self, tokens: Tensor, keys: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Logits of chosen masks.

        Parameters
        ----------
        tokens : Tensor, (N, masks, C)
        keys : Tensor, (N, g * g, C)
        rows, columns : Tensor, (n,), integer
            Prompt and mask of each wanted output.

        Returns
        -------
        Tensor, (n, 4 g, 4 g), float32
        """
        wanted, row_of = torch.unique(rows, return_inverse=True)
        upscaled = self.output_upscaling(keys[wanted])
        weights = torch.empty(len(rows), upscaled.shape[2], dtype=upscaled.dtype, device=upscaled.device)
        for column in set(columns.tolist()):
            chosen = columns == column
            head = self.output_hypernetworks_mlps[column]
            weights[chosen] = head(tokens[rows[chosen], column])
        flat = torch.bmm(upscaled[row_of], weights[:, :, None])
        return shuffle_pixels(flat.squeeze(2).float())


class Doubling(nn.ConvTranspose2d):
    """Twice the resolution, computed as a matrix product per pixel.

    A transposed convolution whose stride is its kernel writes every output pixel once. The
    outputs stay in the order (pixel, sub-pixel), row by row; ``shuffle_pixels`` brings the
    finished masks, which have one channel, into reading order.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Map x (N, pixels, inputs) to (N, 4 * pixels, outputs)."""
        count, pixels, _ = x.shape
        matrix = self.weight.permute(2, 3, 1, 0).flatten(0, 2)
        bias = None if self.bias is None else self.bias.repeat(4)
        return F.linear(x, matrix, bias).view(count, 4 * pixels, self.out_channels)


@dataclass(frozen=True)
class Decoded:
    """Prompts decoded as far as their tokens.

    Attributes
    ----------
    iou : Tensor, (N, masks), float32
        Predicted IoU. Column 0 is the single-mask output, the others the ambiguity masks.
    tokens : Tensor, (N, masks, C)
        Mask tokens.
    keys : Tensor, (N, g * g, C)
        The image as each prompt sees it.
    decoder : MaskDecoder
        The decoder that can paint them.
    """

    iou: Tensor
    tokens: Tensor
    keys: Tensor
    decoder: MaskDecoder

    def logits(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Mask logits (n, S / 4, S / 4), float32, of the asked prompts and masks.

        Parameters
        ----------
        rows, columns : Tensor, (n,), integer
            Prompt (0 .. N - 1) and mask (column of ``iou``) of each output. A pixel belongs to
            the mask where its logit is above 0.
        """
        return self.decoder.paint(self.tokens, self.keys, rows, columns)


def shuffle_pixels(flat: Tensor) -> Tensor:
    """Order (n, g * g * 2 * 2 * 2 * 2) sub-pixels into planes (n, 4 g, 4 g)."""
    count = flat.shape[0]
    grid = round((flat.shape[1] // 16) ** 0.5)
    parts = flat.view(count, grid, grid, 2, 2, 2, 2)
    return parts.permute(0, 1, 3, 5, 2, 4, 6).reshape(count, 4 * grid, 4 * grid)

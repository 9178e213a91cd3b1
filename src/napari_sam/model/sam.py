"""The Segment Anything Model: image encoder, prompt encoder and mask decoder.

Kirillov et al. 2023, "Segment Anything". Parameter names follow the official checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from .image_attention import Pixels
from .mask_decoder import Decoded, DecoderConfig, MaskDecoder
from .prompt_encoder import PromptEncoder
from .tiny_vit import TinyVitConfig, TinyVitEncoder
from .transformer import ImageSide
from .vit import VitConfig, VitEncoder

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""Mean of R, G and B, 0 to 255, subtracted before encoding."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""Deviation of R, G and B, 0 to 255, by which the image is divided before encoding."""


@dataclass(frozen=True)
class DecoderState:
    """An image, made ready for any number of prompts.

    Attributes
    ----------
    embedding : Tensor, (M, C)
        The image embedding's M = g * g pixels in reading order.
    image : ImageSide
        What the transformer precomputed for prompts without a mask.
    """

    embedding: Tensor
    image: ImageSide


class Sam(nn.Module):
    """Segment Anything: encode an image once, then decode prompts against it.

    Parameters
    ----------
    encoder : VitConfig or TinyVitConfig
        Sizes of the image encoder.
    decoder : DecoderConfig
        Sizes of the prompt encoder and the mask decoder.
    """

    def __init__(self, encoder: VitConfig | TinyVitConfig, decoder: DecoderConfig | None = None) -> None:
        super().__init__()
        decoder = decoder or DecoderConfig()
        self.image_size = encoder.image_size
        self.image_encoder: nn.Module = (
            VitEncoder(encoder) if isinstance(encoder, VitConfig) else TinyVitEncoder(encoder)
        )
        self.prompt_encoder = PromptEncoder(
            decoder.dim, encoder.grid, encoder.image_size, decoder.mask_channels
        )
        self.mask_decoder = MaskDecoder(decoder)

    def encode(self, image: Tensor) -> Tensor:
        """Embed images.

        Parameters
        ----------
        image : Tensor, (B, 3, S, S), float
            RGB with ``PIXEL_MEAN`` and ``PIXEL_STD`` applied, longest side S, padded with
            zeros at the bottom and the right.

        Returns
        -------
        Tensor, (B, C, S / 16, S / 16), float32
        """
        like = next(self.image_encoder.parameters())
        embedding: Tensor = self.image_encoder(image.to(like))
        return embedding.float().contiguous()

    def prepare(self, embedding: Tensor, positions: Tensor | None = None) -> DecoderState:
        """Compute what every prompt on one image shares.

        Parameters
        ----------
        embedding : Tensor, (1, C, g, g) or (C, g, g)
        positions : Tensor, (M, C), optional
            Those of another image's state, which are the same, to hold them in memory once.

        Raises
        ------
        ValueError
            If the embedding is not one image's, of this model's size.
        """
        grid = self.prompt_encoder.grid
        channels = self.prompt_encoder.no_mask.shape[0]
        if embedding.numel() != channels * grid * grid:
            raise ValueError(
                f"Expected the embedding of one image, of shape (1, {channels}, {grid}, {grid}), "
                f"but found {tuple(embedding.shape)}. Embed the image again with this model."
            )
        like = self.mask_decoder.iou_token.weight
        pixels = embedding.reshape(channels, -1).t().to(like).contiguous()
        keys = pixels + self.prompt_encoder.no_mask.to(like)
        if positions is None:
            positions = self.prompt_encoder.positions().to(like)
        return DecoderState(pixels, self.mask_decoder.transformer.prepare(keys, positions))

    def decode(
        self, state: DecoderState, points: Tensor, labels: Tensor, mask: Tensor | None = None
    ) -> Decoded:
        """Decode N prompts, each of P tokens and at most one mask.

        Parameters
        ----------
        state : DecoderState
            From ``prepare``.
        points : Tensor, (N, P, 2)
            (x, y) in pixels of the model's input.
        labels : Tensor, (N, P), integer
            1 foreground, 0 background, 2 and 3 the first and last corner of a box, -1 padding.
            The paper's model expects one padding token behind points without a box
            (``pad_prompts``), and none with a box or with a mask alone.
        mask : Tensor, (N, 1, S / 4, S / 4), optional
            Logits of a previous mask.

        Returns
        -------
        Decoded
            Predicted IoU (N, 4) at once, mask logits on demand.
        """
        prompts = self.prompt_encoder.sparse(points, labels)
        image = state.image
        if mask is not None:
            dense = self.prompt_encoder.dense(mask).flatten(2).transpose(1, 2)
            keys = state.embedding + dense.to(state.embedding).contiguous()
            image = ImageSide(Pixels.place(keys, image.positions), image.positions)
        decoded: Decoded = self.mask_decoder(image, prompts)
        return decoded

"""Make a model quick on a device: precision, packed weights, fused normalisations."""

from __future__ import annotations

import torch
from torch import nn

from .conv import ConvNorm
from .linear import Linear
from .precision import choose_dtype, keep_heap
from .sam import Sam


def optimise(model: Sam, device: torch.device | str = "cpu", precision: str = "auto") -> Sam:
    """Prepare a model for inference, in place.

    Its weights change their type and layout, so it can no longer be trained or saved. The
    answers are the same in fp32 up to rounding; bf16 has eight bits of precision.

    Parameters
    ----------
    model : Sam
        As ``load_checkpoint`` or ``build`` returns it.
    device : torch.device or str
    precision : {"auto", "fp32", "bf16"}
        Arithmetic of encoder and decoder; "auto" takes bf16 where the device is built for it.

    Returns
    -------
    Sam
        The same object.
    """
    device = torch.device(device)
    dtype = choose_dtype(precision, device)
    model.eval().requires_grad_(False)
    fold_norms(model)
    model.to(device)
    # The prompt encoder stays in single precision: its angles need the bits.
    model.image_encoder.to(dtype)
    model.mask_decoder.to(dtype)
    model.mask_decoder.iou_prediction_head.float()
    if device.type == "cpu":
        keep_heap()
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.contiguous(memory_format=torch.channels_last)
            elif isinstance(layer, Linear):
                layer.pack()
    return model


def fold_norms(model: Sam) -> None:
    """Fold each batch normalisation into the convolution before it."""
    for layer in model.modules():
        if isinstance(layer, ConvNorm):
            layer.fold()

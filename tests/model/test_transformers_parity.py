"""Our modules against ``transformers.SamModel``, with the same random weights."""

from __future__ import annotations

import pytest
import torch
from tests.model.small import DECODER, VIT, image, relative_error, small_sam
from torch import Tensor, nn

from napari_sam.model import Sam, pad_prompts

RENAMED = {
    "image_encoder.patch_embed.proj": "vision_encoder.patch_embed.projection",
    "image_encoder.blocks": "vision_encoder.layers",
    "image_encoder.neck.0": "vision_encoder.neck.conv1",
    "image_encoder.neck.1": "vision_encoder.neck.layer_norm1",
    "image_encoder.neck.2": "vision_encoder.neck.conv2",
    "image_encoder.neck.3": "vision_encoder.neck.layer_norm2",
    "image_encoder": "vision_encoder",
    ".norm_final_attn": ".layer_norm_final_attn",
    ".norm": ".layer_norm",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
        "shared_image_embedding.positional_embedding"
    ),
    "prompt_encoder.mask_downscaling.0": "prompt_encoder.mask_embed.conv1",
    "prompt_encoder.mask_downscaling.1": "prompt_encoder.mask_embed.layer_norm1",
    "prompt_encoder.mask_downscaling.3": "prompt_encoder.mask_embed.conv2",
    "prompt_encoder.mask_downscaling.4": "prompt_encoder.mask_embed.layer_norm2",
    "prompt_encoder.mask_downscaling.6": "prompt_encoder.mask_embed.conv3",
    "prompt_encoder.point_embeddings": "prompt_encoder.point_embed",
    "mask_decoder.output_upscaling.0": "mask_decoder.upscale_conv1",
    "mask_decoder.output_upscaling.1": "mask_decoder.upscale_layer_norm",
    "mask_decoder.output_upscaling.3": "mask_decoder.upscale_conv2",
    ".layers.0.weight": ".proj_in.weight",
    ".layers.0.bias": ".proj_in.bias",
    ".layers.1.weight": ".layers.0.weight",
    ".layers.1.bias": ".layers.0.bias",
    ".layers.2.weight": ".proj_out.weight",
    ".layers.2.bias": ".proj_out.bias",
}


def renamed(name: str) -> str:
    for ours, theirs in RENAMED.items():
        if ours in name:
            name = name.replace(ours, theirs)
            # The rules for a head's layers are a cycle; one of them is enough.
            if ours.startswith(".layers."):
                break
    return name


def transformers_sam(ours: Sam) -> nn.Module:
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    vision = SamVisionConfig(
        hidden_size=VIT.dim,
        output_channels=VIT.out_channels,
        num_hidden_layers=VIT.depth,
        num_attention_heads=VIT.heads,
        image_size=VIT.image_size,
        window_size=VIT.window,
        global_attn_indexes=list(VIT.global_blocks),
        num_pos_feats=DECODER.dim // 2,
    )
    prompts = SamPromptEncoderConfig(
        hidden_size=DECODER.dim,
        image_size=VIT.image_size,
        mask_input_channels=DECODER.mask_channels,
    )
    decoder = SamMaskDecoderConfig(
        hidden_size=DECODER.dim,
        mlp_dim=DECODER.hidden,
        iou_head_hidden_dim=DECODER.iou_hidden,
        # The official weights were trained with this one; the package's default differs.
        layer_norm_eps=1e-5,
    )
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    theirs = SamModel(config).eval()
    state = {renamed(name): value for name, value in ours.state_dict().items()}
    shared = state["shared_image_embedding.positional_embedding"]
    state["prompt_encoder.shared_embedding.positional_embedding"] = shared
    theirs.load_state_dict(state, strict=True)
    return theirs.requires_grad_(False)


@pytest.fixture(scope="module")
def models() -> tuple[Sam, nn.Module]:
    pytest.importorskip("transformers")
    ours = small_sam(seed=11)
    return ours, transformers_sam(ours)


def test_embedding(models: tuple[Sam, nn.Module]) -> None:
    ours, theirs = models
    pixels = image(VIT.image_size, batch=2)
    expected = theirs.get_image_embeddings(pixels)
    assert relative_error(ours.encode(pixels), expected) <= 1e-5


@pytest.mark.parametrize("mask", [False, True], ids=["no mask", "mask"])
@pytest.mark.parametrize("box", [False, True], ids=["no box", "box"])
def test_prompts(models: tuple[Sam, nn.Module], box: bool, mask: bool) -> None:
    ours, theirs = models
    generator = torch.Generator().manual_seed(2)
    embedding = ours.encode(image(VIT.image_size))
    xy = torch.rand(3, 2, 2, generator=generator) * VIT.image_size
    signs = torch.tensor([[1, 0], [1, 1], [0, 1]])
    boxes = torch.tensor([[10.0, 20.0, 60.0, 90.0]]).expand(3, -1) + torch.arange(3)[:, None]
    # One mask for all prompts is all that this package's interface accepts.
    logits: Tensor | None = torch.randn(1, 1, *2 * [4 * VIT.grid], generator=generator)

    expected = theirs(
        image_embeddings=embedding,
        input_points=xy[None],
        input_labels=signs[None],
        input_boxes=boxes[None] if box else None,
        input_masks=logits if mask else None,
        multimask_output=True,
    )
    if box:
        points = torch.cat([xy, boxes.view(-1, 2, 2)], dim=1)
        labels = torch.cat([signs, torch.tensor([[2, 3]]).expand(3, -1)], dim=1)
    else:
        points, labels = pad_prompts(xy, signs)
    prompt = logits.expand(3, -1, -1, -1) if mask else None
    decoded = ours.decode(ours.prepare(embedding), points, labels, prompt)
    rows, columns = torch.cartesian_prod(torch.arange(3), torch.arange(1, 4)).T

    found = decoded.logits(rows, columns).view_as(expected.pred_masks[0])
    assert relative_error(found, expected.pred_masks[0]) <= 1e-5
    assert relative_error(decoded.iou[:, 1:], expected.iou_scores[0]) <= 1e-5

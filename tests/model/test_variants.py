"""Architectures read off state dicts, and the published sizes."""

from __future__ import annotations

import pytest
import torch
from tests.model.small import DECODER, TINY, VIT, image, small_sam
from tests.reference import segment_anything

from napari_sam.model import VARIANTS, Sam, Variant, build, detect_variant

# Parameters of the whole model; MobileSAM's encoder alone has 6,065,532.
PARAMETERS = {"vit_b": 93_735_472, "vit_l": 312_342_832, "vit_h": 641_090_608}


def on_meta(name: str) -> Sam:
    with torch.device("meta"):
        return build(name)


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_sizes_have_the_reference_keys_and_shapes(name: str) -> None:
    with torch.device("meta"):
        reference = segment_anything().sam_model_registry[name]()
    expected = {key: value.shape for key, value in reference.state_dict().items()}
    model = on_meta(name)
    assert {key: value.shape for key, value in model.state_dict().items()} == expected
    assert sum(value.numel() for value in model.parameters()) == PARAMETERS[name]


def test_tiny_vit_has_the_published_keys_and_size() -> None:
    encoder = on_meta("vit_t").image_encoder
    state = encoder.state_dict()
    assert len(state) == 302
    assert sum(value.numel() for value in encoder.parameters()) == 6_065_532
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes["patch_embed.seq.0.c.weight"] == (32, 3, 3, 3)
    assert shapes["patch_embed.seq.2.bn.running_mean"] == (64,)
    assert shapes["layers.0.blocks.1.conv2.c.weight"] == (256, 1, 3, 3)
    assert shapes["layers.0.downsample.conv2.c.weight"] == (128, 1, 3, 3)
    assert shapes["layers.1.blocks.0.attn.attention_biases"] == (4, 49)
    assert shapes["layers.2.blocks.5.attn.attention_biases"] == (5, 196)
    assert shapes["layers.3.blocks.1.attn.attention_biases"] == (10, 49)
    assert shapes["layers.2.downsample.conv3.bn.weight"] == (320,)
    assert shapes["layers.3.blocks.0.mlp.fc1.weight"] == (1280, 320)
    assert shapes["layers.3.blocks.0.local_conv.c.weight"] == (320, 1, 3, 3)
    assert shapes["norm_head.weight"] == (320,)
    assert shapes["head.weight"] == (1000, 320)
    assert shapes["neck.2.weight"] == (256, 256, 3, 3)
    assert not any(key.startswith("layers.3.downsample") for key in state)


@pytest.mark.parametrize("name", VARIANTS)
def test_published_variants_are_detected(name: str) -> None:
    assert detect_variant(on_meta(name).state_dict()) == VARIANTS[name]


@pytest.mark.parametrize("encoder", [VIT, TINY], ids=["vit", "tiny_vit"])
def test_any_size_is_read_off_the_tensors(encoder: object) -> None:
    model = small_sam(encoder)
    found = detect_variant(model.state_dict())
    assert found.name == "custom"
    assert found.decoder == DECODER
    build(found).load_state_dict(model.state_dict(), strict=True)
    if encoder is VIT:
        assert found.encoder == VIT


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected the weights of a SAM .*patch_embed"):
        detect_variant({"conv.weight": torch.zeros(3)})
    state = small_sam().state_dict()
    encoder_only = {key: value for key, value in state.items() if key.startswith("image_encoder")}
    with pytest.raises(ValueError, match="mask_decoder"):
        detect_variant(encoder_only)


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected one of the models vit_t.*found 'vit_x'"):
        build("vit_x")


def test_variant_is_a_value() -> None:
    assert Variant("custom", VIT, DECODER) == Variant("custom", VIT, DECODER)


def test_tiny_vit_encodes_to_the_grid_of_its_decoder() -> None:
    model = small_sam(TINY)
    embedding = model.encode(image(TINY.image_size, batch=2))
    assert embedding.shape == (2, 128, TINY.grid, TINY.grid)
    model.prepare(embedding[:1])

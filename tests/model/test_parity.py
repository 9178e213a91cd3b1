"""Our modules against the reference packages, with the same random weights."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from tests.model.small import DECODER, VIT, image, randomise, relative_error, small_sam
from tests.reference import segment_anything
from torch import Tensor, nn

from napari_sam.model import Sam, VitConfig, build, pad_prompts

TOLERANCE = 1e-5


def reference_sam(config: VitConfig) -> nn.Module:
    """The reference package's model in the sizes of a small configuration."""
    modeling = segment_anything().modeling
    grid = config.grid
    return modeling.Sam(
        image_encoder=modeling.ImageEncoderViT(
            img_size=config.image_size,
            patch_size=config.patch,
            embed_dim=config.dim,
            depth=config.depth,
            num_heads=config.heads,
            out_chans=config.out_channels,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=config.window,
            global_attn_indexes=config.global_blocks,
        ),
        prompt_encoder=modeling.PromptEncoder(
            embed_dim=DECODER.dim,
            image_embedding_size=(grid, grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=DECODER.mask_channels,
        ),
        mask_decoder=modeling.MaskDecoder(
            transformer_dim=DECODER.dim,
            transformer=modeling.TwoWayTransformer(
                depth=DECODER.depth,
                embedding_dim=DECODER.dim,
                num_heads=DECODER.heads,
                mlp_dim=DECODER.hidden,
            ),
            iou_head_hidden_dim=DECODER.iou_hidden,
        ),
    )


@pytest.fixture(scope="module")
def models() -> tuple[Sam, nn.Module]:
    ours = small_sam()
    theirs = reference_sam(VIT)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def embedding(models: tuple[Sam, nn.Module]) -> Tensor:
    return models[0].encode(image(VIT.image_size))


@pytest.mark.parametrize(
    "config",
    [
        VIT,
        VitConfig(32, 2, 2, (0,), image_size=64, window=14, out_channels=128),
        VitConfig(32, 2, 4, (1,), image_size=128, window=4, out_channels=128),
        VitConfig(40, 2, 2, (), image_size=96, patch=8, window=5, out_channels=128),
    ],
    ids=["padded windows", "window beyond the plane", "whole windows", "only windows"],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_image_encoder(config: VitConfig, batch: int) -> None:
    ours = small_sam(config, seed=3)
    theirs = reference_sam(config).eval()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    pixels = image(config.image_size, batch=batch)
    with torch.no_grad():
        expected = theirs.image_encoder(pixels)
    assert relative_error(ours.encode(pixels), expected) <= TOLERANCE


def random_points(prompts: int, count: int, seed: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(prompts, count, 2, generator=generator) * VIT.image_size
    return points, torch.randint(0, 2, (prompts, count), generator=generator)


def random_boxes(prompts: int, seed: int = 6) -> Tensor:
    corners = torch.rand(prompts, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1) * VIT.image_size


def random_masks(prompts: int, seed: int = 7) -> Tensor:
    shape = (prompts, 1, 4 * VIT.grid, 4 * VIT.grid)
    return 5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def our_prompt(
    points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, prompts: int
) -> tuple[Tensor, Tensor]:
    """The tokens that the reference builds inside, in our explicit form."""
    xy, labels = points or (torch.zeros(prompts, 0, 2), torch.zeros(prompts, 0, dtype=torch.long))
    if boxes is not None:
        corners = torch.tensor([[2, 3]]).expand(prompts, -1)
        return torch.cat([xy, boxes.view(-1, 2, 2)], 1), torch.cat([labels, corners], 1)
    return pad_prompts(xy, labels) if points is not None else (xy, labels)


MIXTURES = {
    "one point": (1, False, False),
    "three points": (3, False, False),
    "many points": (12, False, False),
    "box": (0, True, False),
    "points and box": (2, True, False),
    "mask": (0, False, True),
    "point and mask": (1, False, True),
    "many points and mask": (12, False, True),
    "points, box and mask": (2, True, True),
}


@pytest.mark.parametrize("prompts", [1, 4])
@pytest.mark.parametrize("mixture", MIXTURES.values(), ids=MIXTURES.keys())
def test_decoder(
    models: tuple[Sam, nn.Module],
    embedding: Tensor,
    mixture: tuple[int, bool, bool],
    prompts: int,
) -> None:
    ours, theirs = models
    count, with_box, with_mask = mixture
    points = random_points(prompts, count) if count else None
    boxes = random_boxes(prompts) if with_box else None
    masks = random_masks(prompts) if with_mask else None

    sparse, dense = theirs.prompt_encoder(points=points, boxes=boxes, masks=masks)
    arguments = (embedding, theirs.prompt_encoder.get_dense_pe(), sparse, dense)
    several = theirs.mask_decoder(*arguments, multimask_output=True)
    single = theirs.mask_decoder(*arguments, multimask_output=False)
    expected_logits = torch.cat([single[0], several[0]], dim=1)
    expected_iou = torch.cat([single[1], several[1]], dim=1)

    state = ours.prepare(embedding)
    decoded = ours.decode(state, *our_prompt(points, boxes, prompts), mask=masks)
    rows, columns = torch.cartesian_prod(torch.arange(prompts), torch.arange(4)).T
    logits = decoded.logits(rows, columns).view_as(expected_logits)

    assert relative_error(decoded.iou, expected_iou) <= TOLERANCE
    assert relative_error(logits, expected_logits) <= TOLERANCE


def test_masks_are_painted_only_where_asked(models: tuple[Sam, nn.Module], embedding: Tensor) -> None:
    ours, _ = models
    points, labels = pad_prompts(*random_points(5, 1))
    decoded = ours.decode(ours.prepare(embedding), points, labels)
    everything = decoded.logits(*torch.cartesian_prod(torch.arange(5), torch.arange(4)).T)
    rows, columns = torch.tensor([4, 0, 4, 2]), torch.tensor([1, 3, 0, 1])
    chosen = decoded.logits(rows, columns)
    assert chosen.shape == (4, 4 * VIT.grid, 4 * VIT.grid)
    torch.testing.assert_close(
        chosen, everything.view(5, 4, *chosen.shape[1:])[rows, columns], rtol=1e-4, atol=1e-5
    )
    assert len(decoded.logits(rows[:0], columns[:0])) == 0


def test_prepare_refuses_the_embedding_of_another_model(models: tuple[Sam, nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"Expected the embedding of one image.*found \(1, 3"):
        models[0].prepare(torch.zeros(1, 3, 8, 8))


def test_decoder_can_be_trained(models: tuple[Sam, nn.Module]) -> None:
    model = small_sam().requires_grad_(True)
    state = model.prepare(model.encode(image(VIT.image_size)))
    decoded = model.decode(state, *pad_prompts(*random_points(2, 1)), mask=random_masks(2))
    rows, columns = torch.cartesian_prod(torch.arange(2), torch.arange(4)).T
    (decoded.logits(rows, columns).square().mean() + decoded.iou.square().mean()).backward()
    unused = {"not_a_point_embed", "no_mask_embed", "point_embeddings"}
    without = {name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()}
    assert {name for name in without if not any(part in name for part in unused)} <= {
        # Softmax drops what a key bias adds to a row of logits.
        name
        for name in dict(model.named_parameters())
        if name.endswith("k_proj.bias")
    }


@pytest.mark.slow
def test_vit_b_at_full_size() -> None:
    """All its parameters, and its first blocks: two attend within windows, one over the plane."""
    ours = randomise(build("vit_b")).requires_grad_(False)
    theirs = segment_anything().sam_model_registry["vit_b"]()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    for model in (ours, theirs):
        model.image_encoder.blocks = model.image_encoder.blocks[:3]
    assert [block.window for block in ours.image_encoder.blocks] == [14, 14, 0]
    pixels = image(1024)
    with torch.no_grad():
        expected = theirs.image_encoder(pixels)
    assert relative_error(ours.encode(pixels), expected) <= TOLERANCE

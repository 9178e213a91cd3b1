from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.fakes import DiscPredictor

from napari_sam.export import ExportError
from napari_sam.recipe import Recipe, RecipeError, load_recipe, save_recipe

TUNED = Recipe(
    model="vit_b_lm",
    diameter=32.5,
    channels=(2, None, 0),
    contrast=((10.0, 900.0), (0.0, 1.0), (5.0, 80.0)),
    gamma=0.7,
    link=False,
    automatic={"pred_iou_thresh": 0.6, "min_area": 20},
)


@pytest.mark.parametrize("recipe", [TUNED, Recipe()])
def test_a_recipe_comes_back_from_its_file(recipe, tmp_path):
    save_recipe(recipe, tmp_path / "settings.yaml")
    assert load_recipe(tmp_path / "settings.yaml") == recipe


def test_only_what_was_changed_is_in_the_file(tmp_path):
    save_recipe(Recipe(diameter=30.0), tmp_path / "settings.yaml")
    assert (tmp_path / "settings.yaml").read_text() == "model: built-in\ndiameter: 30.0\n"
    (tmp_path / "empty.yaml").write_text("")
    assert load_recipe(tmp_path / "empty.yaml") == Recipe()


def test_the_contrast_may_be_a_word(tmp_path):
    for text, expected in (
        ("contrast: plane", "plane"),
        ("contrast: stack", "stack"),
        ("contrast:", "stack"),
    ):
        (tmp_path / "settings.yaml").write_text(text)
        assert load_recipe(tmp_path / "settings.yaml").contrast == expected


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    save_recipe(TUNED, tmp_path / "settings.yaml")
    monkeypatch.setattr(
        Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(ExportError, match="No space left"):
        save_recipe(Recipe(), tmp_path / "settings.yaml")
    monkeypatch.undo()
    assert load_recipe(tmp_path / "settings.yaml") == TUNED
    assert [p.name for p in tmp_path.iterdir()] == ["settings.yaml"]


def test_settings_are_the_models_own_with_the_changes():
    predictor = DiscPredictor()
    own = Recipe().settings(predictor)
    changed = TUNED.settings(predictor)
    assert (changed.pred_iou_thresh, changed.min_area) == (0.6, 20)
    assert changed.stability_score_thresh == own.stability_score_thresh


def test_the_digest_changes_with_every_setting():
    from dataclasses import replace

    digests = {
        r.digest()
        for r in (
            TUNED,
            replace(TUNED, diameter=33.0),
            replace(TUNED, model="vit_l_lm"),
            replace(TUNED, channels=None),
            replace(TUNED, contrast="plane"),
            replace(TUNED, gamma=1.0),
            replace(TUNED, link=True),
            replace(TUNED, automatic={"min_area": 20}),
        )
    }
    assert len(digests) == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle: vit_b", "out of model, diameter, .*, found modle"),
        ("- 1\n- 2", "Expected lines such as"),
        ("model: [", "cannot be read"),
        ("diameter: wide", "a number for diameter"),
        ("contrast: [1, 2, 3]", "pairs of black and white"),
        ("contrast: [[4000, 100]]", "whose black is below its white"),
        ("contrast: [[100, .nan]]", "a number for contrast, found nan"),
        ("model: 5", "a name or a file as model, found 5"),
        ("link: 'false'", "true or false as link"),
        ("channels: [0, 1]", "one or three channels"),
        ("channels: [null, null, null]", "one or three channels"),
        ("contrast: bright", "the contrast stack, plane, range or numbers"),
        ("gamma: 0", "a gamma above 0, found 0"),
        ("diameter: 0.01", "a diameter of 1 pixel or more"),
        ("automatic: 3", "names and values under 'automatic'"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_words(text, words, tmp_path):
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(RecipeError, match=words):
        load_recipe(tmp_path / "settings.yaml")


def test_one_window_and_one_channel_may_be_written_shortly(tmp_path):
    (tmp_path / "settings.yaml").write_text("contrast: [100, 4000]\nchannels: [1]")
    recipe = load_recipe(tmp_path / "settings.yaml")
    assert (recipe.contrast, recipe.channels) == (((100.0, 4000.0),), (1, 1, 1))


@pytest.mark.parametrize(
    "setting",
    [
        {"pred_iou_thresh": "a"},
        {"pred_iou_thresh": 2},
        {"points_per_side": 3.5},
        {"points_per_side": "8"},
        {"points_per_side": float("inf")},
        {"box_nms_thresh": 1.5},
        {"slack": float("nan")},
        {"adaptive": "yes"},
    ],
)
def test_settings_that_are_no_numbers_or_out_of_range_are_refused(setting):
    with pytest.raises(RecipeError, match=f"{next(iter(setting))} must be"):
        Recipe(automatic=setting).settings(DiscPredictor())


def test_whole_numbers_may_be_written_as_others():
    settings = Recipe(automatic={"points_per_side": 8.0, "max_area": float("inf")}).settings(DiscPredictor())
    assert repr(settings.points_per_side) == "8"


def test_impossible_settings_are_refused_in_words(tmp_path):
    with pytest.raises(RecipeError, match="found pred_iou"):
        Recipe(automatic={"pred_iou": 1}).settings(DiscPredictor())
    with pytest.raises(RecipeError, match="cannot be used"):
        Recipe(automatic={"min_area": -1}).settings(DiscPredictor())
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.yaml")


def test_numbers_of_numpy_are_written_as_what_they_are(tmp_path):
    found = Recipe(
        diameter=np.float32(3.5),
        channels=(np.int64(2), None, np.uint8(0)),
        contrast=np.array([[1.5, 20.0]]),
        gamma=np.float64(0.5),
        link=np.bool_(False),
        automatic={"pred_iou_thresh": np.float32(0.5), "min_area": np.int32(3)},
    )
    plain = Recipe(
        diameter=3.5,
        channels=(2, None, 0),
        contrast=((1.5, 20.0),),
        gamma=0.5,
        link=False,
        automatic={"pred_iou_thresh": 0.5, "min_area": 3},
    )
    save_recipe(found, tmp_path / "settings.yaml")
    assert load_recipe(tmp_path / "settings.yaml") == plain
    assert found.digest() == plain.digest()

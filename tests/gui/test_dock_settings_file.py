"""What is tuned in the dock runs from a terminal, with the same labels."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
from napari.layers._source import Source
from tests.fakes import DiscPredictor
from tests.gui.dock import DISCS, disc_picture
from typer.testing import CliRunner

import napari_sam.predictor
from napari_sam import cli
from napari_sam._napari.panels import settings_panel
from napari_sam._napari.settings_file import stack_window
from napari_sam.files import open_image
from napari_sam.folder import stack_contrast
from napari_sam.image import percentile_contrast
from napari_sam.recipe import Recipe, load_recipe, save_recipe

pytestmark = pytest.mark.gui


def segment_with(path, image, tmp_path, monkeypatch):
    """Labels of the command line with a settings file."""
    monkeypatch.setattr(napari_sam.predictor, "load_model", lambda name, **_: DiscPredictor())
    tifffile.imwrite(
        tmp_path / "image.tif", image, photometric="minisblack", metadata={"axes": "CYX"[-image.ndim :]}
    )
    words = ["segment", tmp_path / "image.tif", "-o", tmp_path / "labels.tif", "--settings", path]
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return tifffile.imread(tmp_path / "labels.tif")


def save(desk, path, monkeypatch):
    """Press the button and type the name of a file."""
    desk.press_button(desk.dock.sections["Settings file"].button)
    monkeypatch.setattr(settings_panel.QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    desk.press_button(desk.dock.many.settings_panel.save)
    assert "Saved to" in desk.dock.many.settings_panel.text.text(), desk.errors


def segment_all(desk):
    desk.dock.segment_everything()
    desk.until(lambda: desk.session.sifted is not None and not desk.session.running)


def accepted(desk):
    desk.press_button(desk.dock.everything_panel.accept)
    return np.asarray(desk.target.data)


def test_the_labels_of_the_command_line_are_those_of_the_dock(open_desk, tmp_path, monkeypatch):
    image = disc_picture().astype(np.uint16) * 10
    image[40:56, 140] = 100  # one disc is dimmer than the contrast lets through
    desk = open_desk(image=image).wait_ready()
    layer = desk.dock.bench.image
    layer.contrast_limits = (300, 2400)
    layer.gamma = 1.3
    desk.dock.image_panel.diameter.setValue(40)
    desk.until(lambda: desk.session.status.phase == "ready" and not desk.session.running)
    segment_all(desk)
    panel = desk.dock.everything_panel
    panel.area.setValue((500, 980))
    panel.predicted_iou.setValue(620)
    desk.until(lambda: not desk.session.running)
    save(desk, tmp_path / "tuned.yaml", monkeypatch)
    mine = accepted(desk)

    recipe = load_recipe(tmp_path / "tuned.yaml")
    assert recipe.model == "built-in"
    assert recipe.contrast == ((300.0, 2400.0),)
    assert (recipe.gamma, recipe.diameter) == (1.3, None), "this model does not use a diameter"
    assert recipe.automatic["pred_iou_thresh"] == 0.62
    assert 0 < recipe.automatic["min_area"] < recipe.automatic["max_area"]
    theirs = segment_with(tmp_path / "tuned.yaml", image, tmp_path, monkeypatch)
    np.testing.assert_array_equal(theirs, mine)


def test_channels_and_the_grid_are_saved_too(open_desk, tmp_path, monkeypatch):
    image = np.stack([np.zeros_like(disc_picture()), disc_picture(), disc_picture()[:, ::-1]])
    desk = open_desk(image=image).wait_ready()
    panel = desk.dock.image_panel
    panel.colours.setCurrentIndex(1)
    for box, pick in zip(panel.channels, (2, None, 2), strict=True):
        box.setCurrentIndex(box.findData(pick))
    desk.dock.everything_panel.prompts.setCurrentIndex(1)
    desk.dock.everything_panel.side.setValue(5)
    desk.until(lambda: desk.session.status.phase == "ready" and not desk.session.running)
    segment_all(desk)
    save(desk, tmp_path / "tuned", monkeypatch)
    recipe = load_recipe(tmp_path / "tuned.yaml")
    assert recipe.channels == (2, None, 2)
    assert recipe.automatic["prompts"] == "grid"
    assert recipe.automatic["points_per_side"] == 5
    theirs = segment_with(tmp_path / "tuned.yaml", image, tmp_path, monkeypatch)
    np.testing.assert_array_equal(theirs, accepted(desk))


def test_layers_that_a_file_was_split_into_are_its_channels(open_desk, tmp_path, monkeypatch):
    image = np.stack([disc_picture() // 2, disc_picture()[:, ::-1]])
    desk = open_desk(image=image[0]).wait_ready()
    desk.viewer.add_image(image[1], name="second", contrast_limits=(10, 150))
    desk.until(lambda: desk.dock.bench.image.name == "second")
    desk.dock.image_panel.pick_channels("layers", [desk.viewer.layers["second"]] * 3)
    desk.until(lambda: desk.session.status.phase == "ready" and not desk.session.running)
    segment_all(desk)
    save(desk, tmp_path / "tuned.yaml", monkeypatch)
    recipe = load_recipe(tmp_path / "tuned.yaml")
    assert recipe.channels == (1, 1, 1)
    assert recipe.contrast[1] == (10.0, 150.0)
    theirs = segment_with(tmp_path / "tuned.yaml", image, tmp_path, monkeypatch)
    np.testing.assert_array_equal(theirs, accepted(desk))


def test_what_cannot_be_said_in_a_file_or_taken_from_it_is_told(desk, tmp_path, monkeypatch):
    first = desk.dock.bench.image
    second = desk.viewer.add_image(disc_picture()[:, ::-1], name="second")
    second._source = Source(path="second.tif")
    panel, settings = desk.dock.image_panel, desk.dock.many.settings_panel
    panel.pick_channels("layers", [second, first, None])
    desk.press_button(desk.dock.sections["Settings file"].button)
    path = str(tmp_path / "tuned.yaml")
    monkeypatch.setattr(settings_panel.QFileDialog, "getSaveFileName", lambda *_: (path, ""))
    desk.press_button(settings.save)
    assert "The colours come from several files" in settings.text.text()
    assert not (tmp_path / "tuned.yaml").exists()
    (tmp_path / "odd.yaml").write_text("channels: [0, 7, null]")
    desk.dock.many.settings.load(str(tmp_path / "odd.yaml"))
    assert "Not taken: the channels 7, since the image has 1" in settings.text.text()
    (tmp_path / "wrong.yaml").write_text("contrast: [[50, 40]]")
    desk.dock.many.settings.load(str(tmp_path / "wrong.yaml"))
    assert "whose black is below its white, found [50, 40]" in settings.text.text()


def test_settings_are_loaded_into_the_dock(open_desk, tmp_path, monkeypatch):
    recipe = Recipe(
        contrast=((50.0, 180.0),), gamma=0.8, link=False, automatic={"min_area": 1200, "pred_iou_thresh": 0.5}
    )
    save_recipe(recipe, tmp_path / "tuned.yaml")
    desk = open_desk().wait_ready()
    desk.press_button(desk.dock.sections["Settings file"].button)
    panel = desk.dock.many.settings_panel
    monkeypatch.setattr(
        settings_panel.QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "tuned.yaml"), "")
    )
    desk.press_button(panel.load)
    assert panel.text.text() == "Loaded from tuned.yaml"
    layer = desk.dock.bench.image
    assert (list(layer.contrast_limits), layer.gamma) == ([50, 180], 0.8)
    assert not desk.dock.stack_panel.link.isChecked()
    desk.until(lambda: desk.session.status.phase == "ready" and not desk.session.running)
    segment_all(desk)
    assert len(desk.session.sifted.objects) == 2, f"of {DISCS} the smallest is below the least area"
    # What was loaded is what would be saved.
    saved = desk.dock.many.settings.recipe()
    assert (saved.contrast, saved.gamma, saved.link) == (recipe.contrast, 0.8, False)
    assert saved.automatic["pred_iou_thresh"] == 0.5

    (tmp_path / "wrong.yaml").write_text("modle: vit_b")
    monkeypatch.setattr(
        settings_panel.QFileDialog, "getOpenFileName", lambda *_: (str(tmp_path / "wrong.yaml"), "")
    )
    desk.press_button(panel.load)
    assert "found modle" in panel.text.text()
    assert "found modle" in desk.errors[0]


def load(desk, path, text):
    """What the panel says after loading a file with these lines."""
    path.write_text(text)
    desk.dock.many.settings.load(str(path))
    return desk.dock.many.settings_panel.text.text()


def test_the_contrast_of_a_whole_stack_is_set_to_what_a_folder_run_takes(open_desk, tmp_path):
    stack = np.stack([disc_picture().astype(np.uint16) * (10 + z) for z in range(12)])
    desk = open_desk(image=stack).wait_ready()
    assert load(desk, tmp_path / "s.yaml", "contrast: stack\ngamma: 0.5") == "Loaded from s.yaml"
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata={"axes": "ZYX"})
    with open_image(tmp_path / "stack.tif") as image:
        (window,) = stack_contrast(image)
    layer = desk.dock.bench.image
    assert tuple(layer.contrast_limits) == pytest.approx(window)
    assert layer.gamma == 0.5
    saved = desk.dock.many.settings.recipe()
    assert (saved.contrast[0], saved.gamma) == (pytest.approx(window), 0.5)
    # A plane alone is looked at whole, there as here.
    picture = np.arange(4_000_000).reshape(2000, 2000)
    assert stack_window(picture) == stack_window(picture[None]) == percentile_contrast(picture)


def test_what_the_image_has_no_place_for_is_told(open_desk, tmp_path):
    desk = open_desk().wait_ready()
    file, panel = tmp_path / "s.yaml", desk.dock.image_panel
    grey = desk.dock.bench.image

    def said(text):
        return load(desk, file, text)

    told = said("contrast: plane\ngamma: 0.5\ndiameter: 30.25")
    assert "the gamma 0.5, since there is one with the contrast as displayed only" in told
    assert "the diameter 30.25, for which the dock has 30.3." in told
    limits = grey.contrast_limits
    told = said("contrast: [[0, 50], [0, 90], [0, 70]]\ngamma: 0.7")
    assert "Not taken: the contrast (it is that of 3 channels, the image has 1)" in told
    assert (grey.contrast_limits, grey.gamma) == (limits, 0.7)
    told = said("automatic: {prompts: grid, points_per_side: 300}")
    assert "Not taken: a grid of 300, for which the dock has 256" in told
    assert "found nonsense" in said("automatic: {nonsense: 3}")

    flat = desk.viewer.add_image(np.full((180, 200), 7, np.uint8), name="flat")
    desk.until(lambda: desk.dock.bench.image is flat)
    assert "all pixels of 'flat' are the same" in said("contrast: stack")
    lazy = desk.viewer.add_image(da.from_array(np.stack([disc_picture()] * 4)), name="lazy")
    desk.until(lambda: desk.dock.bench.image is lazy)
    assert "Not taken: the contrast ('lazy' is not in memory" in said("contrast: stack\ngamma: 0.5")
    assert lazy.gamma == 0.5

    channels = desk.viewer.add_image(np.stack([disc_picture()] * 3), name="channels")
    desk.until(lambda: desk.dock.bench.image is channels)
    told = said("channels: [2, 0, null]")
    assert "channels along an axis of a layer have one contrast together; choose percentiles" in told
    assert panel.picked_channels() == (0, (2, 0, None))
    assert "one contrast" in said("channels: [2, 0, null]\ncontrast: [[0, 50], [0, 90], [0, 70]]")
    assert said("channels: [2, 0, null]\ncontrast: [[0, 50], [0, 90], [0, 50]]") == "Loaded from s.yaml"
    assert channels.contrast_limits == [0, 50]
    assert said("contrast: [[0, 60]]") == "Loaded from s.yaml"
    assert panel.picked_channels()[0] is None, "as displayed, as in the file"

    colours = desk.viewer.add_image(np.stack([disc_picture()] * 3, axis=-1), rgb=True, name="colours")
    desk.until(lambda: desk.dock.bench.image is colours)
    assert said("channels: [0, 1, 2]") == "Loaded from s.yaml"
    told = said("channels: [2, 1, 0]\ncontrast: [[10, 200]]\ngamma: 0.5")
    assert told.count("Not taken") == 3
    for what in ("the channels", "the contrast", "the gamma 0.5"):
        assert f"Not taken: {what}, since" in told

    desk.viewer.layers.clear()
    desk.until(lambda: desk.dock.bench.image is None)
    assert "Not taken: contrast, gamma, since there is no image yet" in said("gamma: 0.5")
    assert said("contrast: plane") == "Loaded from s.yaml"

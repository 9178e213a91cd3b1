"""The configuration of a training: what a file may say, and what is refused."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_sam.training.config import WEIGHTS, load_config, load_sources


def test_config_file_is_read(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'data_root = "data"\nsteps = 7\n[recipe]\nprompts = 5\nsides = [64, 96]\n'
        '[[data]]\nname = "a"\nfolder = "b"\nweight = 0.5\n'
    )
    (config,) = load_config(path, minutes=3.0)
    assert config.output == tmp_path / "run"
    assert config.data_root == tmp_path / "data"
    assert (config.steps, config.minutes, config.recipe.sides) == (7, 3.0, (64, 96))
    assert config.data[0].weight == 0.5


def test_data_lie_beside_the_file_unless_it_says_otherwise(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('[[data]]\nname = "a"\nfolder = "b"\n')
    assert load_config(path)[0].data_root == tmp_path
    assert load_config(path, data_root="elsewhere")[0].data_root == Path("elsewhere")


def test_a_file_of_notepad_is_read(tmp_path):
    (tmp_path / "train.toml").write_text('output = "out"\nsteps = 7\n', encoding="utf-8-sig")
    assert load_config(tmp_path / "train.toml")[0].steps == 7


def test_weights_to_start_from_lie_beside_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('start_from = "first/weights.safetensors"\n')
    assert load_config(path)[0].start_from == str(tmp_path / "first/weights.safetensors")
    path.write_text('start_from = "built-in"\n')
    assert load_config(path)[0].start_from == "built-in"


def test_unknown_settings_are_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("stepz = 7\n")
    with pytest.raises(ValueError, match=r"unknown settings \['stepz'\]"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = 0", "Say how long to train"),
        ("minutes = -1.0", "Say how long to train"),
        ("warmup = -1", "warmup = 0 steps or more"),
        ('steps = "2"', "Expected steps in .*run.toml to be of the type int, found '2'"),
        ("[recipe]\ndrawn = true", "Expected drawn in .* to be of the type float or int, found True"),
        ('[data]\nname = "a"', r"Expected \[\[data\]\] with two brackets"),
        ("data = [1]", r"Expected \[\[data\]\] with two brackets in .*, found \[1\]"),
        ("[part]\nsteps = 3", r"Expected \[\[part\]\] with two brackets"),
        ("part = 5", r"Expected \[\[part\]\] with two brackets in .*, found 5"),
        ("[[part]]\nname = 5", r"Expected name in a \[\[part\]\] of .* to be of the type str, found 5"),
        ("[[part]]\nrecipe = 5", r"Expected \[recipe\] with settings of its own in a \[\[part\]\] of"),
        ("output = 5\n[[part]]", "Expected output in .*run.toml to be of the type str, found 5"),
        ('[[part]]\nname = "a"\n[[part]]\nname = "a"', r"a name of its own for each .* found 'a' twice"),
        ("steps = = 2", "run.toml is no TOML file"),
        ('[[data]]\nfolder = "a"', r"\[\[data\]\] 1 of .* has no name"),
        ('[[data]]\nfolder = "a"\n[[part]]', r"\[\[data\]\] 1 of .* has no name"),
        ('[[data]]\nname = "a"', "a folder, or an image and its labels, found neither in the data 'a'"),
        (
            '[[data]]\nname = "a"\nfolder = "b"\nimage = "c"\nlabels = "d"',
            "a folder, or an image and its labels, found both in the data 'a'",
        ),
        ('[[data]]\nname = "a"\nimage = "a"\nlabels = "b"\nevery = 0', "every = 1 or more"),
        ('[[data]]\nname = "a"\nfolder = "a"\nevery = 2', "no every in the data 'a': only a stack has it"),
        (
            '[[data]]\nname = "a"\nimage = "a"\nlabels = "b"\nbalance = "kind"\ncrowding = 1',
            "no balance or crowding in the data 'a': only a folder has it",
        ),
        ('[[data]]\nname = "a"\nfolder = "a"\npasted = 2', "pasted between 0 and 1"),
        ('[[data]]\nname = "a"\nfolder = "a"\n' * 2, r"for each \[\[data\]\] of .*, found 'a' twice"),
        ('[[data]]\nname = "a"\nfolder = "a"\nweight = 0.0', "a weight above 0 of the data 'a', found 0.0"),
        ('[[data]]\nname = "a"\nfolder = "a"\nweight = nan', "a weight above 0"),
        ('[[data]]\nname = "a"\nfolder = "a"\ncrowding = 2.0', "crowding between 0 and 1"),
        ('overlap = "jaccard"', "an overlap out of dice, iou, found 'jaccard'"),
        ('precision = "fp16"', "a precision out of auto, bfloat16, float32, found 'fp16'"),
        ('start_from = "built-in"\nkeep = 3.0', "keep between 0 and 1, found 3.0"),
        ("keep = 0.5", "keep = 0 where there is no start_from, found 0.5"),
        (
            'output = "a"\nstart_from = "a/weights.safetensors"',
            "another output than the folder of start_from",
        ),
        ("channels = [8, 16]", r"5 whole numbers of 1 or more as channels, found \[8, 16\]"),
        ('channels = ["a", 8, 8, 8, 8]', "5 whole numbers of 1 or more as channels"),
        ("depths = [1, 1, -1, 1]", "4 whole numbers of 0 or more as depths"),
        ("start_from = 'built-in'\ndeepen = [1, 1]", "4 whole numbers of 0 or more as deepen"),
        ("deepen = [1, 1, 0, 0]", "no deepen where there is no start_from"),
        ("width = 40", "a width that is a multiple of 16, found 40"),
        ("seed = 99999999999999999999", "seed between 0 and 4294967295"),
        ("ema = 1.5", "ema between 0 and 1"),
        ("settle = -1.0", "settle between 0 and 1"),
        ("rounds = 0", "rounds of 1 or more"),
        ("workers = -1", "workers between 0 and"),
        ("workers = 5000", "Expected workers between 0 and .*, found 5000"),
        ("threads = 100000", "Expected threads between 0 and .*, found 100000"),
        ("learning_rate = nan", "learning_rate of 0 or more"),
        ("recipe = 5", r"Expected \[recipe\] with settings of its own in .*run.toml, found 5"),
        ("[recipe]\ndrawn = -1.0", "drawn between 0 and 1"),
        ("[recipe]\nbox_share = 2", "box_share between 0 and 1"),
        ("[recipe]\nexact = -0.5", "exact between 0 and 1"),
        ("[recipe]\nwide = nan", "wide between 0 and 1"),
        ("[recipe]\nprompts = 0", "prompts of 1 or more, found 0"),
        ("[recipe]\nsides = [250]", r"sides that are multiples of 32, one or more, found \[250\]"),
        ("[recipe]\nsides = []", "multiples of 32, one or more"),
        ('[recipe]\nsides = ["a"]', "multiples of 32"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, text, message):
    path = tmp_path / "run.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_config(path)


def test_axes_can_be_said_of_the_data(tmp_path):
    """Planes that were saved as red, green and blue, and so were their labels; channels that lie first."""
    planes = np.tile(np.arange(16, dtype=np.uint8), (3, 16, 1))
    for name, pixels in (("i", planes), ("l", planes // 8)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, photometric="rgb", planarconfig="separate")
    for name, pixels in (("images", planes), ("labels", planes[0] // 8)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", pixels)
    path = tmp_path / "run.toml"
    text = '[[data]]\nname = "s"\nimage = "i.tif"\nlabels = "l.tif"\n{}[[data]]\nname = "f"\nfolder = "."\n{}'
    path.write_text(text.format('axes = "zyx"\n', 'axes = "CYX"\n'))
    (stack, folder), _ = load_sources(load_config(path)[0])
    assert [len(source.planes) for source in (stack, folder)] == [3, 1]
    assert folder.planes[0].image.shape[:2] == (16, 16)
    path.write_text(text.format("", ""))
    with pytest.raises(ValueError, match="has channels or colours"):
        load_sources(load_config(path)[0])


def test_the_shipped_configuration_is_valid(request):
    parts = load_config(request.config.rootpath / "configs/builtin.toml")
    for before, part in pairwise(parts):
        assert part.start_from == str(before.output.absolute() / WEIGHTS)
    for part in parts:
        assert part.data
        assert "val" not in {name for entry in part.data for name in entry.folder.split("/")}


def test_a_run_of_several_parts(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(
        'steps = 7\n[recipe]\nprompts = 5\nspread = 0.3\n[[data]]\nname = "a"\nfolder = "b"\nweight = 0.5\n'
        '[[part]]\nname = "first"\n[[part]]\nsteps = 9\nrecipe = {spread = 0.6}\n'
        "data = {a = {weight = 2.0, crowding = 1.0}}\n"
    )
    first, second = load_config(path, data_root=tmp_path)
    assert (first.output, second.output) == (tmp_path / "run/first", tmp_path / "run/part2")
    assert (first.start_from, second.start_from) == ("", str(tmp_path / "run/first" / WEIGHTS))
    assert (first.steps, second.steps) == (7, 9)
    assert (first.recipe.spread, second.recipe.spread, second.recipe.prompts) == (0.3, 0.6, 5)
    assert (first.data[0].weight, second.data[0].weight) == (0.5, 2.0)
    assert (first.data[0].crowding, second.data[0].crowding) == (0.5, 1.0)
    assert second.data[0].folder == "b"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{b = {weight = 1.0}}", r"not in the file: \['b'\]"),
        ("{a = 2.0}", r"by the names of data sets, in \[\[part\]\] 1 of .*, found \{'a': 2.0\}"),
        ("2.0", "found 2.0"),
        ("{a = {wieght = 1.0}}", r"unknown settings \['wieght'\]"),
    ],
)
def test_a_part_may_change_only_known_data(tmp_path, data, message):
    path = tmp_path / "run.toml"
    path.write_text(f'[[data]]\nname = "a"\nfolder = "b"\n[[part]]\ndata = {data}\n')
    with pytest.raises(ValueError, match=message):
        load_config(path)

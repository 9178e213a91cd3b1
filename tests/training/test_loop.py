"""The training run: it learns, it can be killed, it goes on exactly."""

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from napari_sam.cli import app
from napari_sam.model.builtin import load_builtin
from napari_sam.predictor import load_model
from napari_sam.training.config import CHECKPOINT, METRICS, WEIGHTS, DataEntry
from napari_sam.training.examples import Recipe, make_batch
from napari_sam.training.loop import train
from napari_sam.training.metrics import plot_metrics, read_metrics
from napari_sam.training.step import train_step

TINY = (
    "channels = [4, 8, 8, 8, 8]\ndepths = [0, 0, 0, 0]\nwidth = 16\nrounds = 1\nthreads = 1\nworkers = 0\n"
    "[recipe]\nsides = [64]\npixels = 8192\nprompts = 4\n"
)
"""Configuration of a network that is trained in no time."""


def weights(folder):
    return load_builtin(folder / WEIGHTS).state_dict()


def test_a_resumed_run_ends_where_an_unbroken_one_does(config, tmp_path):
    steps = [progress.step for progress in train(config)]
    assert steps == [1, 2, 3, 4, 5, 6]
    broken = dataclasses.replace(config, output=tmp_path / "broken")
    run = train(broken)
    for _ in range(3):
        next(run)
    run.close()
    assert [progress.step for progress in train(broken)] == [4, 5, 6]
    for name, tensor in weights(config.output).items():
        assert torch.equal(tensor, weights(broken.output)[name]), name
    a, b = (torch.load(c.output / CHECKPOINT, weights_only=True) for c in (config, broken))
    for name, tensor in a["model"].items():
        assert torch.equal(tensor, b["model"][name]), name


def test_a_finished_run_stays_finished(config):
    list(train(config))
    assert list(train(config)) == []


def test_a_checkpoint_that_cannot_be_used_is_named(config):
    config.output.mkdir(parents=True)
    list(train(dataclasses.replace(config, steps=1)))
    path = config.output / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cannot go on from .*checkpoint\.pt: .* empty its folder to begin"):
        list(train(config))
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"cannot go on from .*checkpoint\.pt: it is of another network"):
        list(train(dataclasses.replace(config, width=2 * config.width)))


def test_the_settings_of_a_run_that_goes_on_are_those_of_now(config):
    list(train(dataclasses.replace(config, steps=1)))
    list(train(dataclasses.replace(config, steps=2, weight_decay=0.5)))
    muon, adam = torch.load(config.output / CHECKPOINT, weights_only=True)["optimizers"]
    assert [group["weight_decay"] for group in muon["param_groups"] + adam["param_groups"]] == [0.5, 0.5, 0]


def test_a_run_does_not_go_on_from_another_start(config, tmp_path):
    """The weights would be the old run's, and those that are kept of the start another's."""
    starts = []
    for seed in (0, 1):
        start = dataclasses.replace(config, output=tmp_path / str(seed), seed=seed, steps=1)
        list(train(start))
        starts.append(str(start.output / WEIGHTS))
    tuned = dataclasses.replace(config, start_from=starts[0], steps=2)
    next(run := train(tuned))
    run.close()
    before = (config.output / WEIGHTS).read_bytes()
    for other in (starts[1], ""):
        with pytest.raises(ValueError, match=r"began from other weights than start_from names now. Name"):
            next(train(dataclasses.replace(tuned, start_from=other)))
    assert (config.output / WEIGHTS).read_bytes() == before
    # The same weights may lie elsewhere by now.
    moved = Path(starts[0]).rename(tmp_path / "moved.safetensors")
    assert [progress.step for progress in train(dataclasses.replace(tuned, start_from=str(moved)))] == [2]
    # A checkpoint of an older version says nothing of its start.
    state = torch.load(config.output / CHECKPOINT, weights_only=True)
    del state["start"]
    torch.save(state, config.output / CHECKPOINT)
    assert list(train(dataclasses.replace(tuned, start_from=starts[1]))) == []


def test_an_output_that_is_a_file_is_refused(config):
    config.output.write_text("mine")
    with pytest.raises(ValueError, match="Expected a folder as output, found the file"):
        next(train(config))


def test_weights_may_be_read_by_whoever_may_read_other_files(config):
    list(train(dataclasses.replace(config, steps=1)))
    modes = {path.stat().st_mode for path in (config.output / WEIGHTS, config.output / METRICS)}
    assert len(modes) == 1


def test_metrics_are_written_and_plotted(config, tmp_path):
    list(train(config))
    rows = read_metrics(config.output / METRICS)
    assert rows[-1]["step"] == 6
    assert rows[-1]["loss"] > 0
    plot_metrics([config.output / METRICS] * 2, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 5000


def test_rows_of_a_killed_run_are_dropped(config):
    list(train(config))
    path = config.output / METRICS
    path.write_text(path.read_text() + "99,1.0,,,,5.0,,,,,,,\n")
    list(train(dataclasses.replace(config, steps=8)))
    assert [row["step"] for row in read_metrics(path)][-1] == 8


@pytest.mark.slow
def test_it_learns_to_segment_drawn_cells(config):
    config = dataclasses.replace(
        config, steps=50, rounds=1, warmup=5, learning_rate=6e-3, channels=(8, 16, 16, 16, 16), width=32
    )
    losses = [progress.measures["mask"] for progress in train(config)]
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


def test_weights_can_be_fine_tuned(config, tmp_path):
    list(train(config))
    start = str(config.output / WEIGHTS)
    tuned = dataclasses.replace(
        config, output=tmp_path / "tuned", start_from=start, learning_rate=0.0, steps=1
    )
    list(train(tuned))
    for (name, a), b in zip(weights(config.output).items(), weights(tuned.output).values(), strict=True):
        if "running" not in name and a.is_floating_point():
            assert torch.equal(a, b), name


def test_weights_can_be_gone_on_with_in_a_deeper_network(config, tmp_path):
    list(train(config))
    deeper = dataclasses.replace(
        config, output=tmp_path / "deeper", start_from=str(config.output / WEIGHTS), deepen=(1, 0, 0, 1)
    )
    list(train(deeper))
    before, after = (load_builtin(folder / WEIGHTS) for folder in (config.output, deeper.output))
    added = [a - b for a, b in zip(after.config["depths"], before.config["depths"], strict=True)]
    assert added == [1, 0, 0, 1]
    last = f"encoder.stages.0.{after.config['depths'][0]}.norm.weight"
    assert after.state_dict()[last].any()  # it has begun to say something


def test_the_state_of_a_training_is_told_from_its_weights(config, tmp_path):
    list(train(dataclasses.replace(config, steps=1)))
    state = config.output / CHECKPOINT
    with pytest.raises(ValueError, match=r"found the state of a training, .* choose weights\.safetensors"):
        next(train(dataclasses.replace(config, output=tmp_path / "more", start_from=str(state))))
    with pytest.raises(ValueError, match=r"of a training, whose weights are in weights\.safetensors"):
        load_model(str(state))


def test_norms_settle_at_the_end(config):
    """In the last part of a run the running statistics keep still, while the weights still move."""
    config = dataclasses.replace(config, settle=0.5)
    states = []
    for _ in range(3):
        run = train(config)
        next(run)
        next(run)
        run.close()
        states.append(torch.load(config.output / CHECKPOINT, weights_only=True)["model"])
    norm = next(name for name in states[0] if name.endswith("running_var"))
    weight = "encoder.stem.0.weight"
    assert not torch.equal(states[0][norm], states[1][norm])
    assert torch.equal(states[1][norm], states[2][norm])
    assert not torch.equal(states[1][weight], states[2][weight])
    free = dataclasses.replace(config, settle=0.0, output=config.output / "free")
    list(train(free))
    assert not torch.equal(
        torch.load(free.output / CHECKPOINT, weights_only=True)["model"][norm], states[-1][norm]
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_process_leaves_a_checkpoint_that_works(tmp_path):
    script = (
        "from pathlib import Path; from napari_sam.training.config import *; "
        "from napari_sam.training.loop import train; from napari_sam.training.examples import Recipe\n"
        f"c = TrainConfig(output=Path(r'{tmp_path}'), recipe=Recipe((64,), 4096, 2, drawn=1.0), "
        "channels=(4, 8, 8, 8, 8), depths=(0, 0, 0, 0), width=16, steps=100000, rounds=1, threads=1, "
        "workers=0, checkpoint_minutes=0)\n"
        "for p in train(c): pass"
    )
    for _ in range(2):
        process = subprocess.Popen([sys.executable, "-c", script])
        path = tmp_path / CHECKPOINT
        before = path.stat().st_mtime if path.exists() else 0
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (path.exists() and path.stat().st_mtime > before):
            time.sleep(0.05)
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        state = torch.load(path, weights_only=True)
        assert state["step"] > 0
        load_builtin(tmp_path / WEIGHTS)


def test_a_share_of_the_weights_to_start_from_is_kept(config, tmp_path):
    list(train(config))
    start = str(config.output / WEIGHTS)
    found = []
    for keep in (0.0, 0.5, 1.0):
        more = dataclasses.replace(
            config, output=tmp_path / str(keep), start_from=start, steps=2, keep=keep, seed=7
        )
        list(train(more))
        found.append(weights(more.output))
    new, middle, old = found
    for name, value in weights(config.output).items():
        assert torch.equal(old[name], value), name
        if value.is_floating_point():
            torch.testing.assert_close(middle[name], (new[name] + value) / 2, rtol=2e-3, atol=1e-4)
    assert any((new[name] != old[name]).any() for name in new)


def test_a_run_may_go_without_warm_up(config):
    rates = [progress.measures["rate"] for progress in train(dataclasses.replace(config, warmup=0, steps=2))]
    assert rates[0] == pytest.approx(config.learning_rate)


def test_unfit_data_are_refused_before_anything_is_written(config, tmp_path):
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "data" / name / "a.png")
    unfit = dataclasses.replace(config, data=(DataEntry("a", folder=str(tmp_path / "data")),))
    with pytest.raises(ValueError, match="found no object"):
        next(train(unfit))
    assert not config.output.exists()


def test_a_run_that_fails_in_its_first_step_leaves_no_weights(config, monkeypatch):
    def fail(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("napari_sam.training.loop.train_step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        next(train(config))
    assert not (config.output / WEIGHTS).exists()
    assert not (config.output / CHECKPOINT).exists()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
def test_the_parts_of_a_run_follow_each_other(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(TINY + "[[part]]\nsteps = 2\n[[part]]\nsteps = 1\nseed = 5\n")
    found = CliRunner().invoke(app, ["train", str(path), "--output", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    first, second = (
        load_builtin(tmp_path / "out" / name / WEIGHTS).state_dict() for name in ("part1", "part2")
    )
    assert any((first[k] != second[k]).any() for k in first)
    assert (tmp_path / "out/part2/metrics.png").exists()
    assert "nothing was trained" not in found.output
    again = CliRunner().invoke(app, ["train", str(path), "--output", str(tmp_path / "out")])
    assert again.exit_code == 0
    assert "This training was finished before: nothing was trained" in again.output
    (advised,) = re.findall(r"start_from = '(.*?)'", again.output)
    assert Path(advised).is_absolute()
    assert Path(advised).exists()


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable:UserWarning")
def test_steps_on_the_command_line_count_instead_of_minutes(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("minutes = 60\n" + TINY)
    found = CliRunner().invoke(app, ["train", str(path), "--steps", "2", "--output", str(tmp_path / "out")])
    assert found.exit_code == 0, found.output
    assert "Going on" not in found.output
    assert read_metrics(tmp_path / "out" / METRICS)[-1]["step"] == 2
    # Two steps from nothing: no one should take these weights for trained ones.
    assert "of no use yet" in found.output
    more = CliRunner().invoke(app, ["train", str(path), "--steps", "3", "--output", str(tmp_path / "out")])
    assert f"Going on after step 2 in {tmp_path / 'out'}." in more.output


@pytest.mark.parametrize("workers", [0, 1])
def test_objects_that_are_never_seen_are_told_in_a_sentence(config, tmp_path, workers):
    for name, value in (("images", 90), ("labels", 1)):
        (tmp_path / "data" / name).mkdir(parents=True)
        speck = np.zeros((64, 64), np.uint8)
        speck[10, 10] = value
        Image.fromarray(speck).save(tmp_path / "data" / name / "a.png")
    recipe = Recipe(sides=(32,), pixels=32**2, prompts=4, diameter=1.0, wide=0.0, drawn=0.0)
    data = (DataEntry("a", folder=str(tmp_path / "data")),)
    unseen = dataclasses.replace(config, recipe=recipe, data=data, workers=workers)
    with pytest.raises(ValueError, match=r"^Expected objects of 56 pixels .* or label more objects\.$"):
        list(train(unseen))


def test_the_loss_of_a_step_is_the_one_that_was_chosen():
    batch = make_batch(Recipe(sides=(128,), pixels=2 * 128**2, prompts=6, drawn=1.0), [], [], 0, 0)
    model = load_builtin().train()
    dice, iou = (
        train_step(model, batch, 2, frozenset(), torch.Generator(), torch.float32, overlap=overlap).measures
        for overlap in ("dice", "iou")
    )
    assert dice["last"] == iou["last"]
    assert dice["mask"] != pytest.approx(iou["mask"], rel=1e-3)

"""What ends or disturbs a training: Ctrl+C, a full disk, another training, numbers beyond all bounds."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys

import pytest
import torch

from napari_sam.model.builtin import load_builtin
from napari_sam.training import loop
from napari_sam.training.config import CHECKPOINT, METRICS, WEIGHTS
from napari_sam.training.loop import train
from napari_sam.training.metrics import MetricsFile, plot_metrics, read_metrics
from napari_sam.training.unbroken import interrupts_held, only_writer


@pytest.fixture
def in_the_fourth_step(monkeypatch):
    """Return a function that has another called within the fourth step, between the two optimisers."""
    step, count = torch.optim.AdamW.step, iter(range(1, 1000))

    def of(what):
        def stepped(self, *args, **kwargs):
            if next(count) == 4:
                what()
            return step(self, *args, **kwargs)

        monkeypatch.setattr(torch.optim.AdamW, "step", stepped)

    return of


def same_end(config, other):
    list(train(config))
    list(train(other))
    a, b = (torch.load(c.output / CHECKPOINT, weights_only=True) for c in (config, other))
    return all(torch.equal(tensor, b["model"][name]) for name, tensor in a["model"].items())


@pytest.fixture
def ctrl_c_counts():
    """Let Ctrl+C interrupt, also where the tests run in the background: a shell lets them ignore it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_counts")
def test_a_step_is_finished_before_ctrl_c_ends_the_run(config, tmp_path, in_the_fourth_step):
    broken = dataclasses.replace(config, output=tmp_path / "broken")
    in_the_fourth_step(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        list(train(broken))
    assert torch.load(broken.output / CHECKPOINT, weights_only=True)["step"] == 4
    assert same_end(config, broken)


def test_a_step_that_fails_is_not_counted(config, tmp_path, in_the_fourth_step):
    broken = dataclasses.replace(config, output=tmp_path / "broken", checkpoint_minutes=0)

    def fail():
        raise RuntimeError("out of memory")

    in_the_fourth_step(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(train(broken))
    assert torch.load(broken.output / CHECKPOINT, weights_only=True)["step"] == 3
    assert same_end(config, broken)


@pytest.mark.usefixtures("ctrl_c_counts")
def test_a_second_ctrl_c_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    done = []

    def impatient():
        with interrupts_held():
            for number in (1, 2):
                signal.raise_signal(signal.SIGINT)
                done.append(number)

    with pytest.raises(KeyboardInterrupt):
        impatient()
    assert done == [1]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(sys.platform == "win32", reason="the system limits no files")
def test_a_disk_that_is_full_is_told_and_the_weights_are_kept(config):
    """Weights come first and are small; of what does not fit nothing is left."""
    import resource

    list(train(dataclasses.replace(config, steps=1)))
    small, large = ((config.output / name).stat().st_size for name in (WEIGHTS, CHECKPOINT))
    run = train(dataclasses.replace(config, steps=4))
    next(run)
    (config.output / WEIGHTS).unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((small + large) // 2, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"checkpoint\.pt could not be written \(.*make room"):
            run.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    load_builtin(config.output / WEIGHTS)
    assert torch.load(config.output / CHECKPOINT, weights_only=True)["step"] == 1
    assert not [path for path in config.output.iterdir() if "partial" in path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="the system limits no files")
def test_a_disk_that_is_full_does_not_cost_the_log(config):
    import resource

    list(train(dataclasses.replace(config, steps=1)))
    log = (config.output / METRICS).read_text()
    metrics = MetricsFile(config.output / METRICS, 1, every=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        metrics.add(2, {"loss": 1.0, "seconds": 2.0})  # kept for the next time
        with pytest.raises(ValueError, match=r"metrics\.csv could not be written \(.*make room"):
            metrics.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (config.output / METRICS).read_text() == log
    metrics.flush()
    assert [row["step"] for row in read_metrics(config.output / METRICS)] == [1, 2]


@pytest.mark.skipif(sys.platform == "win32", reason="the system limits no files")
def test_a_disk_that_is_full_does_not_cost_the_curves(config, tmp_path):
    import resource

    list(train(dataclasses.replace(config, steps=1)))
    picture = tmp_path / "curves.png"
    plot_metrics([config.output / METRICS], picture)
    before = picture.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"curves\.png could not be written"):
            plot_metrics([config.output / METRICS], picture)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert picture.read_bytes() == before


class Killed(BaseException):
    """The end of the process, at some place in it."""


@pytest.mark.parametrize("where", ["save_checkpoint", "save_builtin", "MetricsFile.flush"])
@pytest.mark.parametrize("late", [False, True])
def test_a_run_that_ends_while_it_saves_goes_on(config, monkeypatch, where, late):
    """Whether before or after one of the files was written, in the first save."""
    place = f"napari_sam.training.loop.{where}"
    owner = MetricsFile if "." in where else loop
    real = getattr(owner, where.rpartition(".")[2])

    def killed(*args):
        if late:
            real(*args)
        raise Killed

    monkeypatch.setattr(place, killed)
    run = train(config)
    next(run)
    with pytest.raises(Killed):
        run.close()
    monkeypatch.undo()
    list(train(config))
    assert torch.load(config.output / CHECKPOINT, weights_only=True)["step"] == config.steps
    load_builtin(config.output / WEIGHTS)


@pytest.mark.usefixtures("ctrl_c_counts")
def test_a_ctrl_c_while_a_run_saves_does_not_lose_it(config, monkeypatch, in_the_fourth_step):
    real = loop.save_checkpoint

    def disturbed(*args):
        signal.raise_signal(signal.SIGINT)
        real(*args)

    monkeypatch.setattr(loop, "save_checkpoint", disturbed)
    in_the_fourth_step(lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        list(train(config))
    assert torch.load(config.output / CHECKPOINT, weights_only=True)["step"] == 4
    load_builtin(config.output / WEIGHTS)
    assert read_metrics(config.output / METRICS)[-1]["step"] == 4


def test_two_trainings_do_not_write_into_one_output(config, tmp_path):
    first = train(config)
    next(first)
    with pytest.raises(ValueError, match=r"Another training writes into .*run"):
        next(train(config))
    next(train(dataclasses.replace(config, output=tmp_path / "other")))
    first.close()
    assert next(train(config)).step == 2


def test_the_lock_ends_with_its_process(config):
    config.output.mkdir()
    script = (
        "import os; from pathlib import Path; from napari_sam.training.unbroken import only_writer\n"
        f"with only_writer(Path(r'{config.output}')): print('held', flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline().strip() == b"held"
    with pytest.raises(ValueError, match="Another training writes"):
        next(train(config))
    process.kill()
    process.communicate()
    next(train(config))


@pytest.mark.skipif(os.name == "nt", reason="Windows locks otherwise")
@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EIO"])
def test_where_the_disk_knows_no_locks_training_goes_on_without(code, tmp_path, monkeypatch):
    import fcntl

    def no_lock(file, operation):
        raise OSError(getattr(errno, code), "no lock")

    with only_writer(tmp_path):
        pass
    monkeypatch.setattr(fcntl, "flock", no_lock)
    if code == "EIO":
        with pytest.raises(OSError, match="no lock"), only_writer(tmp_path):
            pass
        return
    with only_writer(tmp_path), only_writer(tmp_path):
        pass
    with pytest.raises(KeyError), only_writer(tmp_path):
        raise KeyError


def test_a_diverged_run_writes_no_weights(config):
    list(train(dataclasses.replace(config, steps=1)))
    kept = (config.output / WEIGHTS).read_bytes()
    with pytest.raises(ValueError, match="weights are no longer finite numbers"):
        list(train(dataclasses.replace(config, steps=40, learning_rate=1e6, warmup=0)))
    assert (config.output / WEIGHTS).read_bytes() == kept
    assert torch.load(config.output / CHECKPOINT, weights_only=True)["step"] == 1


def test_gradients_that_stay_lost_end_the_run(config, monkeypatch):
    monkeypatch.setattr("napari_sam.training.loop.LOST", 2)
    broken = torch.tensor(torch.nan)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: broken)
    with pytest.raises(ValueError, match="gradients are no longer finite"):
        list(train(config))

"""What `napari-sam train` says at its end, and where something went wrong."""

import signal
import sys

import pytest
import torch

from napari_sam import cli
from napari_sam.training.config import CHECKPOINT, CURVES, METRICS, WEIGHTS

TINY = (
    "channels = [4, 8, 8, 8, 8]\ndepths = [0, 0, 0, 0]\nwidth = 16\nsteps = 1\nrounds = 1\nthreads = 1\n"
    "workers = 0\n[recipe]\nsides = [64]\npixels = 4096\nprompts = 4\n"
)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Return a function that trains by a configuration; it returns the exit code and what was printed."""

    def of(text=TINY):
        (tmp_path / "run.toml").write_text(text)
        monkeypatch.setattr(sys, "argv", ["napari-sam", "train", str(tmp_path / "run.toml")])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr()

    return of


def test_where_an_error_happened_is_shown_when_asked(run, monkeypatch):
    nowhere = TINY + '[[data]]\nname = "a"\nfolder = "nowhere"\n'
    code, printed = run(nowhere)
    assert code == 1
    assert "There is no folder" in printed.err
    assert "Traceback" not in printed.err
    monkeypatch.setenv("NAPARI_SAM_DEBUG", "1")
    code, printed = run(nowhere)
    assert code == 1
    assert "Traceback" in printed.err
    assert "in labelled_pairs" in printed.err


def test_a_training_does_without_curves(run, monkeypatch, tmp_path):
    """The package that draws them need not be installed, nor need there be room for them."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, printed = run()
    assert code == 0
    assert 'pip install "napari-sam-cells[training]"' in printed.err
    assert str(tmp_path / "run" / WEIGHTS) in printed.out
    monkeypatch.undo()
    (tmp_path / "run" / CURVES).mkdir()
    code, printed = run(TINY.replace("steps = 1", "steps = 2"))
    assert code == 0
    assert f"There are no new curves in {tmp_path / 'run' / CURVES}." in printed.err


def test_a_log_that_another_program_has_changed_is_named(run, tmp_path):
    assert run()[0] == 0
    log = tmp_path / "run" / METRICS
    log.write_text(log.read_text().replace(",", ";"))
    code, printed = run(TINY.replace("steps = 1", "steps = 2"))
    assert code == 1
    assert "numbers with commas between them, found something else" in " ".join(printed.err.split())
    assert "Rename it" in printed.err
    log.rename(tmp_path / "mine.csv")
    assert run(TINY.replace("steps = 1", "steps = 2"))[0] == 0


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_part_from_which_another_has_begun_does_not_go_on(run, tmp_path):
    parts = TINY + '[[part]]\nname = "one"\n[[part]]\nname = "two"\nseed = 5\n'
    assert run(parts)[0] == 0
    first = contents(tmp_path / "run" / "one")
    code, printed = run(parts)
    assert code == 0
    assert "more minutes or steps; with these the last part goes on." in printed.out
    code, printed = run(parts.replace("steps = 1", "steps = 2"))
    assert code == 0, printed.err
    assert "step 1 in" in printed.out + printed.err
    assert "; the parts before it stay as they are." in printed.out + printed.err
    assert contents(tmp_path / "run" / "one") == first
    state = torch.load(tmp_path / "run" / "two" / CHECKPOINT, weights_only=True)
    assert state["step"] == 2


def test_what_lies_in_a_later_part_is_refused_before_the_first_is_trained(run, tmp_path):
    (tmp_path / "run" / "two").mkdir(parents=True)
    (tmp_path / "run" / "two" / WEIGHTS).write_bytes(b"mine")
    code, printed = run(TINY + '[[part]]\nname = "one"\n[[part]]\nname = "two"\n')
    assert code == 1
    assert f"found {WEIGHTS} in" in " ".join(printed.err.split())
    assert not (tmp_path / "run" / "one").exists()


def test_nothing_is_written_where_the_training_is_finished(run, monkeypatch, tmp_path):
    """The disk may be full, or read-only."""
    assert run()[0] == 0
    before = contents(tmp_path / "run")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    for name in ("loop.only_writer", "loop.save_builtin", "metrics.replacing", "checkpoint.replacing"):
        monkeypatch.setattr(f"napari_sam.training.{name}", full)
    code, printed = run()
    assert code == 0
    assert not printed.err.replace("0%|", "").strip().startswith("The disk")
    assert "nothing was trained" in printed.out
    assert contents(tmp_path / "run") == before


def test_ctrl_c_says_where_the_training_goes_on(run, monkeypatch, tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    step, count = torch.optim.AdamW.step, iter(range(1, 100))

    def stepped(self, *args, **kwargs):
        if next(count) == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", stepped)
    try:
        code, printed = run(TINY.replace("steps = 1", "steps = 3"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130
    assert f"Stopped after step 2 in {tmp_path / 'run'}: the same command goes on from there." in printed.err
    assert run(TINY.replace("steps = 1", "steps = 3"))[0] == 0


def test_ctrl_c_before_the_first_step_is_told_too(run, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("napari_sam.training.loop.load_sources", interrupted)
    code, printed = run()
    assert code == 130
    assert "Stopped before anything was written" in printed.err


def test_a_model_that_is_tuned_without_data_is_told(run, tmp_path):
    assert run()[0] == 0
    (tmp_path / "run").rename(tmp_path / "first")
    code, printed = run(f'start_from = "first/{WEIGHTS}"\n' + TINY)
    assert code == 0
    assert "names no [[data]], so that the training sees drawn pictures only" in printed.err


@pytest.mark.parametrize(("name", "kind"), [("vit_b_lm", "where there is no file"), (".", "is a folder")])
def test_only_the_built_in_model_can_be_started_from(run, name, kind):
    code, printed = run(f'start_from = "{name}"\n' + TINY)
    assert code == 1
    assert kind in printed.err
    assert "Only the built-in model can be trained" in printed.err

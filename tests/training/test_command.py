"""What `napari-sam train` says at its end, and where something went wrong."""

import sys

import pytest

from napari_sam import cli
from napari_sam.training.config import METRICS, WEIGHTS

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
    (tmp_path / "run" / "metrics.png").mkdir()
    monkeypatch.setattr(sys, "argv", ["napari-sam", "train", str(tmp_path / "run.toml")])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code


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

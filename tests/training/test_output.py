"""What lies in the output folder: a training writes over nothing that another has left."""

import dataclasses

import pytest

from napari_sam.training.config import CHECKPOINT, CURVES, METRICS, WEIGHTS
from napari_sam.training.loop import train
from napari_sam.training.metrics import COLUMNS, read_metrics
from napari_sam.training.output import parts_to_train

OTHER = "Choose another output, .* move all of it elsewhere"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_weights_without_their_checkpoint_are_not_written_over(config):
    list(train(dataclasses.replace(config, steps=1)))
    (config.output / CHECKPOINT).unlink()
    before = contents(config.output)
    found = rf"found weights\.safetensors and metrics\.csv in .*run without it: .* {OTHER}"
    with pytest.raises(ValueError, match=found):
        list(train(config))
    assert contents(config.output) == before
    (config.output / WEIGHTS).rename(config.output / "mine.safetensors")
    with pytest.raises(ValueError, match=rf"found metrics\.csv in .*run without it: .* {OTHER}"):
        list(train(config))
    (config.output / METRICS).rename(config.output / "mine.csv")
    assert len(list(train(config))) == 6


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (METRICS, "epoch,step,train_loss\n0,50,0.3\n", r"Expected the log of a training in .*metrics\.csv"),
        (METRICS, "step,loss\n50,0.3\n", r"Expected the log of a training in .*metrics\.csv"),
        (METRICS, "step,seconds,rate\n50,0.3,1,5\n", r"Expected the log of a training in .*metrics\.csv"),
        (CURVES, "mine", rf"found metrics\.png in .*run without it: .* {OTHER}"),
    ],
)
def test_measurements_of_others_are_not_written_over(config, name, text, message):
    config.output.mkdir()
    (config.output / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        next(train(config))
    assert contents(config.output) == {name: text.encode()}


def test_an_empty_log_is_no_hindrance(config):
    config.output.mkdir()
    (config.output / METRICS).write_text(",".join(COLUMNS) + "\n")
    list(train(config))
    assert [row["step"] for row in read_metrics(config.output / METRICS)] == [6]


def test_a_log_of_fewer_columns_is_gone_on_with(config):
    list(train(dataclasses.replace(config, steps=1)))
    (config.output / METRICS).write_text("step,seconds,rate,loss\n1,0.5,0.001,3.0\n")
    list(train(dataclasses.replace(config, steps=2)))
    first, second = read_metrics(config.output / METRICS)
    assert first == {"step": 1, "seconds": 0.5, "rate": 0.001, "loss": 3.0}
    assert set(second) > set(first)


def test_of_a_run_that_has_no_checkpoint_there_is_no_log(config):
    """One that is killed early begins anew: what it has left must not look like another's."""
    run = train(dataclasses.replace(config, steps=100))
    for _ in range(30):
        next(run)
    assert not (config.output / METRICS).exists()
    run.close()
    rows = read_metrics(config.output / METRICS)
    assert [row["step"] for row in rows] == [20, 30]
    run = train(dataclasses.replace(config, steps=100))
    for _ in range(11):
        next(run)
    assert [row["step"] for row in read_metrics(config.output / METRICS)] == [20, 30, 40]
    run.close()


def test_parts_behind_a_part_that_is_gone_do_not_go_on(config, tmp_path):
    parts = [dataclasses.replace(config, output=tmp_path / name, steps=1) for name in ("one", "two", "three")]
    assert list(parts_to_train(parts)) == parts
    for part in parts[:2]:
        list(train(part))
    assert list(parts_to_train(parts)) == parts[1:]
    (parts[0].output / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=r"found no weights\.safetensors there\. Put them back; or"):
        parts_to_train(parts)

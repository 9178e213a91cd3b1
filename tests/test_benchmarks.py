"""The benchmark's own logic: records of machines, the guard, the reference in a process of its own."""

import os
from functools import partial

import pytest
from benchmarks import records
from benchmarks.aside import Aside
from benchmarks.timing import Row, Times, in_turn

AMX = {"processor": "Xeon", "threads": 2, "instructions": ["avx2", "avx512f", "amx_bf16"]}
ARM = {"processor": "Apple M2", "threads": 8, "instructions": []}


def results(about, **ratios):
    return {"machine": about, "rows": {name: {"ratio": ratio} for name, ratio in ratios.items()}}


def test_the_guard_names_the_rows_that_fell_by_more_than_a_quarter():
    record = results(AMX, encode=8.0, click=4.0, gone=9.0)
    assert records.slower(results(AMX, encode=6.1, click=3.1, new=1.0), record) == []
    (problem,) = records.slower(results(AMX, encode=5.9, click=3.1), record)
    assert problem == "encode: 5.9x, recorded 8.0x"


def test_records_of_other_machines_are_not_compared():
    assert records.slower(results(ARM, encode=1.0), results(AMX, encode=8.0)) == []
    fewer = {**AMX, "threads": 1}
    assert records.slower(results(fewer, encode=1.0), results(AMX, encode=8.0)) == []


def test_the_newest_record_of_machines_like_this_one(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "FOLDER", tmp_path / "records")
    assert records.latest_record(AMX) is None
    for release in ("0.9.0", "0.10.0", "0.2.1"):
        records.write(records.record_path(release, AMX), results(AMX, encode=1.0))
    records.write(records.record_path("1.0.0", ARM), results(ARM, encode=1.0))
    assert records.latest_record(AMX).name == "0.10.0-amx_bf16-2threads.json"
    assert records.latest_record(ARM).name == "1.0.0-apple-8threads.json"


def test_a_row_says_what_part_of_the_peak_it_reaches():
    row = Row(0.5, 4.0, 10.0, 1e-6, operations=1.0, arithmetic="bf16")
    record = row.as_record({"fp32": 0.5, "bf16": 4.0})
    assert record["ratio"] == 8
    assert record["of_peak"] == pytest.approx(0.5)
    assert record["reference_of_peak"] == pytest.approx(0.5)
    assert {"ours_s", "reference_s", "ratio", "error", "peak_mb"} <= set(record)


def four_times_its_process():
    """Make a function that fails when it is called for the fifth time."""
    answers = iter([os.getpid()] * 4)
    return partial(next, answers)


def test_the_reference_runs_in_a_process_of_its_own():
    with Aside(four_times_its_process) as aside:
        times, mine, other = in_turn(os.getpid, aside, repeat=3)  # and once to warm up
        assert isinstance(times, Times)
        assert mine == os.getpid() != other
        with pytest.raises(StopIteration):
            aside.run()

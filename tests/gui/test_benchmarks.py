"""The benchmark of the window runs."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gui


def test_the_small_steps_are_timed(make_napari_viewer, monkeypatch, capsys):
    from benchmarks import start

    monkeypatch.setattr(start, "REPEAT", 1)
    start.work(make_napari_viewer())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("ms processor   goal" in line for line in lines)

"""The command line, run in the test's own process."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner, Result

from napari_sam import cli


def invoke(*words) -> Result:
    """Run a command; paths and numbers are words of it."""
    return CliRunner().invoke(cli.app, [str(w) for w in words])


def run_main(monkeypatch, capsys, *words):
    """Run as the installed script does; return the exit code and what was printed."""
    monkeypatch.setattr(sys, "argv", ["napari-sam", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr()

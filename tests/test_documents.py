"""What the documents promise is there: the code runs, commands and options exist, links lead somewhere."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path

import pytest
import typer.main

from napari_sam.cli import app
from napari_sam.everything.settings import CELLS, AutomaticSettings

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def identify(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_python_of_the_readme_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", text_of(ROOT / "README.md"), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["labels"].max() == len(names["table"]) > 0
    predicted_iou, stability, area = map(float, capsys.readouterr().out.split())
    assert 0 < predicted_iou <= 1.1
    assert 0 <= stability <= 1
    assert area == names["candidates"].best.mask.area


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_make_commands_exist(path):
    targets = set(re.findall(r"^([a-z]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|^)make ([a-z]+)", text_of(path), re.MULTILINE))
    assert mentioned <= targets


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_links_and_pictures_of_the_repository_exist(path):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text_of(path))
    local = [target for target in targets if "://" not in target and not target.startswith("mailto:")]
    missing = [target for target in local if not (path.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("path", PAGES, ids=identify)
def test_commands_in_the_documents_exist(path):
    """Every `napari-sam COMMAND --option` in a block or in backticks is one that the program has."""
    commands = typer.main.get_command(app).commands
    for line in re.findall(r"(?:^|`)(?:\$ )?napari-sam ([^`\n]+)", text_of(path), re.MULTILINE):
        name, *rest = line.split("#")[0].split()
        if not name.isalpha() or name.isupper():
            continue
        assert name in commands, line
        known = {option for parameter in commands[name].params for option in parameter.opts}
        known |= {o for p in commands[name].params for o in p.secondary_opts} | {"--help", "-h"}
        assert {word for word in rest if re.match(r"--?[a-z]", word)} <= known, line


def test_the_command_line_page_names_every_command_and_option():
    page = text_of(ROOT / "docs" / "reference" / "command-line.md")
    for name, command in typer.main.get_command(app).commands.items():
        assert f"## `napari-sam {name}`" in page, "run `make docs` to write the page again"
        section = page.split(f"## `napari-sam {name}`")[1].split("\n## ")[0]
        options = [option for parameter in command.params for option in parameter.opts if option[0] == "-"]
        missing = [option for option in options if option not in section]
        assert not missing, f"{name}: run `make docs` to write the page again"


def test_names_of_the_python_reference_exist():
    named = re.findall(r"^::: (\S+)$", text_of(ROOT / "docs/reference/python.md"), re.MULTILINE)
    assert len(named) > 30
    for name in named:
        module, _, thing = name.rpartition(".")
        assert getattr(importlib.import_module(module), thing).__doc__, name


def test_every_setting_of_automatic_masks_is_in_the_table_with_its_default():
    table = text_of(ROOT / "docs/reference/settings.md").partition("Settings of automatic masks")[2]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    rows = {name: line for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    for field in dataclasses.fields(AutomaticSettings):
        row = rows[field.name]
        if type(field.default) in (int, float) and field.default < 1e9:
            assert f"{round(field.default, 3):g}" in row.split("|")[3], row
        own = getattr(CELLS, field.name)
        if own != field.default:
            assert f"built-in: {own:g}" in row, row

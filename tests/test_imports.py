"""The package is cheap to import, and its parts depend on each other in one direction only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import napari_sam

PACKAGE = Path(napari_sam.__file__).parent
PYPROJECT = PACKAGE.parents[1] / "pyproject.toml"
MODULES = sorted(PACKAGE.rglob("*.py"))

WINDOW = {"napari", "qtpy", "PyQt5", "PyQt6", "PySide6", "magicgui", "superqt", "vispy"}
LEVELS = [
    {"model"},
    {"predictor"},
    {"everything", "stack", "training", "evaluation"},
    {"session"},
    {"_napari", "cli"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> frozenset[str]:
    """List the dotted names that a module imports, those inside functions included."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ("napari_sam", *path.relative_to(PACKAGE).parts[:-1])
    found: set[str] = set()
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
        pending.extend(ast.iter_child_nodes(node))
    return frozenset(found)


def own_parts(path: Path) -> set[str]:
    """List the parts of the package that a module imports, late imports included."""
    dotted = (name.split(".") for name in imports(path) if name.startswith("napari_sam."))
    return {name[1] for name in dotted}


def identify(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_loads_neither_torch_nor_qt():
    loaded = run_python("import sys, napari_sam; dir(napari_sam); print(*sys.modules)").split()
    heavy = {"torch", "napari", "qtpy", "PyQt6", "skimage", "scipy", "zarr", "pandas", "numpy"}
    assert "napari_sam" in loaded
    assert not heavy.intersection(loaded)


def test_loading_a_model_brings_in_no_compiler():
    """Numbers of the meta device are described in Python: some bring in torch's compiler, or sympy."""
    loaded = run_python(
        "import sys, napari_sam\n"
        "from napari_sam.model.variants import VARIANTS, build\n"
        "from napari_sam.model.unfilled import unfilled\n"
        "napari_sam.load_model(device='cpu')\n"
        "with unfilled():\n"
        "    for variant in VARIANTS.values(): build(variant)\n"
        "print(*sys.modules)"
    ).split()
    assert "torch" in loaded
    assert not {"torch._dynamo", "sympy"}.intersection(loaded)


def test_core_needs_neither_napari_nor_qt():
    """Using the public names from a script or on a cluster opens no window."""
    loaded = run_python(
        "import sys, napari_sam\n"
        "for name in napari_sam.__all__: getattr(napari_sam, name)\n"
        "print(*sys.modules)"
    ).split()
    assert "torch" in loaded
    assert not WINDOW.intersection(loaded)


def test_public_names_exist():
    for name in napari_sam.__all__:
        assert getattr(napari_sam, name) is not None
        assert name in dir(napari_sam)
    with pytest.raises(AttributeError, match="has no attribute 'magic'"):
        _ = napari_sam.magic


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_only_the_window_imports_napari_and_qt(path):
    if part_of(path) == "_napari":
        return
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & WINDOW, f"{identify(path)} belongs below the window: it may not import these"


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_dependencies_point_one_way(path):
    """Model <- predictor <- {everything, stack, training, evaluation} <- session <- {window, cli}.

    Parts that are not named there (values and tools such as masks or export) may be used by all.
    """
    part = part_of(path)
    own = LEVEL.get(part)
    if own is None:
        return
    above = {other for other in own_parts(path) if LEVEL.get(other, -1) > own}
    assert not above, f"{identify(path)} may not import {above}: they stand above it"


@pytest.mark.parametrize("path", MODULES, ids=identify)
def test_nobody_but_the_commands_imports_the_window(path):
    if part_of(path) not in {"_napari", "cli"}:
        assert "_napari" not in own_parts(path)


def test_parts_form_no_cycle():
    """Two parts never need each other, whether they are named above or not."""
    needs: dict[str, set[str]] = {}
    for path in MODULES:
        part = part_of(path)
        if part != "__init__":
            needs.setdefault(part, set()).update(own_parts(path) - {part})
    done: set[str] = set()
    while ready := {part for part in needs if part not in done and needs[part] & set(needs) <= done}:
        done |= ready
    left = {part: sorted(needs[part] & set(needs) - done) for part in set(needs) - done}
    assert not left, f"these parts need each other in a circle: {left}"


def test_every_import_is_a_declared_dependency():
    """A module that is only there because another package brought it is an accident in waiting."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(r for extra in extras for r in extra)]
    declared = {re.split(r"[\[<>=!~ ;]", r, maxsplit=1)[0].lower() for r in required}
    distributions = packages_distributions()
    for path in MODULES:
        roots = {name.split(".")[0] for name in imports(path)}
        for root in roots - sys.stdlib_module_names - {"napari_sam"}:
            owners = {name.lower() for name in distributions.get(root, [root])}
            assert owners & declared, f"{identify(path)} imports {root}: declare {owners}"

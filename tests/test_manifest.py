"""What napari reads about the plugin before it imports it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest

import napari_sam

PACKAGE = Path(napari_sam.__file__).parent
ROOT = PACKAGE.parents[1]
DISTRIBUTION = "napari-sam-cells"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_distribution(DISTRIBUTION)


def test_the_installed_manifest_is_the_one_at_the_root(manifest):
    at_root = yaml.safe_load((ROOT / "napari.yaml").read_text(encoding="utf-8"))
    packaged = yaml.safe_load((PACKAGE / "napari.yaml").read_text(encoding="utf-8"))
    assert at_root == packaged
    assert manifest.name == DISTRIBUTION
    ids = [command.id for command in manifest.contributions.commands]
    assert ids == [command["id"] for command in at_root["contributions"]["commands"]]


def test_names_of_the_manifest_and_of_the_package_agree(manifest):
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["name"] == manifest.name
    assert manifest.package_version == napari_sam.__version__ == pyproject["project"]["version"]


def test_every_command_can_be_imported(manifest):
    manifest.validate_imports()


def test_every_contribution_refers_to_a_command_that_exists(manifest):
    contributions = manifest.contributions
    ids = {command.id for command in contributions.commands}
    used = {
        item.command
        for group in (contributions.widgets, contributions.sample_data, contributions.writers)
        for item in group
    } | {item.command for items in contributions.menus.values() for item in items}
    assert used == ids


def test_one_writer_per_format(manifest):
    writers = manifest.contributions.writers
    suffixes = [s for w in writers if "labels" in w.layer_types for s in w.filename_extensions]
    expected = {".tif", ".tiff", ".png", ".json", ".zip", ".geojson", ".ome.zarr", ".zarr", ".csv"}
    assert len(suffixes) == len(set(suffixes))
    assert set(suffixes) == expected
    assert {s for w in writers if w.layer_types == ["tracks"] for s in w.filename_extensions} == {
        ".csv",
        ".geff",
    }


def test_settings_have_defaults_and_types(manifest):
    settings = {
        f"{group}.{key}": setting
        for group, page in manifest.contributions.configurations.items()
        for key, setting in page.properties.items()
    }
    store = {"store.folder", "store.read_only", "store.max_gb"}
    assert set(settings) == {"model.name", "model.device", "cache.memory_mb", "cache.folder"} | store
    assert settings["model.name"].default == "built-in"
    assert settings["model.device"].enum == ["auto", "cpu", "cuda", "mps"]
    assert settings["cache.memory_mb"].type == "integer"
    assert (settings["store.read_only"].type, settings["store.max_gb"].type) == ("boolean", "number")

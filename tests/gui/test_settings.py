"""The page in the Preferences: read as values, changed, listened to, and never needed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from npe2 import PluginManifest

from napari_sam._napari.settings import (
    CACHE_VARIABLE,
    PLUGIN,
    Preferences,
    on_preferences_changed,
    preferences,
    set_preference,
    use_cache_folder,
)


@pytest.fixture
def known(plugin_settings, npe2pm):
    """Let napari know the plugin, with settings of this test's own."""
    npe2pm.register(PluginManifest.from_distribution(PLUGIN))


@pytest.mark.usefixtures("known")
def test_defaults_of_the_manifest_are_the_defaults_here():
    assert preferences() == Preferences()


@pytest.mark.usefixtures("known")
def test_preferences_are_read_and_changed():
    set_preference("model", "name", " mobile_sam ")
    set_preference("model", "device", "cpu")
    set_preference("cache", "memory_mb", 250)
    set_preference("cache", "folder", "~/kept")
    assert preferences() == Preferences("mobile_sam", "cpu", 250 * 2**20, Path.home() / "kept")
    set_preference("model", "name", "")
    assert preferences().model == "built-in"


@pytest.mark.usefixtures("known")
def test_changes_are_told_until_the_end():
    told = []
    end = on_preferences_changed(told.append)
    set_preference("model", "device", "cpu")
    set_preference("cache", "memory_mb", 250)
    end()
    set_preference("model", "device", "auto")
    assert [t.device for t in told] == ["cpu", "cpu"]
    assert told[1].cache_bytes == 250 * 2**20


@pytest.mark.usefixtures("plugin_settings")
def test_without_the_plugin_installed_there_are_defaults():
    assert preferences() == Preferences()
    set_preference("model", "device", "cpu")
    assert preferences() == Preferences()
    on_preferences_changed(print)()


def test_cache_folder_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, "elsewhere")
    use_cache_folder(None)
    assert os.environ[CACHE_VARIABLE] == "elsewhere"
    use_cache_folder(tmp_path)
    assert os.environ[CACHE_VARIABLE] == str(tmp_path)


@pytest.mark.parametrize("given", ["elsewhere", None])
def test_without_a_cache_folder_the_environment_is_again_as_it_was(monkeypatch, tmp_path, given):
    monkeypatch.setenv(CACHE_VARIABLE, "elsewhere")
    if given is None:
        monkeypatch.delenv(CACHE_VARIABLE)
    for _ in range(2):  # each dock says so
        use_cache_folder(tmp_path / "one")
    use_cache_folder(tmp_path / "other")
    assert os.environ[CACHE_VARIABLE] == str(tmp_path / "other")
    for _ in range(2):
        use_cache_folder(None)
        assert os.environ.get(CACHE_VARIABLE) == given
    use_cache_folder(tmp_path)
    monkeypatch.setenv(CACHE_VARIABLE, "set by somebody since")
    use_cache_folder(None)
    assert os.environ[CACHE_VARIABLE] == "set by somebody since"

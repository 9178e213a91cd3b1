"""The registry's facts are complete and consistent."""

from __future__ import annotations

import re

import pytest

from napari_sam.model import VARIANTS
from napari_sam.weights.registry import ENTRIES, Entry, entries, find_entry


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_entry(entry: Entry) -> None:
    assert entry.architecture in VARIANTS
    assert entry.urls
    assert all(url.startswith("https://") for url in entry.urls)
    assert re.fullmatch(r"[0-9a-f]{32}", entry.xxh128)
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.attribution
    assert 0 < entry.predicted_iou < 1
    assert 0 < entry.stability < 1


def test_names_and_files_and_hashes_are_unique() -> None:
    for attribute in ("name", "file", "xxh128"):
        values = [getattr(entry, attribute) for entry in ENTRIES]
        assert len(set(values)) == len(values)


def test_only_models_with_a_licence_are_offered() -> None:
    assert all(entry.licence in {"Apache-2.0", "CC-BY-4.0"} for entry in entries())
    names = {entry.name for entry in entries()}
    assert {"vit_t", "vit_b", "vit_l", "vit_h", "vit_b_lm", "vit_b_em_organelles"} <= names
    assert "vit_b_histopathology" not in names
    assert "vit_b_histopathology" in {entry.name for entry in entries(without_licence=True)}


def test_official_files_have_a_hash_that_finds_tampering() -> None:
    for name in ("vit_t", "vit_b", "vit_l", "vit_h"):
        assert list(find_entry(name).hashes) == ["sha256", "xxh128"]


def test_find() -> None:
    assert find_entry("vit_b_lm").predicted_iou == 0.65
    with pytest.raises(ValueError, match=r"Expected one of the models vit_t, .*found 'sam9'"):
        find_entry("sam9")

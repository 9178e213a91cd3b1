"""The small files beside the embeddings of a store, written by several at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_sam.store.diameters import FILE as DIAMETERS
from napari_sam.store.diameters import note_diameter, read_diameter
from napari_sam.store.notes import read_notes, write_notes
from napari_sam.store.tiled import FILE as TILES
from napari_sam.store.tiled import boxes_of, note_tiles, read_tiles

WRITERS = {
    TILES: lambda folder, side: note_tiles(folder, (300, 400), side, 8, None),
    DIAMETERS: lambda folder, side: note_diameter(folder, ("pixels", "model"), side),
}


@pytest.mark.parametrize("name", WRITERS)
def test_two_that_write_at_once_do_not_take_the_file_from_each_other(tmp_path, monkeypatch, name):
    """The second writes all of its file while the first one is about to put its own in place."""
    write, replace, beside = WRITERS[name], Path.replace, []

    def meanwhile(path, target):
        beside.append(path)
        if len(beside) == 1:
            write(tmp_path, 64)
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", meanwhile)
    write(tmp_path, 32)
    assert len(set(beside)) == 2
    assert [path.name for path in tmp_path.iterdir()] == [name]
    if name == TILES:
        assert read_tiles(tmp_path, (300, 400)).boxes == boxes_of((300, 400), 32, 8)
    else:
        assert read_diameter(tmp_path, ("pixels", "model")) == 32


def test_a_disk_that_takes_no_more_leaves_the_notes_as_they_were(tmp_path, monkeypatch):
    path = tmp_path / "notes.json"
    write_notes(path, {"a": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            write_notes(path, {"a": 2})
        note_diameter(tmp_path, ("pixels", "model"), 3.0)
    assert read_notes(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\x00"])
def test_damaged_notes_count_as_none(tmp_path, text):
    for name in WRITERS:
        (tmp_path / name).write_text(text)
        assert read_notes(tmp_path / name) == {}
    assert read_tiles(tmp_path, (300, 400)) is None
    assert read_diameter(tmp_path, ("pixels", "model")) is None
    for value in ('{"300x400": 3}', '{"300x400": {}}', '{"300x400": {"diameters": 3}}', '{"300x400": [1]}'):
        (tmp_path / TILES).write_text(value)
        assert read_tiles(tmp_path, (300, 400)) is None

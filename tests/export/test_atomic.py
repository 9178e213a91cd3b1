"""Results are put in place as a whole, by one writer at a time."""

import subprocess
import sys

import pytest

from napari_sam.export import ExportError
from napari_sam.export.atomic import replacing


def fail_after(_):
    raise RuntimeError("in the midst")


@pytest.mark.parametrize("folder", [False, True])
def test_what_was_there_stays_until_all_went_well(tmp_path, folder):
    def write(place, text):
        if folder:
            place.mkdir()
        (place / "x" if folder else place).write_text(text)

    path = tmp_path / "new" / "result"
    for text in ("first", "second"):
        with replacing(path, folder=folder) as beside:
            write(beside, text)
    with pytest.raises(RuntimeError, match="in the midst"), replacing(path, folder=folder) as beside:
        fail_after(write(beside, "third"))
    assert (path / "x" if folder else path).read_text() == "second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("folder", [False, True])
def test_two_do_not_write_to_one_place_at_a_time(tmp_path, folder):
    """The second would remove, or add to, what the first has half written."""
    path = tmp_path / "result"
    with replacing(path, folder=folder) as beside:
        beside.mkdir() if folder else beside.write_text("mine")
        again = replacing(path, folder=folder)
        with pytest.raises(ExportError, match="is being written by another program or run"):
            again.__enter__()
        other = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys, pathlib\n"
                "from napari_sam.export.atomic import replacing\n"
                f"with replacing(pathlib.Path(sys.argv[1]), folder={folder}): pass",
                str(path),
            ],
            capture_output=True,
            text=True,
        )
        assert "is being written by another program or run" in other.stderr
        assert beside.exists()
    assert path.exists()
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path, folder=folder) as beside:  # and then it may be written again
        beside.mkdir() if folder else beside.write_text("again")

"""Groups of images: each has its own, or it is said what is missing."""

import re

import pytest

from napari_sam.files.groups import INDEX, read_groups


def test_groups_come_in_the_order_of_the_names(tmp_path):
    (tmp_path / INDEX).write_text("name,kind,size\na,red,1\nb,blue,2\nc,,3\n", encoding="utf-8-sig")
    assert read_groups(tmp_path / INDEX, "kind", ["c", "a", "b", "a"]) == ["", "red", "blue", "red"]


def test_names_in_the_table_may_be_spelled_as_a_mac_does(tmp_path):
    (tmp_path / INDEX).write_text("name,kind\nu\u0308,red\n\u00e4,blue\n", encoding="utf-8")
    assert read_groups(tmp_path / INDEX, "kind", ["\u00fc", "a\u0308"]) == ["red", "blue"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, r"groups the images, cannot be read \(No such file"),
        (b"name,kind\na,\xff\n", "groups the images, cannot be read"),
        (b"name,other\na,b\n", r"Expected the columns 'name' and 'kind' in .*, found no \['kind'\]"),
        (b"", r"found no \['kind', 'name'\]"),
        (b"name,kind\nb,x\n", "has no row for a: add it, or do not group by 'kind'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, words):
    if text is not None:
        (tmp_path / INDEX).write_bytes(text)
    with pytest.raises(ValueError, match=f"{re.escape(INDEX)}.*{words}|{words}.*"):
        read_groups(tmp_path / INDEX, "kind", ["a"])

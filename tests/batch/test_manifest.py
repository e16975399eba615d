"""Manifests of every kind give the same items, and say what is wrong with them."""

import json

import pyarrow as pa
import pyarrow.parquet
import pytest

from headlift.batch.manifest import items_from_table, items_table, read_manifest
from headlift.batch.places import open_place
from headlift.errors import InvalidInputError, NotFoundError


def test_a_folder_gives_its_pictures_in_order_and_keys_that_are_plain_and_apart(folder, settings):
    items = read_manifest(str(folder), settings)
    assert [item.id for item in items] == ["a.jpg", "b.PNG", "deep er/a.jpg", "deep er/ä.webp", "grey.png", "text.jpg"]
    keys = [item.key for item in items]
    assert len(set(keys)) == len(keys)
    assert all(key.isascii() and "/" not in key and " " not in key for key in keys)
    assert items_from_table(items_table(items)) == items


def test_lists_of_every_kind_give_the_same_items(folder, settings, tmp_path):
    rows = [
        {"picture": "in/a.jpg", "id": "007", "refine_steps": 3},
        {"picture": str(folder / "b.PNG"), "id": "x", "face_index": 1},
    ]
    csv = 'picture,id,refine_steps,face_index,comment\nin/a.jpg,007,3,,"a, b"\n' + f"{folder}/b.PNG,x,,1,\n"
    (tmp_path / "list.csv").write_text(csv)
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    pa.parquet.write_table(pa.Table.from_pylist([{**row, "more": [1]} for row in rows]), tmp_path / "list.parquet")
    found = {suffix: read_manifest(str(tmp_path / f"list.{suffix}"), settings) for suffix in ("csv", "jsonl")}
    # A column that only later rows have is unknown to a table made of the first.
    table = pa.Table.from_pylist([{"face_index": None, "refine_steps": None, **row} for row in rows])
    pa.parquet.write_table(table, tmp_path / "list.parquet")
    found["parquet"] = read_manifest(str(tmp_path / "list.parquet"), settings)
    assert found["csv"] == found["jsonl"] == found["parquet"]
    first, second = found["csv"]
    assert (first.key, first.refine_steps, first.face_index) == ("007", 3, -1)
    assert (second.refine_steps, second.face_index) == (-1, 1)
    assert (tmp_path / first.picture).samefile(folder / "a.jpg")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"picture": "a", "id": "x"}\n{"picture": "b", "id": "x"}', "'x'"),
        ("a.jsonl", '{"id": "x"}', "Item 1 .* no picture"),
        ("a.jsonl", "{", "cannot be read as a list"),
        ("a.jsonl", "[1]", "no picture"),
        ("a.csv", "picture,face_index\na.jpg,many", "whole numbers"),
        ("a.csv", "picture,face_index\na.jpg,64", r"0\.\.63"),
        ("a.csv", "picture\n", "no picture in"),
        ("a.parquet", "no table", "cannot be read as a list"),
        ("a.doc", "", "no list"),
        ("a.mp4", "no film", "not a clip"),
    ],
)
def test_a_list_that_is_none_is_refused_in_words(settings, tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidInputError, match=words):
        read_manifest(str(tmp_path / name), settings)


def test_a_list_that_is_not_there_is_not_found(settings, tmp_path):
    with pytest.raises(NotFoundError):
        read_manifest(str(tmp_path / "none.csv"), settings)


def test_places_that_are_unknown_are_refused(settings):
    for uri, words in (("gs://bucket/x", "no place"), ("s3:///x", "names no bucket"), ("s3://b/x", "ENDPOINT")):
        with pytest.raises(InvalidInputError, match=words):
            open_place(uri, settings)

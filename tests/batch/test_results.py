"""Rows survive their way through files, and files of earlier versions are read."""

import json

import pytest

from headlift.batch.manifest import Item
from headlift.batch.places import Folder
from headlift.batch.results import Output, ResultLog, Row

ITEM = Item(0, "a.jpg", "a", "in/a.jpg")
ROW = Row(0, "a.jpg", "in/a.jpg", -1, 0.0, "DONE", "OK", outputs=[Output("wire", "heads/a.wire", "00", 3)], attempts=2)


@pytest.fixture
def log(tmp_path) -> ResultLog:
    return ResultLog(Folder(tmp_path))


def test_an_item_file_of_an_earlier_version_is_read(log, tmp_path):
    (tmp_path / "work").mkdir()
    path = tmp_path / "work/a.json"
    path.write_text('{"begun": 2, "row": null}')
    assert log.read_item(ITEM) == 2
    row = {"index": 0, "id": "a.jpg", "picture": "in/a.jpg", "frame": -1, "time_s": 0.0, "status": "DONE"}
    row |= {"reason": "OK", "outputs": [{"kind": "wire", "name": "heads/a.wire", "sha256": "00", "size_bytes": 3}]}
    path.write_text(json.dumps({"begun": 2, "row": row | {"attempts": 2}}))
    assert log.read_item(ITEM) == ROW


def test_a_row_is_stored_by_item_then_by_block_then_in_one_table(log, tmp_path):
    assert log.read_item(ITEM) == 0
    log.begin_item(ITEM, 2)
    assert log.read_item(ITEM) == 2
    log.finish_item(ITEM, ROW)
    assert log.read_item(ITEM) == ROW
    assert log.read_block([ITEM]) is None
    log.write_block([ITEM], [ROW])
    assert log.read_block([ITEM]) == [ROW]
    assert not list((tmp_path / "work").iterdir())
    assert log.merge_blocks([ITEM]) == [ROW] == list(log.rows().values())
    assert not list((tmp_path / "results").iterdir())
    log.remove_rows({"a.jpg"})
    assert not log.rows()

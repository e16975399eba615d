"""Stores: a folder, and a real S3 server."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from headlift.errors import InvalidInputError, NotFoundError, StoreError
from headlift.settings import Settings
from headlift_trainer.loop import run
from headlift_trainer.schedule import Schedule
from headlift_trainer.stores import FolderStore, Store, open_store


@pytest.fixture
def s3_place(s3_bucket, monkeypatch) -> str:
    """A prefix in a fresh bucket, and the environment that leads there."""
    monkeypatch.setenv("HEADLIFT_S3_ENDPOINT", s3_bucket.server.endpoint)
    monkeypatch.setenv("HEADLIFT_S3_ACCESS_KEY", s3_bucket.access_key)
    monkeypatch.setenv("HEADLIFT_S3_SECRET_KEY", s3_bucket.secret_key)
    return f"s3://{s3_bucket.name}/runs/one"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.server)])
def place(request, tmp_path) -> str:
    return str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3_place")


@pytest.fixture
def store(place) -> Store:
    return open_store(place)


def test_files_come_back_are_replaced_listed_and_removed(store):
    assert store.names() == []
    store.put("b", lambda path: path.write_bytes(b"one") and None)
    store.put("a", lambda path: path.write_bytes(b"") and None)
    store.put("b", lambda path: path.write_bytes(b"two") and None)
    assert store.names() == ["a", "b"]
    with store.opened("b") as path:
        assert path.read_bytes() == b"two"
    store.delete("b")
    store.delete("b")
    assert store.names() == ["a"]
    with pytest.raises(NotFoundError), store.opened("b"):
        pass


class Line:
    """A linear map is learned."""

    name = "line"

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.module = nn.Linear(3, 1)

    def parameters(self):
        return list(self.module.parameters())

    def draw(self, generator):
        return torch.randn(4, 3, generator=generator)

    def loss(self, batch, generator):
        return (self.module(batch) - batch.sum(1, keepdim=True)).square().mean(), {}

    def figures(self):
        return {"weight": float(self.module.weight.sum())}

    def pictures(self):
        return {"grey": torch.full((3, 4, 4), 0.5)}

    def release(self, folder: Path, steps: int, figures) -> None:
        (folder / "line.txt").write_text(f"{steps}")


def test_a_run_keeps_everything_at_its_place_and_goes_on_from_there(place, store, tmp_path):
    schedule = Schedule(steps=10, warmup_steps=1, checkpoint_steps=4, log_every=1, learning_rate=0.01)
    asked = iter(range(100))
    first = run(Line(), schedule, place, quiet=True, stop=lambda: next(asked) == 5)
    assert (first.steps, first.finished) == (6, False)
    resumed = Line()
    result = run(resumed, schedule, place, quiet=True)
    assert (result.resumed_from, result.steps) == (6, 10)
    whole = Line()
    run(whole, schedule, tmp_path / "whole", quiet=True)
    assert torch.equal(whole.module.weight, resumed.module.weight)
    names = store.names()
    assert {"log.jsonl", "line.txt", "step-000000010.safetensors"} <= set(names)
    with store.opened("line.txt") as path:
        assert path.read_text() == "10"
    with store.opened("log.jsonl") as path:
        assert sum('"loss"' in line for line in path.read_text().splitlines()) == 10


def test_half_written_files_do_not_count(tmp_path):
    (tmp_path / "x.123.partial").write_text("half")
    assert FolderStore(tmp_path).names() == []


def test_s3_without_server_keys_or_bucket_is_refused():
    settings = replace(Settings(), s3_endpoint="http://127.0.0.1:9", s3_access_key="a", s3_secret_key="b")
    with pytest.raises(InvalidInputError, match="HEADLIFT_S3_ENDPOINT"):
        open_store("s3://bucket/x", Settings())
    with pytest.raises(InvalidInputError, match="no bucket"):
        open_store("s3:///x", settings)


def test_a_wrong_secret_is_said_so(s3_place):
    open_store(s3_place)
    with pytest.raises(StoreError, match="refused"):
        open_store(s3_place, replace(Settings.from_env(), s3_secret_key="wrong"))

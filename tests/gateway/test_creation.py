"""Whenever a process dies while it stores a head, the same request asked again leaves one head."""

import asyncio
import uuid
from dataclasses import dataclass

import pytest
import torch

from headlift.backend.workers import Workers
from headlift.gateway.creation import Creator
from headlift.gateway.pipeline import Reconstruction
from headlift.model.types import Gaussians
from headlift.store.blobs import Durability
from headlift.store.files import FileStore
from headlift.store.heads import HeadStore
from headlift.store.requests import RequestLog
from headlift.store.sealed import SealedStore
from headlift.store.stages import StageCache, StageKey
from headlift.v1 import head_pb2

_NOTHING = Gaussians(*(torch.zeros(0, n) for n in (3, 4, 3)), torch.zeros(0), torch.zeros(0, 3))


@dataclass(frozen=True)
class Order:
    request_id: str
    tenant: str = "a"
    body_sha256: str = "0" * 64
    durability: Durability = Durability.DURABLE


class DiedError(BaseException):
    """Nothing that runs in the process hears of it."""


class Mortal(FileStore):
    """Keeps ``left`` blobs, then dies: nothing is written or deleted any more."""

    left = 1_000_000

    def put(self, key, data, *args, **kwargs):
        self.left -= 1
        if self.left < 0:
            raise DiedError
        return super().put(key, data, *args, **kwargs)

    def delete(self, *args, **kwargs):
        if self.left < 0:
            raise DiedError
        return super().delete(*args, **kwargs)


def creator(store, storing):
    sealed = SealedStore(store)
    heads = HeadStore(sealed, unpack=lambda _: _NOTHING, memory_bytes=0)
    log = RequestLog(sealed, keep_s=3600)
    made = Creator(
        None, heads, log, StageCache(sealed), storing, refine_steps_default=0, picture_bytes_max=1
    )  # fmt: skip
    return made, heads


async def reconstruction():
    key = StageKey("a", "1" * 64, "gaussians", {}, "f")
    return Reconstruction(head_pb2.Head(input_sha256="1" * 64), b"gaussians", key)


@pytest.mark.parametrize("left", range(6))
def test_a_retry_after_a_death_finds_or_makes_the_one_head(tmp_path, left):
    storing = Workers("storing", 1, 8)
    order, store = Order(str(uuid.uuid4())), Mortal(tmp_path)
    try:
        store.left = left
        dying, _ = creator(store, storing)
        try:
            first = asyncio.run(dying.make(order, reconstruction))
        except DiedError:
            first = None
        assert (first is None) == (left < 4)  # request, Gaussians, links, record

        again, heads = creator(FileStore(tmp_path), storing)
        second = asyncio.run(again.make(order, reconstruction))
        listed = heads.list("a", limit=9)
    finally:
        storing.close()
    assert [h.name for h in listed] == [second.name]
    if first is not None:
        assert first.name == second.name

import asyncio

import pytest

from headlift.errors import QuotaError
from headlift.serving.edge.stored import StoredHeads


class Shelf:
    """Heads of one tenant, which others may change."""

    def __init__(self, heads):
        self.heads, self.counted, self.now = heads, 0, 0.0

    async def count(self, tenant):
        await asyncio.sleep(0)
        self.counted += 1
        return self.heads


async def made(stored, heads_max=3):
    """Whether a head could be made."""
    try:
        await stored.reserve("acme", heads_max)
    except QuotaError:
        return False
    await asyncio.sleep(0)
    stored.made("acme")
    stored.release("acme")
    return True


async def test_no_head_too_many_and_none_too_few_however_many_ask_at_once():
    shelf = Shelf(0)
    stored = StoredHeads(shelf.count, lambda: shelf.now)
    reserved = await asyncio.gather(*(stored.reserve("acme", 3) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(r, QuotaError) for r in reserved) == 17
    stored.release("acme")  # one of them failed: its room is free again
    await stored.reserve("acme", 3)
    with pytest.raises(QuotaError, match="3 heads"):
        await stored.reserve("acme", 3)


async def test_counting_is_remembered_but_nobody_is_refused_by_memory():
    shelf = Shelf(1)
    stored = StoredHeads(shelf.count, lambda: shelf.now)
    assert await made(stored)
    shelf.heads = 2
    assert await made(stored)
    assert shelf.counted == 1
    shelf.heads = 3
    assert not await made(stored)
    assert shelf.counted == 2
    shelf.heads = 0  # deleted, by this server or another
    assert await made(stored)
    shelf.now += 60
    assert await made(stored)
    assert shelf.counted == 4

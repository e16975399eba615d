import asyncio
from contextlib import AsyncExitStack

import pytest

from headlift.errors import QuotaError, RateLimitError
from headlift.serving.edge.limits import Limits
from headlift.serving.edge.quotas import CallCost, HeadQuota, Quotas
from headlift.v1 import edit_service_pb2, live_pb2
from headlift.v1 import head_service_pb2 as pb

TWO_AND_A_HEAD = edit_service_pb2.ReplayEditsRequest(
    targets=[
        edit_service_pb2.ReplayTarget(picture=b"x"),
        edit_service_pb2.ReplayTarget(head="tenants/a/heads/b"),
    ]
)


@pytest.mark.parametrize(
    ("request_", "heads"),
    [
        (pb.CreateHeadRequest(), (1, 1)),
        (pb.CreateHeadRequest(validate_only=True), (1, 0)),
        (pb.GetHeadRequest(), (0, 0)),
        (edit_service_pb2.EditHeadRequest(), (1, 1)),
        (edit_service_pb2.SegmentPortraitRequest(), (0, 0)),
        (TWO_AND_A_HEAD, (3, 3)),
        (live_pb2.LiveRequest(open=live_pb2.LiveOpen(portrait=b"x")), (1, 1)),
        (live_pb2.LiveRequest(open=live_pb2.LiveOpen(head="tenants/a/heads/b")), (0, 0)),
        (None, (0, 0)),
    ],
)
def test_a_request_is_charged_for_every_head_that_it_makes(request_, heads):
    cost = CallCost.of(request_, 10)
    assert (cost.makes_heads, cost.keeps_heads, cost.size) == (*heads, 10)


async def test_several_heads_need_room_for_all_of_them_and_give_it_back():
    async def count(_):
        return 1

    quotas, cost = Quotas(Limits(heads=4), count_heads=count), CallCost.of(TWO_AND_A_HEAD, 0)
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", cost, stack)
        async with AsyncExitStack() as other:
            with pytest.raises(QuotaError):
                await quotas.admit(None, "a", CallCost(0, 1, 1), other)
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", cost, stack)
        quotas.settle("a", cost)
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", CallCost(0, 1, 1), stack)  # three were noted, but counting again finds one


async def test_several_heads_are_taken_out_of_the_rate_together():
    quotas = Quotas(Limits(creates_per_min=4))
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", CallCost.of(TWO_AND_A_HEAD, 0), stack)
        with pytest.raises(RateLimitError):
            await quotas.admit(None, "a", CallCost.of(TWO_AND_A_HEAD, 0), stack)
        await quotas.admit(None, "a", CallCost(0, 1, 1), stack)


class Shelf:
    """Heads of one tenant, which others may change."""

    def __init__(self, heads):
        self.heads, self.counted, self.now = heads, 0, 0.0

    async def count(self, tenant):
        await asyncio.sleep(0)
        self.counted += 1
        return self.heads


async def made(quota, heads_max=3):
    """Whether a head could be made."""
    try:
        await quota.reserve("acme", heads_max)
    except QuotaError:
        return False
    await asyncio.sleep(0)
    quota.made("acme")
    quota.release("acme")
    return True


async def test_no_head_too_many_and_none_too_few_however_many_ask_at_once():
    shelf = Shelf(0)
    quota = HeadQuota(shelf.count, lambda: shelf.now)
    reserved = await asyncio.gather(*(quota.reserve("acme", 3) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(r, QuotaError) for r in reserved) == 17
    quota.release("acme")  # one of them failed: its room is free again
    await quota.reserve("acme", 3)
    with pytest.raises(QuotaError, match="3 heads"):
        await quota.reserve("acme", 3)


async def test_counting_is_remembered_but_nobody_is_refused_by_memory():
    shelf = Shelf(1)
    quota = HeadQuota(shelf.count, lambda: shelf.now)
    assert await made(quota)
    shelf.heads = 2
    assert await made(quota)
    assert shelf.counted == 1
    shelf.heads = 3
    assert not await made(quota)
    assert shelf.counted == 2
    shelf.heads = 0  # deleted, by this server or another
    assert await made(quota)
    shelf.now += 60
    assert await made(quota)
    assert shelf.counted == 4

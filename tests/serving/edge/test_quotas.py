from contextlib import AsyncExitStack

import pytest

from headlift.errors import QuotaError, RateLimitError
from headlift.serving.edge.limits import Limits
from headlift.serving.edge.quotas import Ask, Quotas
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
    ask = Ask.of(request_, 10)
    assert (ask.makes_heads, ask.keeps_heads, ask.size) == (*heads, 10)


async def test_several_heads_need_room_for_all_of_them_and_give_it_back():
    async def count(_):
        return 1

    quotas, ask = Quotas(Limits(heads=4), count_heads=count), Ask.of(TWO_AND_A_HEAD, 0)
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", ask, stack)
        async with AsyncExitStack() as other:
            with pytest.raises(QuotaError):
                await quotas.admit(None, "a", Ask(0, 1, 1), other)
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", ask, stack)
        quotas.settle("a", ask)
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", Ask(0, 1, 1), stack)  # three were noted, but counting again finds one


async def test_several_heads_are_taken_out_of_the_rate_together():
    quotas = Quotas(Limits(creates_per_min=4))
    async with AsyncExitStack() as stack:
        await quotas.admit(None, "a", Ask.of(TWO_AND_A_HEAD, 0), stack)
        with pytest.raises(RateLimitError):
            await quotas.admit(None, "a", Ask.of(TWO_AND_A_HEAD, 0), stack)
        await quotas.admit(None, "a", Ask(0, 1, 1), stack)

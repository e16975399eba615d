import asyncio

import pytest

from headlift.errors import ConflictError
from headlift.gateway.idempotency import SharedWork
from headlift.v1 import head_pb2

KEY = ("a", "id")


class Work:
    """Counts how often it is begun, ended and cancelled."""

    def __init__(self, seconds=0.05, fault=None):
        self.begun = self.cancelled = 0
        self.seconds, self.fault = seconds, fault

    async def __call__(self):
        self.begun += 1
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault:
            raise self.fault
        return head_pb2.Head(name="h")


async def test_equal_calls_share_one_execution():
    shared, work = SharedWork(), Work()
    answers = await asyncio.gather(*(shared.run(KEY, "body", work) for _ in range(100)))
    assert work.begun == 1
    assert {a.name for a in answers} == {"h"}
    await shared.run(KEY, "body", work)
    assert work.begun == 2  # what is over is remembered by the request log, not here


async def test_another_body_under_way_is_a_conflict():
    shared, work = SharedWork(), Work()
    first = asyncio.create_task(shared.run(KEY, "body", work))
    await asyncio.sleep(0)
    with pytest.raises(ConflictError):
        await shared.run(KEY, "other", work)
    await shared.run(("b", "id"), "other", work)
    await first


async def test_a_failure_reaches_every_caller_and_is_not_kept():
    shared, work = SharedWork(), Work(fault=ValueError("x"))
    answers = await asyncio.gather(*(shared.run(KEY, "body", work) for _ in range(3)), return_exceptions=True)
    assert [type(a) for a in answers] == [ValueError] * 3
    work.fault = None
    assert (await shared.run(KEY, "body", work)).name == "h"


async def test_work_ends_with_its_last_caller_and_not_before():
    shared, work = SharedWork(), Work(seconds=0.2)
    callers = [asyncio.create_task(shared.run(KEY, "body", work)) for _ in range(3)]
    await asyncio.sleep(0.01)
    callers[0].cancel()
    callers[1].cancel()
    await asyncio.sleep(0.01)
    assert work.cancelled == 0
    assert (await callers[2]).name == "h"

    last = asyncio.create_task(shared.run(KEY, "body", work))
    await asyncio.sleep(0.01)
    last.cancel()
    await asyncio.sleep(0.01)
    assert work.cancelled == 1
    # Who comes next begins anew and does not join what was cancelled.
    assert (await shared.run(KEY, "body", work)).name == "h"

import asyncio
import threading

import pytest

from headlift.backend.workers import Workers
from headlift.errors import CancelledError, OverloadedError


@pytest.fixture
def workers():
    made = Workers("test", 1, 1)
    yield made
    made.close()


async def settle(condition):
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


async def test_jobs_run_off_the_event_loop_and_return_or_raise(workers):
    here = threading.get_ident()
    assert await workers.run(lambda _: threading.get_ident()) != here
    with pytest.raises(ZeroDivisionError):
        await workers.run(lambda _: 1 // 0)
    await settle(lambda: workers.admitted == 0)


async def test_more_than_the_limit_is_refused_at_once_and_admitted_again_later(workers):
    gate = threading.Event()
    jobs = [asyncio.create_task(workers.run(lambda _: gate.wait(5))) for _ in range(2)]
    await settle(lambda: workers.admitted == 2)
    for _ in range(3):
        with pytest.raises(OverloadedError) as caught:
            await workers.run(lambda _: None)
        assert 0.1 <= caught.value.retry_after_s <= 30
    gate.set()
    await asyncio.gather(*jobs)
    assert await workers.run(lambda _: "again") == "again"


async def test_cancelling_stops_running_work_and_skips_waiting_work(workers):
    ended, ran = threading.Event(), threading.Event()

    def long(token):
        try:
            while True:
                token.check()
                threading.Event().wait(0.005)
        except CancelledError:
            ended.set()
            raise

    running = asyncio.create_task(workers.run(long))
    waiting = asyncio.create_task(workers.run(lambda _: ran.set()))
    await settle(lambda: workers.admitted == 2)
    for task in (waiting, running):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await settle(lambda: workers.admitted == 0)
    assert ended.is_set()
    assert not ran.is_set()


async def test_a_closed_pool_refuses(workers):
    workers.close()
    with pytest.raises(OverloadedError, match="shutting down"):
        await workers.run(lambda _: None)
    assert workers.admitted == 0

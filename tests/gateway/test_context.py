import time

from headlift.backend.workers import Workers
from headlift.gateway.context import LocalContext, check_alive
from headlift.stages.stop_token import DEADLINE, without_deadline


async def test_work_inherits_the_deadline_of_the_call_that_is_served():
    workers = Workers("test", 1, 0)
    try:
        check_alive(LocalContext(deadline=time.monotonic() + 60))
        assert 50 < await workers.run(lambda token: token.remaining_s()) <= 60
        assert without_deadline().get(DEADLINE) is None
        check_alive(LocalContext())
        assert await workers.run(lambda token: token.remaining_s()) is None
    finally:
        workers.close()

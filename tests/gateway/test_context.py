import time

import pytest

from headlift.errors import CancelledError, DeadlineError
from headlift.gateway.context import DEADLINE, LocalContext, StopToken, check_alive, without_deadline
from headlift.gateway.workers import Workers


def test_stopping_a_token_ends_what_it_guards_once():
    token, ended = StopToken(), []
    with token.stopping(lambda: ended.append("inside")):
        token.stop()
        token.stop()
    with token.stopping(lambda: ended.append("too late")):
        pass
    assert ended == ["inside", "too late"]
    with pytest.raises(CancelledError):
        token.check()


def test_what_is_over_is_not_ended_any_more():
    token, ended = StopToken(), []
    with token.stopping(lambda: ended.append("over")):
        pass
    token.stop()
    assert ended == []


def test_a_deadline_is_seen_by_the_work():
    with pytest.raises(DeadlineError):
        StopToken(time.monotonic() - 1).check()
    early = StopToken(time.monotonic() + 60)
    early.check()
    assert 50 < early.remaining_s() <= 60
    assert StopToken().remaining_s() is None


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

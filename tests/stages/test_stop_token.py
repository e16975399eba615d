import time

import pytest

from headlift.errors import CancelledError, DeadlineError
from headlift.stages.stop_token import StopToken


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

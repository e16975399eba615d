import math

import grpc
import pytest

from headlift.client import RetryPolicy
from headlift.client._retry import Attempts
from headlift.errors import DeadlineError, InvalidInputError, NotFoundError, OverloadedError, ServerError


class Failure(grpc.RpcError):
    """A failed call without details."""

    def __init__(self, code):
        self._code = code

    def code(self):
        return self._code

    def details(self):
        return "away"

    def trailing_metadata(self):
        return ()


def test_only_what_passes_by_itself_is_tried_again():
    policy = RetryPolicy(attempts_max=3, first_s=0.1, factor=2.0)
    unavailable = ServerError("away")
    unavailable.code = "UNAVAILABLE"
    delays = [policy.delay_s(unavailable, i) for i in range(3)]
    assert 0.05 <= delays[0] <= 0.1
    assert 0.1 <= delays[1] <= 0.2
    assert delays[2] is None
    assert 2.0 <= policy.delay_s(OverloadedError("busy", retry_after_s=2.0), 0) <= 3.0
    for error in (NotFoundError("no"), InvalidInputError("bad"), DeadlineError("late"), ServerError("?")):
        assert policy.delay_s(error, 0) is None


def test_tries_end_with_their_number_their_time_and_where_the_caller_says_so():
    unavailable = Failure(grpc.StatusCode.UNAVAILABLE)
    attempts = Attempts(RetryPolicy(attempts_max=2))
    assert attempts.remaining_s == math.inf
    assert attempts.delay_after(unavailable) > 0
    for spent, again in ((attempts, True), (Attempts(RetryPolicy(), 0.01), True), (Attempts(RetryPolicy()), False)):
        with pytest.raises(ServerError) as caught:
            spent.delay_after(unavailable, again=again)
        assert caught.value.code == "UNAVAILABLE"

"""What the edge believes of the weights while they change."""

import threading
import time
from dataclasses import replace

from headlift.errors import StageUnavailableError
from headlift.gateway.pipeline import Network
from headlift.serving.remote.known import KnownNetwork

OLD = Network("old", "tiny", "f", "p old", 64, sharpens=True)
NEW = replace(OLD, weights_hash="new", portraits="p new")


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_replies_of_the_known_weights_ask_nobody():
    known = KnownNetwork(OLD, lambda: 1 / 0)
    known.heard("old")
    known.heard("")
    assert known.settled()
    assert all(t.name != "weights" for t in threading.enumerate())


def test_other_weights_are_believed_once_all_agree_and_nothing_is_settled_before():
    answers = [[OLD, NEW]]

    def ask():
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    known = KnownNetwork(OLD, ask, calm_s=0.1, every_s=0.01)
    known.heard("new")
    assert not known.settled()
    time.sleep(0.3)  # several questions, to which there is no one answer
    assert (known.settled(), known.current()) == (False, OLD)
    answers[0] = StageUnavailableError("gone")
    time.sleep(0.1)
    answers[0] = [NEW, NEW]
    until(known.settled)
    assert known.current() == NEW
    known.heard("new")
    assert known.settled()
    # A request that began long ago ends now: its result must not be kept either.
    known.heard("old")
    assert not known.settled()
    until(known.settled)
    assert known.current() == NEW


def test_a_reply_that_disagrees_puts_the_end_off():
    known = KnownNetwork(OLD, lambda: [NEW, NEW], calm_s=0.4, every_s=0.01)
    known.heard("new")
    for _ in range(10):
        time.sleep(0.05)
        known.heard("old")
        assert not known.settled()
    until(known.settled)
    assert known.current() == NEW


def test_nobody_is_asked_after_the_end():
    known = KnownNetwork(OLD, lambda: [NEW], calm_s=0.0, every_s=0.05)
    known.heard("new")
    known.close()
    until(lambda: all(t.name != "weights" for t in threading.enumerate()))
    assert known.current() == OLD

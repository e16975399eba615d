"""What the edge believes of the weights while they change."""

import threading
import time
from dataclasses import replace

from headlift.backend.network_watch import NetworkWatch
from headlift.backend.protocol import Network
from headlift.errors import StageUnavailableError

OLD = Network("old", "tiny", "f", "p old", 64, sharpens=True)
NEW = replace(OLD, weights_hash="new", portraits="p new")


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_replies_of_the_known_weights_ask_nobody():
    watch = NetworkWatch(OLD, lambda: 1 / 0)
    watch.report_weights("old")
    watch.report_weights("")
    assert watch.settled()
    assert all(t.name != "weights" for t in threading.enumerate())


def test_other_weights_are_believed_once_all_agree_and_nothing_is_settled_before():
    answers = [[OLD, NEW]]

    def ask():
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    watch = NetworkWatch(OLD, ask, calm_s=0.1, every_s=0.01)
    watch.report_weights("new")
    assert not watch.settled()
    time.sleep(0.3)  # several questions, to which there is no one answer
    assert (watch.settled(), watch.current()) == (False, OLD)
    answers[0] = StageUnavailableError("gone")
    time.sleep(0.1)
    answers[0] = [NEW, NEW]
    until(watch.settled)
    assert watch.current() == NEW
    watch.report_weights("new")
    assert watch.settled()
    # A request that began long ago ends now: its result must not be kept either.
    watch.report_weights("old")
    assert not watch.settled()
    until(watch.settled)
    assert watch.current() == NEW


def test_a_reply_that_disagrees_puts_the_end_off():
    watch = NetworkWatch(OLD, lambda: [NEW, NEW], calm_s=0.4, every_s=0.01)
    watch.report_weights("new")
    for _ in range(10):
        time.sleep(0.05)
        watch.report_weights("old")
        assert not watch.settled()
    until(watch.settled)
    assert watch.current() == NEW


def test_nobody_is_asked_after_the_end():
    watch = NetworkWatch(OLD, lambda: [NEW], calm_s=0.0, every_s=0.05)
    watch.report_weights("new")
    watch.close()
    until(lambda: all(t.name != "weights" for t in threading.enumerate()))
    assert watch.current() == OLD

import threading
import time

import pytest

from headlift.errors import StoreError, StoreFullError
from headlift.store.breaker import Breaker


def eventually(holds, seconds=20.0):
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to hold"
        time.sleep(0.01)


class Tier:
    """Answers, or does not."""

    def __init__(self):
        self.alive, self.asked, self.tried = True, 0, 0

    def ask(self):
        self.asked += 1
        if not self.alive:
            raise StoreError("away")
        return "answer"

    def revive(self):
        self.tried += 1
        if not self.alive:
            raise StoreError("still away")


@pytest.fixture
def tier():
    return Tier()


def breaker_of(tier, **options):
    return Breaker("hot", tier.revive, first_s=0.01, longest_s=0.02, **options)


def test_a_dead_tier_is_asked_once_then_skipped_until_it_is_back(tier):
    breaker = breaker_of(tier)
    assert breaker.run(tier.ask) == "answer"
    tier.alive = False
    for _ in range(50):
        with pytest.raises(StoreError):
            breaker.run(tier.ask)
    assert tier.asked == 2
    eventually(lambda: tier.tried > 2)
    assert breaker.is_open
    tier.alive = True
    eventually(lambda: not breaker.is_open)
    assert breaker.run(tier.ask) == "answer"


def test_single_failures_between_answers_do_not_open_it(tier):
    breaker = breaker_of(tier, failures_max=2)
    for alive in (False, True) * 5:
        tier.alive = alive
        if alive:
            breaker.run(tier.ask)
        else:
            with pytest.raises(StoreError):
                breaker.run(tier.ask)
    assert not breaker.is_open
    tier.alive = False
    for _ in range(2):
        with pytest.raises(StoreError):
            breaker.run(tier.ask)
    assert breaker.is_open
    breaker.close()


def test_a_refusal_that_concerns_one_blob_does_not_open_it(tier):
    breaker = breaker_of(tier)

    def refuse():
        raise StoreFullError("full")

    with pytest.raises(StoreFullError):
        breaker.run(refuse)
    assert not breaker.is_open


def test_what_was_left_for_it_while_it_closed_is_done_before_it_is_trusted(tier):
    tier.alive = False
    breaker = breaker_of(tier)
    with pytest.raises(StoreError):
        breaker.run(tier.ask)
    tier.alive = True
    eventually(lambda: not breaker.is_open)
    eventually(lambda: tier.tried >= 2)


def test_open_and_closed_are_told(tier):
    told = []
    breaker = breaker_of(tier, on_change=lambda name, is_open: told.append((name, is_open)))
    tier.alive = False
    with pytest.raises(StoreError):
        breaker.run(tier.ask)
    tier.alive = True
    eventually(lambda: len(told) == 3)
    assert told == [("hot", False), ("hot", True), ("hot", False)]


def test_a_listing_that_breaks_half_way_opens_it(tier):
    def halfway():
        yield 1
        raise StoreError("away")

    breaker = breaker_of(tier)
    tier.alive = False
    with pytest.raises(StoreError):
        list(breaker.iterate(halfway))
    assert breaker.is_open
    breaker.close()


def test_many_threads_open_it_once_and_one_thread_tries(tier):
    tier.alive = False
    breaker = breaker_of(tier)

    def ask():
        with pytest.raises(StoreError):
            breaker.run(tier.ask)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sum(t.name == "hot-breaker" for t in threading.enumerate()) == 1
    breaker.close()
    eventually(lambda: not any(t.name == "hot-breaker" for t in threading.enumerate()))

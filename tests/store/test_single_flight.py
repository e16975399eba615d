import subprocess
import sys
import threading
import time

import pytest

from headlift.errors import CancelledError, NoFaceError
from headlift.store import redis as hot
from headlift.store.breaker import Breaker
from headlift.store.leases import Leases
from headlift.store.redis import RedisStore
from headlift.store.single_flight import LeaseWaiter, SingleFlight


class Work:
    """Counts how often it was done; keeps its result as a cache would."""

    def __init__(self, seconds=0.1, keeps=True, fault=None):
        self.count, self.kept = 0, None
        self._seconds, self._keeps, self._fault = seconds, keeps, fault

    def compute(self):
        self.count += 1
        time.sleep(self._seconds)
        if self._fault:
            raise self._fault
        self.kept = "result" if self._keeps else None
        return "result"

    def recall(self):
        return self.kept


def at_once(count, ask):
    """What ``ask`` returned or raised, asked on as many threads."""
    results, barrier = [], threading.Barrier(count)

    def run():
        barrier.wait()
        try:
            results.append(ask())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


@pytest.mark.parametrize("keeps", [True, False])
def test_a_hundred_equal_requests_compute_once(keeps):
    flight, work = SingleFlight(), Work(0.3, keeps)
    assert at_once(100, lambda: flight.run("k", work.recall, work.compute)) == ["result"] * 100
    assert work.count == 1


def test_different_work_is_done_side_by_side():
    flight, works = SingleFlight(), [Work() for _ in range(5)]
    for i, work in enumerate(works):
        assert flight.run(str(i), work.recall, work.compute) == "result"
    assert [w.count for w in works] == [1] * 5


def test_all_who_wait_hear_of_the_fault_and_the_next_one_tries_anew():
    flight, work = SingleFlight(), Work(0.2, fault=NoFaceError("none"))
    assert all(isinstance(r, NoFaceError) for r in at_once(20, lambda: flight.run("k", work.recall, work.compute)))
    assert work.count == 1
    with pytest.raises(NoFaceError):
        flight.run("k", work.recall, work.compute)
    assert work.count == 2


def test_when_the_one_who_computes_is_cancelled_another_takes_its_place():
    flight, started, leave = SingleFlight(), threading.Event(), threading.Event()
    work = Work()

    def cancelled():
        started.set()
        leave.wait(20)
        raise CancelledError("gone")

    def lead():
        with pytest.raises(CancelledError):
            flight.run("k", lambda: None, cancelled)

    leader = threading.Thread(target=lead)
    leader.start()
    assert started.wait(20)
    results = []
    followers = [
        threading.Thread(target=lambda: results.append(flight.run("k", work.recall, work.compute))) for _ in range(5)
    ]
    for t in followers:
        t.start()
    leave.set()
    for t in [leader, *followers]:
        t.join()
    assert results == ["result"] * 5
    assert work.count == 1


def test_who_is_cancelled_while_waiting_leaves_and_the_work_goes_on():
    flight, work, gone = SingleFlight(), Work(0.6), threading.Event()
    leader = threading.Thread(target=flight.run, args=("k", work.recall, work.compute))
    leader.start()
    while not work.count:
        time.sleep(0.01)
    gone.set()

    def check():
        if gone.is_set():
            raise CancelledError("gone")

    with pytest.raises(CancelledError):
        flight.run("k", work.recall, work.compute, check)
    leader.join()
    assert (work.count, work.kept) == (1, "result")


@pytest.fixture
def leases_of():
    """Leases of one process in a Redis server."""
    breakers = []

    def connect(server, ttl_s=10.0):
        client = hot.connect(server.url, 2.0)
        breakers.append(Breaker("hot", RedisStore(client).probe))
        return Leases(client, breakers[-1], ttl_s=ttl_s)

    yield connect
    for breaker in breakers:
        breaker.close()


SCRIPT = """
import sys, time
from headlift.store import redis as hot
from headlift.store.breaker import Breaker
from headlift.store.single_flight import SingleFlight
from headlift.store.leases import Leases
from headlift.store.redis import RedisStore
client = hot.connect(sys.argv[1], 5.0)
store = RedisStore(client)
flight = SingleFlight(Leases(client, Breaker("hot", store.probe)))
print("ready", flush=True)
sys.stdin.readline()
def compute():
    client.incr("computed")
    time.sleep(0.5)
    store.put("result", b"result")
    return b"result"
assert flight.run("work", lambda: store.get("result"), compute) == b"result"
"""


def test_equal_requests_of_several_processes_compute_once(redis_server):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, redis_server.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for p in processes:
        assert p.stdout.readline() == b"ready\n"
    for p in processes:
        p.stdin.write(b"\n")
        p.stdin.close()
    for p in processes:
        assert p.wait(60) == 0
        p.stdout.close()
    with redis_server.client() as client:
        assert int(client.get("computed")) == 1


def test_the_lease_of_a_process_that_died_ends_by_itself(leases_of, redis_server):
    dead = leases_of(redis_server, ttl_s=0.3)
    with redis_server.client() as client:
        client.set("{headlift-lease}:k", "of a dead process", px=300)
    flight, work = SingleFlight(dead), Work(0.0)
    assert flight.run("k", work.recall, work.compute) == "result"
    assert work.count == 1


def test_a_lease_lasts_as_long_as_the_work(leases_of, redis_server):
    leases = leases_of(redis_server, ttl_s=1.0)
    lease = leases.acquire("k")
    time.sleep(1.6)
    assert leases.acquire("k") is None
    with redis_server.client() as client:
        client.delete("{headlift-lease}:k")  # as if it had expired
    again = leases.acquire("k")
    assert again is not None
    leases.release(lease)  # too late: the lease is another's
    assert again.owned()
    leases.release(again)
    assert redis_server.held() == []


def test_nobody_waits_for_a_second_one_who_leaves_no_result(leases_of, redis_server):
    leases = leases_of(redis_server)
    waiter, first = LeaseWaiter(leases, "k"), leases.acquire("k")
    assert not waiter.should_compute()
    leases.release(first)
    second = leases.acquire("k")
    assert waiter.should_compute()
    leases.release(second)


def test_without_redis_everybody_computes(leases_of, mortal_redis):
    leases = leases_of(mortal_redis)
    mortal_redis.kill()
    flight, work = SingleFlight(leases), Work()
    assert flight.run("k", work.recall, work.compute) == "result"

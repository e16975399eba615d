import asyncio
import contextlib
import time
from contextlib import asynccontextmanager

import pytest

from headlift.errors import InvalidInputError, RateLimitError
from headlift.serving.edge.limits import Limits, TokenDraw
from headlift.serving.edge.redis_limits import PAUSE_S, RedisLimiter

# Generous: what is tested is counting, and the machine may be busy.
TIMEOUT_S = 2.0
FEW = Limits(creates_per_min=6).draws(requests=0, creates=1)
MANY = [TokenDraw("creates", 10.0, 1e5, 0.1)]  # ten seconds each of a bucket that holds a day


@asynccontextmanager
async def opened(server, **options):
    limiter = RedisLimiter(server.url, **({"timeout_s": TIMEOUT_S} | options))
    try:
        yield limiter
    finally:
        await limiter.close()


async def outcome(limiter, draws=FEW, concurrent_max=0):
    try:
        return await limiter.admit("acme", draws, concurrent_max)
    except RateLimitError as error:
        return error


async def test_servers_share_one_bucket_and_not_one_call_more_passes(redis_server):
    async with opened(redis_server) as one, opened(redis_server) as two:
        outcomes = await asyncio.gather(*(outcome(limiter) for limiter in (one, two) * 15))
        refused = [o for o in outcomes if isinstance(o, RateLimitError)]
        assert (len(outcomes) - len(refused), one.failure_count + two.failure_count) == (6, 0)
        assert all(9.0 < e.retry_after_s <= 10.0 for e in refused)


async def test_a_refused_call_takes_nothing(redis_server):
    both = Limits(requests_per_s=1000, creates_per_min=1).draws(creates=1)
    async with opened(redis_server) as limiter:
        await limiter.admit("acme", both)
        creates = "headlift:limits:{acme}:creates"
        with redis_server.client() as behind:
            before = behind.get(creates)
            assert isinstance(await outcome(limiter, both), RateLimitError)
            assert behind.get(creates) == before
        # The bucket of requests, which had enough, has not been drawn from: it is full again at once, and gone.
        await asyncio.sleep(0.05)
        assert redis_server.held() == [creates]


async def test_what_is_full_again_leaves_no_key(redis_server):
    async with opened(redis_server) as limiter:
        await limiter.admit("acme", Limits(requests_per_s=1000).draws())
        await asyncio.sleep(0.05)
        assert redis_server.held() == []


async def test_concurrent_calls_are_counted_over_servers_and_given_back(redis_server):
    async with opened(redis_server) as one, opened(redis_server) as two:
        lease = await one.admit("acme", [], 1)
        assert isinstance(await outcome(two, [], 1), RateLimitError)
        await lease.release()
        await asyncio.gather(*one._releasing)
        await (await two.admit("acme", [], 1)).release()


async def test_the_slots_of_a_dead_server_come_free_and_those_of_a_living_one_do_not(redis_server):
    async with opened(redis_server, lease_s=1.5) as dead, opened(redis_server, lease_s=1.5) as living:
        await dead.admit("acme", [], 2)
        await asyncio.sleep(0)
        dead._renewing.cancel()  # as if its process had ended
        await living.admit("acme", [], 2)
        assert isinstance(await outcome(living, [], 2), RateLimitError)
        await asyncio.sleep(2.0)
        await living.admit("acme", [], 2)
        assert isinstance(await outcome(living, [], 2), RateLimitError)


async def test_an_outage_refuses_nobody_who_is_within_the_limits_and_costs_one_try_per_pause(mortal_redis):
    now = [100.0]
    async with opened(mortal_redis, clock=lambda: now[0]) as limiter:
        await limiter.admit("acme", FEW)
        mortal_redis.kill()
        outcomes = [await outcome(limiter) for _ in range(8)]
        # Counted here meanwhile: the same limit, from a full bucket.
        assert sum(not isinstance(o, RateLimitError) for o in outcomes) == 6
        assert limiter.failure_count == 1
        now[0] += PAUSE_S
        await asyncio.gather(*(outcome(limiter) for _ in range(20)))
        assert limiter.failure_count == 2
        mortal_redis.start()
        now[0] += PAUSE_S
        await limiter.admit("acme", FEW)
        assert (limiter.failure_count, len(mortal_redis.held())) == (2, 1)


def close_all(server):
    with server.client() as behind:
        behind.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def close_idle(server):
    with server.client() as behind:
        behind.config_set("timeout", 1)
        while behind.info("clients")["connected_clients"] > 1:
            time.sleep(0.1)
        behind.config_set("timeout", 0)


def restart(server):
    server.kill()
    server.start()


@pytest.mark.parametrize("end_connections", [close_all, close_idle, restart])
async def test_connections_that_redis_has_closed_cost_no_call_its_shared_count(mortal_redis, end_connections):
    async with opened(mortal_redis) as limiter:
        for number in range(3):
            await asyncio.gather(*(limiter.admit("acme", MANY) for _ in range(8)))  # eight pooled connections
            if number < 2:
                await asyncio.to_thread(end_connections, mortal_redis)
        assert limiter.failure_count == 0
        if end_connections is restart:
            return  # which empties a Redis without persistence
        with mortal_redis.client() as behind:
            (seconds, micros), before = behind.time(), float(behind.get("headlift:limits:{acme}:creates"))
        assert 200e6 < before - (seconds * 1e6 + micros) <= 240e6  # three rounds of eight calls, in one bucket


async def test_a_retry_whose_first_answer_was_lost_takes_nothing_twice(redis_server):
    async with opened(redis_server) as limiter:
        run = limiter._run
        keys = [f"headlift:limits:{{acme}}:{name}" for name in ("creates", "running")]
        arguments = [10_000_000, 60_000_000, 1, "a", 30_000_000]
        assert await run(limiter._admit_script, keys, arguments) == [0, 0]
        with redis_server.client() as behind:
            before = behind.get(keys[0])
            assert await run(limiter._admit_script, keys, arguments) == [0, 0]
            assert behind.get(keys[0]) == before


@asynccontextmanager
async def delayed(server, delay_s):
    """The URL of a proxy that holds every answer back."""
    host, port = server.url.split("//")[1].split("/")[0].rsplit("@")[-1].split(":")
    pumps = set()

    async def pump(reader, writer, wait_s):
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                await asyncio.sleep(wait_s)
                writer.write(data)

    async def serve(reader, writer):
        up_reader, up_writer = await asyncio.open_connection(host, int(port))
        for work in (pump(reader, up_writer, 0), pump(up_reader, writer, delay_s)):
            task = asyncio.create_task(work)
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as proxy:
        yield server.url.replace(f"{host}:{port}", f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
    await asyncio.wait(pumps)  # end with their client's connections


class Behind:
    def __init__(self, url):
        self.url = url


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.08])
async def test_a_call_that_is_cancelled_while_it_waits_keeps_no_slot(redis_server, after_s):
    async with delayed(redis_server, 0.05) as url, opened(Behind(url)) as limiter:
        for slot in await asyncio.gather(*(limiter.admit("acme", MANY, 3) for _ in range(3))):
            await slot.release()  # three connections stand
        await asyncio.gather(*limiter._releasing)
        waiting = [asyncio.create_task(limiter.admit("acme", MANY, 3)) for _ in range(3)]
        await asyncio.sleep(after_s)
        for task in waiting:
            task.cancel()
        for slot in await asyncio.gather(*waiting, return_exceptions=True):
            if not isinstance(slot, asyncio.CancelledError):
                await slot.release()
        await asyncio.gather(*limiter._releasing)
        slots = [await limiter.admit("acme", MANY, 3) for _ in range(3)]
        assert isinstance(await outcome(limiter, MANY, 3), RateLimitError)
        for slot in slots:
            await slot.release()


async def test_cancelled_calls_leave_no_answer_to_the_next_and_no_connection_in_use(redis_server):
    async with delayed(redis_server, 0.01) as url, opened(Behind(url)) as limiter:
        one = Limits(creates_per_min=1).draws(requests=0, creates=1)
        await limiter.admit("full", one)
        for number in range(40):
            # Two tenants whose answers differ: an answer that is off by one would be seen.
            tasks = [
                asyncio.create_task(limiter.admit(tenant, draws, 0))
                for tenant, draws in (("full", one), ("free", MANY)) * 4
            ]
            await asyncio.sleep(0.001 * (number % 20))
            for task in tasks[number % 3 :: 3]:
                task.cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for refused, answer in zip([True, False] * 4, answers, strict=True):
                if not isinstance(answer, asyncio.CancelledError):
                    assert isinstance(answer, RateLimitError) is refused
        await asyncio.sleep(0.1)
        pool = limiter._redis.connection_pool
        assert (limiter.failure_count, len(pool._in_use_connections)) == (0, 0)


async def test_a_slot_taken_by_an_answer_that_came_too_late_is_given_back(mortal_redis):
    async with opened(mortal_redis, timeout_s=0.2) as limiter:
        await (await limiter.admit("acme", [], 1)).release()
        await asyncio.gather(*limiter._releasing)
        mortal_redis.freeze()
        slot = await limiter.admit("acme", [], 1)  # counted here; Redis decides once it wakes
        mortal_redis.thaw()
        await asyncio.gather(*limiter._releasing)
        with mortal_redis.client() as behind:
            assert behind.zcard("headlift:limits:{acme}:running") == 0
        await slot.release()


async def test_a_redis_that_hangs_is_given_up_on(mortal_redis):
    async with opened(mortal_redis, timeout_s=0.1) as limiter:
        mortal_redis.freeze()
        async with asyncio.timeout(30):
            await limiter.admit("acme", FEW)
        assert limiter.failure_count == 1
        mortal_redis.thaw()


def test_an_address_that_is_none_is_told_without_its_password():
    with pytest.raises(InvalidInputError, match="HEADLIFT_REDIS_URL") as caught:
        RedisLimiter("http://me:hush@host")
    assert "hush" not in caught.value.message

import asyncio
from contextlib import asynccontextmanager

import pytest

from headlift.errors import InvalidInputError, RateLimitError
from headlift.serving.edge.limits import Limits
from headlift.serving.edge.redis_limits import PAUSE_S, RedisLimiter

# Generous: what is tested is counting, and the machine may be busy.
TIMEOUT_S = 2.0
FEW = Limits(creates_per_min=6).draws(requests=0, creates=1)


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

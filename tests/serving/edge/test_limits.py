import pytest

from headlift.errors import InvalidInputError, RateLimitError
from headlift.serving.edge.limits import Limits, LocalLimiter


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


async def taken(limiter, draws, tenant="acme"):
    try:
        await (await limiter.admit(tenant, draws)).release()
    except RateLimitError as error:
        return error.retry_after_s
    return None


async def test_a_burst_passes_then_exactly_the_rate(clock):
    limiter, draws = LocalLimiter(clock), Limits(requests_per_s=5).draws()
    assert [await taken(limiter, draws) for _ in range(6)] == [None] * 5 + [pytest.approx(0.2)]
    passed = 0
    for _ in range(1000):  # ten seconds, asked a hundred times a second
        clock.now += 0.01
        passed += await taken(limiter, draws) is None
    assert passed == 50


async def test_a_refusal_tells_the_true_wait(clock):
    limiter, draws = LocalLimiter(clock), Limits(creates_per_min=2).draws(creates=1)
    assert [await taken(limiter, draws) for _ in range(2)] == [None, None]
    wait_s = await taken(limiter, draws)
    clock.now += wait_s - 0.001
    assert await taken(limiter, draws) == pytest.approx(0.001)
    clock.now += 0.001
    assert await taken(limiter, draws) is None


async def test_a_refused_call_takes_nothing_from_any_bucket(clock):
    limits = Limits(requests_per_s=10, bytes_per_min=100)
    limiter = LocalLimiter(clock)
    assert await taken(limiter, limits.draws(size=100)) is None
    for _ in range(20):
        assert await taken(limiter, limits.draws(size=100)) == pytest.approx(60)
    assert [await taken(limiter, limits.draws(size=0)) for _ in range(10)] == [None] * 9 + [pytest.approx(0.1)]


async def test_a_request_larger_than_its_bucket_waits_for_a_full_one(clock):
    limiter, draws = LocalLimiter(clock), Limits(bytes_per_min=100).draws(size=10_000)
    assert await taken(limiter, draws) is None
    assert await taken(limiter, draws) == pytest.approx(60)
    clock.now += 60
    assert await taken(limiter, draws) is None


async def test_tenants_do_not_share_and_no_limit_is_none(clock):
    limiter, draws = LocalLimiter(clock), Limits(requests_per_s=1).draws()
    assert await taken(limiter, draws, "a") is None
    assert await taken(limiter, draws, "b") is None
    assert await taken(limiter, draws, "a") is not None
    assert Limits().draws(creates=1, size=1 << 30) == []


async def test_concurrent_calls_are_counted_until_released(clock):
    limiter = LocalLimiter(clock)
    leases = [await limiter.admit("acme", [], 2) for _ in range(2)]
    with pytest.raises(RateLimitError) as caught:
        await limiter.admit("acme", [], 2)
    assert caught.value.metadata == {"limit": "concurrent_calls"}
    await leases[0].release()
    await limiter.admit("acme", [], 2)
    await limiter.admit("other", [], 2)


@pytest.mark.parametrize("own", [{"requests_per_s": -1}, {"heads": "many"}, {"heads": True}, {"speed": 3}])
def test_limits_that_make_no_sense_are_refused(own):
    with pytest.raises(InvalidInputError):
        Limits().merged(own)


def test_own_limits_replace_only_what_they_name():
    assert Limits(heads=5, requests_per_s=2).merged({"heads": 0}) == Limits(requests_per_s=2)

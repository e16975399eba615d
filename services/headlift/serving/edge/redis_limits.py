"""Limits that all servers share, counted in Redis; counted here while Redis is away.

One script decides about every bucket of a call and its slot, and takes all or nothing. Time is Redis' own, so that
servers with different clocks agree.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from headlift.errors import InvalidInputError
from headlift.serving.edge.limits import CallSlot, LocalLimiter, TokenDraw, over_rate, too_many_calls

_log = logging.getLogger(__name__)
LEASE_S = 30.0  # how long the slots of a server that died stay taken
PAUSE_S = 2.0  # between trials while Redis is away
_CONNECTIONS_MAX = 32

# KEYS: the buckets, then the running calls. ARGV: cost and burst of each bucket (us), calls at most (0: any number),
# the call's id, the lease (us). Returns {0, 0}, or {number of the bucket, us to wait}, or {-1, 0}: no slot. A call
# whose id runs already is a retry whose first answer was lost: it takes nothing twice.
_ADMIT = """
local clock = redis.call('TIME')
local now, buckets = clock[1] * 1000000 + clock[2], #KEYS - 1
local due, worst, wait = {}, 0, 0
if redis.call('ZSCORE', KEYS[buckets + 1], ARGV[2 * buckets + 2]) then return {0, 0} end
for i = 1, buckets do
  due[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now) + tonumber(ARGV[2 * i - 1])
  local late = due[i] - now - tonumber(ARGV[2 * i])
  if late > wait then worst, wait = i, late end
end
if worst > 0 then return {worst, wait} end
local most, lease, running = tonumber(ARGV[2 * buckets + 1]), tonumber(ARGV[2 * buckets + 3]), KEYS[buckets + 1]
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', running, '-inf', now)
  if redis.call('ZCARD', running) >= most then return {-1, 0} end
  redis.call('ZADD', running, now + lease, ARGV[2 * buckets + 2])
  redis.call('PEXPIRE', running, math.ceil(lease / 1000))
end
for i = 1, buckets do
  redis.call('SET', KEYS[i], string.format('%.0f', due[i]), 'PX', math.ceil((due[i] - now) / 1000) + 1)
end
return {0, 0}
"""
# KEYS: the running calls. ARGV: the lease (us), then the ids of calls that still run.
_RENEW = """
local clock = redis.call('TIME')
local now, lease = clock[1] * 1000000 + clock[2], tonumber(ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'XX', now + lease, ARGV[i]) end
return redis.call('PEXPIRE', KEYS[1], math.ceil(lease / 1000))
"""


class RedisLimiter:
    """A Limiter in Redis. Whatever Redis does, calls are answered.

    Once Redis fails or takes longer than ``timeout_s``, this server counts by itself for two seconds and only then
    tries again, with one call, so that an outage costs one timeout every two seconds and not one a call.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 0.1,
        lease_s: float = LEASE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``url`` as redis://[USER:PASSWORD@]HOST:PORT/DB. InvalidInputError: it is none."""
        try:
            pool = redis.asyncio.BlockingConnectionPool.from_url(
                url,
                max_connections=_CONNECTIONS_MAX,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                # redis-py 8.1.0 looks whether a pooled connection is still open, but with RESP3 ignores what it sees
                # (redis-py#4252). One retry bears those that die between the look and the command.
                protocol=2,
                retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            )
        except ValueError:  # its words hold the password
            raise InvalidInputError(
                "HEADLIFT_REDIS_URL cannot be read; write redis://[USER:PASSWORD@]HOST:PORT/DB."
            ) from None
        self._redis: Any = redis.asyncio.Redis(connection_pool=pool)
        self._admit_script, self._renew_script = map(self._redis.register_script, (_ADMIT, _RENEW))
        self._timeout_s, self._lease_s, self._clock = timeout_s, lease_s, clock
        self._local = LocalLimiter(clock)
        self._retry_at = 0.0
        self._held: dict[str, set[str]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._releasing: set[asyncio.Task[Any]] = set()
        self.failure_count = 0

    async def admit(self, tenant: str, draws: Sequence[TokenDraw], concurrent_max: int = 0) -> CallSlot:
        """See Limiter."""
        if self._clock() < self._retry_at:
            return await self._local.admit(tenant, draws, concurrent_max)
        keys = [f"headlift:limits:{{{tenant}}}:{name}" for name in (*(d.bucket for d in draws), "running")]
        call_id = uuid.uuid4().hex
        micro = [round(1e6 * t) for d in draws for t in (d.cost_s, d.burst_s)]
        args = [*micro, concurrent_max, call_id, self._lease_us]
        deciding = asyncio.ensure_future(self._run(self._admit_script, keys, args))
        try:
            # Shielded: a call that is cancelled here must still learn whether it got a slot, to give that back.
            answer = await asyncio.shield(deciding)
        except asyncio.CancelledError:
            if concurrent_max:
                self._in_background(self._take_back(deciding, keys[-1], call_id))
            raise
        if answer is None:
            if concurrent_max:  # Redis may have decided, and only its answer come too late
                self._in_background(self._remove(keys[-1], call_id))
            return await self._local.admit(tenant, draws, concurrent_max)
        bucket, wait_us = answer
        if bucket > 0:
            raise over_rate(draws[bucket - 1], wait_us / 1e6)
        if bucket < 0:
            raise too_many_calls(concurrent_max)
        return _RedisSlot(self, keys[-1], call_id, concurrent_max > 0)

    async def close(self) -> None:
        """See Limiter."""
        if self._renewing is not None:
            self._renewing.cancel()
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=2 * self._timeout_s)
        for task in list(self._releasing):  # those that wait for an absent Redis; their leases end by themselves
            task.cancel()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose(close_connection_pool=True)

    def hold(self, key: str, call_id: str) -> None:
        """Keep a slot taken until ``free``, however long the call runs."""
        self._held.setdefault(key, set()).add(call_id)
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    def free(self, key: str, call_id: str) -> None:
        """Free a slot, in the background."""
        calls = self._held[key]
        calls.discard(call_id)
        if not calls:
            del self._held[key]
        self._in_background(self._remove(key, call_id))

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    @property
    def _lease_us(self) -> int:
        return round(self._lease_s * 1e6)

    async def _take_back(self, deciding: asyncio.Future[Any], key: str, call_id: str) -> None:
        """Free the slot that a cancelled call took, once Redis has decided."""
        await asyncio.wait([deciding])
        await self._remove(key, call_id)

    async def _remove(self, key: str, call_id: str) -> None:
        """Free a slot; tried until Redis is back, or the lease would have ended anyhow."""
        ends_at = self._clock() + self._lease_s
        while self._clock() < ends_at:
            if self._clock() >= self._retry_at:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    await self._redis.zrem(key, call_id)
                    return
            await asyncio.sleep(PAUSE_S / 2)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            for key, calls in list(self._held.items()):
                if self._clock() >= self._retry_at:
                    await self._run(self._renew_script, [key], [self._lease_us, *calls])

    def _run(self, script: Any, keys: list[str], args: list[Any]) -> Coroutine[Any, Any, Any]:
        """What a script returns; None where Redis does not answer, and then it is left alone for a while."""
        if self._retry_at:
            # At the call, not when its coroutine first runs: the others do not wait for the outcome of this one try.
            self._retry_at = self._clock() + PAUSE_S
        return self._answer(script, keys, args)

    async def _answer(self, script: Any, keys: list[str], args: list[Any]) -> Any:
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                answer = await script(keys=keys, args=args)
        except (RedisError, OSError, TimeoutError) as error:
            if not self._retry_at:
                _log.warning("Redis does not answer (%s); limits are counted here meanwhile", type(error).__name__)
            self.failure_count += 1
            self._retry_at = self._clock() + PAUSE_S
            return None
        self._retry_at = 0.0
        return answer


class _RedisSlot:
    def __init__(self, limiter: RedisLimiter, key: str, call_id: str, counted: bool) -> None:
        self._limiter, self._key, self._call_id, self._counted = limiter, key, call_id, counted
        if counted:
            limiter.hold(key, call_id)

    async def release(self) -> None:
        if self._counted:
            self._limiter.free(self._key, self._call_id)

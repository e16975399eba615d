"""How much one tenant may ask for, and how many calls one server takes; counted in this process.

Tenants' rates are token buckets, kept as one number each: the time at which the bucket will be full again (the generic
cell rate algorithm). A bucket of n tokens that fills in t seconds lets a burst of n through and n more every t seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol, Self

from headlift.errors import InvalidInputError, OverloadedError, RateLimitError

_BUCKETS_MAX = 100_000  # bounds memory: beyond, buckets that are full again are dropped, which loses nothing
_BUSY_RETRY_S = 0.5
# Of the time that an overloaded server tells callers to wait: the latest call's weight in the running mean (some 20
# calls back), and bounds that keep a burst of quick or slow calls from naming a wait of nothing or of minutes.
_SMOOTHING = 0.05
_SHORTEST_S, _LONGEST_S = 0.1, 30.0


@dataclass(frozen=True)
class Limits:
    """What one tenant may do; 0 is no limit."""

    requests_per_s: float = 0.0
    creates_per_min: float = 0.0
    bytes_per_min: float = 0.0  # of requests, received
    concurrent_calls: int = 0
    heads: int = 0  # stored at the same time

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e15:
                raise InvalidInputError(
                    f"The limit {name} is {value!r}; it must be a number from 0 (none).", field=name
                )

    def merged(self, own: Mapping[str, Any]) -> Self:
        """These limits, but with those that ``own`` names. InvalidInputError: no such limit, or no number."""
        known = [f.name for f in fields(self)]
        unknown = sorted(set(own) - set(known))
        if unknown:
            raise InvalidInputError(f"{unknown[0]!r} is no limit; there are {', '.join(known)}.", field="limits")
        return replace(self, **own)

    def draws(self, *, requests: int = 1, creates: int = 0, size: int = 0) -> list[TokenDraw]:
        """What a call of ``size`` bytes takes out of which bucket."""
        wanted = [
            ("requests", requests, self.requests_per_s, max(self.requests_per_s, 1.0)),
            ("creates", creates, self.creates_per_min / 60, max(self.creates_per_min, 1.0)),
            ("bytes", size, self.bytes_per_min / 60, self.bytes_per_min),
        ]
        # A request that is larger than its bucket waits for a full one, instead of for ever.
        return [
            TokenDraw(name, min(amount, burst) / rate, burst / rate, rate)
            for name, amount, rate, burst in wanted
            if rate and amount
        ]


@dataclass(frozen=True)
class TokenDraw:
    """Tokens taken from one bucket, as time."""

    bucket: str
    cost_s: float  # how long the bucket needs to make them
    burst_s: float  # how long an empty bucket needs to be full
    rate_per_s: float


class CallSlot(Protocol):
    """A running call's slot among its tenant's concurrent calls."""

    async def release(self) -> None:
        """Free the slot; call once."""
        ...


class Limiter(Protocol):
    """Counts tenants' calls and tokens."""

    async def admit(self, tenant: str, draws: Sequence[TokenDraw], concurrent_max: int = 0) -> CallSlot:
        """Take every draw and a slot among ``concurrent_max`` (0: any number), or nothing at all.

        Raises:
            RateLimitError: A bucket has too few tokens, or the slots are taken; says how long to wait.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class LocalLimiter:
    """A Limiter in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._full_at: dict[tuple[str, str], float] = {}
        self._running: dict[str, int] = {}

    async def admit(self, tenant: str, draws: Sequence[TokenDraw], concurrent_max: int = 0) -> CallSlot:
        """See Limiter."""
        now = self._clock()
        due = [max(self._full_at.get((tenant, d.bucket), now), now) + d.cost_s for d in draws]
        waits = [at - now - d.burst_s for at, d in zip(due, draws, strict=True)]
        late = max(range(len(draws)), key=waits.__getitem__, default=None)
        if late is not None and waits[late] > 1e-9:  # sums of floats: what is due now may come out a hair late
            raise over_rate(draws[late], waits[late])
        if concurrent_max and self._running.get(tenant, 0) >= concurrent_max:
            raise too_many_calls(concurrent_max)
        if len(self._full_at) > _BUCKETS_MAX:
            self._full_at = {k: at for k, at in self._full_at.items() if at > now}
        self._full_at.update({(tenant, d.bucket): at for at, d in zip(due, draws, strict=True)})
        return self._take_slot(tenant)

    async def close(self) -> None:
        """See Limiter."""

    def _take_slot(self, tenant: str) -> CallSlot:
        self._running[tenant] = self._running.get(tenant, 0) + 1
        return _LocalSlot(self._running, tenant)


class _LocalSlot:
    def __init__(self, running: dict[str, int], tenant: str) -> None:
        self._running = running
        self._tenant = tenant

    async def release(self) -> None:
        left = self._running[self._tenant] - 1
        if left:
            self._running[self._tenant] = left
        else:
            del self._running[self._tenant]


class ConcurrencyLimiter:
    """At most ``calls_max`` calls at a time, whoever makes them; the rest are refused before any work is done."""

    def __init__(self, calls_max: int) -> None:
        self._calls_max = calls_max
        self._mean_s = 0.0
        self.running = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A slot while the block runs. OverloadedError: all are taken."""
        if self.running >= self._calls_max:
            # Slots come free one by one: on average after a call's time shared by all that run.
            wait_s = min(max(self._mean_s / self._calls_max, _SHORTEST_S), _LONGEST_S)
            raise OverloadedError(
                f"{self.running} calls run on this server, which is the limit; try later.", retry_after_s=wait_s
            )
        self.running += 1
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.running -= 1
            taken = time.perf_counter() - begin
            self._mean_s = taken if not self._mean_s else (1 - _SMOOTHING) * self._mean_s + _SMOOTHING * taken


def over_rate(draw: TokenDraw, wait_s: float) -> RateLimitError:
    """The refusal of a draw from a bucket that has too few tokens."""
    per_min = draw.bucket != "requests"
    rate = draw.rate_per_s * 60 if per_min else draw.rate_per_s
    return RateLimitError(
        f"The limit of {rate:g} {draw.bucket} a {'minute' if per_min else 'second'} is reached; "
        f"try again in {wait_s:.3g} s.",
        retry_after_s=wait_s,
        metadata={"limit": draw.bucket},
    )


def too_many_calls(concurrent_max: int) -> RateLimitError:
    """The refusal of a call beyond the concurrent ones."""
    return RateLimitError(
        f"{concurrent_max} calls run already, which is the limit; wait for one of them to end.",
        retry_after_s=_BUSY_RETRY_S,
        metadata={"limit": "concurrent_calls"},
    )

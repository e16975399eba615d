"""Making heads behind checks: once per request_id, stored whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from headlift.backend.workers import Workers
from headlift.errors import NotFoundError, StoreError
from headlift.gateway.idempotency import SharedWork, conflict
from headlift.gateway.pipeline import Pipeline, Reconstruction
from headlift.gateway.validation import parse_creation, parse_name
from headlift.stages import progress
from headlift.store.blobs import Durability
from headlift.store.heads import HeadName, HeadStore
from headlift.store.requests import RequestLog
from headlift.store.stages import StageCache
from headlift.telemetry.metrics import metrics
from headlift.v1 import head_pb2
from headlift.v1 import head_service_pb2 as pb


class Ordered(Protocol):
    """What matters here about a request for a head."""

    @property
    def tenant(self) -> str:
        """Owner of the head."""
        ...

    @property
    def request_id(self) -> str:
        """Names the request; empty where nothing does."""
        ...

    @property
    def body_sha256(self) -> str:
        """Of everything that makes the request what it is."""
        ...

    @property
    def durability(self) -> Durability:
        """What is promised about the head."""
        ...


class Creator:
    """Makes heads and puts them into the store."""

    def __init__(
        self,
        pipeline: Pipeline,
        heads: HeadStore,
        requests: RequestLog,
        cache: StageCache,
        storing: Workers,
        *,
        refine_steps_default: int,
        picture_bytes_max: int,
    ) -> None:
        self._pipeline = pipeline
        self._heads = heads
        self._requests = requests
        self._cache = cache
        self._storing = storing
        self._refine_steps_default = refine_steps_default
        self._picture_bytes_max = picture_bytes_max
        self._shared: SharedWork[head_pb2.Head] = SharedWork()
        self._cleaning: set[asyncio.Task[None]] = set()

    async def create(self, request: pb.CreateHeadRequest) -> head_pb2.Head:
        """Answer a CreateHeadRequest; raises what the contract lists."""
        progress.bind(request.request_id)
        creation = await self._storing.run(
            lambda _: parse_creation(
                request,
                refine_steps_default=self._refine_steps_default,
                picture_bytes_max=self._picture_bytes_max,
            )
        )
        if creation.validate_only:
            return (await self._pipeline.inspect(creation)).head
        return await self.make(creation, lambda: self._pipeline.reconstruct(creation))

    async def make(self, ordered: Ordered, compute: Callable[[], Awaitable[Reconstruction]]) -> head_pb2.Head:
        """Store what ``compute`` makes, or find what the same request made before.

        Raises:
            ConflictError: ``ordered.request_id`` stands for another request.
        """
        if not ordered.request_id:
            return await self._make(ordered, compute)
        key = (ordered.tenant, ordered.request_id)
        return await self._shared.run(key, ordered.body_sha256, lambda: self._make_once(ordered, compute))

    async def earlier(self, ordered: Ordered) -> head_pb2.Head | None:
        """What the same request made before; None where it names itself not, or made nothing that still is."""
        return await self._storing.run(lambda _: self._earlier(ordered)) if ordered.request_id else None

    async def discard(self, name: HeadName) -> None:
        """Delete a head that nobody was told of; one that is gone is no fault."""

        def delete() -> None:
            with suppress(NotFoundError):
                self._heads.delete(name)

        await self._storing.run(lambda _: delete())

    async def _make_once(self, ordered: Ordered, compute: Callable[[], Awaitable[Reconstruction]]) -> head_pb2.Head:
        return await self.earlier(ordered) or await self._make(ordered, compute)

    def _earlier(self, ordered: Ordered) -> head_pb2.Head | None:
        """What the same request was answered before, perhaps by a server that has been restarted since."""
        try:
            record = self._requests.get(ordered.tenant, ordered.request_id)
        except StoreError:
            # A hot head needs no durable store; an earlier answer, if there was one, lay in the hot tier.
            if ordered.durability is not Durability.HOT:
                raise
            record = None
        if record is None:
            return None
        if record.body_sha256 != ordered.body_sha256:
            raise conflict(ordered.request_id)
        try:
            return self._heads.get(parse_name(record.head_name))
        except NotFoundError:
            return None

    async def _make(self, ordered: Ordered, compute: Callable[[], Awaitable[Reconstruction]]) -> head_pb2.Head:
        made = await compute()
        try:
            return await self._storing.run(lambda _: self._keep(ordered, made))
        except BaseException:  # also when cancelled: what was derived from the portrait must not outlive the call
            cleaning = asyncio.create_task(self._storing.run(lambda _: self._forget(ordered.tenant, made)))
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)
            raise

    def _keep(self, ordered: Ordered, made: Reconstruction) -> head_pb2.Head:
        name = self._heads.new_name(ordered.tenant)
        if ordered.request_id:
            # Before the head: of a process that dies between the two no head stays that a retry would not find.
            self._requests.put(ordered.tenant, ordered.request_id, ordered.body_sha256, str(name), ordered.durability)
        head = self._heads.create(
            ordered.tenant,
            made.head,
            made.gaussians,
            copy=made.copy,
            portrait=made.portrait,
            parts=made.parts,
            request_id=ordered.request_id,
            durability=ordered.durability,
            name=name,
        )
        metrics().heads_created.inc()
        return head

    def _forget(self, tenant: str, made: Reconstruction) -> None:
        self._cache.forget(tenant, made.head.input_sha256)

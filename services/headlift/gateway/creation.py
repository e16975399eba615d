"""CreateHead behind its checks: once per request_id, stored whole or not at all."""

from __future__ import annotations

import asyncio

from headlift.errors import NotFoundError
from headlift.gateway.idempotency import SharedCreations, conflict
from headlift.gateway.pipeline import Pipeline, Reconstruction
from headlift.gateway.validation import Creation, parse_creation, parse_name
from headlift.gateway.workers import Workers
from headlift.store.heads import HeadStore
from headlift.store.requests import RequestLog
from headlift.store.stages import StageCache
from headlift.v1 import head_pb2
from headlift.v1 import head_service_pb2 as pb


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
        self._shared = SharedCreations()
        self._cleaning: set[asyncio.Task[None]] = set()

    async def create(self, request: pb.CreateHeadRequest) -> head_pb2.Head:
        """Answer a CreateHeadRequest; raises what the contract lists."""
        creation = await self._storing.run(
            lambda _: parse_creation(
                request,
                refine_steps_default=self._refine_steps_default,
                picture_bytes_max=self._picture_bytes_max,
            )
        )
        if creation.validate_only:
            return (await self._pipeline.inspect(creation)).head
        if not creation.request_id:
            return await self._make(creation)
        key = (creation.tenant, creation.request_id)
        return await self._shared.run(key, creation.body_sha256, lambda: self._make_once(creation))

    async def _make_once(self, creation: Creation) -> head_pb2.Head:
        earlier = await self._storing.run(lambda _: self._earlier(creation))
        return earlier or await self._make(creation)

    def _earlier(self, creation: Creation) -> head_pb2.Head | None:
        """What the same request was answered before, perhaps by a server that has been restarted since."""
        record = self._requests.get(creation.tenant, creation.request_id)
        if record is None:
            return None
        if record.body_sha256 != creation.body_sha256:
            raise conflict(creation.request_id)
        try:
            return self._heads.get(parse_name(record.head_name))
        except NotFoundError:
            return None

    async def _make(self, creation: Creation) -> head_pb2.Head:
        made = await self._pipeline.reconstruct(creation)
        try:
            return await self._storing.run(lambda _: self._keep(creation, made))
        except BaseException:  # also when cancelled: what was derived from the portrait must not outlive the call
            cleaning = asyncio.create_task(self._storing.run(lambda _: self._forget(creation)))
            self._cleaning.add(cleaning)
            cleaning.add_done_callback(self._cleaning.discard)
            raise

    def _keep(self, creation: Creation, made: Reconstruction) -> head_pb2.Head:
        head = self._heads.create(
            creation.tenant, made.head, made.gaussians, copy=made.copy, request_id=creation.request_id
        )
        if creation.request_id:
            try:
                self._requests.put(creation.tenant, creation.request_id, creation.body_sha256, head.name)
            except Exception:
                # The caller will hear of a failure and ask again: there must not be two heads then.
                self._heads.delete(parse_name(head.name))
                raise
        return head

    def _forget(self, creation: Creation) -> None:
        self._cache.forget(creation.tenant, creation.input_sha256)

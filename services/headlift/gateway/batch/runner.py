"""Running a batch: items through the same Creator as CreateHead, each once, whatever becomes of the server meanwhile.

The result of an item is stored before another one begins. A server that starts again, or another one where there are
leases, does the unfinished items; a head that was created but not recorded is found by its request_id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import code_pb2, status_pb2

from headlift.backend.workers import Workers
from headlift.errors import (
    ConflictError,
    HeadliftError,
    NotFoundError,
    OverloadedError,
    StageUnavailableError,
    StoreError,
)
from headlift.gateway.batch.parsing import BatchItem, body_sha256, count_items, items_of, operation_name, parse_batch
from headlift.gateway.idempotency import conflict
from headlift.stages.stop_token import without_deadline
from headlift.status import status_of, unexpected_status
from headlift.store.operations import OperationName, OperationStore
from headlift.v1 import batch_service_pb2 as pb
from headlift.v1 import head_pb2, head_service_pb2

if TYPE_CHECKING:  # Redis's driver is imported where it is used
    from headlift.store.leases import Lease, Leases

T = TypeVar("T")
_log = logging.getLogger(__name__)
_ATTEMPTS = 3  # servers that may die while they do an item
_TRIES, _WAIT_S = 5, 0.5  # of an item while stages or stores are unavailable
_SNAPSHOT_S = 1.0
_RESUME_S = 15.0
_POLL_S = 0.25
Allowed = Callable[[str], AbstractAsyncContextManager[object]]


class HeadCreator(Protocol):
    """Makes a head and stores it."""

    async def create(self, request: head_service_pb2.CreateHeadRequest) -> head_pb2.Head:
        """Answer a CreateHeadRequest."""
        ...


@dataclass(frozen=True)
class BatchLimits:
    """How much is done at a time.

    Attributes:
        in_flight: Items of one operation.
        operations: Unfinished operations of one tenant.
        picture_bytes_max: Of one portrait.
    """

    in_flight: int = 2
    operations: int = 8
    picture_bytes_max: int = 32 << 20


@dataclass
class _Running:
    """An operation that this process works on."""

    name: OperationName
    operation: operations_pb2.Operation
    metadata: pb.BatchCreateHeadsMetadata
    results: dict[int, pb.BatchHeadResult] = field(default_factory=dict)
    task: asyncio.Task[None] | None = None

    def add(self, result: pb.BatchHeadResult) -> None:
        """Add the result of an item, and count it."""
        self.results[result.index] = result
        failed = sum(r.HasField("error") for r in self.results.values())
        self.metadata.failed_count, self.metadata.done_count = failed, len(self.results) - failed

    def snapshot(self) -> operations_pb2.Operation:
        """Its present state."""
        self.operation.metadata.Pack(self.metadata)
        copy = operations_pb2.Operation()
        copy.CopyFrom(self.operation)
        return copy


class Batches:
    """Begins, runs, resumes and ends operations; lives on one event loop."""

    def __init__(
        self,
        creator: HeadCreator,
        store: OperationStore,
        storing: Workers,
        limits: BatchLimits,
        leases: Leases | None = None,
    ) -> None:
        """With ``leases``, servers that share a store share its operations too.

        Attributes:
            allowed: Asked before each item whether its tenant may; set by the edge.
        """
        self._creator, self._store, self._storing = creator, store, storing
        self._limits, self._leases = limits, leases
        self._running: dict[str, _Running] = {}
        self._resuming: asyncio.Task[None] | None = None
        self._beginning = asyncio.Lock()
        self._closed = False
        self.allowed: Allowed = lambda _: nullcontext()

    def start(self) -> None:
        """Resume what an earlier server left unfinished, now and whenever another one dies."""
        self._resuming = asyncio.create_task(self._keep_resuming())

    async def close(self) -> None:
        """Stop; unfinished operations are resumed when a server starts again."""
        self._closed = True
        tasks = [r.task for r in self._running.values() if r.task is not None]
        tasks += [self._resuming] if self._resuming is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def submit(self, request: pb.BatchCreateHeadsRequest) -> operations_pb2.Operation:
        """Begin a batch, or find the one that the same request began.

        Raises:
            InvalidInputError: See ``parse_batch``.
            ConflictError: The request_id stands for another request.
            OverloadedError: The tenant has enough operations.
        """
        tenant = parse_batch(request, self._limits.picture_bytes_max)
        name = operation_name(tenant, request.request_id)
        async with self._beginning:
            earlier = await self._on_thread(lambda: self._earlier(name, request))
            if earlier is not None:
                return await self.get(name)
            await self._on_thread(lambda: self._check_operation_count(tenant))
            count = await self._on_thread(lambda: count_items(request))
            metadata = pb.BatchCreateHeadsMetadata(item_count=count)
            metadata.create_time.GetCurrentTime()
            operation = operations_pb2.Operation(name=str(name))
            running = _Running(name, operation, metadata)
            snapshot = running.snapshot()
            digest = body_sha256(request)
            await self._on_thread(lambda: self._store.begin(name, snapshot, request, digest))
            await self._start_operation(name)
        return snapshot

    async def get(self, name: OperationName) -> operations_pb2.Operation:
        """An operation as it stands. NotFoundError: there is none."""
        running = self._running.get(str(name))
        return running.snapshot() if running is not None else await self._on_thread(lambda: self._store.get(name))

    async def list(self, tenant: str, after: str, limit: int) -> list[operations_pb2.Operation]:
        """Up to ``limit`` operations whose id sorts behind ``after``."""
        stored = await self._on_thread(lambda: self._store.list(tenant, after=after, limit=limit))
        return [r.snapshot() if (r := self._running.get(one.name)) else one for one in stored]

    async def wait(self, name: OperationName, seconds: float | None) -> operations_pb2.Operation:
        """An operation once it has ended, or as it stands after ``seconds``. NotFoundError: there is none."""
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        while True:
            operation = await self.get(name)
            left = _POLL_S if until is None else until - loop.time()
            if operation.done or left <= 0:
                return operation
            await asyncio.sleep(min(_POLL_S, left))

    async def cancel(self, name: OperationName) -> None:
        """Have an operation stop; one that has ended is left alone. NotFoundError: there is none."""
        operation = await self.get(name)
        if operation.done:
            return
        await self._on_thread(lambda: self._store.ask_to_cancel(name))
        if running := self._running.get(str(name)):
            running.metadata.cancel_requested = True

    async def delete(self, name: OperationName) -> None:
        """Delete an operation that has ended.

        Raises:
            NotFoundError: There is none.
            ConflictError: It goes on.
        """
        operation = await self.get(name)
        if not operation.done:
            raise ConflictError(f"{name} goes on; cancel it and wait for it first.", reason="OPERATION_GOES_ON")
        await self._on_thread(lambda: self._store.delete(name))

    def _earlier(self, name: OperationName, request: pb.BatchCreateHeadsRequest) -> operations_pb2.Operation | None:
        try:
            operation = self._store.get(name)
        except NotFoundError:
            return None
        if self._store.body_sha256(name) != body_sha256(request):
            raise conflict(request.request_id)
        return operation

    def _check_operation_count(self, tenant: str) -> None:
        count = sum(name.tenant == tenant for name in self._store.pending())
        if count >= self._limits.operations:
            raise OverloadedError(
                f"{count} batches of this tenant go on, which is the limit; wait for one to end.", retry_after_s=10.0
            )

    async def _keep_resuming(self) -> None:
        while True:
            try:
                for name in await self._on_thread(lambda: list(self._store.pending())):
                    await self._start_operation(name)
            except StoreError as error:
                _log.warning("operations cannot be listed: %s", error.message)
            await asyncio.sleep(_RESUME_S)

    async def _start_operation(self, name: OperationName) -> None:
        """Run an operation in this process, unless one runs it already."""
        if str(name) in self._running or self._closed:
            return
        lease = None
        if self._leases is not None:
            leases = self._leases
            with contextlib.suppress(StoreError):
                lease = await self._on_thread(lambda: leases.acquire(f"{name}"))
            if lease is None:
                return
        running = await self._on_thread(lambda: self._load(name))
        if running is None or str(name) in self._running:
            await self._give_back(lease)
            return
        self._running[str(name)] = running
        # The operation outlives the call that began it, and its deadline.
        running.task = asyncio.create_task(self._run(running, lease), context=without_deadline())

    def _load(self, name: OperationName) -> _Running | None:
        """An unfinished operation from the store; None where there is none."""
        try:
            operation = self._store.get(name)
        except NotFoundError:
            return None
        if operation.done:
            self._store.end(name, operation)  # a server died while it removed what was left
            return None
        metadata = pb.BatchCreateHeadsMetadata()
        operation.metadata.Unpack(metadata)
        metadata.cancel_requested = self._store.cancel_asked(name)
        running = _Running(name, operation, metadata)
        for result in self._store.results(name).values():
            running.add(result)
        return running

    async def _run(self, running: _Running, lease: Lease | None) -> None:
        name = running.name
        try:
            request = await self._on_thread(lambda: self._store.request(name))
            if request is not None:
                await self._do(running, request)
                await self._end(running)
        except StoreError as error:
            _log.warning("%s waits: %s", name, error.message)  # resumed as after a restart
        except Exception:
            _log.exception("%s", name)
        finally:
            self._running.pop(str(name), None)
            await self._give_back(lease)

    async def _do(self, running: _Running, request: pb.BatchCreateHeadsRequest) -> None:
        slots, recording = asyncio.Semaphore(self._limits.in_flight), asyncio.create_task(self._keep_recording(running))
        try:
            async with asyncio.TaskGroup() as group:
                async for item in self._items(request, running.name):
                    if item.result.index in running.results:
                        continue
                    await slots.acquire()
                    if running.metadata.cancel_requested:
                        slots.release()
                        break
                    group.create_task(self._item(running, item)).add_done_callback(lambda _: slots.release())
        except ExceptionGroup as group_of_errors:
            raise group_of_errors.exceptions[0] from None
        finally:
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)

    async def _items(self, request: pb.BatchCreateHeadsRequest, name: OperationName) -> AsyncIterator[BatchItem]:
        """The items one by one; unpacking a frame takes a thread."""
        items: Iterator[BatchItem] = items_of(request, name)
        while (item := await self._on_thread(lambda: next(items, None))) is not None:
            yield item

    async def _item(self, running: _Running, item: BatchItem) -> None:
        name, index, result = running.name, item.result.index, item.result
        attempts = await self._on_thread(lambda: self._store.begun(name, index))
        if attempts >= _ATTEMPTS:
            message = f"{attempts} servers died over this portrait, which is the limit; look at it."
            result.error.CopyFrom(status_of(StageUnavailableError(message, reason="WORKER_CRASHED")))
        else:
            await self._on_thread(lambda: self._store.begin_item(name, index, attempts + 1))
            try:
                await self._make(item, result)
            except asyncio.CancelledError:
                # The server was stopped, which is no crash: the attempt does not count.
                with contextlib.suppress(HeadliftError):
                    await asyncio.shield(self._on_thread(lambda: self._store.begin_item(name, index, attempts)))
                raise
        await self._on_thread(lambda: self._store.finish_item(name, result))
        running.add(result)

    async def _make(self, item: BatchItem, result: pb.BatchHeadResult) -> None:
        """Fill in the result of an item; waits while the server is busy or a part of it unavailable."""
        tries = 0
        tenant = item.request.parent.partition("/")[2]
        while True:
            try:
                async with self.allowed(tenant):
                    head = await self._creator.create(item.request)
            except OverloadedError as error:
                await asyncio.sleep(error.retry_after_s)
            except (StageUnavailableError, StoreError) as error:
                tries += 1
                if tries == _TRIES or error.code != "UNAVAILABLE":
                    result.error.CopyFrom(status_of(error))
                    return
                await asyncio.sleep(_WAIT_S * 2**tries)
            except HeadliftError as error:
                result.error.CopyFrom(status_of(error))
                return
            except Exception:
                call_id = uuid.uuid4().hex
                _log.exception("item %s of a batch, call %s", result.index, call_id)
                result.error.CopyFrom(unexpected_status(call_id))
                return
            else:
                result.head, result.quality_score = head.name, head.quality.score
                return

    async def _end(self, running: _Running) -> None:
        operation, metadata = running.operation, running.metadata
        response = pb.BatchCreateHeadsResponse(results=[r for _, r in sorted(running.results.items())])
        metadata.end_time.GetCurrentTime()
        if len(running.results) < metadata.item_count and metadata.cancel_requested:
            details = any_pb2.Any()
            details.Pack(response)
            message = "The batch was cancelled; details hold the results that there are."
            operation.error.CopyFrom(status_pb2.Status(code=code_pb2.CANCELLED, message=message, details=[details]))
        else:
            operation.response.Pack(response)
        operation.done = True
        snapshot = running.snapshot()
        await self._on_thread(lambda: self._store.end(running.name, snapshot))

    async def _keep_recording(self, running: _Running) -> None:
        """Store progress for other servers, and learn of a cancellation that another one was asked for."""
        name = running.name
        while True:
            await asyncio.sleep(_SNAPSHOT_S)
            with contextlib.suppress(HeadliftError):
                await self._on_thread(partial(self._store.put, name, running.snapshot()))
                if await self._on_thread(lambda: self._store.cancel_asked(name)):
                    running.metadata.cancel_requested = True

    async def _give_back(self, lease: Lease | None) -> None:
        if lease is not None and self._leases is not None:
            leases = self._leases
            with contextlib.suppress(HeadliftError):
                await self._on_thread(lambda: leases.release(lease))

    async def _on_thread(self, work: Callable[[], T]) -> T:
        return await self._storing.run(lambda _: work())

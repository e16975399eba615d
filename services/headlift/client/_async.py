"""The asyncio face: the blocking one's methods, awaited."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any, ClassVar, Self, TypeVar

import grpc

from headlift.client import _batches, _edits, _heads, _live
from headlift.client._base import HEALTH_POLL_S, BaseClient, health_checks
from headlift.client._calls import Gathered, Pages, Polls, Stream, Unary, bind
from headlift.client._live import BaseLiveSession, LiveEvent, LiveState
from headlift.client._retry import Attempts, RetryPolicy
from headlift.v1 import camera_pb2
from headlift.v1 import live_pb2 as pb

T = TypeVar("T")
_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]


class AsyncLiveSession(BaseLiveSession):
    """A live session of the asyncio client: an ``async with`` block, iterated once. Other tasks may send meanwhile."""

    def __init__(self, state: LiveState, connect: Callable[[], Any], retry: RetryPolicy) -> None:
        super().__init__(state)
        self._connect, self._retry = connect, retry
        self._lock = asyncio.Lock()
        self._stream: Any = None

    async def __aenter__(self) -> Self:
        """Open the session; raises what opening was refused with."""
        await self._open(None)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the session at once."""
        self._state.closed = True
        self._stream.cancel()

    async def send_viewpoint(self, camera: camera_pb2.Camera | None = None) -> int:
        """Ask for a view from ``camera``; the sequence that the answer will carry."""
        return await self._send(lambda: self._state.viewpoint(camera))

    async def send_frame(self, picture: bytes) -> int:
        """Send a picture of the person; the sequence that the answers will carry."""
        return await self._send(lambda: self._state.frame(picture))

    async def request_keyframe(self) -> None:
        """Ask for an answer that needs nothing before it."""
        await self._send(lambda: pb.LiveRequest(keyframe=pb.LiveKeyframe()))

    async def close(self) -> None:
        """Send nothing more; what waits is still answered, then the iteration ends."""
        self._state.closed = True
        await self._send(lambda: pb.LiveRequest(close=pb.LiveClose()))

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Answers as they come. HeadliftError: the session cannot go on."""
        while True:
            failure: grpc.RpcError | None = None
            try:
                while (response := await self._stream.read()) is not _END:
                    event, replies = self._state.receive(response)
                    for message in replies:
                        await self._write(message)
                    if event is not None:
                        yield event
                # Reading ends without an error when the call fails; only its status says so.
                failure = await _failure_of(self._stream)
            except grpc.RpcError as error:
                failure = error
            if not self._state.goes_on(failure):
                return
            unanswered = self._state.take_unanswered()
            if unanswered is not None:
                yield unanswered
            await self._open(failure)

    async def _send(self, make: Callable[[], pb.LiveRequest]) -> int:
        async with self._lock:
            message = make()
            await self._write(message)
        return _live.sequence_of(message)

    async def _write(self, message: pb.LiveRequest) -> None:
        # On a broken stream the reader finds out, and says what was not answered.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._stream.write(message)

    async def _open(self, failure: grpc.RpcError | None) -> None:
        attempts = Attempts(self._retry)
        while True:
            if failure is not None:
                await asyncio.sleep(attempts.delay_after(failure))
            try:
                return await self._start()
            except grpc.RpcError as error:
                failure = error

    async def _start(self) -> None:
        async with self._lock:
            self._stream = self._connect()
            for message in self._state.first_messages():
                await self._write(message)
        first = await self._stream.read()
        if first is _END:
            raise await _failure_of(self._stream) or _live.ended_early()
        self._state.receive(first)


async def _failure_of(call: Any) -> grpc.RpcError | None:
    """How a call that has ended failed; None where it did not."""
    if await call.code() == grpc.StatusCode.OK:
        return None
    return grpc.aio.AioRpcError(
        await call.code(),
        await call.initial_metadata(),
        await call.trailing_metadata(),
        await call.details(),
        await call.debug_error_string(),
    )


class AsyncHeadliftClient(BaseClient):
    """Talks to a server from one event loop. Every method may raise the errors of ``headlift.errors``."""

    _grpc: ClassVar[Any] = grpc.aio

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close(grace=None)

    async def wait_until_serving(self, timeout_s: float = 30.0) -> None:
        """Wait until health says SERVING. DeadlineError: it did not in time."""
        for check in health_checks(timeout_s):
            try:
                if check.read(await self._start(check, check.timeout_s)):
                    return
            except grpc.RpcError:
                pass
            await asyncio.sleep(HEALTH_POLL_S)

    async def _call(self, call: Unary[T]) -> T:
        attempts = self._attempts(call)
        while True:
            try:
                return call.read(await self._start(call, attempts.remaining_s))
            except grpc.RpcError as failure:
                await asyncio.sleep(attempts.delay_after(failure))

    async def _messages(self, call: Stream[T]) -> AsyncIterator[T]:
        attempts, begun = self._attempts(call), False
        while True:
            stream = self._start(call, attempts.remaining_s)
            try:
                async for message in stream:
                    begun = True
                    yield call.read(message)
                return
            except grpc.RpcError as failure:
                # Tried again only while nothing has come, so that nothing comes twice.
                delay_s = attempts.delay_after(failure, again=not begun)
            finally:
                stream.cancel()
            await asyncio.sleep(delay_s)

    async def _gather(self, call: Gathered[T]) -> T:
        async for _ in self._messages(call.stream):
            pass
        return call.result()

    async def _items(self, calls: Pages[T]) -> AsyncIterator[T]:
        for call in calls:
            for item in await self._call(call):
                yield item

    async def _poll(self, calls: Polls[T]) -> T:
        while (result := await self._call(next(calls))) is None:
            pass
        return result

    def _session(self, state: LiveState) -> AsyncLiveSession:
        method: Any = self._stubs.heads.Live  # typed for the blocking API, which takes the messages at once
        return AsyncLiveSession(state, lambda: method(metadata=self._call_metadata()), self._retry)

    create_head = bind(_heads.create_head, _call)
    get_head = bind(_heads.get_head, _call)
    list_heads = bind(_heads.list_heads, _items)
    delete_head = bind(_heads.delete_head, _call)
    render = bind(_heads.render, _call)
    orbit = bind(_heads.orbit, _messages)
    export = bind(_heads.export, _gather)

    segment = bind(_edits.segment, _call)
    embed_style = bind(_edits.embed_style, _call)
    edit = bind(_edits.edit, _call)
    edit_history = bind(_edits.edit_history, _call)
    replay = bind(_edits.replay, _messages)

    create_heads = bind(_batches.create_heads, _call)
    create_heads_of_clip = bind(_batches.create_heads_of_clip, _call)
    get_batch = bind(_batches.get_batch, _call)
    list_batches = bind(_batches.list_batches, _items)
    wait_for_batch = bind(_batches.wait_for_batch, _poll)
    cancel_batch = bind(_batches.cancel_batch, _call)
    delete_batch = bind(_batches.delete_batch, _call)

    live = bind(_live.live, _session)

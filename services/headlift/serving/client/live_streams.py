"""Live sessions over gRPC, blocking and with asyncio; what they mean is ``live``'s."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from headlift.errors import HeadliftError, ServerError
from headlift.serving.client.live import LiveEvent, LiveState
from headlift.serving.client.retry import RetryPolicy, error_from_rpc
from headlift.v1 import camera_pb2, head_pb2
from headlift.v1 import live_pb2 as pb

_END: Any = grpc.aio.EOF  # type: ignore[attr-defined]
Connect = Callable[..., Any]  # the stub's method with metadata bound


class LiveSession:
    """A live session of the blocking client: a ``with`` block, iterated once. Other threads may send meanwhile."""

    def __init__(self, state: LiveState, connect: Connect, retry: RetryPolicy, resume: bool) -> None:
        self._state, self._connect, self._retry, self._resume = state, connect, retry, resume
        self._lock = threading.Lock()
        self._outgoing: queue.SimpleQueue[pb.LiveRequest | None] = queue.SimpleQueue()
        self._call: Any = None
        self._closed = False

    def __enter__(self) -> Self:
        """Open the session; raises what opening was refused with."""
        self._open_again(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session at once."""
        self._closed = True
        self._outgoing.put(None)
        self._call.cancel()

    @property
    def opened(self) -> pb.LiveOpened:
        """What the server said when the session began, with the newest resume token."""
        assert self._state.opened is not None
        return self._state.opened

    @property
    def head(self) -> head_pb2.Head:
        """The head that is looked at; without a name where frames bring heads."""
        return self.opened.head

    def look(self, camera: camera_pb2.Camera | None = None) -> int:
        """Look from ``camera``; the sequence that the answer will carry."""
        return self._send(lambda: self._state.look(camera))

    def frame(self, picture: bytes) -> int:
        """Send a picture of the person; the sequence that the answers will carry."""
        return self._send(lambda: self._state.frame(picture))

    def keyframe(self) -> None:
        """Ask for an answer that needs nothing before it."""
        self._send(lambda: pb.LiveRequest(keyframe=pb.LiveKeyframe()))

    def close(self) -> None:
        """Send nothing more; what waits is still answered, then the iteration ends."""
        self._closed = True
        self._send(lambda: pb.LiveRequest(close=pb.LiveClose()))

    def __iter__(self) -> Iterator[LiveEvent]:
        """Answers as they come. HeadliftError: the session cannot go on."""
        while True:
            failure: grpc.RpcError | None = None
            try:
                for answer in self._call:
                    event, back = self._state.take(answer)
                    for message in back:
                        self._outgoing.put(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                failure = error
            if not self._lives_on(failure):
                return
            lost = self._state.lost()
            if lost is not None:
                yield lost
            self._open_again(failure)

    def _lives_on(self, failure: grpc.RpcError | None) -> bool:
        return lives_on(self._state, failure, self._closed, self._resume)

    def _send(self, make: Callable[[], pb.LiveRequest]) -> int:
        with self._lock:
            message = make()
            self._outgoing.put(message)
        return message.frame.sequence or message.viewpoint.sequence

    def _open_again(self, failure: grpc.RpcError | None) -> None:
        attempt = 0
        while True:
            if failure is not None:
                time.sleep(wait_s(self._retry, failure, attempt))
                attempt += 1
            try:
                self._start()
                return
            except grpc.RpcError as error:
                failure = error

    def _start(self) -> None:
        with self._lock:
            self._outgoing.put(None)  # ends the stream before
            self._outgoing = queue.SimpleQueue()
            for message in self._state.first():
                self._outgoing.put(message)
            self._call = self._connect(iter(self._outgoing.get, None))
        first = next(self._call, None)
        if first is None:
            raise ServerError("The server ended the stream before the session began; try again.")
        self._state.take(first)


class AsyncLiveSession:
    """A live session of the asyncio client: an ``async with`` block, iterated once. Other tasks may send meanwhile."""

    def __init__(self, state: LiveState, connect: Connect, retry: RetryPolicy, resume: bool) -> None:
        self._state, self._connect, self._retry, self._resume = state, connect, retry, resume
        self._lock = asyncio.Lock()
        self._call: Any = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """Open the session; raises what opening was refused with."""
        await self._open_again(None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the session at once."""
        self._closed = True
        self._call.cancel()

    @property
    def opened(self) -> pb.LiveOpened:
        """What the server said when the session began, with the newest resume token."""
        assert self._state.opened is not None
        return self._state.opened

    @property
    def head(self) -> head_pb2.Head:
        """The head that is looked at; without a name where frames bring heads."""
        return self.opened.head

    async def look(self, camera: camera_pb2.Camera | None = None) -> int:
        """Look from ``camera``; the sequence that the answer will carry."""
        return await self._send(lambda: self._state.look(camera))

    async def frame(self, picture: bytes) -> int:
        """Send a picture of the person; the sequence that the answers will carry."""
        return await self._send(lambda: self._state.frame(picture))

    async def keyframe(self) -> None:
        """Ask for an answer that needs nothing before it."""
        await self._send(lambda: pb.LiveRequest(keyframe=pb.LiveKeyframe()))

    async def close(self) -> None:
        """Send nothing more; what waits is still answered, then the iteration ends."""
        self._closed = True
        await self._send(lambda: pb.LiveRequest(close=pb.LiveClose()))

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Answers as they come. HeadliftError: the session cannot go on."""
        while True:
            failure: grpc.RpcError | None = None
            try:
                while (answer := await self._call.read()) is not _END:
                    event, back = self._state.take(answer)
                    for message in back:
                        await self._write(message)
                    if event is not None:
                        yield event
                # Reading ends without a word when the call fails; its status tells.
                failure = await _failure_of(self._call)
            except grpc.RpcError as error:
                failure = error
            if not lives_on(self._state, failure, self._closed, self._resume):
                return
            lost = self._state.lost()
            if lost is not None:
                yield lost
            await self._open_again(failure)

    async def _send(self, make: Callable[[], pb.LiveRequest]) -> int:
        async with self._lock:
            message = make()
            await self._write(message)
        return message.frame.sequence or message.viewpoint.sequence

    async def _write(self, message: pb.LiveRequest) -> None:
        # On a broken stream the reader finds out, and tells what was lost.
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._call.write(message)

    async def _open_again(self, failure: grpc.RpcError | None) -> None:
        attempt = 0
        while True:
            if failure is not None:
                await asyncio.sleep(wait_s(self._retry, failure, attempt))
                attempt += 1
            try:
                await self._start()
                return
            except grpc.RpcError as error:
                failure = error

    async def _start(self) -> None:
        async with self._lock:
            self._call = self._connect()
            for message in self._state.first():
                await self._write(message)
        first = await self._call.read()
        if first is _END:
            raise await _failure_of(self._call) or ServerError(
                "The server ended the stream before the session began; try again."
            )
        self._state.take(first)


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


def lives_on(state: LiveState, failure: grpc.RpcError | None, closed: bool, resume: bool) -> bool:
    """Whether a session whose stream has ended is to be continued on another one.

    Raises:
        HeadliftError: It cannot go on.
    """
    if closed:
        return False
    error = error_from_rpc(failure) if failure is not None else None
    if resume and (state.leaving or (error is not None and error.code == "UNAVAILABLE")):
        return True
    if error is not None:
        raise error from None
    return False


def wait_s(retry: RetryPolicy, failure: grpc.RpcError, attempt: int) -> float:
    """Seconds until the next try to open. HeadliftError: there is none."""
    error: HeadliftError = error_from_rpc(failure)
    delay = retry.delay_s(error, attempt)
    if delay is None:
        raise error from None
    return delay

"""The blocking face: carries out the calls that the core makes."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self, TypeVar

import grpc

from headlift.client import _batches, _edits, _heads, _live
from headlift.client._base import HEALTH_POLL_S, BaseClient, health_checks
from headlift.client._calls import Gathered, Pages, Polls, Stream, Unary, bind
from headlift.client._live import BaseLiveSession, LiveEvent, LiveState
from headlift.client._retry import Attempts, RetryPolicy
from headlift.v1 import camera_pb2
from headlift.v1 import live_pb2 as pb

T = TypeVar("T")


class LiveSession(BaseLiveSession):
    """A live session of the blocking client: a ``with`` block, iterated once. Other threads may send meanwhile."""

    def __init__(self, state: LiveState, connect: Callable[[Iterator[pb.LiveRequest]], Any], retry: RetryPolicy):
        super().__init__(state)
        self._connect, self._retry = connect, retry
        self._lock = threading.Lock()
        self._outgoing: queue.SimpleQueue[pb.LiveRequest | None] = queue.SimpleQueue()
        self._stream: Any = None

    def __enter__(self) -> Self:
        """Open the session; raises what opening was refused with."""
        self._open(None)
        return self

    def __exit__(self, *_: object) -> None:
        """End the session at once."""
        self._state.closed = True
        self._outgoing.put(None)
        self._stream.cancel()

    def send_viewpoint(self, camera: camera_pb2.Camera | None = None) -> int:
        """Ask for a view from ``camera``; the sequence that the answer will carry."""
        return self._send(lambda: self._state.viewpoint(camera))

    def send_frame(self, picture: bytes) -> int:
        """Send a picture of the person; the sequence that the answers will carry."""
        return self._send(lambda: self._state.frame(picture))

    def request_keyframe(self) -> None:
        """Ask for an answer that needs nothing before it."""
        self._send(lambda: pb.LiveRequest(keyframe=pb.LiveKeyframe()))

    def close(self) -> None:
        """Send nothing more; what waits is still answered, then the iteration ends."""
        self._state.closed = True
        self._send(lambda: pb.LiveRequest(close=pb.LiveClose()))

    def __iter__(self) -> Iterator[LiveEvent]:
        """Answers as they come. HeadliftError: the session cannot go on."""
        while True:
            failure: grpc.RpcError | None = None
            try:
                for response in self._stream:
                    event, replies = self._state.receive(response)
                    for message in replies:
                        self._outgoing.put(message)
                    if event is not None:
                        yield event
            except grpc.RpcError as error:
                failure = error
            if not self._state.goes_on(failure):
                return
            unanswered = self._state.take_unanswered()
            if unanswered is not None:
                yield unanswered
            self._open(failure)

    def _send(self, make: Callable[[], pb.LiveRequest]) -> int:
        with self._lock:
            message = make()
            self._outgoing.put(message)
        return _live.sequence_of(message)

    def _open(self, failure: grpc.RpcError | None) -> None:
        attempts = Attempts(self._retry)
        while True:
            if failure is not None:
                time.sleep(attempts.delay_after(failure))
            try:
                return self._start()
            except grpc.RpcError as error:
                failure = error

    def _start(self) -> None:
        with self._lock:
            self._outgoing.put(None)  # ends the stream before
            self._outgoing = queue.SimpleQueue()
            for message in self._state.first_messages():
                self._outgoing.put(message)
            self._stream = self._connect(iter(self._outgoing.get, None))
        first = next(self._stream, None)
        if first is None:
            raise _live.ended_early()
        self._state.receive(first)


class HeadliftClient(BaseClient):
    """Talks to a server; thread-safe. Every method may raise the errors of ``headlift.errors``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def wait_until_serving(self, timeout_s: float = 30.0) -> None:
        """Wait until health says SERVING. DeadlineError: it did not in time."""
        for check in health_checks(timeout_s):
            try:
                if check.read(self._start(check, check.timeout_s)):
                    return
            except grpc.RpcError:
                pass
            time.sleep(HEALTH_POLL_S)

    def _call(self, call: Unary[T]) -> T:
        attempts = self._attempts(call)
        while True:
            try:
                return call.read(self._start(call, attempts.remaining_s))
            except grpc.RpcError as failure:
                time.sleep(attempts.delay_after(failure))

    def _messages(self, call: Stream[T]) -> Iterator[T]:
        attempts, begun = self._attempts(call), False
        while True:
            stream = self._start(call, attempts.remaining_s)
            try:
                for message in stream:
                    begun = True
                    yield call.read(message)
                return
            except grpc.RpcError as failure:
                # Tried again only while nothing has come, so that nothing comes twice.
                delay_s = attempts.delay_after(failure, again=not begun)
            finally:
                stream.cancel()
            time.sleep(delay_s)

    def _gather(self, call: Gathered[T]) -> T:
        for _ in self._messages(call.stream):
            pass
        return call.result()

    def _items(self, calls: Pages[T]) -> Iterator[T]:
        for call in calls:
            yield from self._call(call)

    def _poll(self, calls: Polls[T]) -> T:
        while (result := self._call(next(calls))) is None:
            pass
        return result

    def _session(self, state: LiveState) -> LiveSession:
        return LiveSession(
            state, lambda messages: self._stubs.heads.Live(messages, metadata=self._call_metadata()), self._retry
        )

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

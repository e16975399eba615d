"""The blocking client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from headlift.errors import DeadlineError
from headlift.serving.client import requests as make
from headlift.serving.client.credentials import Credentials
from headlift.serving.client.editing import BlockingEdits
from headlift.serving.client.live import Answers, LiveFormat, LiveState, opening
from headlift.serving.client.live_streams import LiveSession
from headlift.serving.client.retry import Attempts, RetryPolicy
from headlift.v1 import camera_pb2, edit_service_pb2_grpc, head_pb2, head_service_pb2_grpc
from headlift.v1 import head_service_pb2 as pb

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 80 << 20),
    ("grpc.max_send_message_length", 80 << 20),
    ("grpc.enable_retries", 0),  # ours know about RetryInfo
]
_POLL_S = 0.1


class HeadliftClient(BlockingEdits):
    """Talks to a HeadService; thread-safe. Every method may raise the errors of ``headlift.errors``."""

    def __init__(
        self,
        address: str,
        *,
        tenant: str = "local",
        timeout_s: float = 120.0,
        retry: RetryPolicy | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        credentials: Credentials | None = None,
    ) -> None:
        """Connect, lazily.

        Args:
            address: HOST:PORT.
            tenant: Whose heads short names mean, and who owns new ones.
            timeout_s: Time that each call may take, its retries included; every method's ``timeout_s`` overrides it.
            retry: When to ask again.
            metadata: Sent with every call.
            credentials: What is shown to the server, and TLS.
        """
        self.tenant = tenant
        self._timeout_s = timeout_s
        self._retry = retry or RetryPolicy()
        self._metadata = tuple(metadata)
        self._credentials = credentials or Credentials()
        self._channel = self._credentials.channel(grpc, address, CHANNEL_OPTIONS)
        self._stub = head_service_pb2_grpc.HeadServiceStub(self._channel)
        self._edits = edit_service_pb2_grpc.EditServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def wait_until_serving(self, timeout_s: float = 30.0) -> None:
        """Wait until health says SERVING. DeadlineError: it did not in time."""
        stub, end = health_pb2_grpc.HealthStub(self._channel), time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=min(1.0, timeout_s))
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            time.sleep(_POLL_S)
        raise DeadlineError(f"The server did not say SERVING within {timeout_s:g} s; see its log, or wait longer.")

    def create_head(
        self,
        picture: bytes | str | os.PathLike[str],
        *,
        several_faces: Literal["largest", "refuse"] = "largest",
        face_index: int | None = None,
        refine_steps: int | None = None,
        request_id: str | None = None,
        validate_only: bool = False,
        timeout_s: float | None = None,
    ) -> head_pb2.Head:
        """Make a head of a portrait, given as bytes or as a path."""
        request = make.creation(
            self.tenant,
            picture,
            several_faces=several_faces,
            face_index=face_index,
            refine_steps=refine_steps,
            request_id=request_id,
            validate_only=validate_only,
        )
        answer: pb.CreateHeadResponse = self._call(self._stub.CreateHead, request, timeout_s)
        return answer.head

    def get_head(self, head: make.HeadLike, *, timeout_s: float | None = None) -> head_pb2.Head:
        """What is known about a head."""
        request = pb.GetHeadRequest(name=make.head_name(self.tenant, head))
        answer: pb.GetHeadResponse = self._call(self._stub.GetHead, request, timeout_s)
        return answer.head

    def list_heads(self, *, page_size: int = 0, timeout_s: float | None = None) -> Iterator[head_pb2.Head]:
        """All heads of the tenant, oldest first; pages are fetched as they are needed."""
        request = pb.ListHeadsRequest(parent=f"tenants/{self.tenant}", page_size=page_size)
        while True:
            page: pb.ListHeadsResponse = self._call(self._stub.ListHeads, request, timeout_s)
            yield from page.heads
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def delete_head(self, head: make.HeadLike, *, timeout_s: float | None = None) -> None:
        """Delete a head and everything derived from its portrait."""
        self._call(self._stub.DeleteHead, pb.DeleteHeadRequest(name=make.head_name(self.tenant, head)), timeout_s)

    def render(
        self,
        head: make.HeadLike,
        cameras: Sequence[camera_pb2.Camera] = (),
        *,
        width: int = 512,
        height: int = 512,
        format: make.PictureFormat = "png",
        quality: int = 0,
        alpha: bool = False,
        sharpen: bool | None = None,
        timeout_s: float | None = None,
    ) -> list[make.RenderedPicture]:
        """Pictures of a head, one per camera; without cameras one from the front."""
        options = make.picture_options(width, height, format, quality, alpha, sharpen)
        request = make.rendering(make.head_name(self.tenant, head), cameras, options)
        answer: pb.RenderHeadResponse = self._call(self._stub.RenderHead, request, timeout_s)
        return [make.rendered(p) for p in answer.pictures]

    def orbit(
        self,
        head: make.HeadLike,
        frame_count: int = 0,
        *,
        start_yaw_deg: float = 0.0,
        sweep_deg: float | None = None,
        pitch_deg: float = 0.0,
        distance_m: float | None = None,
        fov_deg: float | None = None,
        width: int = 512,
        height: int = 512,
        format: make.PictureFormat = "png",
        quality: int = 0,
        alpha: bool = False,
        sharpen: bool | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[make.Frame]:
        """Pictures along a circle, as they are made; leaving the loop early ends the work."""
        request = pb.RenderOrbitRequest(
            name=make.head_name(self.tenant, head),
            frame_count=frame_count,
            start_yaw_deg=start_yaw_deg,
            sweep_deg=sweep_deg,
            pitch_deg=pitch_deg,
            distance_m=distance_m,
            fov_deg=fov_deg,
            picture=make.picture_options(width, height, format, quality, alpha, sharpen),
        )
        for answer in self._stream(self._stub.RenderOrbit, request, timeout_s):
            yield make.frame(answer)

    def export(
        self,
        head: make.HeadLike,
        format: make.ExportFormat,
        *,
        path: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """A head as a file, also written to ``path``; ``progress`` hears bytes so far and in all."""
        download = make.Download()
        for chunk in self._stream(
            self._stub.ExportHead, make.export(make.head_name(self.tenant, head), format), timeout_s
        ):
            done, total = download.add(chunk)
            if progress is not None:
                progress(done, total)
        return download.finish(path)

    def live(
        self,
        *,
        head: make.HeadLike | None = None,
        portrait: bytes | None = None,
        refine_steps: int = 0,
        answers: Answers = "views",
        width: int = 512,
        height: int = 512,
        format: LiveFormat = "jpeg",
        quality: int = 0,
        alpha: bool = False,
        sharpen: bool | None = None,
        max_fps: float = 0.0,
        deadline_ms: int = 0,
        view_bytes_max: int = 0,
        resume: bool = True,
    ) -> LiveSession:
        """A live session on a stored head, on a portrait (stored first), or else on the frames that are sent.

        See LiveOpen in the contract for the options; ``resume`` continues a broken stream on another one.
        """
        message = opening(
            self.tenant,
            head=head,
            portrait=portrait,
            refine_steps=refine_steps,
            answers=answers,
            width=width,
            height=height,
            format=format,
            quality=quality,
            alpha=alpha,
            sharpen=sharpen,
            max_fps=max_fps,
            deadline_ms=deadline_ms,
            view_bytes_max=view_bytes_max,
        )
        return LiveSession(
            LiveState(message), lambda *sent: self._stub.Live(*sent, metadata=self._shown()), self._retry, resume
        )

    def _shown(self) -> tuple[tuple[str, str], ...]:
        return (*self._metadata, *self._credentials.metadata())

    def _call(self, method: Any, request: Any, timeout_s: float | None) -> Any:
        attempts = Attempts(self._retry, timeout_s or self._timeout_s)
        while True:
            try:
                return method(request, timeout=attempts.remaining_s, metadata=self._shown())
            except grpc.RpcError as failure:
                time.sleep(attempts.after(failure))

    def _stream(self, method: Any, request: Any, timeout_s: float | None) -> Iterator[Any]:
        """Messages of a stream; asked for again only while none has come, so that none comes twice."""
        attempts, begun = Attempts(self._retry, timeout_s or self._timeout_s), False
        while True:
            call = method(request, timeout=attempts.remaining_s, metadata=self._shown())
            try:
                for message in call:
                    begun = True
                    yield message
                return
            except grpc.RpcError as failure:
                wait_s = attempts.after(failure, again=not begun)
            finally:
                call.cancel()
            time.sleep(wait_s)

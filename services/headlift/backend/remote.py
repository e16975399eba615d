"""The stages elsewhere, over calls to whoever computes them; see ``calls.StageCall``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from headlift.backend.calls import StageCall
from headlift.backend.network_watch import NetworkWatch
from headlift.backend.protocol import HeadRef, Network, PreprocessedPortrait, RenderedImages
from headlift.codec import message_from_cameras, message_from_portrait, portrait_from_message
from headlift.errors import HeadliftError, StageUnavailableError
from headlift.media.pictures import RenderOptions
from headlift.model.types import Cameras, Portrait
from headlift.stages.clock import Stopwatch
from headlift.stages.preprocess import PreprocessOptions
from headlift.stages.rpc import (
    NOT_HELD,
    STAGE_RPCS,
    Handler,
    StageHandlers,
    message_from_preprocess_options,
    message_from_render_options,
)
from headlift.stages.stop_token import StopToken
from headlift.v1 import decode_service_pb2, encode_service_pb2, render_service_pb2, sharpen_service_pb2

_TOKENS_BYTES = 4 << 20  # about what tokens hold
_HEAD_BYTES = 1 << 20  # of 65,536 Gaussians, packed
_FLOAT_BYTES, _VIEW_CHANNELS = 4, 4
_VIEWS_BYTES = 32 << 20  # of float views in one call


def remote_handlers(calls: Mapping[str, StageCall]) -> StageHandlers:
    """The five stages over the calls of the same names."""

    def over(
        stage: str, answer_bytes: Callable[[Any], int], key: Callable[[Any], str] = lambda _: ""
    ) -> Handler[Any, Any]:
        def ask(request: Any, token: StopToken) -> Any:
            data = calls[stage](
                request.SerializeToString(), token, answer_bytes=answer_bytes(request), key=key(request)
            )
            return STAGE_RPCS[stage].response.FromString(data)

        return ask

    return StageHandlers(
        preprocess=over("preprocess", lambda _: _TOKENS_BYTES),
        encode=over("encode", lambda _: _TOKENS_BYTES),
        decode=over("decode", lambda _: _HEAD_BYTES),
        render=over("render", _render_bytes, lambda request: request.head_key),
        sharpen=over("sharpen", lambda request: len(request.rgb.data)),
    )


class RemoteBackend:
    """Stages in other processes; see ``Backend``. Heads travel once: a replica that has one keeps it under its key."""

    create_workers, render_workers = 32, 64  # threads here that wait for replicas

    def __init__(
        self,
        handlers: StageHandlers,
        watch: NetworkWatch,
        *,
        about: str,
        split_reconstruct: bool,
        split_render: bool,
        lost: Callable[[], bool] = lambda: False,
    ) -> None:
        """Hold calls.

        Args:
            handlers: Over them.
            watch: What is known about the network behind them; closed with the backend.
            about: One phrase: which network, where.
            split_reconstruct: Encoding is another place than decoding: heads take two calls.
            split_render: Sharpening is another place than splatting: sharpened pictures take two calls.
            lost: Whether this process is cut off from all of them for good.
        """
        self.handlers, self.about = handlers, about
        self._watch, self._lost = watch, lost
        self._split_reconstruct, self._split_render = split_reconstruct, split_render

    def network(self) -> Network:
        """See Backend."""
        return self._watch.current()

    def settled(self) -> bool:
        """See Backend."""
        return self._watch.settled()

    def lost(self) -> bool:
        """See Backend."""
        return self._lost()

    def warm_up(self) -> None:
        """See Backend; replicas warm up before they are ready."""

    def close(self) -> None:
        """See Backend."""
        self._watch.close()

    def preprocess(self, picture: bytes, options: PreprocessOptions, token: StopToken) -> PreprocessedPortrait:
        """See Backend."""
        response = self.handlers.preprocess(message_from_preprocess_options(picture, options), token)
        return PreprocessedPortrait(portrait_from_message(response.portrait), response.quality)

    def reconstruct(self, portrait: Portrait, refine_steps: int, token: StopToken) -> decode_service_pb2.DecodeResponse:
        """See Backend."""
        message = message_from_portrait(portrait)
        if not self._split_reconstruct:
            request = decode_service_pb2.DecodeRequest(portrait=message, refine_steps=refine_steps)
            return self.handlers.decode(request, token)
        encoded = self.handlers.encode(encode_service_pb2.EncodeRequest(portrait=message), token)
        request = decode_service_pb2.DecodeRequest(tokens=encoded.tokens, refine_steps=refine_steps)
        if refine_steps:
            request.portrait.CopyFrom(message)
        decoded = self.handlers.decode(request, token)
        if decoded.weights_hash != encoded.weights_hash:
            raise StageUnavailableError("New weights are being rolled out just now; ask again in a few seconds.")
        watch = Stopwatch()
        watch.add("encode", encoded.duration_ms)
        watch.add_all(decoded.stage_timings)
        del decoded.stage_timings[:]
        decoded.stage_timings.extend(watch.timings)
        return decoded

    def fetch(self, head: HeadRef) -> None:
        """See Backend; the head itself is read when a replica asks for it."""
        head.check()

    def render(self, head: HeadRef, cameras: Cameras, options: RenderOptions, token: StopToken) -> RenderedImages:
        """See Backend."""
        watch, pictures = Stopwatch(), list[bytes]()
        sharpen = self.network().sharpens if options.sharpen is None else options.sharpen
        for some in _portions(cameras):
            token.check()
            if sharpen and self._split_render:
                pictures += self._render_in_two(head, some, options, token, watch)
            else:
                picture = message_from_render_options(replace(options, sharpen=sharpen))
                response = self._render(head, some, render_service_pb2.RenderRequest(picture=picture), token)
                watch.add_all(response.stage_timings)
                pictures += response.pictures
        return RenderedImages(pictures, watch.timings)

    def _render_in_two(
        self, head: HeadRef, cameras: Cameras, options: RenderOptions, token: StopToken, watch: Stopwatch
    ) -> list[bytes]:
        views = self._render(head, cameras, render_service_pb2.RenderRequest(), token)
        request = sharpen_service_pb2.SharpenRequest(rgb=views.rgb, picture=message_from_render_options(options))
        if options.alpha:
            request.alpha.CopyFrom(views.alpha)
        sharp = self.handlers.sharpen(request, token)
        watch.add_all([*views.stage_timings, *sharp.stage_timings])
        return list(sharp.pictures)

    def _render(
        self, head: HeadRef, cameras: Cameras, request: render_service_pb2.RenderRequest, token: StopToken
    ) -> render_service_pb2.RenderResponse:
        request.head_key = head.key
        request.cameras.CopyFrom(message_from_cameras(cameras))
        try:
            return self.handlers.render(request, token)
        except HeadliftError as error:
            if error.reason != NOT_HELD:
                raise
        request.gaussians = head.packed()
        return self.handlers.render(request, token)


def _portions(cameras: Cameras) -> Iterator[Cameras]:
    """Few enough cameras for one call: bounds memory, and lets others in between."""
    count = max(1, _VIEWS_BYTES // (cameras.width * cameras.height * _VIEW_CHANNELS * _FLOAT_BYTES))
    for first in range(0, len(cameras), count):
        yield cameras[first : first + count]


def _render_bytes(request: render_service_pb2.RenderRequest) -> int:
    cameras = request.cameras
    numbers = cameras.width_px * cameras.height_px * _VIEW_CHANNELS * (list(cameras.view_matrices.shape) or [1])[0]
    return int(numbers) * (1 if request.HasField("picture") else _FLOAT_BYTES)

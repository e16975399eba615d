"""The stages as the pipeline wants them, over calls to whoever computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from headlift.codec import message_from_cameras, message_from_portrait, portrait_from_message
from headlift.errors import HeadliftError, StageUnavailableError
from headlift.gateway.context import StopToken
from headlift.gateway.draw import HeadRef, Shots
from headlift.gateway.portraits import Look as Looking
from headlift.gateway.portraits import Seen
from headlift.gateway.reconstruct import Reconstructor
from headlift.gateway.timing import Stopwatch
from headlift.model.types import Cameras, Portrait
from headlift.render.messages import message_from_look
from headlift.render.pictures import Look
from headlift.render.service import NOT_HELD
from headlift.serving.answers import Answer, StageAnswers
from headlift.serving.remote.calls import Request, Response, StageCall
from headlift.stages.preprocess import PreprocessOptions
from headlift.stages.preprocess.service import request_message
from headlift.v1 import (
    decode_service_pb2,
    encode_service_pb2,
    preprocess_service_pb2,
    render_service_pb2,
    sharpen_service_pb2,
)

_TOKENS_BYTES = 4 << 20  # about what tokens hold
_HEAD_BYTES = 1 << 20  # of 65,536 Gaussians, packed
_FLOAT_BYTES, _VIEW_CHANNELS = 4, 4
_VIEWS_BYTES = 32 << 20  # of float views in one call


def remote_answers(calls: Mapping[str, StageCall]) -> StageAnswers:
    """The five stages over the calls of the same names."""

    def over(
        stage: str,
        response: Callable[[bytes], Response],
        answer_bytes: Callable[[Any], int] = lambda _: 0,
        key: Callable[[Any], str] = lambda _: "",
    ) -> Answer[Request, Response]:
        def ask(request: Request, token: StopToken) -> Response:
            data = calls[stage](
                request.SerializeToString(), token, answer_bytes=answer_bytes(request), key=key(request)
            )
            return response(data)

        return ask

    return StageAnswers(
        preprocess=over("preprocess", preprocess_service_pb2.PreprocessResponse.FromString, lambda _: _TOKENS_BYTES),
        encode=over("encode", encode_service_pb2.EncodeResponse.FromString, lambda _: _TOKENS_BYTES),
        decode=over("decode", decode_service_pb2.DecodeResponse.FromString, lambda _: _HEAD_BYTES),
        render=over(
            "render", render_service_pb2.RenderResponse.FromString, _render_bytes, lambda request: request.head_key
        ),
        sharpen=over("sharpen", sharpen_service_pb2.SharpenResponse.FromString, lambda r: len(r.rgb.data)),
    )


def remote_look(answers: StageAnswers) -> Looking:
    """Preprocessing elsewhere."""

    def look(picture: bytes, options: PreprocessOptions, token: StopToken) -> Seen:
        answer = answers.preprocess(request_message(picture, options), token)
        return Seen(portrait_from_message(answer.portrait), answer.quality)

    return look


def remote_reconstruct(answers: StageAnswers, *, split: bool) -> Reconstructor:
    """Reconstruction elsewhere: in one call, or ``split`` into encoding and decoding."""

    def fused(portrait: Portrait, refine_steps: int, token: StopToken) -> decode_service_pb2.DecodeResponse:
        message = message_from_portrait(portrait)
        return answers.decode(decode_service_pb2.DecodeRequest(portrait=message, refine_steps=refine_steps), token)

    def in_two(portrait: Portrait, refine_steps: int, token: StopToken) -> decode_service_pb2.DecodeResponse:
        message = message_from_portrait(portrait)
        encoded = answers.encode(encode_service_pb2.EncodeRequest(portrait=message), token)
        request = decode_service_pb2.DecodeRequest(tokens=encoded.tokens, refine_steps=refine_steps)
        if refine_steps:
            request.portrait.CopyFrom(message)
        made = answers.decode(request, token)
        if made.weights_hash != encoded.weights_hash:
            raise StageUnavailableError("New weights are being rolled out just now; ask again in a few seconds.")
        watch = Stopwatch()
        watch.add("encode", encoded.duration_ms)
        watch.add_all(made.stage_timings)
        del made.stage_timings[:]
        made.stage_timings.extend(watch.timings)
        return made

    return in_two if split else fused


class RemoteDrawer:
    """Drawing elsewhere. Heads travel once: a replica that has one keeps it under its key."""

    def __init__(self, answers: StageAnswers, *, sharpens: bool, split: bool) -> None:
        """``sharpens`` tells whether the network can; ``split`` has sharpening in another place than splatting."""
        self._answers, self._sharpens, self._split = answers, sharpens, split

    def fetch(self, head: HeadRef) -> HeadRef:
        """See Drawer; the head is read when a replica asks for it."""
        return head

    def draw(self, fetched: HeadRef, cameras: Cameras, look: Look, token: StopToken) -> Shots:
        """See Drawer."""
        watch, pictures = Stopwatch(), list[bytes]()
        sharpen = self._sharpens if look.sharpen is None else look.sharpen
        for some in _portions(cameras):
            token.check()
            if sharpen and self._split:
                pictures += self._in_two(fetched, some, look, token, watch)
            else:
                request = render_service_pb2.RenderRequest(picture=message_from_look(replace(look, sharpen=sharpen)))
                answer = self._render(fetched, some, request, token)
                watch.add_all(answer.stage_timings)
                pictures += answer.pictures
        return Shots(pictures, watch.timings)

    def _in_two(self, head: HeadRef, cameras: Cameras, look: Look, token: StopToken, watch: Stopwatch) -> list[bytes]:
        views = self._render(head, cameras, render_service_pb2.RenderRequest(), token)
        request = sharpen_service_pb2.SharpenRequest(rgb=views.rgb, picture=message_from_look(look))
        if look.alpha:
            request.alpha.CopyFrom(views.alpha)
        sharp = self._answers.sharpen(request, token)
        watch.add_all([*views.stage_timings, *sharp.stage_timings])
        return list(sharp.pictures)

    def _render(
        self, head: HeadRef, cameras: Cameras, request: render_service_pb2.RenderRequest, token: StopToken
    ) -> render_service_pb2.RenderResponse:
        request.head_key = head.key
        request.cameras.CopyFrom(message_from_cameras(cameras))
        try:
            return self._answers.render(request, token)
        except HeadliftError as error:
            if error.reason != NOT_HELD:
                raise
        request.gaussians = head.packed()
        return self._answers.render(request, token)


def _portions(cameras: Cameras) -> Iterator[Cameras]:
    """Few enough cameras for one call: bounds memory, and lets others in between."""
    count = max(1, _VIEWS_BYTES // (cameras.width * cameras.height * _VIEW_CHANNELS * _FLOAT_BYTES))
    for first in range(0, len(cameras), count):
        yield cameras[first : first + count]


def _render_bytes(request: render_service_pb2.RenderRequest) -> int:
    cameras = request.cameras
    numbers = cameras.width_px * cameras.height_px * _VIEW_CHANNELS * (list(cameras.view_matrices.shape) or [1])[0]
    return int(numbers) * (1 if request.HasField("picture") else _FLOAT_BYTES)

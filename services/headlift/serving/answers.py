"""The stages message to message, wherever they run, and the gRPC services that hand them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from headlift.decode.service import DecodeAnswer, DecodeServicer
from headlift.encode.service import EncodeAnswer, EncodeServicer
from headlift.gateway.context import StopToken
from headlift.gateway.draw import Draw
from headlift.gateway.workers import Workers
from headlift.render.messages import look_from_message
from headlift.render.pictures import pack
from headlift.render.service import RenderAnswer, RenderServicer
from headlift.serving.edge.services import ServedService
from headlift.serving.network import LocalStages, unpack_head
from headlift.sharpen.service import SharpenAnswer, SharpenServicer
from headlift.stages.preprocess.service import PreprocessAnswer, PreprocessServicer
from headlift.store.recent_heads import RecentHeads
from headlift.v1 import (
    decode_service_pb2,
    decode_service_pb2_grpc,
    encode_service_pb2,
    encode_service_pb2_grpc,
    picture_pb2,
    preprocess_service_pb2,
    preprocess_service_pb2_grpc,
    render_service_pb2,
    render_service_pb2_grpc,
    sharpen_service_pb2,
    sharpen_service_pb2_grpc,
)

Request = TypeVar("Request")
Response = TypeVar("Response")
Answer = Callable[[Request, StopToken], Response]


@dataclass(frozen=True)
class StageAnswers:
    """Five functions that block: a request message and the token of who waits, to a response message."""

    preprocess: Answer[preprocess_service_pb2.PreprocessRequest, preprocess_service_pb2.PreprocessResponse]
    encode: Answer[encode_service_pb2.EncodeRequest, encode_service_pb2.EncodeResponse]
    decode: Answer[decode_service_pb2.DecodeRequest, decode_service_pb2.DecodeResponse]
    render: Answer[render_service_pb2.RenderRequest, render_service_pb2.RenderResponse]
    sharpen: Answer[sharpen_service_pb2.SharpenRequest, sharpen_service_pb2.SharpenResponse]


@dataclass(frozen=True)
class LocalAnswers(StageAnswers):
    """The same by stages of this process; two of them also answer several requests at once."""

    encode: EncodeAnswer
    sharpen: SharpenAnswer


def local_answers(stages: LocalStages, *, memory_bytes: int, sharpens: bool = True) -> LocalAnswers:
    """Answers by stages of this process.

    Args:
        stages: Them.
        memory_bytes: Bound on the heads that rendering keeps by key.
        sharpens: Whether rendering sharpens the pictures that it packs.
    """
    painter = stages.draw if sharpens else Draw(stages.draw.render, None)
    return LocalAnswers(
        preprocess=PreprocessAnswer(stages.preprocess),
        encode=EncodeAnswer(stages.reconstruct.stage, stages.network.weights_hash),
        decode=DecodeAnswer(stages.reconstruct),
        render=RenderAnswer(stages.draw.render, painter, RecentHeads(memory_bytes), unpack_head),
        sharpen=SharpenAnswer(stages.sharpen, _packed),
    )


def stage_services(answers: StageAnswers, creating: Workers, rendering: Workers) -> tuple[ServedService, ...]:
    """The five services on the pools that HeadService uses too, so that one admission bounds both."""

    def on(workers: Workers, answer: Answer[Request, Response]) -> Callable[[Request], Awaitable[Response]]:
        return lambda request: workers.run(lambda token: answer(request, token))

    return (
        ServedService(
            preprocess_service_pb2.DESCRIPTOR.services_by_name["PreprocessService"],
            preprocess_service_pb2_grpc.add_PreprocessServiceServicer_to_server,
            PreprocessServicer(on(creating, answers.preprocess)),
        ),
        ServedService(
            encode_service_pb2.DESCRIPTOR.services_by_name["EncodeService"],
            encode_service_pb2_grpc.add_EncodeServiceServicer_to_server,
            EncodeServicer(on(creating, answers.encode)),
        ),
        ServedService(
            decode_service_pb2.DESCRIPTOR.services_by_name["DecodeService"],
            decode_service_pb2_grpc.add_DecodeServiceServicer_to_server,
            DecodeServicer(on(creating, answers.decode)),
        ),
        ServedService(
            render_service_pb2.DESCRIPTOR.services_by_name["RenderService"],
            render_service_pb2_grpc.add_RenderServiceServicer_to_server,
            RenderServicer(on(rendering, answers.render)),
        ),
        ServedService(
            sharpen_service_pb2.DESCRIPTOR.services_by_name["SharpenService"],
            sharpen_service_pb2_grpc.add_SharpenServiceServicer_to_server,
            SharpenServicer(on(rendering, answers.sharpen)),
        ),
    )


def _packed(rgb: Tensor, alpha: Tensor, options: picture_pb2.PictureOptions) -> bytes:
    # The size of a picture is its own; 0 in a message stands for a size that it may not have.
    look = look_from_message(options)
    return pack(rgb, alpha, replace(look, width=rgb.shape[-1], height=rgb.shape[-2]))

"""The stages message to message, and the one servicer of all five stage services.

A handler takes a request and the StopToken of whoever waits, blocks, and gives the response; where it computes is its
own business (here: ``local_handlers``; elsewhere: ``headlift.backend.remote``). ``STAGE_RPCS`` describes the five RPCs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from google.protobuf.descriptor import ServiceDescriptor
from torch import Tensor

from headlift import formats
from headlift.codec import (
    bounding_box,
    cameras_from_message,
    message_from_camera,
    message_from_portrait,
    message_from_tensor,
    message_from_tokens,
    portrait_from_message,
    tensor_from_message,
    tokens_from_message,
)
from headlift.errors import BackendUnavailableError, FormatError, InvalidCameraError, InvalidInputError
from headlift.media.pictures import QUALITY_DEFAULT, SIZE_MAX, SIZE_MIN, PictureFormat, RenderOptions, pack
from headlift.model.types import Cameras, Gaussians, ImageTokens, Portrait
from headlift.stages import progress
from headlift.stages.clock import Stopwatch
from headlift.stages.preprocess import Preprocess, PreprocessOptions, SeveralFaces
from headlift.stages.preprocess.interfaces import Face
from headlift.stages.preprocess.stage import PreprocessResult
from headlift.stages.reconstruct import Reconstruct
from headlift.stages.render import Render, render_pictures
from headlift.stages.sharpen import Sharpen
from headlift.stages.stop_token import StopToken
from headlift.store.recent_heads import RecentHeads
from headlift.v1 import (
    decode_service_pb2,
    decode_service_pb2_grpc,
    encode_service_pb2,
    encode_service_pb2_grpc,
    head_pb2,
    head_service_pb2,
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
Handler = Callable[[Request, StopToken], Response]

NOT_HELD = "HEAD_NOT_HELD"
SIZE_DEFAULT = 512  # px
STEPS_MAX = 1000  # of refinement
CAMERAS_MAX, KEY_MAX, VIEWS_MAX = 64, 200, 64
VIEWS_BYTES_MAX = 64 << 20
_VIEW_PIXEL_BYTES = 16  # red, green, blue, opacity as float32


# Preprocess

_SEVERAL = {
    head_service_pb2.SEVERAL_FACES_UNSPECIFIED: SeveralFaces.LARGEST,
    head_service_pb2.SEVERAL_FACES_LARGEST: SeveralFaces.LARGEST,
    head_service_pb2.SEVERAL_FACES_REFUSE: SeveralFaces.REFUSE,
}


def handle_preprocess(
    preprocess: Preprocess, request: preprocess_service_pb2.PreprocessRequest, token: StopToken
) -> preprocess_service_pb2.PreprocessResponse:
    """The portrait in one picture file; raises what the stage raises."""
    begin = time.perf_counter()
    result = preprocess(request.picture, preprocess_options_from_message(request))
    portrait, quality = message_from_portrait(result.portrait), quality_message(result)
    return preprocess_service_pb2.PreprocessResponse(
        portrait=portrait, quality=quality, duration_ms=(time.perf_counter() - begin) * 1e3
    )


def preprocess_options_from_message(request: preprocess_service_pb2.PreprocessRequest) -> PreprocessOptions:
    """What a caller chose. InvalidInputError: an unknown value of several_faces."""
    if request.several_faces not in _SEVERAL:
        raise InvalidInputError(
            f"several_faces is {request.several_faces}, which this server does not know; "
            f"it knows {min(_SEVERAL)}..{max(_SEVERAL)}.",
            field="several_faces",
        )
    index = request.face_index if request.HasField("face_index") else None
    return PreprocessOptions(_SEVERAL[request.several_faces], index, near=tuple(request.near) or None)


def message_from_preprocess_options(
    picture: bytes, options: PreprocessOptions
) -> preprocess_service_pb2.PreprocessRequest:
    """Inverse of ``preprocess_options_from_message``, with the picture."""
    several = next(k for k, v in _SEVERAL.items() if v is options.several_faces and k)
    return preprocess_service_pb2.PreprocessRequest(
        picture=picture, several_faces=several, face_index=options.face_index, near=options.near
    )


def quality_message(result: PreprocessResult) -> head_pb2.Quality:
    """The record of a portrait's quality."""
    report, portrait = result.quality, result.portrait
    # The report names the chosen face by its box alone; its turn is with the faces.
    chosen = min(result.faces, key=lambda f: sum(abs(a - b) for a, b in zip(f.box, report.face_box, strict=True)))
    return head_pb2.Quality(
        score=report.score,
        reasons=[str(r) for r in report.reasons],
        notes=report.notes,
        face=_face_box(chosen),
        faces=[_face_box(f) for f in result.faces],
        sharpness=report.sharpness,
        exposure=report.exposure,
        matte_confidence=report.matte_confidence,
        cut_off_sides=report.cut_off,
        crop_from_source=portrait.crop_from_source.flatten().tolist(),
        crop_size_px=portrait.size,
        models=report.models,
    )


def _face_box(face: Face) -> head_pb2.FaceBox:
    x0, y0, x1, y1 = face.box
    return head_pb2.FaceBox(
        x_px=x0, y_px=y0, width_px=x1 - x0, height_px=y1 - y0, score=face.score, roll_deg=face.roll_deg
    )


# Encode and decode


def handle_encode(
    stage: Reconstruct, weights_hash: str, requests: Sequence[encode_service_pb2.EncodeRequest]
) -> list[encode_service_pb2.EncodeResponse]:
    """Tokens of several portraits at once. Raises for all if one of them cannot be read."""
    portraits = [portrait_from_message(r.portrait) for r in requests]
    begin = time.perf_counter()
    tokens = stage.encode(portraits)
    spent_ms = (time.perf_counter() - begin) * 1e3
    return [
        encode_service_pb2.EncodeResponse(
            tokens=message_from_tokens(t), duration_ms=spent_ms, batch_size=len(requests), weights_hash=weights_hash
        )
        for t in tokens
    ]


def handle_decode(
    stage: Reconstruct, weights_hash: str, request: decode_service_pb2.DecodeRequest, token: StopToken
) -> decode_service_pb2.DecodeResponse:
    """The head of tokens or of a portrait, refined where that is asked for."""
    if not 0 <= request.refine_steps <= STEPS_MAX:
        raise FormatError(
            f"refine_steps is {request.refine_steps}; it must lie in 0..{STEPS_MAX}.", field="refine_steps"
        )
    if not request.HasField("tokens") and not request.HasField("portrait"):
        raise FormatError("There is neither tokens nor portrait; send one of them.", field="tokens")
    tokens = tokens_from_message(request.tokens) if request.HasField("tokens") else None
    portrait = portrait_from_message(request.portrait) if request.HasField("portrait") else None
    return reconstruct_message(stage, weights_hash, tokens, portrait, request.refine_steps, token)


def reconstruct_message(
    stage: Reconstruct,
    weights_hash: str,
    tokens: ImageTokens | None,
    portrait: Portrait | None,
    refine_steps: int,
    token: StopToken,
) -> decode_service_pb2.DecodeResponse:
    """The head of one portrait, or of its tokens; with tokens, ``portrait`` is needed for refinement alone.

    Raises:
        FormatError: Portrait or tokens are missing, or the tokens are another network's.
        CancelledError, DeadlineError: Nobody waits any more.
    """
    watch = Stopwatch()
    result = stage(
        portrait,
        tokens=tokens,
        refine_steps=refine_steps,
        clock=watch,
        check=token.check,
        on_step=lambda done, steps: progress.report("refine", done / steps),
    )
    with watch.timing("pack"):
        packed = pack_head(result.gaussians)
    return decode_service_pb2.DecodeResponse(
        gaussians=packed,
        gaussian_count=len(result.gaussians),
        refine_steps=result.refine_steps,
        input_camera=message_from_camera(result.camera) if result.camera is not None else None,
        bounding_box=bounding_box(result.gaussians),
        stage_timings=watch.timings,
        weights_hash=weights_hash,
        config_name=stage.model.config.name,
    )


def pack_head(head: Gaussians) -> bytes:
    """A head in the wire codec."""
    return formats.write(head.to("cpu"), "wire")


def unpack_head(data: bytes) -> Gaussians:
    """Inverse of ``pack_head``. FormatError: these are other bytes."""
    return formats.read(data, "wire")


# Render

FORMATS: dict[int, PictureFormat] = {
    picture_pb2.PICTURE_FORMAT_UNSPECIFIED: "png",
    picture_pb2.PICTURE_FORMAT_JPEG: "jpeg",
    picture_pb2.PICTURE_FORMAT_PNG: "png",
    picture_pb2.PICTURE_FORMAT_WEBP: "webp",
    picture_pb2.PICTURE_FORMAT_RAW_UINT8: "raw_uint8",
    picture_pb2.PICTURE_FORMAT_RAW_FLOAT32: "raw_float32",
}
SHARPEN = {
    picture_pb2.SHARPENING_UNSPECIFIED: None,
    picture_pb2.SHARPENING_ON: True,
    picture_pb2.SHARPENING_OFF: False,
}


def render_options_from_message(message: picture_pb2.PictureOptions) -> RenderOptions:
    """What a request says about pictures, checked.

    Raises:
        InvalidInputError: A value is out of range, or an enum's value is not known; ``field`` says which.
    """
    for name, value, known in (("format", message.format, FORMATS), ("sharpening", message.sharpening, SHARPEN)):
        if value not in known:
            raise InvalidInputError(
                f"picture.{name} is {value}, which this server does not know; it knows {min(known)}..{max(known)}.",
                field=f"picture.{name}",
            )
    return RenderOptions(
        width=message.width_px or SIZE_DEFAULT,
        height=message.height_px or SIZE_DEFAULT,
        format=FORMATS[message.format],
        quality=message.quality or QUALITY_DEFAULT,
        alpha=message.alpha,
        sharpen=SHARPEN[message.sharpening],
    )


def message_from_render_options(options: RenderOptions) -> picture_pb2.PictureOptions:
    """Inverse of ``render_options_from_message``."""
    return picture_pb2.PictureOptions(
        width_px=options.width,
        height_px=options.height,
        format=picture_pb2.PictureFormat.Value(f"PICTURE_FORMAT_{options.format.upper()}"),
        quality=options.quality,
        alpha=options.alpha,
        sharpening=next(k for k, v in SHARPEN.items() if v is options.sharpen),
    )


def handle_render(
    render: Render,
    sharpen: Sharpen | None,
    recent: RecentHeads,
    request: render_service_pb2.RenderRequest,
    token: StopToken,
) -> render_service_pb2.RenderResponse:
    """Views or pictures of a head that came along, or came before; without ``sharpen`` pictures are not sharpened."""
    cameras = _cameras(request)
    head = _head(request, recent)
    if not request.HasField("picture"):
        begin = time.perf_counter()
        views = render(head, cameras)
        response = render_service_pb2.RenderResponse(
            rgb=message_from_tensor(views.rgb), alpha=message_from_tensor(views.alpha)
        )
        response.stage_timings.add(stage="render", duration_ms=(time.perf_counter() - begin) * 1e3)
        return response
    options = render_options_from_message(request.picture)
    if (options.width, options.height) != (cameras.width, cameras.height):
        raise InvalidCameraError(
            f"The pictures are to have {options.width}x{options.height} pixels and the cameras {cameras.width}x"
            f"{cameras.height}; give both the same size.",
            field="picture.width_px",
        )
    watch = Stopwatch()
    pictures = render_pictures(render, sharpen, head, cameras, options, token, watch)
    return render_service_pb2.RenderResponse(pictures=pictures, stage_timings=watch.timings)


def _head(request: render_service_pb2.RenderRequest, recent: RecentHeads) -> Gaussians:
    key = request.head_key
    if len(key) > KEY_MAX or not (key or request.gaussians):
        raise FormatError(f"head_key has {len(key)} characters; 1..{KEY_MAX} are needed.", field="head_key")
    head = recent.get(key) if key else None
    if head is None and not request.gaussians:
        raise BackendUnavailableError(
            "No head of this key is in memory here; send its gaussians with the key.", reason=NOT_HELD
        )
    if head is None:
        head = unpack_head(request.gaussians)
        if key:
            recent.put(key, head)
    return head


def _cameras(request: render_service_pb2.RenderRequest) -> Cameras:
    cameras = cameras_from_message(request.cameras, "cameras")
    sides, size = (cameras.width, cameras.height), len(cameras) * cameras.width * cameras.height * _VIEW_PIXEL_BYTES
    if not 1 <= len(cameras) <= CAMERAS_MAX or min(sides) < SIZE_MIN or max(sides) > SIZE_MAX or size > VIEWS_BYTES_MAX:
        raise InvalidCameraError(
            f"{len(cameras)} cameras of {cameras.width}x{cameras.height} pixels; 1..{CAMERAS_MAX} cameras, "
            f"{SIZE_MIN}..{SIZE_MAX} pixels a side and {VIEWS_BYTES_MAX} bytes of float views are possible.",
            field="cameras",
        )
    return cameras


def _scope_head_key(request: render_service_pb2.RenderRequest, tenant: str) -> None:
    """Keys of one caller are of no use to another."""
    if request.head_key:
        request.head_key = f"{tenant}|{request.head_key}"


# Sharpen


def handle_sharpen(
    sharpen: Sharpen, requests: Sequence[sharpen_service_pb2.SharpenRequest]
) -> list[sharpen_service_pb2.SharpenResponse]:
    """The views of several requests sharpened, in one pass where they have one size."""
    views = [_views(r) for r in requests]
    begin = time.perf_counter()
    if len({(*rgb.shape[1:], rgb.dtype) for rgb, _ in views}) == 1:
        sharp = list(torch.split(sharpen(torch.cat([rgb for rgb, _ in views])), [len(v[0]) for v in views]))
    else:
        sharp = [sharpen(rgb) for rgb, _ in views]
    spent_ms = (time.perf_counter() - begin) * 1e3
    return [_sharpen_response(r, rgb, v[1], spent_ms) for r, rgb, v in zip(requests, sharp, views, strict=True)]


def _sharpen_response(
    request: sharpen_service_pb2.SharpenRequest, rgb: Tensor, alpha: Tensor, spent_ms: float
) -> sharpen_service_pb2.SharpenResponse:
    response = sharpen_service_pb2.SharpenResponse()
    response.stage_timings.add(stage="sharpen", duration_ms=spent_ms)
    if not request.HasField("picture"):
        response.rgb.CopyFrom(message_from_tensor(rgb))
        return response
    begin = time.perf_counter()
    # The size of a picture is its own; 0 in a message stands for a size that it may not have.
    options = replace(render_options_from_message(request.picture), width=rgb.shape[-1], height=rgb.shape[-2])
    response.pictures.extend(pack(rgb[i], alpha[i], options) for i in range(len(rgb)))
    response.stage_timings.add(stage="pack", duration_ms=(time.perf_counter() - begin) * 1e3)
    return response


def _views(request: sharpen_service_pb2.SharpenRequest) -> tuple[Tensor, Tensor]:
    rgb = tensor_from_message(request.rgb, "rgb", -1, 3, -1, -1)
    count, _, height, width = rgb.shape
    if not 1 <= count <= VIEWS_MAX or min(height, width) < SIZE_MIN or max(height, width) > SIZE_MAX:
        raise FormatError(
            f"rgb has {count} views of {width}x{height}; 1..{VIEWS_MAX} of {SIZE_MIN}..{SIZE_MAX} pixels are needed.",
            field="rgb",
        )
    picture = request.picture
    wanted = (picture.width_px or SIZE_DEFAULT, picture.height_px or SIZE_DEFAULT)
    if request.HasField("picture") and wanted != (width, height):
        raise FormatError(
            f"The pictures are to have another size than the views' {width}x{height} pixels; give the same.",
            field="picture.width_px",
        )
    if request.HasField("alpha"):
        return rgb, tensor_from_message(request.alpha, "alpha", count, 1, height, width)
    if picture.alpha:
        raise FormatError("Pictures with alpha are asked for and there is none; send it.", field="alpha")
    return rgb, torch.ones_like(rgb[:, :1])


# All five


@dataclass(frozen=True)
class StageHandlers:
    """The five stages, message to message."""

    preprocess: Handler[preprocess_service_pb2.PreprocessRequest, preprocess_service_pb2.PreprocessResponse]
    encode: Handler[encode_service_pb2.EncodeRequest, encode_service_pb2.EncodeResponse]
    decode: Handler[decode_service_pb2.DecodeRequest, decode_service_pb2.DecodeResponse]
    render: Handler[render_service_pb2.RenderRequest, render_service_pb2.RenderResponse]
    sharpen: Handler[sharpen_service_pb2.SharpenRequest, sharpen_service_pb2.SharpenResponse]


@dataclass(frozen=True)
class LocalHandlers(StageHandlers):
    """The same by stages of this process; ``batched`` answer several requests in one pass, by name of the stage."""

    batched: Mapping[str, Callable[[Sequence[Any]], list[Any]]]


def local_handlers(
    preprocess: Preprocess,
    reconstruct: Reconstruct,
    render: Render,
    sharpen: Sharpen,
    *,
    weights_hash: str,
    memory_bytes: int,
    sharpens_renders: bool = True,
) -> LocalHandlers:
    """Handlers over stages of this process.

    Args:
        preprocess: The stage.
        reconstruct: The stage; encodes and decodes.
        render: The stage.
        sharpen: The stage.
        weights_hash: Of the network behind them.
        memory_bytes: Bound on the heads that rendering keeps by key.
        sharpens_renders: Whether rendering sharpens the pictures that it packs.
    """
    encode_batch = partial(handle_encode, reconstruct, weights_hash)
    sharpen_batch = partial(handle_sharpen, sharpen)
    return LocalHandlers(
        preprocess=partial(handle_preprocess, preprocess),
        encode=lambda request, _: encode_batch([request])[0],
        decode=partial(handle_decode, reconstruct, weights_hash),
        render=partial(handle_render, render, sharpen if sharpens_renders else None, RecentHeads(memory_bytes)),
        sharpen=lambda request, _: sharpen_batch([request])[0],
        batched={"encode": encode_batch, "sharpen": sharpen_batch},
    )


@dataclass(frozen=True)
class StageRpc:
    """The one RPC of a stage's service.

    Attributes:
        service: Descriptor of the service.
        add: gRPC's generated function that adds a servicer to a server.
        request: Type of its requests.
        response: Type of its responses.
        makes_heads: Whether it belongs to making a head; else to taking pictures of one.
        scope: Given a request and the caller's tenant, makes the request the tenant's own.
    """

    service: ServiceDescriptor
    add: Callable[[Any, Any], None]
    request: Any
    response: Any
    makes_heads: bool
    scope: Callable[[Any, str], None] = lambda request, tenant: None

    @property
    def method(self) -> str:
        """Name of the RPC."""
        return str(self.service.methods[0].name)


STAGE_RPCS: Mapping[str, StageRpc] = {
    "preprocess": StageRpc(
        preprocess_service_pb2.DESCRIPTOR.services_by_name["PreprocessService"],
        preprocess_service_pb2_grpc.add_PreprocessServiceServicer_to_server,
        preprocess_service_pb2.PreprocessRequest,
        preprocess_service_pb2.PreprocessResponse,
        makes_heads=True,
    ),
    "encode": StageRpc(
        encode_service_pb2.DESCRIPTOR.services_by_name["EncodeService"],
        encode_service_pb2_grpc.add_EncodeServiceServicer_to_server,
        encode_service_pb2.EncodeRequest,
        encode_service_pb2.EncodeResponse,
        makes_heads=True,
    ),
    "decode": StageRpc(
        decode_service_pb2.DESCRIPTOR.services_by_name["DecodeService"],
        decode_service_pb2_grpc.add_DecodeServiceServicer_to_server,
        decode_service_pb2.DecodeRequest,
        decode_service_pb2.DecodeResponse,
        makes_heads=True,
    ),
    "render": StageRpc(
        render_service_pb2.DESCRIPTOR.services_by_name["RenderService"],
        render_service_pb2_grpc.add_RenderServiceServicer_to_server,
        render_service_pb2.RenderRequest,
        render_service_pb2.RenderResponse,
        makes_heads=False,
        scope=_scope_head_key,
    ),
    "sharpen": StageRpc(
        sharpen_service_pb2.DESCRIPTOR.services_by_name["SharpenService"],
        sharpen_service_pb2_grpc.add_SharpenServiceServicer_to_server,
        sharpen_service_pb2.SharpenRequest,
        sharpen_service_pb2.SharpenResponse,
        makes_heads=False,
    ),
}


class StageServicer:
    """The RPC of one stage's service, under the name that the contract gives it."""

    def __init__(self, rpc: StageRpc, call: Callable[[Any], Awaitable[Any]]) -> None:
        """``call`` answers requests, here or elsewhere."""
        self._rpc, self._call = rpc, call
        setattr(self, rpc.method, self._answer)

    async def _answer(self, request: Any, context: object) -> Any:
        self._rpc.scope(request, getattr(getattr(context, "caller", None), "tenant", ""))
        return await self._call(request)

"""What the five stage services promise, held against every runtime."""

import random
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import torch

from headlift import codec
from headlift.model.cameras import orbit_camera
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
    stage_pb2,
    tensor_pb2,
)
from headlift.v1 import head_service_pb2 as pb

ALLOWED = {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
PICTURE = picture_pb2.PictureOptions(width_px=64, height_px=48, format=picture_pb2.PICTURE_FORMAT_RAW_FLOAT32)


@dataclass(frozen=True)
class Stubs:
    preprocess: Any
    encode: Any
    decode: Any
    render: Any
    sharpen: Any


@pytest.fixture(scope="module")
def stages(runtime) -> Stubs:
    """Calls of each stage."""
    channel = runtime.channel
    return Stubs(
        preprocess_service_pb2_grpc.PreprocessServiceStub(channel).Preprocess,
        encode_service_pb2_grpc.EncodeServiceStub(channel).Encode,
        decode_service_pb2_grpc.DecodeServiceStub(channel).Decode,
        render_service_pb2_grpc.RenderServiceStub(channel).Render,
        sharpen_service_pb2_grpc.SharpenServiceStub(channel).Sharpen,
    )


@pytest.fixture(scope="module")
def seen(stages, portrait_png):
    return stages.preprocess(preprocess_service_pb2.PreprocessRequest(picture=portrait_png))


@pytest.fixture(scope="module")
def tokens(stages, seen):
    return stages.encode(encode_service_pb2.EncodeRequest(portrait=seen.portrait)).tokens


@pytest.fixture(scope="module")
def made(stages, tokens):
    return stages.decode(decode_service_pb2.DecodeRequest(tokens=tokens))


def cameras(count=1, width=64, height=48):
    whole = orbit_camera(20.0, size=width)
    rows = codec.message_from_cameras(whole.resized(width, height))
    rows.view_matrices.CopyFrom(codec.message_from_tensor(whole.viewmats.expand(count, -1, -1)))
    rows.intrinsics.CopyFrom(codec.message_from_tensor(whole.resized(width, height).Ks.expand(count, -1, -1)))
    return rows


def rendering(made, **fields):
    fields = {"gaussians": made.gaussians, "head_key": "", "cameras": cameras()} | fields
    return render_service_pb2.RenderRequest(**fields)


def test_stage_by_stage_from_outside_makes_the_same_head(runtime, made, portrait_png):
    request = pb.CreateHeadRequest(parent="tenants/stages", picture=portrait_png, refine_steps=0)
    head = runtime.stub.CreateHead(request).head
    export = pb.ExportHeadRequest(name=head.name, format=pb.EXPORT_FORMAT_WIRE)
    assert b"".join(c.data for c in runtime.stub.ExportHead(export)) == made.gaussians
    assert (head.weights_hash, head.config_name, head.gaussian_count) == (
        made.weights_hash,
        made.config_name,
        made.gaussian_count,
    )
    assert head.bounding_box == made.bounding_box


def test_views_sharpened_from_outside_are_what_render_head_answers(runtime, stages, made, portrait_png):
    request = pb.CreateHeadRequest(parent="tenants/stages", picture=portrait_png, refine_steps=0)
    name = runtime.stub.CreateHead(request).head.name
    view = codec.message_from_camera(orbit_camera(20.0, size=64).resized(64, 48))
    asked = pb.RenderHeadRequest(name=name, picture=PICTURE)
    asked.cameras.add().matrix.CopyFrom(view)
    views = stages.render(rendering(made))
    assert (views.rgb.shape, views.alpha.shape) == ([1, 3, 48, 64], [1, 1, 48, 64])
    sharp = stages.sharpen(sharpen_service_pb2.SharpenRequest(rgb=views.rgb, picture=PICTURE))
    assert sharp.pictures[0] == runtime.stub.RenderHead(asked).pictures[0].data
    assert stages.sharpen(sharpen_service_pb2.SharpenRequest(rgb=views.rgb)).rgb.shape == [1, 3, 48, 64]


def test_refinement_needs_the_portrait_and_takes_its_steps(stages, refused, seen, tokens):
    asked = decode_service_pb2.DecodeRequest(tokens=tokens, refine_steps=2)
    assert refused(lambda: stages.decode(asked)).fields == ["portrait"]
    asked.portrait.CopyFrom(seen.portrait)
    answer = stages.decode(asked)
    assert answer.refine_steps == 2
    assert [t.stage for t in answer.stage_timings] == ["decode", "refine", "pack"]


def test_a_head_is_sent_once_and_then_named_by_its_key(stages, refused, made):
    alone = rendering(made, gaussians=b"", head_key="mine")
    answer = refused(lambda: stages.render(alone))
    assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "HEAD_NOT_HELD")
    first = stages.render(rendering(made, head_key="mine"))
    assert stages.render(alone).rgb == first.rgb
    assert stages.render(rendering(made, gaussians=b"", head_key="mine", picture=PICTURE)).pictures[0]


def tensor(*shape, kind=tensor_pb2.DATA_TYPE_FLOAT32, size=None):
    count = torch.Size(shape).numel() * 4 if size is None else size
    return tensor_pb2.Tensor(dtype=kind, shape=list(shape), data=bytes(count))


def bad(seen, tokens, made):
    nan = stage_pb2.Portrait()
    nan.CopyFrom(seen.portrait)
    nan.image.data = b"\xff" * len(nan.image.data)
    other = stage_pb2.ImageTokens()
    other.CopyFrom(tokens)
    other.tokens.CopyFrom(tensor(1, tokens.tokens.shape[1], 7))
    shiftless = stage_pb2.ImageTokens()
    shiftless.CopyFrom(tokens)
    shiftless.warp.CopyFrom(tensor(1, 2, 0, 0))
    partial = stage_pb2.ImageTokens()
    partial.CopyFrom(tokens)
    partial.ClearField("pixels")
    blind = stage_pb2.ImageTokens()
    blind.CopyFrom(tokens)
    for name in ("code", "pixels", "parsing", "warp"):
        blind.ClearField(name)
    encode, decode = encode_service_pb2.EncodeRequest, decode_service_pb2.DecodeRequest
    sharpen = sharpen_service_pb2.SharpenRequest
    return [
        ("preprocess", preprocess_service_pb2.PreprocessRequest(picture=b"no picture"), "UNREADABLE_PICTURE"),
        ("preprocess", preprocess_service_pb2.PreprocessRequest(several_faces=9), "INVALID_INPUT"),
        ("encode", encode(), "BAD_FORMAT"),
        ("encode", encode(portrait=nan), "BAD_FORMAT"),
        ("encode", encode(portrait=stage_pb2.Portrait(image=tensor(3, 64, 64, size=5))), "BAD_FORMAT"),
        ("encode", encode(portrait=stage_pb2.Portrait(image=tensor(3, 8, 8))), "BAD_FORMAT"),
        ("encode", encode(portrait=stage_pb2.Portrait(image=tensor(3, -1, 8, size=0))), "BAD_FORMAT"),
        ("encode", encode(portrait=stage_pb2.Portrait(image=tensor(3, 1 << 40, 1 << 40, size=0))), "BAD_FORMAT"),
        ("decode", decode(), "BAD_FORMAT"),
        ("decode", decode(tokens=tokens, refine_steps=1001), "BAD_FORMAT"),
        ("decode", decode(tokens=other), "BAD_FORMAT"),
        ("decode", decode(tokens=shiftless), "BAD_FORMAT"),
        ("decode", decode(tokens=partial), "BAD_FORMAT"),
        ("decode", decode(tokens=blind), "BAD_FORMAT"),
        ("render", rendering(made, gaussians=b""), "BAD_FORMAT"),
        ("render", rendering(made, gaussians=b"no head"), "BAD_FORMAT"),
        ("render", rendering(made, head_key="x" * 201), "BAD_FORMAT"),
        ("render", rendering(made, cameras=cameras(65)), "INVALID_CAMERA"),
        ("render", rendering(made, cameras=cameras(8, 2048, 2048)), "INVALID_CAMERA"),
        ("render", rendering(made, picture=picture_pb2.PictureOptions(width_px=99)), "INVALID_CAMERA"),
        ("sharpen", sharpen(), "BAD_FORMAT"),
        ("sharpen", sharpen(rgb=tensor(1, 3, 8, 8)), "BAD_FORMAT"),
        ("sharpen", sharpen(rgb=tensor(1, 3, 48, 64), picture=PICTURE, alpha=tensor(1, 1, 4, 4)), "BAD_FORMAT"),
    ]


def test_what_does_not_fit_is_refused_with_its_reason(stages, refused, seen, tokens, made):
    for stage, request, reason in bad(seen, tokens, made):
        answer = refused(lambda s=stage, r=request: getattr(stages, s)(r))
        assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", reason), (stage, answer)


@pytest.mark.parametrize("stage", ["preprocess", "encode", "decode", "render", "sharpen"])
def test_garbage_is_refused_and_never_a_fault(runtime, made, stage):
    name = stage.capitalize()
    call = runtime.channel.unary_unary(f"/headlift.v1.{name}Service/{name}")
    generator, codes = random.Random(stage), set()
    whole = rendering(made, gaussians=made.gaussians[:200], head_key="garbage").SerializeToString()
    for _ in range(20):
        cut = bytearray(whole)
        for _ in range(4):
            cut[generator.randrange(len(cut))] = generator.randrange(256)
        try:
            call(bytes(cut), timeout=30)
            codes.add("OK")
        except grpc.RpcError as error:
            codes.add(error.code().name)
    assert codes <= ALLOWED
    assert "INVALID_ARGUMENT" in codes

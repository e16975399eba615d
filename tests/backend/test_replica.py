"""A replica without Ray: the same object that Serve runs, asked by bytes."""

import asyncio
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from headlift.backend.calls import opened
from headlift.backend.network_watch import NetworkWatch
from headlift.backend.protocol import HeadRef, Network
from headlift.backend.remote import RemoteBackend, remote_handlers
from headlift.backend.replica import StageReplica
from headlift.errors import (
    CancelledError,
    CorruptWeightsError,
    DeadlineError,
    FormatError,
    MissingWeightsError,
    WeightsError,
)
from headlift.stages.preprocess import PreprocessOptions
from headlift.stages.stop_token import StopToken
from headlift.v1 import decode_service_pb2, encode_service_pb2

STAGES = ("preprocess", "encode", "decode", "render", "sharpen")


@pytest.fixture(scope="module")
def replica(settings):
    return StageReplica(STAGES, settings, 2)


def remote(replica, asked, *, split=False):
    """A backend whose calls ask ``replica`` in this process and note what was asked."""

    def call(stage):
        def ask(request, token, *, answer_bytes=0, key=""):
            asked.append((stage, key, len(request)))
            return opened(asyncio.run(replica.answer(stage, request, token.remaining_s())))

        return ask

    network = Network(**{name: value for name, value in replica.facts.items() if name != "device"})
    handlers = remote_handlers({stage: call(stage) for stage in STAGES})
    return RemoteBackend(
        handlers, NetworkWatch(network, list), about="here", split_reconstruct=split, split_render=split
    )


@pytest.fixture(scope="module")
def preprocessed(replica, portrait_png):
    return remote(replica, []).preprocess(portrait_png, PreprocessOptions(), StopToken())


def test_one_call_and_two_make_the_same_head(replica, preprocessed):
    fused, split = (remote(replica, [], split=s) for s in (False, True))
    for steps in (0, 2):
        a, b = (backend.reconstruct(preprocessed.portrait, steps, StopToken()) for backend in (fused, split))
        assert (a.gaussians, a.refine_steps) == (b.gaussians, steps)
        assert [t.stage for t in a.stage_timings] == [t.stage for t in b.stage_timings]


def test_a_head_travels_to_a_replica_once(replica, preprocessed):
    from headlift.media.pictures import RenderOptions
    from headlift.model.cameras import orbit_camera

    asked = []
    fused, split = (remote(replica, asked, split=s) for s in (False, True))
    result = fused.reconstruct(preprocessed.portrait, 0, StopToken())
    head = HeadRef("once", unpacked=None, packed=lambda: result.gaussians)
    options, cameras = RenderOptions(64, 48, "raw_uint8", sharpen=True), orbit_camera(10.0, size=64).resized(64, 48)
    asked.clear()
    first = fused.render(head, cameras, options, StopToken())
    assert [(s, k) for s, k, _ in asked] == [("render", "once")] * 2  # without the head, then with it
    asked.clear()
    assert split.render(head, cameras, options, StopToken()).pictures == first.pictures
    assert [s for s, _, _ in asked] == ["render", "sharpen"]


async def test_requests_that_are_answered_together_are_answered_for_themselves(replica, preprocessed):
    from headlift.codec import message_from_portrait

    good = encode_service_pb2.EncodeRequest(portrait=message_from_portrait(preprocessed.portrait)).SerializeToString()
    replies = await replica.answer_together("encode", [good, good, good])
    alone = encode_service_pb2.EncodeResponse.FromString(opened(await replica.answer("encode", good, None)))
    for reply in replies:
        answer = encode_service_pb2.EncodeResponse.FromString(opened(reply))
        assert answer.batch_size == 3
        assert answer.tokens.tokens.shape == alone.tokens.tokens.shape
    mixed = await replica.answer_together("encode", [good, b"\xff\xff", good])
    assert [bool(status) for status, _, _ in mixed] == [False, True, False]
    with pytest.raises(FormatError):
        opened(mixed[1])


async def test_a_cancelled_call_stops_its_work_and_a_late_one_never_begins(replica, preprocessed):
    from headlift.codec import message_from_portrait

    long = decode_service_pb2.DecodeRequest(portrait=message_from_portrait(preprocessed.portrait), refine_steps=1000)
    task = asyncio.create_task(replica.answer("decode", long.SerializeToString(), None))
    while not replica.busy:
        await asyncio.sleep(0.01)
    task.cancel()
    async with asyncio.timeout(20):
        while replica.busy:
            await asyncio.sleep(0.01)
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises((DeadlineError, CancelledError)):
        opened(await replica.answer("decode", long.SerializeToString(), -1.0))


def test_a_replica_is_healthy_and_knows_its_network(replica):
    replica.check_health()
    assert replica.facts["config_name"] == "tiny"
    assert len(replica.facts["weights_hash"]) == 64


@pytest.fixture(scope="module")
def other_checkpoint(tiny_checkpoint, tmp_path_factory):
    """A network of the same form with other weights."""
    import torch

    from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint

    model, _ = load_checkpoint(tiny_checkpoint)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.01)
    path = tmp_path_factory.mktemp("other") / "other.safetensors"
    save_checkpoint(path, model, Provenance(description="other"))
    return path


async def test_new_weights_answer_from_then_on_and_the_old_ones_come_back(settings, other_checkpoint, preprocessed):
    from headlift.codec import message_from_portrait

    replica = StageReplica(STAGES, settings, 2)
    request = decode_service_pb2.DecodeRequest(
        portrait=message_from_portrait(preprocessed.portrait)
    ).SerializeToString()
    first = await replica.answer("decode", request, None)
    replica.take_weights(other_checkpoint)
    second = await replica.answer("decode", request, None)
    replica.take_weights(None)
    third = await replica.answer("decode", request, None)
    heads = [decode_service_pb2.DecodeResponse.FromString(opened(r)) for r in (first, second, third)]
    assert [r[2] for r in (first, second, third)] == [h.weights_hash for h in heads]
    assert heads[0].weights_hash == heads[2].weights_hash == replica.facts["weights_hash"] != heads[1].weights_hash
    assert heads[0].gaussians == heads[2].gaussians != heads[1].gaussians


def test_a_backbone_is_taken_as_weights_are(settings, light_s_files, tmp_path):
    import torch

    checkpoint, backbone = light_s_files
    other = tmp_path / "other.pth"
    torch.save({name: 1.5 * value for name, value in torch.load(backbone, weights_only=True).items()}, other)
    replica = StageReplica(("encode",), replace(settings, weights=checkpoint, backbone_weights=backbone), 1)
    first = replica.facts
    replica.take_weights(None, other)
    second = replica.facts
    replica.take_weights(None)
    assert replica.facts == first != second
    with pytest.raises(CorruptWeightsError):
        replica.take_weights(None, checkpoint)
    assert replica.facts == first


def test_weights_that_cannot_be_taken_leave_the_old_ones(replica, tmp_path):
    before = replica.facts
    with pytest.raises(MissingWeightsError):
        replica.take_weights(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="deployment of its own"):
        replica.take_weights(Path(str(resources.files("headlift") / "weights/mini.safetensors")))
    assert replica.facts == before

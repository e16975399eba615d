"""BatchCreateHeads and its operations, over gRPC, on an embedded server that comes and goes."""

import io
import time
import uuid
from contextlib import contextmanager
from dataclasses import replace

import av
import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2, error_details_pb2
from PIL import Image

from headlift.serving.background import BackgroundServer
from headlift.v1 import batch_service_pb2 as pb
from headlift.v1 import batch_service_pb2_grpc, head_service_pb2, head_service_pb2_grpc

PARENT = "tenants/studio"
LIMIT_S = 120.0


class Api:
    """The stubs of one running server."""

    def __init__(self, channel, address):
        self.address = address
        self.batches = batch_service_pb2_grpc.BatchServiceStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)
        self.heads = head_service_pb2_grpc.HeadServiceStub(channel)

    def begin(self, **fields):
        return self.batches.BatchCreateHeads(pb.BatchCreateHeadsRequest(parent=PARENT, **fields), timeout=LIMIT_S)

    def get(self, name):
        return self.operations.GetOperation(operations_pb2.GetOperationRequest(name=name), timeout=LIMIT_S)

    def wait(self, name, seconds=LIMIT_S):
        request = operations_pb2.WaitOperationRequest(name=name)
        request.timeout.FromNanoseconds(int(seconds * 1e9))
        return self.operations.WaitOperation(request, timeout=LIMIT_S + 10)

    def cancel(self, name):
        self.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name), timeout=LIMIT_S)

    def head_names(self):
        listed = self.heads.ListHeads(head_service_pb2.ListHeadsRequest(parent=PARENT, page_size=1000), timeout=LIMIT_S)
        return {head.name for head in listed.heads}


@contextmanager
def serving(settings, folder, **changes):
    own = replace(settings, data_dir=folder, deadline_s=LIMIT_S, drain_s=0.2, **changes)
    with BackgroundServer(own) as server, grpc.insecure_channel(server.address) as channel:
        yield Api(channel, server.address)


@pytest.fixture(scope="module")
def api(settings, tmp_path_factory):
    with serving(settings, tmp_path_factory.mktemp("batches")) as running:
        yield running


@pytest.fixture(scope="module")
def pictures(portrait_png):
    """Small portraits that are not equal."""
    small = Image.open(io.BytesIO(portrait_png)).convert("RGB").crop((80, 0, 208, 128))

    def make(count):
        for i in range(count):
            buffer = io.BytesIO()
            small.point(lambda v, i=i: min(255, int(v * (0.9 + i / 200)))).save(buffer, "PNG")
            yield buffer.getvalue()

    return make


def creations(pictures):
    return [head_service_pb2.CreateHeadRequest(picture=p, refine_steps=0) for p in pictures]


def metadata_of(operation):
    metadata = pb.BatchCreateHeadsMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def results_of(operation):
    response = pb.BatchCreateHeadsResponse()
    assert operation.done
    assert operation.response.Unpack(response)
    return list(response.results)


def reason_of(status):
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return info.reason


def refusal(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name


def test_each_portrait_has_a_result_in_the_order_of_the_request(api, pictures):
    good = list(pictures(3))
    operation = api.begin(requests=creations([good[0], b"no picture", good[1], b"", good[2]]))
    assert not operation.done
    assert metadata_of(operation).item_count == 5
    ended = api.wait(operation.name)
    results = results_of(ended)
    assert [r.index for r in results] == list(range(5))
    assert [bool(r.head) for r in results] == [True, False, True, False, True]
    assert reason_of(results[1].error) == "UNREADABLE_PICTURE"
    assert results[1].error.code == results[3].error.code == code_pb2.INVALID_ARGUMENT
    assert {r.head for r in results if r.head} <= api.head_names()
    metadata = metadata_of(ended)
    assert (metadata.done_count, metadata.failed_count) == (3, 2)
    assert metadata.end_time.ToNanoseconds() >= metadata.create_time.ToNanoseconds()
    assert api.get(operation.name) == ended


def test_the_same_request_id_is_the_same_operation_and_another_body_is_refused(api, pictures):
    request_id, (one, two) = str(uuid.uuid4()), creations(pictures(2))
    first = api.begin(requests=[one], request_id=request_id)
    assert api.begin(requests=[one], request_id=request_id.upper()).name == first.name
    assert refusal(lambda: api.begin(requests=[two], request_id=request_id)) == "ALREADY_EXISTS"
    ended = api.wait(first.name)
    again = api.begin(requests=[one], request_id=request_id)
    assert again == ended


def test_operations_are_listed_in_pages_and_deleted_without_their_heads(api, pictures):
    names = {api.begin(requests=creations(pictures(1))).name for _ in range(3)}
    made = {results_of(api.wait(name))[0].head for name in names}
    listed, token = set(), ""
    while True:
        request = operations_pb2.ListOperationsRequest(name=PARENT, page_size=2, page_token=token)
        page = api.operations.ListOperations(request, timeout=LIMIT_S)
        assert len(page.operations) <= 2
        listed |= {operation.name for operation in page.operations}
        token = page.next_page_token
        if not token:
            break
    assert names <= listed
    for name in names:
        api.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name), timeout=LIMIT_S)
        assert refusal(lambda n=name: api.get(n)) == "NOT_FOUND"
    assert made <= api.head_names()


def test_waiting_ends_with_its_time_and_not_with_an_error(api, pictures):
    operation = api.begin(requests=creations(pictures(6)))
    assert not api.wait(operation.name, 0.01).done
    assert api.wait(operation.name).done


def test_a_cancelled_batch_tells_what_it_had_made(api, pictures):
    operation = api.begin(requests=creations(pictures(30)))
    while metadata_of(api.get(operation.name)).done_count < 2:
        time.sleep(0.02)
    refused = refusal(
        lambda: api.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=operation.name))
    )
    assert refused == "ALREADY_EXISTS"
    api.cancel(operation.name)
    ended = api.wait(operation.name)
    assert ended.error.code == code_pb2.CANCELLED
    partial = pb.BatchCreateHeadsResponse()
    assert any(detail.Unpack(partial) for detail in ended.error.details)
    assert 2 <= len(partial.results) < 30
    assert {r.head for r in partial.results} <= api.head_names()
    api.cancel(operation.name)  # once more is no fault


def test_a_batch_goes_on_after_a_restart_and_makes_nothing_twice(settings, tmp_path, pictures):
    with serving(settings, tmp_path) as first:
        operation = first.begin(requests=creations(pictures(12)))
        while metadata_of(first.get(operation.name)).done_count < 3:
            time.sleep(0.02)
    with serving(settings, tmp_path) as second:
        results = results_of(second.wait(operation.name))
        assert [r.index for r in results] == list(range(12))
        assert {r.head for r in results} == second.head_names()
        assert len(second.head_names()) == 12


def clip_of(pictures, fps=5):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for data in pictures:
            frame = av.VideoFrame.from_ndarray(np.asarray(Image.open(io.BytesIO(data))), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_a_clip_becomes_heads_in_the_order_in_which_its_frames_are_shown(api, pictures):
    clip = clip_of(pictures(7))
    operation = api.begin(clip=pb.Clip(video=clip, frame_step=2, frame_count_max=3, refine_steps=0))
    assert metadata_of(operation).item_count == 3
    results = results_of(api.wait(operation.name))
    assert [r.frame_index for r in results] == [0, 2, 4]
    assert [r.time_s for r in results] == pytest.approx([0.0, 0.4, 0.8])
    assert len({r.head for r in results}) == 3


def test_what_cannot_be_done_as_a_whole_is_refused_at_once(api, pictures):
    (one,) = creations(pictures(1))
    other = head_service_pb2.CreateHeadRequest(parent="tenants/other", picture=one.picture)
    bad = head_service_pb2.CreateHeadRequest(picture=one.picture, refine_steps=5000)
    for fields in (
        {},
        {"requests": [other]},
        {"requests": [one, bad]},
        {"requests": [one], "clip": pb.Clip(video=b"x")},
        {"clip": pb.Clip(video=b"not a clip")},
        {"requests": [one], "request_id": "no uuid"},
    ):
        assert refusal(lambda f=fields: api.begin(**f)) == "INVALID_ARGUMENT"
    assert refusal(lambda: api.get(f"{PARENT}/operations/none")) == "NOT_FOUND"
    assert refusal(lambda: api.get("nonsense")) == "INVALID_ARGUMENT"


def test_a_tenant_may_have_so_many_batches_at_a_time_and_so_many_heads(settings, tmp_path, pictures):
    with serving(settings, tmp_path, batch_operations=1, limit_heads=4) as api:
        operation = api.begin(requests=creations(pictures(6)))
        assert refusal(lambda: api.begin(requests=creations(pictures(1)))) == "RESOURCE_EXHAUSTED"
        results = results_of(api.wait(operation.name))
        assert len(api.head_names()) == 4
        assert {reason_of(r.error) for r in results if not r.head} == {"QUOTA_EXCEEDED"}

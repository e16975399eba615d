# ruff: noqa: N802 -- RPC names are the contract's
import asyncio
import logging

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from headlift.errors import NotFoundError
from headlift.serving.guard import Guard
from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import head_service_pb2_grpc


class Faulty(head_service_pb2_grpc.HeadServiceServicer):
    """Fails in every way that a servicer can."""

    async def GetHead(self, request, context):
        raise KeyError("/srv/secret/path on 10.0.0.7")

    async def ListHeads(self, request, context):
        await asyncio.sleep(60)

    async def DeleteHead(self, request, context):
        raise NotFoundError("gone", metadata={"call": context.call_id, "caller": context.metadata.get("who", "")})

    async def ExportHead(self, request, context):
        yield pb.ExportHeadResponse(data=b"x")
        raise ZeroDivisionError("/srv/secret/path")

    async def RenderOrbit(self, request, context):
        yield pb.RenderOrbitResponse()
        await asyncio.sleep(60)


@pytest.fixture
async def stub():
    server = grpc.aio.server(interceptors=[Guard(deadline_s=0.3)])
    head_service_pb2_grpc.add_HeadServiceServicer_to_server(Faulty(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield head_service_pb2_grpc.HeadServiceStub(channel)
    await server.stop(0)


async def failure(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def details(error, kind):
    found = kind()
    status = rpc_status.from_call(error) if not isinstance(error, grpc.aio.AioRpcError) else None
    if status is None:
        from google.rpc import status_pb2

        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert any(d.Unpack(found) for d in status.details)
    return found


async def test_a_fault_tells_the_caller_nothing_and_the_log_everything(stub, caplog):
    with caplog.at_level(logging.ERROR, "headlift.rpc"):
        error = await failure(stub.GetHead(pb.GetHeadRequest(), metadata=(("x-request-id", "call-7"),)))
    assert error.code() is grpc.StatusCode.INTERNAL
    told = f"{error.details()} {error.trailing_metadata()}"
    assert "secret" not in told
    assert "10.0.0.7" not in told
    assert "KeyError" not in told
    assert details(error, error_details_pb2.ErrorInfo).metadata["request_id"] == "call-7"
    assert "call-7" in caplog.text
    assert "secret" in caplog.text


async def test_a_fault_in_a_stream_ends_it_the_same_way(stub, caplog):
    call = stub.ExportHead(pb.ExportHeadRequest())
    assert (await call.read()).data == b"x"
    with caplog.at_level(logging.ERROR, "headlift.rpc"):
        error = await failure(call.read())
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())
    assert len(details(error, error_details_pb2.ErrorInfo).metadata["request_id"]) == 32


async def test_work_without_end_meets_the_servers_deadline(stub):
    assert (await failure(stub.ListHeads(pb.ListHeadsRequest()))).code() is grpc.StatusCode.DEADLINE_EXCEEDED
    call = stub.RenderOrbit(pb.RenderOrbitRequest())
    await call.read()
    assert (await failure(call.read())).code() is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("given", ["x" * 65, "new\tline", "", "ü"])
async def test_a_strange_call_id_is_replaced(stub, given):
    metadata = () if not given.isascii() or "\t" in given else (("x-request-id", given),)
    error = await failure(stub.DeleteHead(pb.DeleteHeadRequest(), metadata=(*metadata, ("who", "me"))))
    info = details(error, error_details_pb2.ErrorInfo)
    assert (error.code(), info.metadata["caller"]) == (grpc.StatusCode.NOT_FOUND, "me")
    assert len(info.metadata["call"]) == 32

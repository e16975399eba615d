# ruff: noqa: N802 -- RPC names are the contract's
import asyncio
import logging

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from headlift.errors import NotFoundError
from headlift.serving.edge.interceptor import AuthInterceptor, EdgePolicy
from headlift.serving.edge.limits import ConcurrencyLimiter, Limits
from headlift.serving.edge.quotas import Quotas
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


class Talk:
    """Streams of requests: an echo, a count, and one that hides what it is told in a task of its own."""

    def __init__(self):
        self.ended, self.running = [], 0

    async def echo(self, requests, call):
        try:
            async for request in requests:
                yield pb.GetHeadResponse(head={"name": request.name})
                if call.draining.is_set():
                    return
        finally:
            self.ended.append(call.call_id)

    async def count(self, requests, call):
        return pb.ListHeadsResponse(next_page_token=str(len([r async for r in requests])))

    async def deaf(self, requests, call):
        async def listen():
            async for _ in requests:
                pass

        listening = asyncio.create_task(listen())
        try:
            await asyncio.wait([listening])
            await asyncio.sleep(60)
            yield pb.GetHeadResponse()
        finally:
            if not listening.cancelled():
                listening.exception()

    async def sleep(self, request, call):
        self.running += 1
        try:
            await asyncio.sleep(60)
        finally:
            self.running -= 1

    async def nap(self, request, call):
        self.running += 1
        await asyncio.sleep(0.3)
        return pb.GetHeadResponse(head={"name": request.name, "config_name": f"{call.time_remaining_s():.3f}"})

    def handlers(self):
        kinds = {
            "Echo": (grpc.stream_stream_rpc_method_handler, self.echo),
            "Count": (grpc.stream_unary_rpc_method_handler, self.count),
            "Deaf": (grpc.stream_stream_rpc_method_handler, self.deaf),
            "Sleep": (grpc.unary_unary_rpc_method_handler, self.sleep),
            "Nap": (grpc.unary_unary_rpc_method_handler, self.nap),
        }
        methods = {
            name: make(method, pb.GetHeadRequest.FromString, lambda m: m.SerializeToString())
            for name, (make, method) in kinds.items()
        }
        return grpc.method_handlers_generic_handler("headlift.v1.Talk", methods)


@pytest.fixture
async def serve():
    """Starts Talk and Faulty behind an edge: its server, the Talk and a channel."""
    opened = []

    async def start(**edge):
        policy = EdgePolicy(**{"deadline_s": 30.0} | edge)
        server, talk = grpc.aio.server(interceptors=[AuthInterceptor(policy)]), Talk()
        server.add_generic_rpc_handlers((talk.handlers(),))
        head_service_pb2_grpc.add_HeadServiceServicer_to_server(Faulty(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        opened.append((server, channel))
        return server, talk, channel

    yield start
    for server, channel in opened:
        await channel.close()
        await server.stop(0)


@pytest.fixture
async def stub(serve):
    _, _, channel = await serve(deadline_s=0.3)
    return head_service_pb2_grpc.HeadServiceStub(channel)


def talking(channel, method, parse=pb.GetHeadResponse.FromString):
    """A stream of requests to Talk."""
    single = method == "Count"
    return (channel.stream_unary if single else channel.stream_stream)(f"/headlift.v1.Talk/{method}", None, parse)


def asking(channel, method):
    return channel.unary_unary(f"/headlift.v1.Talk/{method}", None, pb.GetHeadResponse.FromString)


async def ending(call):
    """The status of a call, all of whose answers have been read."""
    try:
        if hasattr(call, "read"):
            while await call.read() is not grpc.aio.EOF:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return await call.code()


def named(name):
    return pb.GetHeadRequest(name=name).SerializeToString()


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


async def test_a_conversation_is_answered_message_by_message(serve):
    _, talk, channel = await serve()
    call = talking(channel, "Echo")(metadata=(("x-request-id", "talk-1"),))
    for name in ("a", "b", "c"):
        await call.write(named(name))
        assert (await call.read()).head.name == name
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert (await call.code(), talk.ended) == (grpc.StatusCode.OK, ["talk-1"])
    assert dict(await call.trailing_metadata())["x-request-id"] == "talk-1"


async def test_a_stream_of_requests_may_have_one_answer(serve):
    _, _, channel = await serve()
    call = talking(channel, "Count", pb.ListHeadsResponse.FromString)(iter([named("a"), named("b")]))
    assert (await call).next_page_token == "2"


@pytest.mark.parametrize("method", ["Echo", "Count", "Deaf"])
async def test_garbage_in_a_stream_ends_it_even_if_the_servicer_does_not_listen(serve, method):
    _, _, channel = await serve()
    call = talking(channel, method)()
    await call.write(named("a"))
    await call.write(b"\xff\xff")
    await call.done_writing()
    assert await ending(call) is grpc.StatusCode.INVALID_ARGUMENT


async def test_silence_ends_a_stream_and_talk_does_not(serve):
    _, talk, channel = await serve(stream_idle_s=1.5)
    call = talking(channel, "Echo")()
    for _ in range(6):  # longer than the silence that is allowed
        await call.write(named("a"))
        await call.read()
        await asyncio.sleep(0.3)
    assert talk.ended == []
    error = await failure(call.read())
    assert (error.code(), len(talk.ended)) == (grpc.StatusCode.DEADLINE_EXCEEDED, 1)


async def test_a_caller_who_leaves_ends_its_stream(serve):
    _, talk, channel = await serve()
    call = talking(channel, "Echo")()
    await call.write(named("a"))
    await call.read()
    call.cancel()
    async with asyncio.timeout(20):
        while not talk.ended:
            await asyncio.sleep(0.01)


async def test_two_hundred_cancelled_calls_stop_their_work_and_free_their_slots(serve):
    concurrency = ConcurrencyLimiter(200)
    limits = Quotas(Limits(concurrent_calls=200))
    _, talk, channel = await serve(concurrency=concurrency, quotas=limits)
    calls = [asking(channel, "Sleep")(named("a")) for _ in range(200)]
    async with asyncio.timeout(60):
        while talk.running < 200:
            await asyncio.sleep(0.01)
        assert (await failure(asking(channel, "Nap")(named("a")))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for call in calls:
            call.cancel()
        while talk.running or concurrency.running:
            await asyncio.sleep(0.01)
    assert (await asking(channel, "Nap")(named("a"))).head.name == "a"


async def test_beyond_its_limit_a_server_refuses_at_once_and_says_when_to_come_back(serve):
    _, talk, channel = await serve(concurrency=ConcurrencyLimiter(4))
    busy = [asking(channel, "Sleep")(named("a")) for _ in range(4)]
    async with asyncio.timeout(60):
        while talk.running < 4:
            await asyncio.sleep(0.01)
    refused = await asyncio.gather(*(failure(asking(channel, "Nap")(named("a"))) for _ in range(36)))
    for call in busy:
        call.cancel()
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error, error_details_pb2.ErrorInfo).reason == "OVERLOADED"
        assert 0 < details(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() <= 30


async def test_a_tenant_over_its_rate_is_told_the_wait_and_others_are_served(serve):
    _, _, channel = await serve(quotas=Quotas(Limits(requests_per_s=0.01)))
    ask = asking(channel, "Nap")
    await ask(named("tenants/a/heads/1"))
    error = await failure(ask(named("tenants/a/heads/2")))
    assert details(error, error_details_pb2.ErrorInfo).reason == "RATE_LIMITED"
    assert 90 < details(error, error_details_pb2.RetryInfo).retry_delay.ToTimedelta().total_seconds() <= 100
    await ask(named("tenants/b/heads/1"))
    # Nonsense counts too, of whoever sends it.
    assert (await failure(ask(b"\xff"))).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await failure(ask(b"\xff"))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_bytes_of_a_stream_count(serve):
    _, _, channel = await serve(quotas=Quotas(Limits(bytes_per_min=1000)))
    call = talking(channel, "Echo")()
    for _ in range(3):
        await call.write(named("x" * 400))
    assert await ending(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_deadline_that_is_handed_down_is_the_sooner_one(serve):
    _, _, channel = await serve(deadline_s=20.0)
    for timeout, limit in ((5, 5), (None, 20), (60, 20)):
        left = float((await asking(channel, "Nap")(named("a"), timeout=timeout)).head.config_name)
        assert limit - 5 < left < limit


async def test_leaving_loses_no_accepted_call_and_tells_long_streams(serve):
    draining = asyncio.Event()
    server, talk, channel = await serve(draining=draining)
    stream = talking(channel, "Echo")()
    await stream.write(named("a"))
    await stream.read()
    calls = [asking(channel, "Nap")(named(str(i))) for i in range(50)]
    while talk.running < 50:
        await asyncio.sleep(0.01)
    draining.set()
    stopping = asyncio.create_task(server.stop(30))
    await stream.write(named("b"))
    assert (await stream.read()).head.name == "b"
    assert await stream.code() is grpc.StatusCode.OK
    assert [a.head.name for a in await asyncio.gather(*calls)] == [str(i) for i in range(50)]
    async with asyncio.timeout(20):
        await stopping


async def test_every_call_is_told_to_observers_with_its_end(serve):
    heard = []
    _, _, channel = await serve(observers=(heard.append,))
    await asking(channel, "Nap")(named("tenants/a/heads/1"), metadata=(("x-request-id", "n-1"),))
    await failure(head_service_pb2_grpc.HeadServiceStub(channel).GetHead(pb.GetHeadRequest()))
    call = asking(channel, "Sleep")(named("tenants/b"))
    await asyncio.sleep(0.2)
    call.cancel()
    while len(heard) < 3:
        await asyncio.sleep(0.01)
    assert [(f.method.rsplit("/")[-1], f.code, f.tenant) for f in heard] == [
        ("Nap", "OK", "a"),
        ("GetHead", "INTERNAL", ""),
        ("Sleep", "CANCELLED", "b"),
    ]
    assert heard[0].call_id == "n-1"
    assert heard[0].seconds >= 0.3

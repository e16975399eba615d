"""What the Live method promises, held against every runtime, mostly through the client."""

import asyncio
import contextlib
import gc
import io
import queue
import random
import threading
import time
from dataclasses import replace

import grpc
import psutil
import pytest
from PIL import Image

from headlift.client import (
    AsyncHeadliftClient,
    HeadliftClient,
    LiveDropped,
    LiveHead,
    LiveRefused,
    LiveView,
    camera,
)
from headlift.client._retry import error_from_rpc
from headlift.errors import NotFoundError, OverloadedError
from headlift.gateway.live.options import LiveLimits
from headlift.v1 import head_service_pb2, head_service_pb2_grpc, picture_pb2
from headlift.v1 import live_pb2 as pb

DOCUMENTED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED"}
SMALL = {"width": 48, "height": 32}


@pytest.fixture
def client(runtime):
    with HeadliftClient(runtime.address, tenant="shared") as connected:
        yield connected


@pytest.fixture(scope="module")
def small_portrait(portrait_png):
    """A frame as cheap to look at as they come."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(portrait_png)).convert("RGB").resize((160, 160)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def opening(head, **fields):
    look = picture_pb2.PictureOptions(width_px=48, height_px=32, format=picture_pb2.PICTURE_FORMAT_JPEG)
    source = {} if "frames" in fields else {"head": head.name}
    return pb.LiveRequest(open=pb.LiveOpen(**({"parent": "tenants/shared", "picture": look} | source | fields)))


def look(sequence, yaw_deg=0.0):
    message = pb.LiveViewpoint(sequence=sequence)
    message.camera.orbit.yaw_deg = yaw_deg
    return pb.LiveRequest(viewpoint=message)


def test_views_of_a_live_session_are_the_pictures_that_rendering_gives(client, head):
    with client.live(head=head, **SMALL) as live:
        assert live.head == head
        for yaw in (0.0, 30.0, -60.0):
            sequence = live.send_viewpoint(camera(yaw_deg=yaw))
            view = next(iter(live))
            assert isinstance(view, LiveView)
            assert (view.sequence, view.is_keyframe) == (sequence, True)
            assert 0 < view.latency_s < 60
            (still,) = client.render(head, [camera(yaw_deg=yaw)], format="jpeg", **SMALL)
            assert view.data == still.data
        live.close()
        assert list(live) == []


def test_frames_become_heads_and_views_and_nothing_of_them_is_stored(runtime, client, small_portrait):
    before = set(runtime.blob_keys("tenants/passing"))
    with HeadliftClient(runtime.address, tenant="passing") as passing, passing.live(answers="both", **SMALL) as live:
        answers = iter(live)
        for index in range(2):
            sequence = live.send_frame(small_portrait)
            view, head = next(answers), next(answers)
            assert isinstance(view, LiveView)
            assert isinstance(head, LiveHead)
            assert view.sequence == head.sequence == sequence
            assert head.is_keyframe == (index == 0)
            assert len(head.head) == 512
        live.send_frame(b"no picture")
        refused = next(answers)
        assert isinstance(refused, LiveRefused)
        assert refused.error.reason == "UNREADABLE_PICTURE"
    assert set(runtime.blob_keys("tenants/passing")) == before


def test_video_comes_as_access_units_that_a_decoder_takes_one_by_one(client, head):
    av = pytest.importorskip("av")
    decoder, shown = av.CodecContext.create("h264", "r"), []
    with client.live(head=head, format="h264", **SMALL) as live:
        answers = iter(live)
        for i in range(5):
            live.send_viewpoint(camera(yaw_deg=5.0 * i))
            view = next(answers)
            assert view.picture is None
            assert view.is_keyframe == (i == 0)
            shown += decoder.decode(av.Packet(view.data))
    shown += decoder.decode(None)
    assert [(f.width, f.height) for f in shown] == [(48, 32)] * 5


def test_refusals_of_open_arrive_as_the_servers_own_classes(client):
    with pytest.raises(NotFoundError), client.live(head="h0"):
        pass


async def test_the_asyncio_client_does_what_the_blocking_one_does(runtime, head):
    async with (
        AsyncHeadliftClient(runtime.address, tenant="shared") as client,
        client.live(head=head, answers="both", **SMALL) as live,
    ):
        answers = aiter(live)
        first = await anext(answers)
        assert isinstance(first, LiveHead)
        assert len(first.head) == head.gaussian_count
        sequence = await live.send_viewpoint(camera(yaw_deg=10))
        view = await anext(answers)
        assert (view.sequence, view.picture.image().size) == (sequence, (48, 32))
        await live.request_keyframe()
        kinds = {type(await anext(answers)), type(await anext(answers))}
        assert kinds == {LiveView, LiveHead}
        await live.close()
        assert [a async for a in live] == []


async def test_a_session_survives_a_stream_that_breaks(runtime, head):
    proxy = _Proxy(*runtime.address.split(":"))
    async with (
        proxy,
        AsyncHeadliftClient(proxy.address, tenant="shared") as client,
        client.live(head=head, **SMALL) as live,
    ):
        answers = aiter(live)
        await live.send_viewpoint(camera(yaw_deg=15))
        first = await anext(answers)
        session = live.opened.session_id
        await proxy.cut()
        seen = [await anext(answers)]
        while not isinstance(seen[-1], LiveView):
            seen.append(await anext(answers))
        assert live.opened.session_id == session
        # What was looked at last is shown again without being asked for.
        assert seen[-1].data == first.data
        assert all(isinstance(a, LiveDropped) for a in seen[:-1])


def test_a_server_that_leaves_says_goodbye_with_a_token_for_the_next_one(start, settings, head, portrait_png):
    requests: queue.SimpleQueue = queue.SimpleQueue()
    with start(replace(settings, drain_s=10.0)) as runtime:
        channel = grpc.insecure_channel(runtime.address)  # outlives the server
        made = runtime.stub.CreateHead(
            head_service_pb2.CreateHeadRequest(parent="tenants/shared", picture=portrait_png), timeout=60
        ).head
        requests.put(opening(made))
        call = head_service_pb2_grpc.HeadServiceStub(channel).Live(iter(requests.get, None))
        opened = next(call).opened
        requests.put(look(1))
        assert next(call).view.sequence == 1
        heard = []

        def listen():
            for answer in call:
                heard.append(answer)
                requests.put(pb.LiveRequest(close=pb.LiveClose()))

        listening = threading.Thread(target=listen)
        listening.start()
    listening.join()
    requests.put(None)
    channel.close()
    assert [a.WhichOneof("message") for a in heard] == ["go_away"]
    assert call.code() == grpc.StatusCode.OK
    assert heard[0].go_away.reason == pb.LIVE_GO_AWAY_REASON_DRAINING
    with start(settings) as another:
        again = pb.LiveOpen(parent="tenants/shared", resume_token=heard[0].go_away.resume_token)
        answers = list(another.stub.Live(iter([pb.LiveRequest(open=again), look(1)])))
    assert answers[0].opened.session_id == opened.session_id
    assert answers[0].opened.head == made
    assert answers[1].view.sequence == 1


def test_more_sessions_than_allowed_are_told_when_to_come_back(runtime, head):
    calls, waiting = [], []

    def hold_another():
        requests: queue.SimpleQueue = queue.SimpleQueue()
        requests.put(opening(head))
        waiting.append(requests)
        calls.append(runtime.stub.Live(iter(requests.get, None)))
        next(calls[-1])

    try:
        for _ in range(LiveLimits().tenant_sessions):
            hold_another()
        with pytest.raises(grpc.RpcError) as caught:
            hold_another()
        error = error_from_rpc(caught.value)
        assert isinstance(error, OverloadedError)
        assert error.retry_after_s > 0
    finally:
        for requests in waiting:
            requests.put(None)
        for call in calls:
            call.cancel()
    _until_served(runtime, head)


def test_fifty_callers_who_stall_cost_little_memory_and_nobody_else_anything(runtime, head, settings):
    big = picture_pb2.PictureOptions(width_px=512, height_px=512, format=picture_pb2.PICTURE_FORMAT_RAW_UINT8)
    channels, waiting = [], []
    gc.collect()
    before = psutil.Process().memory_info().rss
    try:
        for index in range(30):  # of one tenant, and twenty of another
            channels.append(_stalled(runtime, opening(head, picture=big, initial_credit=64), waiting))
            if index < 20:
                frames = pb.LiveOpen(parent="tenants/stalled", frames=pb.LiveFrames(), initial_credit=64)
                channels.append(_stalled(runtime, pb.LiveRequest(open=frames), waiting))
        for requests in waiting:
            for sequence in range(1, 101):
                requests.put(look(sequence, float(sequence)))
        with HeadliftClient(runtime.address, tenant="shared") as client, client.live(head=head, **SMALL) as live:
            answers = iter(live)
            for i in range(20):
                sequence = live.send_viewpoint(camera(yaw_deg=float(i)))
                assert next(answers).sequence == sequence
        grown = psutil.Process().memory_info().rss - before
    finally:
        for requests in waiting:
            requests.put(None)
        for channel in channels:
            channel.close()
    assert grown < 256 << 20
    _until_served(runtime, head)


def test_a_thousand_random_messages_give_documented_codes_and_leave_nothing(runtime, head, small_portrait):
    rng = random.Random(11)
    codes, heard = set(), 0
    for _ in range(40):
        requests = [_random(rng, head, small_portrait, first=i == 0) for i in range(25)]
        try:
            for answer in runtime.stub.Live(iter(requests), timeout=60):
                heard += 1
                if answer.WhichOneof("message") == "error":
                    codes.add(grpc_code(answer.error.code))
            codes.add("OK")
        except grpc.RpcError as error:
            codes.add(error.code().name)
    assert codes <= DOCUMENTED
    assert "OK" in codes
    assert heard > 40
    _until_served(runtime, head)


def test_bytes_that_are_no_message_end_the_stream_with_a_documented_code(runtime, head):
    raw = runtime.channel.stream_stream("/headlift.v1.HeadService/Live", None, pb.LiveResponse.FromString)
    for requests in ([b"\xff\xff\xff"], [opening(head).SerializeToString(), b"\x0a\xff"]):
        with pytest.raises(grpc.RpcError) as caught:
            list(raw(iter(requests), timeout=30))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def grpc_code(value):
    return next(c.name for c in grpc.StatusCode if c.value[0] == value)


def _until_served(runtime, head):
    """Sessions that were left end on their own: soon there are places again."""
    for _ in range(300):
        call = runtime.stub.Live(iter([opening(head), look(1)]), timeout=30)
        answers = []
        with contextlib.suppress(grpc.RpcError):
            answers.extend(call)
        if call.code() == grpc.StatusCode.OK:
            break
        assert call.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        time.sleep(0.1)
    assert [a.WhichOneof("message") for a in answers] == ["opened", "view"]


def _stalled(runtime, first, waiting):
    """A caller who speaks and never reads, with a small window of its own."""
    channel = grpc.insecure_channel(runtime.address, [("grpc.use_local_subchannel_pool", 1)])
    requests: queue.SimpleQueue = queue.SimpleQueue()
    requests.put(first)
    waiting.append(requests)
    call = head_service_pb2_grpc.HeadServiceStub(channel).Live(iter(requests.get, None))
    next(call)
    return channel


def _random(rng, head, portrait, first):
    """A message that may or may not make sense; the first of a stream mostly does."""
    if first and rng.random() < 0.9:
        frames = {"frames": pb.LiveFrames(refine_steps=rng.choice([0, 0, 0, -1, 51]))} if rng.random() < 0.3 else {}
        return opening(
            head,
            answers=rng.choice([[], [1], [2], [1, 2], [1, 1], [0], [9]]),
            video=rng.choice([0, 0, 1, 2, 5]),
            initial_credit=rng.choice([0, 1, 2, 64, 65, -1]),
            resume_token=rng.choice(["", "", "", "abc"]),
            budget=pb.LiveBudget(
                max_fps=rng.choice([0, 0, 100.0, -1.0, float("inf")]),
                deadline_ms=rng.choice([0, 0, 1, 5000, -1]),
                view_bytes_max=rng.choice([0, 0, 1, 50_000, -1]),
            ),
            **frames,
        )
    sequence = rng.choice([rng.randrange(1, 1000), 0, -5, 1 << 62])
    kind = rng.randrange(8)
    if kind == 0:
        return pb.LiveRequest(frame=pb.LiveFrame(sequence=sequence, picture=rng.choice([b"", b"x" * 50, portrait])))
    if kind == 1:
        return pb.LiveRequest(credit=pb.LiveCredit(count=rng.choice([1, 5, 0, -1, 1 << 30])))
    if kind == 2:
        return rng.choice([pb.LiveRequest(), opening(head), pb.LiveRequest(keyframe=pb.LiveKeyframe())])
    if kind == 3 and rng.random() < 0.1:
        return pb.LiveRequest(close=pb.LiveClose())
    if kind == 4:
        message = pb.LiveViewpoint(sequence=sequence)
        message.camera.matrix.view_matrix.extend(
            [rng.choice([0.0, 1.0, float("nan")]) for _ in range(rng.choice([0, 16]))]
        )
        return pb.LiveRequest(viewpoint=message)
    return look(sequence, rng.choice([0.0, 1e9, float("nan"), rng.uniform(-180, 180)]))


class _Proxy:
    """A TCP relay whose connections can be cut."""

    def __init__(self, host, port):
        self._target = (host, int(port))
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        await self.cut()
        self._server.close()

    async def cut(self):
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        onward_reader, onward_writer = await asyncio.open_connection(*self._target)
        self._writers += [writer, onward_writer]
        await asyncio.gather(self._pump(reader, onward_writer), self._pump(onward_reader, writer))

    async def _pump(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

"""What a session does with what it is sent."""

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from headlift import formats
from headlift.errors import HeadliftError, InvalidInputError, NotFoundError
from headlift.formats.delta import DeltaDecoder
from headlift.gateway.context import LocalContext
from headlift.v1 import head_service_pb2, picture_pb2
from headlift.v1 import live_pb2 as pb

REPLACED, DEADLINE, TOO_LARGE, NO_HEAD, CLOSED = list(pb.LiveDropReason.values())[1:]
BOTH = [pb.LIVE_ANSWER_VIEWS, pb.LIVE_ANSWER_HEADS]


def reason_of(error):
    return [d.type_url.rpartition(".")[2] for d in error.details], error.details[0].value


def shifted(png, by):
    """The portrait a little to the side: another frame of the same person."""
    image = Image.open(io.BytesIO(png))
    moved = image.transform(image.size, Image.Transform.AFFINE, (1, 0, by, 0, 1, 0))
    buffer = io.BytesIO()
    moved.save(buffer, "PNG")
    return buffer.getvalue()


async def until_served(call, sequence):
    """Look until a view comes: on a busy machine some more may be late."""
    for i in range(sequence, sequence + 100):
        call.look(i)
        if (await call.hear()).WhichOneof("message") == "view":
            return
    raise AssertionError("no view came")


async def test_a_viewpoint_is_answered_with_the_view_that_rendering_gives(talk, service, head):
    call = await talk()
    opened = await call.hear("opened")
    assert (opened.head.name, opened.options.head) == (head.name, head.name)
    assert opened.options.initial_credit == 4
    call.look(7, yaw_deg=25.0)
    view = await call.hear("view")
    assert (view.sequence, view.frame_index, view.timestamp_us, view.is_keyframe, view.quality) == (
        7,
        0,
        1007,
        True,
        90,
    )
    request = head_service_pb2.RenderHeadRequest(name=head.name, picture=opened.options.picture)
    request.cameras.add().orbit.yaw_deg = 25.0
    rendered = await service.servicer.RenderHead(request, LocalContext())
    assert view.data == rendered.pictures[0].data
    assert [t.stage for t in view.stage_timings][:2] == ["wait", "render"]


async def test_only_the_newest_viewpoint_of_a_busy_session_is_answered_and_the_others_are_told(talk, live_with, slow):
    call = await talk(live_with(slow))
    await call.hear("opened")
    slow.gate.clear()
    call.look(1)
    while slow.asked == 0:
        await asyncio.sleep(0.01)
    for sequence in range(2, 101):
        call.look(sequence)
    await asyncio.sleep(0.05)
    slow.gate.set()
    answers = [await call.hear() for _ in range(3)]
    dropped = [a.dropped for a in answers if a.WhichOneof("message") == "dropped"]
    views = [a.view for a in answers if a.WhichOneof("message") == "view"]
    assert [v.sequence for v in views] == [1, 100]
    assert (sum(d.count for d in dropped), dropped[0].reason) == (98, REPLACED)
    assert list(dropped[-1].sequences) == list(range(36, 100))
    assert sum(v.dropped_count for v in views) == 98
    assert slow.asked == 2


async def test_every_message_has_exactly_one_outcome(talk, live_with, slow):
    call = await talk(live_with(slow), initial_credit=64)
    await call.hear("opened")
    for sequence in range(1, 51):
        call.look(sequence)
        if sequence % 7 == 0:
            await asyncio.sleep(0.01)
    call.say(close=pb.LiveClose())
    outcomes = []
    for answer in await call.rest():
        outcomes += [answer.view.sequence] if answer.WhichOneof("message") == "view" else answer.dropped.sequences
    assert sorted(outcomes) == list(range(1, 51))


@pytest.mark.parametrize("sequence", [0, -1, 5, 4])
async def test_a_sequence_that_does_not_grow_is_refused_and_the_session_goes_on(talk, sequence):
    call = await talk()
    await call.hear("opened")
    call.look(5)
    assert (await call.hear("view")).sequence == 5
    call.look(sequence)
    error = await call.hear("error")
    assert (error.sequence, error.code) == (0, 3)
    assert b"BAD_SEQUENCE" in reason_of(error)[1]
    call.look(6)
    assert (await call.hear("view")).sequence == 6


async def test_nothing_is_computed_or_sent_beyond_the_credit(talk, live_with, slow):
    call = await talk(live_with(slow), initial_credit=2)
    await call.hear("opened")
    for sequence in (1, 2):
        call.look(sequence)
        await call.hear("view")
    call.look(3)
    await asyncio.sleep(0.1)
    assert slow.asked == 2
    call.say(credit=pb.LiveCredit(count=1))
    assert (await call.hear("view")).sequence == 3
    call.say(credit=pb.LiveCredit(count=0))
    assert b"BAD_CREDIT" in reason_of(await call.hear("error"))[1]


async def test_a_caller_who_does_not_read_holds_one_answer_and_one_viewpoint(talk, live_with, slow):
    call = await talk(live_with(slow), initial_credit=64)
    await call.hear("opened")
    reading = asyncio.create_task(call.hear())
    await asyncio.sleep(0.05)
    for sequence in range(1, 1001):
        call.look(sequence)
    assert (await reading).WhichOneof("message") in ("view", "dropped")
    await asyncio.sleep(0.2)
    asked = slow.asked
    assert asked <= 2
    for sequence in range(1001, 2001):
        call.look(sequence)
    await asyncio.sleep(0.1)
    assert slow.asked == asked


async def test_errors_that_nobody_reads_do_not_pile_up(talk):
    call = await talk()
    await call.hear("opened")
    for _ in range(1000):
        call.say(frame=pb.LiveFrame(sequence=0, picture=b"x"))
    call.hang_up()
    errors = [a.error for a in await call.rest()]
    assert len(errors) <= 17
    assert len(errors) + sum(e.left_out_count for e in errors) == 1000


async def test_what_is_older_than_its_deadline_is_dropped_and_work_on_it_is_stopped(talk, live_with, slow):
    call = await talk(live_with(slow), budget=pb.LiveBudget(deadline_ms=1000))
    await call.hear("opened")
    slow.gate.clear()
    call.look(1)
    dropped = await call.hear("dropped")
    assert (list(dropped.sequences), dropped.count, dropped.reason) == ([1], 1, DEADLINE)
    slow.gate.set()
    await until_served(call, 2)


async def test_without_a_deadline_of_the_caller_the_servers_own_holds(talk, live_with, slow):
    call = await talk(live_with(slow, answer_s=1.0))
    await call.hear("opened")
    slow.gate.clear()
    call.look(1)
    error = await call.hear("error")
    assert (error.sequence, error.code) == (1, 4)
    slow.gate.set()
    await until_served(call, 2)


async def test_answers_keep_to_the_frames_a_second(talk):
    call = await talk(budget=pb.LiveBudget(max_fps=20), initial_credit=64)
    await call.hear("opened")
    begin = asyncio.get_running_loop().time()
    for sequence in range(1, 7):
        call.look(sequence)
        await call.hear("view")
    assert asyncio.get_running_loop().time() - begin >= 5 * 0.05 - 0.01


async def test_a_keyframe_request_answers_the_last_viewpoint_again(talk):
    call = await talk()
    await call.hear("opened")
    call.look(1, yaw_deg=40)
    first = await call.hear("view")
    call.say(keyframe=pb.LiveKeyframe())
    again = await call.hear("view")
    assert (again.sequence, again.frame_index, again.data) == (1, 1, first.data)


async def test_frames_bring_heads_as_a_keyframe_and_deltas_that_a_decoder_follows(talk, portrait_png):
    call = await talk(frames=True, answers=BOTH)
    assert not (await call.hear("opened")).HasField("head")
    call.frame(1, portrait_png)
    view, key = await call.hear("view"), await call.hear("head_keyframe")
    assert (view.sequence, key.sequence, key.timestamp_us) == (1, 1, 1001)
    decoder = DeltaDecoder()
    assert len(decoder.keyframe(key.data)) == 512
    call.say(credit=pb.LiveCredit(count=4))
    call.frame(2, shifted(portrait_png, 4))
    await call.hear("view")
    delta = await call.hear("head_delta")
    assert (delta.sequence, delta.base_sequence) == (2, 1)
    moved = decoder.delta(delta.data)
    call.say(keyframe=pb.LiveKeyframe())
    await call.hear("view")
    again = await call.hear("head_keyframe")
    assert again.sequence == 2
    whole = formats.read(again.data, "wire")
    assert float((whole.means - moved.means).abs().max()) < 20e-6


async def test_a_frame_says_where_the_frame_before_showed_the_head(talk, live_with, slow, portrait_png):
    call = await talk(live_with(slow), frames=True)
    await call.hear("opened")
    call.frame(1, portrait_png)
    await call.hear("view")
    call.say(credit=pb.LiveCredit(count=4))
    call.frame(2, shifted(portrait_png, 4))
    await call.hear("view")
    first, second = slow.near
    assert first is None
    assert len(second) == 6
    assert abs(second[0] * second[4] - second[1] * second[3]) > 0


async def test_nothing_of_a_frame_is_stored(talk, service, portrait_png):
    call = await talk(frames=True, parent="tenants/passing")
    await call.hear("opened")
    call.frame(1, shifted(portrait_png, 9))
    await call.hear("view")
    assert list(service.store.list("tenants/passing")) == []


async def test_a_frame_without_a_face_is_an_error_of_that_frame_alone(talk, portrait_png):
    call = await talk(frames=True)
    await call.hear("opened")
    blank = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(blank, "PNG")
    for sequence, picture, word in (
        (1, blank.getvalue(), b"NO_FACE"),
        (2, b"junk", b"UNREADABLE"),
        (3, b"", b"INVALID"),
    ):
        call.frame(sequence, picture)
        error = await call.hear("error")
        assert (error.sequence, error.code) == (sequence, 3)
        assert word in reason_of(error)[1]
    call.frame(4, portrait_png)
    assert (await call.hear("view")).sequence == 4


async def test_a_viewpoint_before_the_first_frame_counts_for_that_frame(talk, portrait_png):
    call = await talk(frames=True)
    await call.hear("opened")
    call.look(1, yaw_deg=60)
    assert (await call.hear("dropped")).reason == NO_HEAD
    call.frame(2, portrait_png)
    turned = await call.hear("view")
    call.look(3, yaw_deg=60)
    assert (await call.hear("view")).data == turned.data
    call.look(4, yaw_deg=0)
    assert (await call.hear("view")).data != turned.data


async def test_a_session_on_heads_sends_its_one_head_unasked(talk, service, head):
    call = await talk(answers=BOTH)
    await call.hear("opened")
    key = await call.hear("head_keyframe")
    assert key.sequence == 0
    assert key.data == service.servicer._heads.packed(_name(head))
    call.look(1)
    assert (await call.hear("view")).sequence == 1


def _name(head):
    from headlift.gateway.validation import parse_name

    return parse_name(head.name)


async def test_a_keyframe_request_brings_the_head_again_even_while_a_viewpoint_waits(talk, live_with, slow):
    call = await talk(live_with(slow), answers=BOTH)
    await call.hear("opened")
    first = await call.hear("head_keyframe")
    slow.gate.clear()
    call.look(1)
    while slow.asked == 0:
        await asyncio.sleep(0.01)
    call.look(2, yaw_deg=1e9)
    call.say(keyframe=pb.LiveKeyframe())
    call.look(3)
    call.say(credit=pb.LiveCredit(count=4))
    await asyncio.sleep(0.05)
    slow.gate.set()
    rest = [await call.hear() for _ in range(4)]
    again = [a.head_keyframe for a in rest if a.WhichOneof("message") == "head_keyframe"]
    assert [(a.sequence, a.data) for a in again] == [(0, first.data)]
    assert [a.view.sequence for a in rest if a.WhichOneof("message") == "view"] == [1, 3]


async def test_a_portrait_becomes_a_stored_head(talk, service, portrait_png):
    call = await talk(portrait=portrait_png, parent="tenants/portrait")
    opened = await call.hear("opened")
    assert opened.head.name == opened.options.head
    assert not opened.options.portrait
    stored = await service.servicer.GetHead(head_service_pb2.GetHeadRequest(name=opened.head.name), LocalContext())
    assert stored.head == opened.head


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("webp", "WEBP")])
async def test_views_keep_within_the_bytes_of_the_budget_at_a_lower_quality(talk, kind, name):
    look = picture_pb2.PictureOptions(
        width_px=256, height_px=256, format=picture_pb2.PictureFormat.Value(f"PICTURE_FORMAT_{name}"), quality=95
    )
    free = await talk(picture=look)
    await free.hear("opened")
    free.look(1)
    whole = await free.hear("view")
    limit = len(whole.data) // 2
    call = await talk(picture=look, budget=pb.LiveBudget(view_bytes_max=limit))
    await call.hear("opened")
    call.look(1)
    view = await call.hear("view")
    assert len(view.data) <= limit
    assert view.quality < 95
    assert Image.open(io.BytesIO(view.data)).size == (256, 256)
    tight = await talk(picture=look, budget=pb.LiveBudget(view_bytes_max=100))
    await tight.hear("opened")
    tight.look(1)
    dropped = await tight.hear("dropped")
    assert (list(dropped.sequences), dropped.reason) == ([1], TOO_LARGE)


async def test_a_camera_that_no_picture_can_be_taken_with_is_an_error_and_is_forgotten(talk):
    call = await talk()
    await call.hear("opened")
    call.look(1, yaw_deg=10)
    first = await call.hear("view")
    call.look(2, yaw_deg=1e9)
    assert b"INVALID_CAMERA" in reason_of(await call.hear("error"))[1]
    call.say(keyframe=pb.LiveKeyframe())
    assert (await call.hear("view")).data == first.data


async def test_hanging_up_still_answers_what_waits(talk):
    call = await talk()
    call.look(1)
    call.hang_up()
    kinds = [a.WhichOneof("message") for a in await call.rest()]
    assert kinds == ["opened", "view"]


async def test_what_waits_without_credit_is_told_at_the_end(talk):
    call = await talk(initial_credit=1)
    await call.hear("opened")
    call.look(1)
    await call.hear("view")
    call.look(2)
    call.say(close=pb.LiveClose())
    rest = await call.rest()
    assert [(list(a.dropped.sequences), a.dropped.reason) for a in rest] == [([2], CLOSED)]


async def test_draining_is_announced_with_a_token_and_the_session_is_served_until_the_grace_is_over(talk, live_with):
    call = await talk(live_with(grace_s=0.5))
    await call.hear("opened")
    call.context.draining.set()
    away = await call.hear("go_away")
    assert (away.reason, away.grace_ms) == (pb.LIVE_GO_AWAY_REASON_DRAINING, 500)
    call.look(1)
    assert (await call.hear("view")).sequence == 1
    assert await call.rest() == []
    resumed = await talk(resume_token=away.resume_token)
    assert (await resumed.hear("opened")).head.name


async def test_a_silent_caller_is_sent_away(talk, live_with):
    call = await talk(live_with(idle_s=0.1, grace_s=0.05))
    await call.hear("opened")
    assert (await call.hear("go_away")).reason == pb.LIVE_GO_AWAY_REASON_IDLE
    assert await call.rest() == []


async def test_a_session_ends_when_its_head_is_deleted(talk, service, portrait_png, monkeypatch):
    monkeypatch.setattr("headlift.gateway.live.handler._RECHECK_S", 0.0)
    call = await talk(portrait=portrait_png, parent="tenants/deleted")
    name = (await call.hear("opened")).head.name
    call.look(1)
    await call.hear("view")
    await service.servicer.DeleteHead(head_service_pb2.DeleteHeadRequest(name=name), LocalContext())
    call.look(2)
    with pytest.raises(NotFoundError):
        await call.rest()


async def test_a_fault_in_reading_ends_the_session_with_that_fault(live_with, opening):
    async def requests():
        yield pb.LiveRequest(open=opening())
        raise InvalidInputError("garbage")

    live = live_with()
    answers = live.answers(requests(), _Context())
    with pytest.raises(HeadliftError, match="garbage"):
        [a async for a in answers]
    assert live.slots.taken == 0


class _Context(LocalContext):
    draining = property(lambda self: asyncio.Event())


async def test_a_fault_that_nobody_foresaw_ends_the_session_and_leaves_nothing(talk, live_with, slow):
    async def broken(*_):
        raise RuntimeError("boom")

    slow.render = broken
    call = await talk(live_with(slow))
    await call.hear("opened")
    call.look(1)
    with pytest.raises(RuntimeError):
        await call.rest()


async def test_h264_decodes_to_the_pictures_that_jpeg_shows(talk):
    av = pytest.importorskip("av")
    look = picture_pb2.PictureOptions(width_px=128, height_px=96)
    film = await talk(picture=look, video=pb.LIVE_VIDEO_H264, initial_credit=64)
    still = await talk(
        picture=picture_pb2.PictureOptions(width_px=128, height_px=96, format=picture_pb2.PICTURE_FORMAT_PNG),
        initial_credit=64,
    )
    await film.hear("opened")
    await still.hear("opened")
    decoder, errors, keys = av.CodecContext.create("h264", "r"), [], []
    frames, pictures = [], []
    for i in range(12):
        if i == 8:
            film.say(keyframe=pb.LiveKeyframe())
        film.look(i + 1, yaw_deg=3.0 * i)
        view = await film.hear("view")
        keys.append(view.is_keyframe)
        assert view.data[:4] == b"\x00\x00\x00\x01"
        frames += decoder.decode(av.Packet(view.data))
        still.look(i + 1, yaw_deg=3.0 * i)
        pictures.append(np.asarray(Image.open(io.BytesIO((await still.hear("view")).data)), float))
    frames += decoder.decode(None)
    assert len(frames) == 12
    assert keys[0]
    assert keys[8]
    assert sum(keys) == 2
    for frame, picture in zip(frames, pictures, strict=True):
        assert (frame.width, frame.height) == (128, 96)
        shown = frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray().astype(float)
        errors.append(((shown - picture) ** 2).mean())
    assert 10 * np.log10(255**2 / np.mean(errors)) > 30
    # Whoever joins at the second keyframe needs nothing before it.
    late = av.CodecContext.create("h264", "r")
    assert late.name == "h264"


async def test_an_access_unit_that_comes_late_starts_a_decoder_by_itself(talk):
    av = pytest.importorskip("av")
    film = await talk(picture=picture_pb2.PictureOptions(width_px=64, height_px=64), video=pb.LIVE_VIDEO_H264)
    await film.hear("opened")
    film.look(1)
    await film.hear("view")
    film.look(2, yaw_deg=30)
    await film.hear("view")
    film.say(keyframe=pb.LiveKeyframe())
    key = await film.hear("view")
    assert (key.sequence, key.is_keyframe) == (2, True)
    decoder = av.CodecContext.create("h264", "r")
    assert len(decoder.decode(av.Packet(key.data)) + decoder.decode(None)) == 1

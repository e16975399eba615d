"""How sessions are opened, resumed and counted."""

import asyncio

import pytest

from headlift.errors import (
    DeadlineError,
    HeadliftError,
    InvalidInputError,
    NoFaceError,
    NotFoundError,
    OverloadedError,
    UnreadablePictureError,
)
from headlift.gateway.live.resume import ResumeTokens
from headlift.gateway.paging import PageTokens
from headlift.telemetry.metrics import Metrics, using
from headlift.v1 import live_pb2 as pb
from headlift.v1 import picture_pb2


async def test_the_first_message_must_be_open(live_with, talk):
    call = await talk(message=pb.LiveOpen())
    with pytest.raises(InvalidInputError, match="parent"):
        await call.hear()
    for first in (pb.LiveRequest(), pb.LiveRequest(close=pb.LiveClose()), None):

        async def requests(first=first):
            if first is not None:
                yield first

        with pytest.raises(HeadliftError) as caught:
            await anext(live_with().answers(requests(), call.context))
        assert caught.value.reason == "NOT_OPENED"


async def test_a_stream_that_says_nothing_is_closed(live_with, talk):
    call = await talk()

    async def silence():
        await asyncio.sleep(60)
        yield pb.LiveRequest()

    with pytest.raises(DeadlineError):
        await anext(live_with(open_s=0.05).answers(silence(), call.context))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"parent": "local"}, "parent"),
        ({"head": "tenants/other/heads/h0"}, "open.head"),
        ({"head": "h0"}, "name"),
        ({"answers": [0]}, "open.answers"),
        ({"answers": [9]}, "open.answers"),
        ({"video": 7}, "open.video"),
        ({"initial_credit": 65}, "open.initial_credit"),
        ({"budget": pb.LiveBudget(max_fps=-1)}, "open.budget.max_fps"),
        ({"budget": pb.LiveBudget(max_fps=float("nan"))}, "open.budget.max_fps"),
        ({"budget": pb.LiveBudget(deadline_ms=-5)}, "open.budget.deadline_ms"),
        ({"budget": pb.LiveBudget(view_bytes_max=1 << 30)}, "open.budget.view_bytes_max"),
        (
            {"picture": picture_pb2.PictureOptions(), "budget": pb.LiveBudget(view_bytes_max=9)},
            "open.budget.view_bytes_max",
        ),
        ({"picture": picture_pb2.PictureOptions(width_px=33), "video": 2}, "open.picture"),
        ({"picture": picture_pb2.PictureOptions(width_px=8)}, "picture.width_px"),
        ({"frames": True, "parent": "tenants/live"}, ""),
    ],
)
async def test_an_open_that_cannot_be_served_names_the_field(talk, fields, field):
    if fields.get("frames"):
        call = await talk(message=pb.LiveOpen(parent="tenants/live", frames=pb.LiveFrames(refine_steps=51)))
        field = "open.frames.refine_steps"
    else:
        call = await talk(**fields)
    with pytest.raises(InvalidInputError) as caught:
        await call.hear()
    assert caught.value.field == field


async def test_opening_is_refused_as_other_methods_refuse(talk):
    call = await talk(message=pb.LiveOpen(parent="tenants/live"))
    with pytest.raises(InvalidInputError, match="no source"):
        await call.hear()
    call = await talk(head="tenants/live/heads/h0")
    with pytest.raises(NotFoundError):
        await call.hear()
    call = await talk(portrait=b"nothing")
    with pytest.raises(UnreadablePictureError):
        await call.hear()
    assert issubclass(NoFaceError, InvalidInputError)


async def test_a_session_is_resumed_elsewhere_with_its_head_and_options(talk, live_with):
    first = await talk(budget=pb.LiveBudget(max_fps=100), initial_credit=2)
    opened = await first.hear("opened")
    first.look(3, yaw_deg=20)
    shown = await first.hear("view")
    await first.answers.aclose()  # the stream breaks
    # Another server: nothing in common but store and secret.
    second = await talk(live_with(), resume_token=opened.resume_token, initial_credit=3)
    again = await second.hear("opened")
    assert (again.session_id, again.head) == (opened.session_id, opened.head)
    assert again.options.budget == opened.options.budget
    assert again.options.picture == opened.options.picture
    assert again.options.initial_credit == 3
    second.look(1, yaw_deg=20)
    assert (await second.hear("view")).data == shown.data


async def test_a_session_on_frames_is_resumed_and_begins_with_a_keyframe(talk, portrait_png):
    first = await talk(frames=True, answers=[pb.LIVE_ANSWER_HEADS])
    opened = await first.hear("opened")
    first.frame(1, portrait_png)
    key = await first.hear("head_keyframe")
    await first.answers.aclose()
    second = await talk(resume_token=opened.resume_token)
    await second.hear("opened")
    second.frame(2, portrait_png)
    assert (await second.hear("head_keyframe")).data == key.data


async def test_a_session_on_a_portrait_is_resumed_without_making_it_again(talk, portrait_png):
    first = await talk(portrait=portrait_png)
    opened = await first.hear("opened")
    assert len(opened.resume_token) < 1000
    second = await talk(resume_token=opened.resume_token)
    assert (await second.hear("opened")).head == opened.head


async def test_a_token_is_of_no_use_to_others_altered_or_with_other_options(talk):
    token = (await (await talk()).hear("opened")).resume_token
    for message in (
        pb.LiveOpen(parent="tenants/other", resume_token=token),
        pb.LiveOpen(parent="tenants/live", resume_token=token[:-2] + "AA"),
        pb.LiveOpen(parent="tenants/live", resume_token="x"),
        pb.LiveOpen(parent="tenants/live", resume_token="é" * 9),
        pb.LiveOpen(parent="tenants/live", resume_token=token, video=pb.LIVE_VIDEO_H264),
    ):
        call = await talk(message=message)
        with pytest.raises(InvalidInputError) as caught:
            await call.hear()
        assert caught.value.field == "open.resume_token"


def test_a_token_expires():
    now = [1000.0]
    tokens = ResumeTokens(PageTokens(b"s" * 32), 60.0, clock=lambda: now[0])
    options = pb.LiveOpen(parent="tenants/a", head="tenants/a/heads/h0")
    token = tokens.make("abc", options)
    assert tokens.read("tenants/a", token).options == options
    now[0] += 59
    assert tokens.read("tenants/a", token).session_id == "abc"
    now[0] += 2
    with pytest.raises(InvalidInputError) as caught:
        tokens.read("tenants/a", token)
    assert caught.value.reason == "RESUME_TOKEN_EXPIRED"


async def test_sessions_are_limited_per_server_and_per_tenant_and_slots_come_back(talk, live_with):
    live = live_with(sessions=3, tenant_sessions=2)
    held = [await talk(live), await talk(live)]
    for call in held:
        await call.hear("opened")
    refused = await talk(live)
    with pytest.raises(OverloadedError, match="tenants/live has 2") as caught:
        await refused.hear()
    assert caught.value.retry_after_s > 0
    other = await talk(live, message=pb.LiveOpen(parent="tenants/b", frames=pb.LiveFrames()))
    await other.hear("opened")
    full = await talk(live, message=pb.LiveOpen(parent="tenants/c", frames=pb.LiveFrames()))
    with pytest.raises(OverloadedError, match="server has 3"):
        await full.hear()
    held[0].hang_up()
    assert await held[0].rest() == []
    assert live.slots.taken == 2
    await (await talk(live)).hear("opened")


async def test_sessions_answers_and_losses_are_counted_and_the_gauge_comes_back(talk):
    with using(Metrics()) as counted:
        call = await talk(answers=[1, 2])
        await call.hear("opened")
        read = counted.registry.get_sample_value
        assert read("headlift_live_sessions") == 1.0
        key = await call.hear("head_keyframe")
        call.look(1)
        call.look(2)
        call.hang_up()
        await call.rest()
        assert read("headlift_live_sessions") == 0.0
        assert read("headlift_live_sent_total", {"kind": "view"}) == 1.0
        assert read("headlift_live_sent_bytes_total", {"kind": "keyframe"}) == len(key.data)
        assert read("headlift_live_dropped_total", {"reason": "replaced"}) == 1.0

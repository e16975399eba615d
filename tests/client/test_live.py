"""The live protocol as the client understands it, without a network; tests/conformance holds it against servers."""

import grpc
import pytest
from google.rpc import code_pb2

from headlift.client import LiveDropped, LiveHead, LiveRefused, LiveView, camera
from headlift.client._live import live
from headlift.errors import InvalidInputError, ServerError
from headlift.v1 import live_pb2 as pb


def failed(code):
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "away")


@pytest.fixture
def state():
    """An open session."""
    session = live("acme", head="h0", width=32, height=16, format="jpeg", alpha=True)
    (first,) = session.first_messages()
    session.receive(pb.LiveResponse(opened=pb.LiveOpened(resume_token="one", options=first.open)))
    return session


def test_the_source_is_a_head_a_portrait_or_frames():
    assert live("acme", head="h0").opening.head == "tenants/acme/heads/h0"
    assert live("acme", portrait=b"p").opening.WhichOneof("source") == "portrait"
    assert live("acme").opening.WhichOneof("source") == "frames"
    video = live("acme", format="h264").opening
    assert (video.video, video.picture.format) == (pb.LIVE_VIDEO_H264, 0)
    with pytest.raises(InvalidInputError, match="one source"):
        live("acme", head="h0", portrait=b"p")
    with pytest.raises(InvalidInputError, match="must be one of"):
        live("acme", answers="nothing")


def test_a_view_is_read_as_it_was_asked_for_and_paid_with_a_credit(state):
    sequence = state.viewpoint(camera(10)).viewpoint.sequence
    view, replies = state.receive(pb.LiveResponse(view=pb.LiveView(sequence=sequence, data=b"x")))
    assert isinstance(view, LiveView)
    assert (view.picture.width, view.picture.height, view.picture.channels) == (32, 16, 4)
    assert view.latency_s > 0
    assert [r.credit.count for r in replies] == [1]
    assert state.take_unanswered() is None


def test_what_is_dropped_or_refused_has_its_outcome(state):
    sequences = [state.frame(b"f").frame.sequence for _ in range(3)]
    reason = pb.LIVE_DROP_REASON_REPLACED
    dropped = pb.LiveDropped(sequences=sequences[:1], count=1, reason=reason)
    assert state.receive(pb.LiveResponse(dropped=dropped)) == (LiveDropped(sequences[:1], 1, "replaced"), [])
    fault = pb.LiveError(sequence=sequences[1], code=code_pb2.INVALID_ARGUMENT, message="no")
    refused, _ = state.receive(pb.LiveResponse(error=fault))
    assert isinstance(refused, LiveRefused)
    assert refused.error.message == "no"
    assert state.take_unanswered() == LiveDropped(sequences[2:], 1, "disconnected")
    assert state.take_unanswered() is None


def test_a_head_that_cannot_be_decoded_is_asked_for_whole(state):
    event, replies = state.receive(pb.LiveResponse(head_delta=pb.LiveHeadDelta(sequence=1, data=b"no delta")))
    assert not isinstance(event, LiveHead)
    assert [r.WhichOneof("message") for r in replies] == ["credit", "keyframe"]


def test_a_session_goes_on_with_the_newest_token_and_the_last_viewpoint(state):
    state.viewpoint(camera(20))
    event, replies = state.receive(pb.LiveResponse(go_away=pb.LiveGoAway(resume_token="two")))
    assert event is None
    assert [r.WhichOneof("message") for r in replies] == ["close"]
    assert state.goes_on(None)
    opening, viewpoint = state.first_messages()
    assert (opening.open.resume_token, opening.open.WhichOneof("source")) == ("two", None)
    assert viewpoint.viewpoint.camera == camera(20)
    assert not state.goes_on(None)


def test_only_streams_that_broke_are_continued(state):
    assert state.goes_on(failed(grpc.StatusCode.UNAVAILABLE))
    with pytest.raises(ServerError):
        state.goes_on(failed(grpc.StatusCode.NOT_FOUND))
    state.resume = False
    with pytest.raises(ServerError):
        state.goes_on(failed(grpc.StatusCode.UNAVAILABLE))
    state.closed = True
    assert not state.goes_on(failed(grpc.StatusCode.UNAVAILABLE))

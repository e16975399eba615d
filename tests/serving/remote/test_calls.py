import pytest

from headlift.errors import NoFaceError, OverloadedError
from headlift.serving.remote.calls import opened, reply_of
from headlift.v1 import encode_service_pb2


def raising(error):
    def answer():
        raise error

    return answer


def test_an_answer_comes_out_as_it_went_in():
    message = encode_service_pb2.EncodeResponse(duration_ms=2.0, batch_size=3)
    assert encode_service_pb2.EncodeResponse.FromString(opened(reply_of(lambda: message))) == message


def test_a_refusal_comes_out_as_the_same_error():
    with pytest.raises(NoFaceError, match="Nobody") as caught:
        opened(reply_of(raising(NoFaceError("Nobody is here.", field="picture", metadata={"face_count": "0"}))))
    error = caught.value
    assert (error.reason, error.field, error.metadata) == ("NO_FACE", "picture", {"face_count": "0"})
    with pytest.raises(OverloadedError) as busy:
        opened(reply_of(raising(OverloadedError("Busy.", retry_after_s=2.5))))
    assert busy.value.retry_after_s == 2.5


def test_what_nobody_foresaw_is_not_made_a_status():
    with pytest.raises(ZeroDivisionError):
        reply_of(raising(ZeroDivisionError()))

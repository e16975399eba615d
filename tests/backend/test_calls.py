import pytest

from headlift.backend.calls import VALUE_BYTES_MAX, by_value, opened, reply_of
from headlift.errors import NoFaceError, OverloadedError
from headlift.v1 import encode_service_pb2

GRPC_LIMIT = 4 << 20  # of Serve's own channel between deployments


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


def test_small_messages_go_by_value_and_large_ones_by_reference():
    assert by_value(1000, 1000)
    assert not by_value(1000, 8 << 20)
    assert not by_value(8 << 20, 0)


def test_nothing_near_the_limit_of_the_channel_goes_by_value():
    # Estimates of answers may be short by four: pictures as floats instead of bytes.
    assert VALUE_BYTES_MAX * 4 < GRPC_LIMIT
    assert not by_value(0, VALUE_BYTES_MAX + 1)

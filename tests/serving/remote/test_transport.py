from headlift.serving.remote.transport import VALUE_BYTES_MAX, by_value

GRPC_LIMIT = 4 << 20  # of Serve's own channel between deployments


def test_small_messages_go_by_value_and_large_ones_by_reference():
    assert by_value(1000, 1000)
    assert not by_value(1000, 8 << 20)
    assert not by_value(8 << 20, 0)


def test_nothing_near_the_limit_of_the_channel_goes_by_value():
    # Estimates of answers may be short by four: pictures as floats instead of bytes.
    assert VALUE_BYTES_MAX * 4 < GRPC_LIMIT
    assert not by_value(0, VALUE_BYTES_MAX + 1)

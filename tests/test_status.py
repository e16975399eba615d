import pytest
from google.rpc import code_pb2, error_details_pb2, status_pb2

import headlift.errors as errors
from headlift.status import DOMAIN, error_of, status_of, unexpected_status


def tree(kind):
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


PUBLIC = [k for k in tree(errors.HeadliftError) if k.__module__ == errors.__name__]
RAISED = [k for k in PUBLIC if k not in (errors.HeadliftError, errors.ServerError)]


@pytest.mark.parametrize("kind", RAISED)
def test_every_error_comes_back_as_its_own_class(kind):
    error = kind("value, limit, way out")
    error.metadata = {"a": "b"}
    error.field = "picture" if issubclass(kind, errors.InvalidInputError) else None
    status = status_of(error)
    assert code_pb2.Code.Name(status.code) == kind.code
    back = error_of(status_pb2.Status.FromString(status.SerializeToString()))
    assert type(back) is kind
    assert (back.message, back.reason, back.metadata) == (error.message, error.reason, error.metadata)
    assert (back.field, back.code) == (error.field, error.code)


def test_the_time_to_come_back_travels():
    for kind in (errors.OverloadedError, errors.RateLimitError):
        back = error_of(status_of(kind("busy", retry_after_s=2.5)))
        assert (type(back), back.retry_after_s) == (kind, 2.5)


def test_what_a_room_derives_for_itself_arrives_as_the_class_above():
    class NarrowError(errors.NotFoundError):
        default_reason = "NARROW"

    back = error_of(status_of(NarrowError("gone")))
    assert (type(back), back.reason) == (errors.NotFoundError, "NARROW")


def test_a_reason_narrower_than_any_class_keeps_its_name():
    back = error_of(status_of(errors.InvalidInputError("bad", reason="BAD_PAGE_TOKEN", field="page_token")))
    assert (type(back), back.reason, back.field) == (errors.InvalidInputError, "BAD_PAGE_TOKEN", "page_token")


def test_statuses_that_are_not_ours_become_server_errors():
    for status in (
        status_pb2.Status(code=code_pb2.UNAVAILABLE, message="connection refused"),
        status_pb2.Status(code=code_pb2.INVALID_ARGUMENT, message="somebody else"),
        status_pb2.Status(code=987, message="?"),
        unexpected_status("id"),
    ):
        assert type(error_of(status)) is errors.ServerError
    assert error_of(status_pb2.Status(code=code_pb2.UNAVAILABLE)).code == "UNAVAILABLE"
    assert type(error_of(status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED))) is errors.DeadlineError
    assert type(error_of(status_pb2.Status(code=code_pb2.CANCELLED))) is errors.CancelledError


def test_every_status_names_its_domain_and_reason():
    info = error_details_pb2.ErrorInfo()
    assert status_of(errors.NotFoundError("x")).details[0].Unpack(info)
    assert (info.domain, info.reason) == (DOMAIN, "NOT_FOUND")

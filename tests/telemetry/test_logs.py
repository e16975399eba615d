import io
import json
import logging
import sys
import threading

import pytest

from headlift.telemetry.logs import MESSAGE_CHARS_MAX, start_logging
from headlift.telemetry.rpc import CALL_ID
from headlift.telemetry.tracing import extract

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
log = logging.getLogger("headlift.test")


@pytest.fixture
def lines():
    """A function from a form to the text that was logged so far; all is as before in the end."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    stream = io.StringIO()

    def start(form, level="INFO"):
        start_logging(level, form, stream)
        return stream

    yield start
    root.handlers[:], root.level, sys.excepthook, threading.excepthook = before
    root.setLevel(before[1])


def test_a_line_is_one_json_object_with_the_ids_of_its_call(lines):
    stream = lines("json")
    token = CALL_ID.set("call-7")
    with extract(PARENT):
        log.info("%s took\n%d ms", "decode", 12, extra={"method": "/x/Y", "code": "OK", "ms": 12.5})
    CALL_ID.reset(token)
    log.warning("later")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["message"] == "decode took\n12 ms"
    assert (first["level"], first["logger"]) == ("INFO", "headlift.test")
    assert first["call_id"] == "call-7"
    assert first["trace_id"] == PARENT.split("-")[1]
    assert (first["method"], first["code"], first["ms"]) == ("/x/Y", "OK", 12.5)
    assert first["time"].endswith("+00:00")
    assert "call_id" not in second


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "secret",
    [
        "hlk_abc_S3cr3t-value",
        "Authorization: Bearer S3cr3t-value.x.y",
        "redis://user:S3cr3t-value@cache:6379/0",
        "password=S3cr3t-value",
        "x-api-key: S3cr3t-value",
        "{'secret_key': 'S3cr3t-value'}",
    ],
)
def test_credentials_are_left_out(lines, form, secret):
    stream = lines(form)
    log.error("cannot connect: %s", secret)
    assert "S3cr3t-value" not in stream.getvalue()
    assert "cannot connect" in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_bytes_and_long_messages_are_cut(lines, form):
    stream = lines(form)
    log.info("picture %s", b"\x89PNG" * 1000)
    log.info("x" * 100_000)
    assert "<4000 bytes>" in stream.getvalue()
    assert "PNG" not in stream.getvalue()
    assert len(stream.getvalue()) < 2 * MESSAGE_CHARS_MAX


def test_a_fault_carries_an_id_and_its_stack_in_the_same_line(lines):
    stream = lines("json")
    try:
        raise ZeroDivisionError("of hlk_a_topsecret")
    except ZeroDivisionError:
        log.exception("failed")
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert len(line["error_id"]) == 32
    assert "ZeroDivisionError" in line["stack"]
    assert "topsecret" not in line["stack"]


def test_what_nobody_catches_on_a_thread_becomes_a_line(lines):
    stream = lines("json")

    def fail():
        raise KeyError("lost")

    thread = threading.Thread(target=fail, name="worker-3")
    thread.start()
    thread.join()
    (line,) = map(json.loads, stream.getvalue().splitlines())
    assert line["level"] == "CRITICAL"
    assert "worker-3" in line["message"]
    assert line["error_id"]


def test_lines_below_the_level_are_not_written(lines):
    stream = lines("text", "WARNING")
    log.info("quiet")
    log.warning("loud")
    assert "loud" in stream.getvalue()
    assert "quiet" not in stream.getvalue()

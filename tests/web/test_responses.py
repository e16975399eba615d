"""What browsers are told of errors."""

from __future__ import annotations

import json

from headlift.errors import HeadliftError, OverloadedError
from headlift.web.responses import error_response


def test_a_fault_that_nobody_foresaw_tells_nothing():
    for error in (RuntimeError("/srv/secret/key.pem"), HeadliftError("/srv/secret/key.pem")):
        answer = error_response(error)
        assert answer.status_code == 500
        assert b"secret" not in bytes(answer.body)


def test_an_overloaded_server_says_when_to_come_back():
    answer = error_response(OverloadedError("Full.", retry_after_s=2.4))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert json.loads(bytes(answer.body))["error"]["retry_after_s"] == 2.4


def test_addresses_that_are_none_are_refused_without_a_trace(web):
    browser = web.browser().enter()
    outside = ("/assets/../app.py", "/assets/%2e%2e/app.py", "/assets/..%2fapp.py")
    for path in ("/nowhere", "/api/heads/h1/nowhere", *outside, "/app.svg"):
        answer = browser.ask("GET", path)
        assert answer.status == 404
        assert b"Traceback" not in answer.body
        assert b"/headlift" not in answer.body

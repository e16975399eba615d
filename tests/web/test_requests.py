"""How much is read, and of what."""

from __future__ import annotations

import contextlib
import socket

import pytest


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/json", "", "image/png2"])
def test_only_pictures_are_uploaded(web, portrait_png, kind):
    answer = web.browser().enter().ask("POST", "/api/heads", portrait_png, content_type=kind)
    assert (answer.status, answer.json()["error"]["reason"]) == (415, "UNSUPPORTED_TYPE")


def test_a_body_that_says_it_is_too_large_is_not_read(web):
    browser = web.browser().enter()
    answer = browser.ask("POST", "/api/heads", b"x", content_type="image/png", content_length=str(5 << 20))
    assert (answer.status, answer.json()["error"]["reason"]) == (413, "PICTURE_TOO_LARGE")


def test_a_body_that_hides_its_size_is_cut_off_at_the_limit(web):
    browser = web.browser().enter()
    lines = {"transfer-encoding": "chunked", "content-type": "image/png", "cookie": browser.cookie}
    head = "".join(f"{name}: {value}\r\n" for name, value in (browser.headers | lines).items())
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall(f"POST /api/heads HTTP/1.1\r\n{head}\r\n".encode())
        sent = 0
        with contextlib.suppress(OSError):  # the server hangs up
            while sent < 256 << 20:  # 64 times the limit
                connection.sendall(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                sent += 1 << 16
        assert sent < 256 << 20


@pytest.mark.parametrize("body", [b"", b"[1]", b"null", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_object_is_refused_in_words(web, body):
    answer = web.browser().enter().ask("POST", "/api/heads/h1/render", body, content_type="application/json")
    assert (answer.status, answer.json()["error"]["reason"]) == (400, "BAD_FORMAT")


@pytest.mark.parametrize("value", ["NaN", "1e999", '"x"', "true", "null", "1.5", "4294967296"])
def test_sizes_are_whole_numbers(web, value):
    body = f'{{"view_matrix": [1,0,0,0,0,1,0,0,0,0,1,2,0,0,0,1], "width": {value}}}'.encode()
    answer = web.browser().enter().ask("POST", "/api/heads/h1/render", body, content_type="application/json")
    assert (answer.status, answer.json()["error"]["field"]) == (400, "width")

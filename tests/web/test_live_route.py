"""Live views over a WebSocket."""

from __future__ import annotations

import io
import json
import struct

import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

_FRONT = [1, 0, 0, 0, 0, -1, 0, 0.01, 0, 0, -1, 1.706, 0, 0, 0, 1]


@pytest.fixture(scope="module")
def visit(web, portrait_png):
    """A browser and the id of its head."""
    browser = web.browser().enter()
    return browser, browser.create(portrait_png)["id"]


def _open(browser, head, **headers):
    sent = {"Cookie": browser.cookie} | headers
    origin = f"http://localhost:{browser.port}"
    return connect(
        f"ws://localhost:{browser.port}/api/heads/{head}/live", origin=origin, additional_headers=sent, open_timeout=30
    )


def _look(sequence: int) -> str:
    return json.dumps({"sequence": sequence, "view_matrix": _FRONT, "fov_deg": 13.4})


def test_the_newest_viewpoint_is_answered(visit):
    with _open(*visit) as socket:
        socket.send(json.dumps({"width": 64, "height": 48}))
        for sequence in range(1, 31):
            socket.send(_look(sequence))
        seen = []
        while not seen or seen[-1] < 30:
            data = socket.recv(30)
            if isinstance(data, str):  # a view that a busy machine could not take in time is refused; ask again
                error = json.loads(data)["error"]
                assert error["code"] == "DEADLINE_EXCEEDED", error
                socket.send(_look(30))
                continue
            seen.append(struct.unpack("<I", data[:4])[0])
            assert Image.open(io.BytesIO(data[4:])).size == (64, 48)
    assert seen == sorted(set(seen))


def test_what_is_no_viewpoint_is_told_and_ends_nothing(visit):
    with _open(*visit) as socket:
        socket.send(json.dumps({"width": 64, "height": 64}))
        socket.send(json.dumps({"sequence": 1, "view_matrix": [1]}))
        assert json.loads(socket.recv(30))["error"]["field"] == "view_matrix"
        socket.send(_look(2))
        assert struct.unpack("<I", socket.recv(30)[:4])[0] == 2


def test_a_head_that_is_not_there_is_told(visit):
    with _open(visit[0], "h0") as socket:
        socket.send(json.dumps({"width": 64, "height": 64}))
        assert json.loads(socket.recv(30))["error"]["reason"] == "NOT_FOUND"


def test_without_a_session_nothing_is_shown(web, visit):
    with _open(web.browser(), visit[1]) as socket:
        assert json.loads(socket.recv(30))["error"]["reason"] == "NO_SESSION"


def test_another_page_is_refused_before_it_is_heard(web, visit):
    with pytest.raises(InvalidStatus, match="403"):
        connect(
            f"ws://localhost:{web.port}/api/heads/{visit[1]}/live",
            origin="https://attacker.example",
            additional_headers={"Cookie": visit[0].cookie},
        )

"""Heads over HTTP."""

from __future__ import annotations

import io

import av
import pytest
from PIL import Image

from headlift import formats

_FRONT = [1, 0, 0, 0, 0, -1, 0, 0.01, 0, 0, -1, 1.706, 0, 0, 0, 1]


@pytest.fixture(scope="module")
def visit(web, portrait_png):
    """A browser and the id of its head."""
    browser = web.browser().enter()
    return browser, browser.create(portrait_png)["id"]


def test_progress_tells_stages_in_order_and_ends_with_the_head(web, portrait_png):
    browser = web.browser().enter()
    answer = browser.ask(
        "POST", "/api/heads?refine_steps=4", portrait_png, content_type="image/png", accept="text/event-stream"
    )
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.events()
    stages = list(dict.fromkeys(data["stage"] for name, data in events if name == "stage"))
    assert [s for s in stages if s in ("preprocess", "encode", "decode", "refine", "pack")] == [
        "preprocess", "encode", "decode", "refine", "pack",
    ]  # fmt: skip
    shares = [data["share"] for name, data in events if name == "stage" and data["stage"] == "refine"]
    assert shares == sorted(shares)
    assert shares[-1] == 0.75
    assert events[-1][0] == "head"
    assert events[-1][1]["refine_steps"] == 4


def test_progress_ends_with_the_error(web):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    browser = web.browser().enter()
    answer = browser.ask("POST", "/api/heads", buffer.getvalue(), content_type="image/png", accept="text/event-stream")
    name, data = answer.events()[-1]
    assert (name, data["reason"]) == ("error", "NO_FACE")


def test_a_splat_is_spz_and_comes_once(visit):
    browser, head = visit
    first = browser.ask("GET", f"/api/heads/{head}/splat")
    assert len(formats.read(first.body, "spz")) > 0
    again = browser.ask("GET", f"/api/heads/{head}/splat", if_none_match=first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert browser.ask("GET", f"/api/heads/{head}/splat", if_none_match='"other"').status == 200


def test_what_is_deleted_is_not_even_unchanged(web, portrait_png):
    browser = web.browser().enter()
    head = browser.create(portrait_png)["id"]
    etag = browser.ask("GET", f"/api/heads/{head}/splat").headers["etag"]
    assert browser.ask("DELETE", f"/api/heads/{head}").status == 204
    assert browser.ask("GET", f"/api/heads/{head}/splat", if_none_match=etag).status == 404


@pytest.mark.parametrize("kind", ["ply", "spz", "glb", "splat"])
def test_exports_are_files_to_keep(visit, kind):
    browser, head = visit
    answer = browser.ask("GET", f"/api/heads/{head}/export/{kind}")
    assert answer.headers["content-disposition"] == f'attachment; filename="head.{kind}"'
    assert len(formats.read(answer.body, kind)) > 0


def test_an_unknown_kind_of_file_is_refused(visit):
    browser, head = visit
    assert browser.ask("GET", f"/api/heads/{head}/export/exe").json()["error"]["field"] == "kind"


def test_a_picture_is_taken_from_anywhere(visit):
    browser, head = visit
    wanted = {"view_matrix": _FRONT, "fov_deg": 13.4, "width": 96, "height": 64, "alpha": True}
    answer = browser.post_json(f"/api/heads/{head}/render", wanted, accept="image/webp")
    picture = Image.open(io.BytesIO(answer.body))
    assert (answer.headers["content-type"], picture.size, picture.mode) == ("image/webp", (96, 64), "RGBA")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fov_deg": 0}, "fov_deg"),
        ({"view_matrix": [0] * 16}, "view_matrix"),
        ({"view_matrix": [1]}, "view_matrix"),
        ({"width": 9999}, "width"),
    ],
)
def test_cameras_that_are_none_are_refused_in_words(visit, change, field):
    browser, head = visit
    answer = browser.post_json(f"/api/heads/{head}/render", {"view_matrix": _FRONT} | change)
    assert answer.status == 400
    assert field in answer.json()["error"]["field"]


def test_a_thumbnail_comes_once(visit):
    browser, head = visit
    first = browser.ask("GET", f"/api/heads/{head}/thumbnail?side=48")
    assert Image.open(io.BytesIO(first.body)).size == (48, 48)
    assert browser.ask("GET", f"/api/heads/{head}/thumbnail?side=48", if_none_match=first.headers["etag"]).status == 304
    assert browser.ask("GET", f"/api/heads/{head}/thumbnail?side=64", if_none_match=first.headers["etag"]).status == 200


def test_a_turntable_is_a_film_of_all_frames(visit):
    browser, head = visit
    answer = browser.ask("GET", f"/api/heads/{head}/turntable?frames=5&side=64")
    assert answer.headers["content-type"] == "video/mp4"
    with av.open(io.BytesIO(answer.body)) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5

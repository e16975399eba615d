"""Editing over HTTP."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def visit(web, portrait_png):
    """A browser, the id of its head, and its map as it came."""
    browser = web.browser().enter()
    head = browser.create(portrait_png)["id"]
    return browser, head, browser.ask("GET", f"/api/heads/{head}/map").json()


def _packed(values) -> str:
    return base64.b64encode(np.asarray(values, np.uint8).tobytes()).decode()


def test_a_map_has_known_labels_and_its_portrait(visit):
    *_, found = visit
    labels = np.frombuffer(base64.b64decode(found["labels"]), np.uint8)
    assert labels.size == found["side"] ** 2
    assert labels.max() < 19
    assert Image.open(io.BytesIO(base64.b64decode(found["portrait"]))).width > 0


def test_paint_and_words_make_a_child(visit):
    browser, head, found = visit
    patch = np.full(found["side"] ** 2, 255)
    patch[:40] = 14
    style = {"terms": [{"text": "red hair, zzz", "weight": 1}]}
    answer = browser.post_json(f"/api/heads/{head}/edits", {"labels": _packed(patch), "style": style, "strength": 0.5})
    assert answer.status == 201, answer.body
    child = answer.json()
    assert child["head"]["parent"].endswith(head)
    assert child["ignored_words"] == ["zzz"]
    painted = browser.ask("GET", f"/api/heads/{child['head']['id']}/map").json()
    labels = base64.b64decode(painted["labels"])
    assert set(labels[:40]) == {14}
    assert labels[40:] == base64.b64decode(found["labels"])[40:]


def test_a_reference_picture_becomes_a_look(visit, portrait_png):
    browser, head, _ = visit
    look = browser.ask("POST", "/api/styles", portrait_png, content_type="image/png").json()
    terms = [{"embedding": look["embedding"], "weight": 0.4}, {"text": "red hair", "weight": 0.6}]
    assert browser.post_json(f"/api/heads/{head}/edits", {"style": {"terms": terms}}).status == 201


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "NOTHING_TO_EDIT"),
        ({"labels": "?"}, "BAD_FORMAT"),
        ({"labels": _packed([1, 2, 3])}, "WRONG_SIZE"),
        ({"labels": _packed(np.full(256 * 256, 77))}, "UNKNOWN_LABEL"),
        ({"style": []}, "BAD_FORMAT"),
        ({"style": {"terms": [{"text": "zzz"}]}}, "UNKNOWN_WORDS"),
        ({"style": {"terms": [{"embedding": "x"}]}}, "BAD_FORMAT"),
    ],
)
def test_what_is_no_edit_is_refused_in_words(visit, body, reason):
    browser, head, _ = visit
    answer = browser.post_json(f"/api/heads/{head}/edits", body)
    assert (answer.status, answer.json()["error"]["reason"]) == (400, reason)


def test_a_server_without_editing_weights_says_so(keyed, portrait_png):
    web, key = keyed
    browser = web.browser()
    browser.post_json("/api/session", {"key": key})
    head = browser.create(portrait_png)["id"]
    assert "HEADLIFT_EDIT_WEIGHTS" in browser.ask("GET", f"/api/heads/{head}/map").json()["missing"]
    answer = browser.post_json(f"/api/heads/{head}/edits", {"style": {"terms": [{"text": "red"}]}})
    assert (answer.status, answer.json()["error"]["reason"]) == (409, "MISSING_WEIGHTS")

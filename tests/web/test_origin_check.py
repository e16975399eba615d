"""Pages of other people cannot reach the gateway."""

from __future__ import annotations

import pytest


def test_every_answer_says_what_a_page_may_do(web):
    browser = web.browser().enter()
    for ask in ("GET /", "GET /api/session", "GET /api/heads/none", "GET /nowhere", "POST /"):
        headers = browser.ask(*ask.split()).headers
        policy = headers["content-security-policy"]
        assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy.split("; "))
        assert "'unsafe-inline'" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_the_api_is_kept_by_no_cache(web):
    assert web.browser().ask("GET", "/api/session").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["attacker.example", "localhost.attacker.example", "heads.example.attacker", "", "heads.example:1"]
)
def test_an_unknown_name_is_refused(web, host):
    answer = web.browser().ask("GET", "/api/session", host=host)
    assert answer.status == 403
    assert answer.json()["error"]["reason"] == "UNKNOWN_NAME"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:9", "192.0.2.1", "heads.example:8443"])
def test_names_of_ours_and_addresses_are_served(web, host):
    assert web.browser().ask("GET", "/api/session", host=host).status == 200


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"origin": "https://attacker.example"}, "CROSS_ORIGIN"),
        ({"origin": "null"}, "CROSS_ORIGIN"),
        ({"origin": None}, "CROSS_ORIGIN"),
        ({"origin": "http://localhost:1"}, "CROSS_ORIGIN"),
        ({"sec_fetch_site": "cross-site"}, "CROSS_ORIGIN"),
        ({"sec_fetch_site": "same-site"}, "CROSS_ORIGIN"),
        ({"x_headlift": None}, "NO_CSRF_HEADER"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/heads"), ("DELETE", "/api/data"), ("POST", "/api/session")]
)
def test_what_changes_something_comes_from_our_own_page_alone(web, method, path, headers, reason):
    browser = web.browser().enter()
    answer = browser.ask(method, path, b"{}", content_type="application/json", **headers)
    assert (answer.status, answer.json()["error"]["reason"]) == (403, reason)


def test_no_preflight_is_ever_granted(web):
    answer = web.browser().ask(
        "OPTIONS", "/api/heads", origin="https://attacker.example", access_control_request_method="POST"
    )
    assert answer.status == 403
    assert not any(name.startswith("access-control") for name in answer.headers)

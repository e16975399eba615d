"""Whose browser it is."""

from __future__ import annotations


def test_scripts_and_other_pages_cannot_have_the_cookie(web):
    browser = web.browser()
    cookie = browser.ask("GET", "/api/session").headers["set-cookie"].lower()
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "set-cookie" not in browser.ask("GET", "/api/session").headers


def test_behind_tls_the_cookie_stays_there(web):
    # A proxy on this machine that ends TLS says so.
    headers = web.browser().ask("GET", "/api/session", x_forwarded_proto="https").headers
    assert "secure" in headers["set-cookie"].lower()
    assert "max-age" in headers["strict-transport-security"]


def test_without_a_session_nothing_is_served_or_read(web, portrait_png):
    for cookie in ("", "headlift-session=", "headlift-session=../../x", f"headlift-session={'A' * 5000}"):
        browser = web.browser()
        browser.cookie = cookie
        assert browser.ask("GET", "/api/heads").json()["error"]["reason"] == "NO_SESSION"
        assert browser.ask("POST", "/api/heads", portrait_png, content_type="image/png").status == 401


def test_what_one_browser_makes_no_other_sees(web, portrait_png):
    mine, other = web.browser().enter(), web.browser().enter()
    head = mine.create(portrait_png)["id"]
    assert [h["id"] for h in mine.ask("GET", "/api/heads").json()["heads"]] == [head]
    assert other.ask("GET", "/api/heads").json()["heads"] == []
    for what in ("", "/splat", "/thumbnail", "/map", "/export/ply", "/turntable"):
        assert other.ask("GET", f"/api/heads/{head}{what}").status == 404
    assert other.ask("DELETE", f"/api/heads/{head}").status == 404
    assert mine.ask("GET", f"/api/heads/{head}").status == 200


def test_a_key_opens_its_tenant_and_is_not_given_back(keyed, portrait_png):
    web, key = keyed
    browser = web.browser()
    offer = browser.ask("GET", "/api/session")
    assert offer.json()["asks_for_key"]
    assert not offer.json()["signed_in"]
    assert browser.ask("GET", "/api/heads").status == 401
    assert browser.post_json("/api/session", {"key": "hlk_wrong"}).status == 401
    answer = browser.post_json("/api/session", {"key": key})
    assert answer.json()["signed_in"]
    assert key not in str(answer.headers) + answer.body.decode()
    assert browser.create(portrait_png)["name"].startswith("tenants/acme/heads/")
    before = browser.cookie
    assert browser.ask("DELETE", "/api/session").status == 204
    browser.cookie = before
    assert browser.ask("GET", "/api/heads").status == 401


def test_signing_in_gives_a_fresh_session(keyed):
    web, key = keyed
    browser = web.browser()
    browser.cookie = planted = "headlift-session=" + "A" * 43
    browser.post_json("/api/session", {"key": key})
    assert browser.cookie != planted
    browser.cookie = planted
    assert browser.ask("GET", "/api/heads").status == 401

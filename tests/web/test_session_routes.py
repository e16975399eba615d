"""Forgetting a visitor."""

from __future__ import annotations


def test_deleting_my_data_leaves_nothing_of_mine_and_all_of_others(web, portrait_png):
    mine, other = web.browser().enter(), web.browser().enter()
    record, kept = mine.create(portrait_png), other.create(portrait_png)
    mine.ask("GET", f"/api/heads/{record['id']}/map")
    tenant = record["name"].split("/")[1]
    keys = web.server.service.store.list
    assert list(keys(f"tenants/{tenant}"))
    answer = mine.ask("DELETE", "/api/data")
    assert answer.status == 204
    assert "max-age=0" in answer.headers["set-cookie"].lower()
    assert not list(keys(f"tenants/{tenant}"))
    assert other.ask("GET", f"/api/heads/{kept['id']}").status == 200


def test_a_session_goes_on_empty_after_deleting(web, portrait_png):
    browser = web.browser().enter()
    cookie = browser.cookie
    browser.create(portrait_png)
    browser.ask("DELETE", "/api/data")
    browser.cookie = cookie
    assert browser.ask("GET", "/api/heads").json() == {"heads": []}


def test_the_sample_is_a_picture(web, portrait_png):
    assert web.browser().ask("GET", "/api/sample").body == portrait_png

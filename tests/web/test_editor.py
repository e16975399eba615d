"""The editor in a real Chromium: what people do, from the first picture to deleting it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from real_browser import SOFTWARE_3D, opened, upload

from headlift import formats
from headlift.client import HeadliftClient, camera


def _paint(page: Page) -> None:
    """A short stroke of glasses across the middle of the map."""
    page.get_by_role("button", name="Glasses", exact=True).first.click()
    box = page.locator(".mapview canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=4)
    page.mouse.up()


def _steps(page: Page) -> int:
    return int(page.get_attribute(".editor", "data-steps"))


def test_paint_undo_redo_and_keep(page, portrait_file):
    origin = upload(page, portrait_file)
    _paint(page)
    keep = page.get_by_role("button", name="Keep")
    expect(keep).to_be_visible()
    assert page.get_attribute(".editor", "data-head") != origin
    page.keyboard.press("Control+z")
    expect(keep).to_be_hidden()
    assert page.get_attribute(".editor", "data-head") == origin
    page.keyboard.press("Control+Shift+z")
    expect(keep).to_be_visible()
    kept = page.get_attribute(".editor", "data-head")
    keep.click()
    expect(page.locator(".tree .row[data-depth='1'] [aria-current]")).to_contain_text("Painted")
    page.wait_for_selector(".editor[data-ready]")
    assert page.get_attribute(".editor", "data-head") == kept
    page.get_by_role("button", name="Split with the parent").click()
    expect(page.locator(".headview")).to_have_count(2)


def test_more_than_a_hundred_steps_over_map_and_style_can_be_undone(page, portrait_file):
    upload(page, portrait_file)
    canvas, prompt = page.locator(".mapview canvas"), page.get_by_label("Describe the look")
    page.wait_for_timeout(100)
    untouched = canvas.evaluate("c => c.toDataURL()")
    page.get_by_role("button", name="Hat", exact=True).first.click()
    canvas.focus()
    canvas.evaluate(_DABS)
    painted = _steps(page)
    assert painted >= 100
    prompt.fill("red hair")
    prompt.press("Enter")
    assert _steps(page) == painted + 1
    prompt.blur()
    page.evaluate(
        "for (let i = 0; i < 200; i++) dispatchEvent(new KeyboardEvent('keydown', {key: 'z', ctrlKey: true}))"
    )
    assert _steps(page) == 0
    assert prompt.input_value() == ""
    page.wait_for_timeout(100)
    assert canvas.evaluate("c => c.toDataURL()") == untouched


_DABS = """(canvas) => {
  const press = (key, times) => {
    for (let i = 0; i < times; i++) canvas.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
  };
  press('ArrowUp', 40);
  press('ArrowLeft', 40);
  for (let row = 0; row < 6; row++) {
    for (let column = 0; column < 18; column++) {
      press('Enter', 1);
      press('ArrowRight', 4);
    }
    press('ArrowLeft', 72);
    press('ArrowDown', 6);
  }
}"""


def test_words_make_a_preview_and_unknown_ones_are_told(page, portrait_file):
    origin = upload(page, portrait_file)
    page.get_by_label("Describe the look").fill("red hair flumox")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep")).to_be_visible()
    expect(page.locator(".hint")).to_contain_text("flumox")
    page.get_by_role("button", name="Discard").click()
    page.wait_for_function("id => document.querySelector('.editor').dataset.head === id", arg=origin)


def test_a_draft_survives_closing_the_page(page, portrait_file):
    upload(page, portrait_file)
    _paint(page)
    expect(page.get_by_role("button", name="Keep")).to_be_visible()
    page.wait_for_timeout(800)  # the autosave's pause
    page.reload()
    page.wait_for_selector(".editor[data-ready]")
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    expect(page.get_by_role("button", name="Keep")).to_be_visible()
    expect(page.locator(".tree .row")).to_have_count(1)  # the preview of the last visit is gone


def test_orbit_shows_other_pictures(page, portrait_file):
    upload(page, portrait_file)
    remote = page.locator(".remote")
    page.wait_for_selector(".remote.shown")
    front = remote.evaluate("c => c.toDataURL()")
    box = page.locator(".stage").bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 320, box["y"] + 220, steps=3)
    page.mouse.up()
    page.wait_for_function("old => document.querySelector('.remote').toDataURL() !== old", arg=front)
    dragged = remote.evaluate("c => c.toDataURL()")
    page.locator(".stage").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("old => document.querySelector('.remote').toDataURL() !== old", arg=dragged)


def test_exports_are_downloaded(page, portrait_file):
    upload(page, portrait_file)
    for item, name in (("PLY", "head.ply"), ("SPZ", "head.spz"), ("PNG", "head.png")):
        page.get_by_role("button", name="Export").click()
        with page.expect_download() as download:
            page.locator(".item", has_text=item).click()
        assert download.value.suggested_filename == name
        data = Path(download.value.path()).read_bytes()
        if item == "PNG":
            assert Image.open(io.BytesIO(data)).mode == "RGBA"
        else:
            assert len(formats.read(data, item.lower())) > 0


def test_deleting_my_data_deletes_it_here_and_there(page, web, portrait_file):
    head = upload(page, portrait_file)
    _paint(page)
    expect(page.get_by_role("button", name="Keep")).to_be_visible()
    stored = web.server.service.store.list
    assert any(head in key for key in stored("tenants"))
    page.get_by_role("button", name="More").click()
    page.locator(".item", has_text="Delete my data").click()
    page.get_by_role("button", name="Delete everything").click()
    expect(page.get_by_text("Everything has been deleted.")).to_be_visible()
    expect(page.get_by_role("heading", name="Turn a portrait into a 3D head")).to_be_visible()
    assert not any(head in key for key in stored("tenants"))
    assert page.evaluate("localStorage.length") == 0
    count = """async () => {
      const open = indexedDB.open('headlift');
      const db = await new Promise((done) => { open.onsuccess = () => done(open.result); });
      const there = db.objectStoreNames.contains('drafts');
      const all = there ? db.transaction('drafts').objectStore('drafts').count() : null;
      return all ? new Promise((done) => { all.onsuccess = () => done(all.result); }) : 0;
    }"""
    assert page.evaluate(count) == 0


def test_what_is_no_portrait_is_told_in_words(page, tmp_path):
    path = tmp_path / "grey.png"
    Image.new("RGB", (80, 80), "grey").save(path)
    page.get_by_label("Portrait", exact=True).set_input_files(path)
    expect(page.get_by_role("alert")).to_contain_text("face")


def test_everybody_can_use_it(page, portrait_file):
    def check(what: str) -> None:
        found = Axe().run(page).response["violations"]
        assert found == [], f"{what}: " + ", ".join(f"{v['id']} {v['nodes'][0]['target']}" for v in found)

    check("welcome")
    upload(page, portrait_file)
    _paint(page)
    expect(page.get_by_role("button", name="Keep")).to_be_visible()
    check("editor")
    page.get_by_role("button", name="Export").click()
    check("menu")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="More").click()
    page.locator(".item", has_text="Keyboard").click()
    check("dialog")
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 390, "height": 780})
    check("phone")


def test_without_editing_weights_the_panel_says_so_and_heads_still_work(plain, keyed, portrait_file):
    web, key = keyed
    for page in opened(plain, web.port):
        page.get_by_label("API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Portrait", exact=True).set_input_files(portrait_file)
        page.wait_for_selector(".remote.shown")
        expect(page.locator(".style .note")).to_contain_text("no weights for editing")
        expect(page.get_by_label("Describe the look")).to_be_disabled()
        expect(page.locator(".map")).to_be_hidden()
        assert key not in page.url


_DRAWN = """() => {
  const copy = document.createElement('canvas');
  copy.width = copy.height = 8;
  const context = copy.getContext('2d');
  context.drawImage(document.querySelector('.local'), 0, 0, 8, 8);
  return context.getImageData(0, 0, 8, 8).data.some((v) => v > 60);
}"""


def test_the_browser_draws_what_the_server_draws(chromium, web, portrait_file):
    browser = chromium(SOFTWARE_3D)
    for page in opened(browser, web.port):
        page.evaluate("localStorage.setItem('headlift.source', 'here')")
        page.reload()
        page.set_viewport_size({"width": 760, "height": 420})
        head = upload(page, portrait_file)
        page.wait_for_selector(".remote.shown")
        page.wait_for_function(_DRAWN)
        canvas = page.locator(".local")
        here = Image.open(io.BytesIO(_bytes_of(canvas.evaluate("c => c.toDataURL()"))))
        tenant = page.evaluate("async () => (await (await fetch('api/heads')).json()).heads[0].name").split("/")[1]
        with HeadliftClient(web.server.address, tenant=tenant) as client:
            width, height = here.size
            there = client.render(head, [camera()], width=width, height=height, sharpen=False)[0].image()
    browser.close()
    black = Image.new("RGBA", here.size, "black")
    black.alpha_composite(here)
    ours, theirs = (np.asarray(p.convert("RGB"), np.float32) for p in (black, there))
    assert theirs.std() > 20  # there is something to compare
    assert np.abs(ours - theirs).mean() < 4.0
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.99


def _bytes_of(url: str) -> bytes:
    return base64.b64decode(url.partition(",")[2])

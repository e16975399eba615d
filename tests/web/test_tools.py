"""The editor's tools in a real Chromium: every way to paint, to bring a picture, and to look."""

from __future__ import annotations

import base64
import contextlib

import numpy as np
import pytest
from playwright.sync_api import expect
from real_browser import NO_3D, arrived, opened, upload

KEPT = 255
HAIR, GLASSES, HAT = 14, 15, 16
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


class Map:
    """The map on the screen; places are shares of its side from its middle."""

    def __init__(self, page):
        self.page, self.canvas = page, page.locator(".mapview canvas")

    def place(self, x, y):
        box = self.canvas.bounding_box()
        side = min(box["width"], box["height"])
        return box["x"] + box["width"] / 2 + x * side, box["y"] + box["height"] / 2 + y * side

    def draw(self, *places):
        """Draw a line from place to place; what the editor then asks for, [H, H], 255 where nothing was painted."""
        mouse = self.page.mouse
        with self.page.expect_request(lambda r: r.url.endswith("/edits")) as asked:
            mouse.move(*self.place(*places[0]))
            mouse.down()
            for place in places[1:]:
                mouse.move(*self.place(*place), steps=3)
            mouse.up()
        return painted(asked.value)

    def use(self, tool, label=None):
        if label:
            self.page.get_by_role("button", name=label, exact=True).first.click()
        self.page.get_by_role("button", name=tool).first.click()

    def labels(self):
        """Of the head that is shown, as the server has them."""
        head = self.page.get_attribute(".editor", "data-head")
        got = self.page.evaluate("async (id) => (await fetch(`api/heads/${id}/map`)).json()", head)
        return np.frombuffer(base64.b64decode(got["labels"]), np.uint8).reshape(got["side"], got["side"])


def painted(request):
    labels = request.post_data_json["labels"]
    if labels is None:
        return None
    flat = np.frombuffer(base64.b64decode(labels), np.uint8)
    return flat.reshape(int(len(flat) ** 0.5), -1)


@pytest.fixture
def map_(page, portrait_file):
    upload(page, portrait_file)
    return Map(page)


def test_the_brush_paints_as_wide_as_it_is_said_and_the_eraser_takes_it_back(map_):
    map_.use("Brush", "Hat")
    thin = map_.draw((-0.2, -0.3), (0.2, -0.3))
    assert set(np.unique(thin)) == {HAT, KEPT}
    for _ in range(4):
        map_.page.keyboard.press("]")
    wide = map_.draw((-0.2, 0.2), (0.2, 0.2))
    lower = slice(len(wide) // 2, None)
    assert (wide[lower] == HAT).sum() > 1.3 * (thin == HAT).sum()
    map_.use("Eraser")
    for _ in range(10):
        map_.page.keyboard.press("]")
    erased = map_.draw((-0.25, 0.2), (0.25, 0.2))
    assert not (erased[lower] == HAT).any()
    assert (erased == HAT).sum() == (thin == HAT).sum()


def test_half_opacity_paints_every_other_pixel(map_):
    map_.page.get_by_label("Opacity").evaluate("e => { e.value = 50; e.dispatchEvent(new Event('input')); }")
    map_.use("Brush", "Hat")
    half = map_.draw((-0.2, -0.3), (0.2, -0.3))
    rows, columns = np.nonzero(half == HAT)
    area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert 0.35 < len(rows) / area < 0.6


def test_the_lasso_fills_what_it_goes_round(map_):
    map_.use("Lasso", "Glasses")
    drawn = map_.draw((-0.2, -0.2), (0.2, -0.2), (0.2, 0.2), (-0.2, 0.2), (-0.2, -0.19))
    side = len(drawn)
    inside = slice(int(0.33 * side), int(0.67 * side))
    assert (drawn[inside, inside] == GLASSES).mean() > 0.8  # the rest was labelled so before
    assert (drawn[: int(0.25 * side)] == KEPT).all()


def test_the_bucket_fills_and_the_dropper_picks(map_):
    map_.use("Lasso", "Glasses")
    map_.draw((-0.2, -0.2), (0.2, -0.2), (0.2, 0.2), (-0.2, 0.2), (-0.2, -0.19))
    map_.use("Fill", "Hat")
    filled = map_.draw((0.0, 0.0))
    assert (filled == HAT).mean() > 0.1
    assert not (filled == GLASSES).any()
    map_.use("Pick a label")
    map_.page.mouse.click(*map_.place(0.05, 0.05))
    assert map_.canvas.get_attribute("data-label") == "Hat"
    expect(map_.page.get_by_role("button", name="Fill")).to_have_attribute("aria-pressed", "true")


def test_mirrored_strokes_have_two_sides(map_):
    map_.use("Brush", "Left ear")
    map_.page.keyboard.press("m")
    both = map_.draw((0.1, -0.1), (0.14, -0.1))
    assert {4, 5} <= set(np.unique(both))
    assert abs(int((both == 4).sum()) - int((both == 5).sum())) <= 0.2 * (both == 5).sum()


def test_a_pens_pressure_makes_lines_wider(map_):
    map_.use("Brush", "Hat")
    widths = []
    for pressure, y in ((0.1, -0.3), (1.0, 0.1)):
        with map_.page.expect_request(lambda r: r.url.endswith("/edits")) as asked:
            map_.canvas.evaluate(_PEN, [*map_.place(-0.2, y), *map_.place(0.2, y), pressure])
        widths.append((painted(asked.value) == HAT).sum())
    assert widths[1] - widths[0] > 2 * widths[0]


_PEN = """(canvas, [x0, y0, x1, y1, pressure]) => {
  canvas.setPointerCapture = () => {};
  const send = (kind, x, y, buttons) => canvas.dispatchEvent(new PointerEvent(kind, {
    pointerId: 7, pointerType: 'pen', clientX: x, clientY: y, buttons, button: kind === 'pointermove' ? -1 : 0,
    pressure, bubbles: true,
  }));
  send('pointerdown', x0, y0, 1);
  for (let i = 1; i <= 8; i++) send('pointermove', x0 + (x1 - x0) * i / 8, y0 + (y1 - y0) * i / 8, 1);
  send('pointerup', x1, y1, 0);
}"""


def test_two_fingers_zoom_and_paint_nothing(plain, web, portrait_file):
    for page in opened(plain, web.port, has_touch=True):
        upload(page, portrait_file)
        there = Map(page)
        before = there.canvas.evaluate("c => c.toDataURL()")
        touch = page.context.new_cdp_session(page)
        x, y = there.place(0, 0)
        for kind, gap in (("touchStart", 20), ("touchMove", 40), ("touchMove", 80), ("touchEnd", 0)):
            points = [] if kind == "touchEnd" else [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_function("old => document.querySelector('.mapview canvas').toDataURL() !== old", arg=before)
        assert page.get_attribute(".editor", "data-steps") == "0"


def test_a_picture_can_be_dropped_and_pasted(page, portrait_file):
    data = base64.b64encode(portrait_file.read_bytes()).decode()
    page.evaluate(_BRING, ["drop", data])
    first = arrived(page)
    page.evaluate(_BRING, ["paste", data])
    page.wait_for_function("id => document.querySelector('.editor').dataset.head !== id", arg=first)
    expect(page.locator(".tree .row")).to_have_count(2)


def test_a_drop_before_the_editor_has_loaded_is_taken_when_it_has(page, portrait_file):
    held = []
    page.route("**/assets/*.js", lambda route: held.append(route))
    page.reload(wait_until="commit")
    page.wait_for_function("() => window.headliftEarly")
    stays = page.evaluate(_BRING, ["drop", base64.b64encode(portrait_file.read_bytes()).decode()])
    assert stays  # the browser does not leave the page to show the picture
    expect(page.locator(".editor")).to_have_count(0)
    for route in held:
        route.continue_()
    arrived(page)
    expect(page.locator(".tree .row")).to_have_count(1)


def test_a_drop_before_the_heads_are_known_is_taken_and_opened(page, portrait_file):
    data = base64.b64encode(portrait_file.read_bytes()).decode()
    page.evaluate(_BRING, ["drop", data])
    first = arrived(page)
    held = []
    page.route("**/api/heads", lambda route: held.append(route) if route.request.method == "GET" else route.continue_())
    page.reload()
    page.wait_for_selector(".editor")
    page.evaluate(_BRING, ["drop", data])
    page.wait_for_timeout(100)  # in which a lost picture would be sent
    for route in held:
        route.continue_()
    expect(page.locator(".tree .row")).to_have_count(2)
    page.wait_for_selector(".editor[data-ready]")
    assert page.get_attribute(".editor", "data-head") != first


_BRING = """async ([kind, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], 'me.png', {type: 'image/png'}));
  const event = kind === 'drop'
    ? new DragEvent('drop', {dataTransfer: carried, bubbles: true, cancelable: true})
    : new ClipboardEvent('paste', {clipboardData: carried, bubbles: true, cancelable: true});
  return !window.dispatchEvent(event);
}"""


def test_the_camera_takes_a_picture(chromium, web):
    browser = chromium((*NO_3D, *CAMERA))
    for page in opened(browser, web.port):
        page.get_by_role("button", name="Use the camera").click()
        with page.expect_request(lambda r: r.url.endswith("/api/heads") and r.method == "POST") as sent:
            page.get_by_role("button", name="Take the picture").click()
        assert sent.value.headers["content-type"] == "image/jpeg"
        # What the pretended camera shows is no face.
        expect(page.get_by_role("alert")).to_contain_text("face")
    browser.close()


def test_without_a_camera_people_are_told_what_to_do(page):
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("choose a picture")


def test_the_turntable_turns_until_it_is_stopped(page, portrait_file):
    upload(page, portrait_file)
    page.wait_for_selector(".remote.shown")
    remote, turn = page.locator(".remote"), page.get_by_role("button", name="Turntable")
    turn.click()
    for _ in range(2):
        seen = remote.evaluate("c => c.toDataURL()")
        page.wait_for_function("old => document.querySelector('.remote').toDataURL() !== old", arg=seen)
    turn.click()
    expect(turn).to_have_attribute("aria-pressed", "false")


def test_a_reference_picture_is_mixed_with_words(page, portrait_file):
    upload(page, portrait_file)
    edits = lambda r: r.url.endswith("/edits")  # noqa: E731
    with page.expect_request(edits) as asked:
        page.get_by_label("Reference picture").set_input_files(portrait_file)
    assert [list(t) for t in asked.value.post_data_json["style"]["terms"]] == [["embedding", "weight"]]
    expect(page.locator(".reference img")).to_be_visible()
    with page.expect_request(edits):
        page.get_by_label("Describe the look").fill("red hair")
        page.keyboard.press("Enter")
    with page.expect_request(edits) as asked:
        page.get_by_label("Mix").evaluate("e => { e.value = 25; e.dispatchEvent(new Event('change')); }")
    assert [t["weight"] for t in asked.value.post_data_json["style"]["terms"]] == [0.75, 0.25]
    with page.expect_request(edits) as asked:
        page.get_by_role("button", name="Remove").click()
    assert [list(t) for t in asked.value.post_data_json["style"]["terms"]] == [["text", "weight"]]


@contextlib.contextmanager
def previewed(page):
    """Until the head of the edit that the block asks for is the one that is shown."""
    with page.expect_response(lambda r: r.url.endswith("/edits")) as answer:
        yield
    head = answer.value.json()["head"]["id"]
    page.wait_for_function("id => document.querySelector('.editor').dataset.head === id", arg=head)


def test_words_that_are_shapes_show_in_the_map_and_can_be_told_not_to(page, portrait_file):
    upload(page, portrait_file)
    there = Map(page)
    there.use("Lasso", "Face")
    with previewed(page):
        there.draw((-0.45, -0.45), (0.45, -0.45), (0.45, 0.45), (-0.45, 0.45), (-0.45, -0.44))
    page.get_by_role("button", name="Keep").click()
    page.wait_for_selector(".editor[data-ready]")
    before, shown = there.labels(), there.canvas.evaluate("c => c.toDataURL()")
    prompt = page.get_by_label("Describe the look")
    with previewed(page):
        prompt.fill("hat")
        prompt.press("Enter")
    assert (there.labels() == HAT).sum() > (before == HAT).sum() + 100
    page.wait_for_function("old => document.querySelector('.mapview canvas').toDataURL() !== old", arg=shown)
    with previewed(page):
        page.get_by_label("Words may change shapes").uncheck()
    assert np.array_equal(there.labels(), before)

"""The page that shows a head: it opens from a file, asks nobody, draws what our rasteriser draws, and can be turned."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Page
from real_browser import SOFTWARE_3D, Launch

from headlift import formats
from headlift.errors import FormatError
from headlift.model.cameras import orbit_cameras
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
SIDE = 512
COUNT = 30_000


def test_a_head_of_full_size_takes_less_than_two_megabytes(bust: Bust) -> None:
    assert len(formats.write(bust(65536), "html")) < 2e6


def test_the_page_is_its_own_and_names_itself(bust: Bust) -> None:
    page = formats.write(bust(10), "html", title="Anna <b> & Co").decode()
    assert "<title>Anna &lt;b&gt; &amp; Co</title>" in page
    assert "Apache" in page
    assert not re.search(r"(src|href)=|@import|url\(|fetch\(|XMLHttpRequest|import\(", page)
    assert "default-src 'none'" in page
    with pytest.raises(FormatError, match="201 characters"):
        formats.write(bust(10), "html", title="x" * 201)


def test_pages_of_others_and_damaged_ones_are_refused(bust: Bust) -> None:
    data = formats.write(bust(10), "html")
    with pytest.raises(FormatError, match="holds no head"):
        formats.read(b"<!doctype html><p>hello")
    with pytest.raises(FormatError, match="holds no head"):
        formats.read(data[: len(data) // 4] if b"text/plain" not in data[: len(data) // 4] else data[:500])
    with pytest.raises(FormatError, match="damaged"):
        formats.read(data.replace(b'"text/plain">', b'"text/plain">*'))
    with pytest.raises(FormatError, match="at most 5"):
        formats.read(data, max_gaussians=5)


@pytest.fixture(scope="module")
def head(bust: Bust) -> Gaussians:
    """A bust that is not the same from all sides."""
    whole = bust(COUNT)
    return Gaussians(whole.means, whole.quats, whole.scales * 1.4, whole.opacities, whole.colors)


@pytest.fixture(scope="module")
def file(head: Gaussians, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "head.html"
    path.write_bytes(formats.write(head, "html"))
    return path


@pytest.fixture(scope="module")
def context(chromium: Launch) -> Iterator[Any]:
    browser = chromium(SOFTWARE_3D)
    context = browser.new_context(viewport={"width": SIDE, "height": SIDE}, offline=True, has_touch=True)
    context.set_default_timeout(60_000)
    yield context
    browser.close()


@pytest.fixture
def opened(context: Any, file: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page; fails on a complaint of the console and on any request but that of the file itself."""
    complaints: list[str] = []
    pages = []

    def open_page(fragment: str = "") -> Page:
        page: Page = context.new_page()
        pages.append(page)
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "blob:")) else None)
        page.goto(file.as_uri() + fragment)
        settled(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    # The software renderer of tests says how slow reading its pixels is; no page asked for that.
    assert [c for c in complaints if "GPU stall" not in c] == []


def settled(page: Page) -> None:
    # Not wait_for_function: it evaluates text in the page, which the page's policy forbids.
    page.locator("html[data-state=ready], html[data-state=failed]").wait_for(state="attached")
    assert page.evaluate("document.documentElement.dataset.state") == "ready", page.inner_text("#message")


def picture_of(page: Page) -> torch.Tensor:
    """What the canvas shows, [3, H, W] in 0..1."""
    page.evaluate("document.getElementById('about').hidden = true")
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 255.0


def ours(head: Gaussians, yaw: float, pitch: float, distance: float) -> torch.Tensor:
    camera = orbit_cameras([yaw], pitch, distance_m=distance, width=SIDE, height=SIDE)
    with torch.no_grad():
        return rasterize(head, camera).rgb[0]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return -10 * math.log10(max(float((a - b).square().mean()), 1e-10))


@pytest.mark.parametrize("view", [(0.0, 0.0, 1.706), (65.0, 20.0, 1.706), (-170.0, -35.0, 1.1)])
def test_it_draws_what_our_rasteriser_draws(
    opened: Callable[..., Page], head: Gaussians, view: tuple[float, float, float]
) -> None:
    yaw, pitch, distance = view
    expected = ours(head, yaw, pitch, distance)
    assert float(expected.mean()) > 0.05
    assert psnr(picture_of(opened(f"#{yaw},{pitch},{distance}")), expected) >= 36


def test_mouse_wheel_keys_and_double_click_move_the_camera(opened: Callable[..., Page], head: Gaussians) -> None:
    page = opened()
    front = picture_of(page)
    page.mouse.move(300, 256)
    page.mouse.down()
    page.mouse.move(200, 256, steps=5)
    page.mouse.up()
    settled(page)
    # 100 px to the left, 0.4 degrees each: the camera goes to the head's own left.
    assert psnr(picture_of(page), ours(head, 40, 0, 1.706)) >= 36
    page.mouse.dblclick(256, 256)
    settled(page)
    assert psnr(picture_of(page), front) >= 50
    page.mouse.wheel(0, -100)
    settled(page)
    assert psnr(picture_of(page), ours(head, 0, 0, 1.706 * math.exp(-0.2))) >= 36
    page.keyboard.press("Home")
    page.keyboard.press("ArrowLeft")
    settled(page)
    assert psnr(picture_of(page), ours(head, -5, 0, 1.706)) >= 36


def test_one_finger_turns_and_two_come_closer(opened: Callable[..., Page], head: Gaussians) -> None:
    page = opened()
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {
            "type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)],
        })  # fmt: skip

    fingers("touchStart", (200, 256))
    for x in (225, 250):
        fingers("touchMove", (x, 256))
    fingers("touchEnd")
    settled(page)
    assert psnr(picture_of(page), ours(head, -20, 0, 1.706)) >= 36
    fingers("touchStart", (236, 256))
    fingers("touchStart", (236, 256), (276, 256))
    fingers("touchMove", (226, 256), (286, 256))
    fingers("touchEnd")
    settled(page)
    # Fingers are heard one after the other, which shifts the head by part of a pixel.
    near = picture_of(page)
    assert psnr(near, ours(head, -20, 0, 1.706 * 40 / 60)) >= 28
    assert psnr(near, ours(head, -20, 0, 1.706)) < 20


def test_a_browser_without_3d_is_told_so(chromium: Launch, file: Path) -> None:
    browser = chromium(("--disable-gpu", "--disable-3d-apis"))
    page = browser.new_page()
    page.goto(file.as_uri())
    page.locator("html[data-state=failed]").wait_for(state="attached")
    assert "WebGL" in page.inner_text("#message")
    browser.close()

"""Fixtures: the editor in a real Chromium. What a page complains about fails its test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run")
NO_3D = ("--disable-gpu", "--disable-3d-apis")  # the server draws
SOFTWARE_3D = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_WAIT_MS = 60_000
Launch = Callable[[tuple[str, ...]], Browser]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Launch]:
    """Launches browsers; skips where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine; apt-get install chromium")
    with sync_playwright() as playwright:
        yield lambda flags: playwright.chromium.launch(executable_path=path, args=[*_QUIET, *flags])


@pytest.fixture(scope="session")
def plain(chromium: Launch) -> Iterator[Browser]:
    """A browser without WebGL."""
    browser = chromium(NO_3D)
    yield browser
    browser.close()


@pytest.fixture
def page(plain: Browser, web: Any) -> Iterator[Page]:
    """The editor, freshly opened by a new visitor."""
    yield from opened(plain, web.port)


@pytest.fixture(scope="session")
def portrait_file(portrait_png: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For file choosers."""
    path = tmp_path_factory.mktemp("portrait") / "me.png"
    path.write_bytes(portrait_png)
    return path


def opened(browser: Browser, port: int, **options: Any) -> Iterator[Page]:
    """The editor in a context of its own; whatever it complains about fails the test."""
    complaints: list[str] = []
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(_WAIT_MS)
    page = context.new_page()
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(f"http://localhost:{port}/")
    yield page
    context.close()
    assert complaints == []


def upload(page: Page, portrait: Path) -> str:
    """The id of the new head, once its map can be painted."""
    page.get_by_label("Portrait", exact=True).set_input_files(portrait)
    return arrived(page)


def arrived(page: Page) -> str:
    """Wait for a new head; its id, once its map can be painted."""
    page.wait_for_selector(".editor[data-head^=h]")
    page.wait_for_selector(".editor[data-ready]")
    return str(page.get_attribute(".editor", "data-head"))

"""Spark and three.js' own splats, in a real browser, show our files as we do: the nose stands at the same pixel."""

from __future__ import annotations

import io
import mimetypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Error, Page, Route
from real_browser import SOFTWARE_3D, Launch

from headlift import formats
from headlift.model.cameras import orbit_cameras
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians

pytestmark = pytest.mark.npm

NPM = Path(__file__).parent / "npm"
Bust = Callable[[int], Gaussians]
SIDE = 128
ORIGIN = "http://viewers.test"

# Format, options, name of the file; whether its axes are those of 3DGS (a half turn about X from three's).
FILES: dict[str, tuple[str, dict[str, Any], bool]] = {
    "full.ply": ("ply", {}, True),
    "compact.ply": ("ply_compact", {}, True),
    "packed.compressed.ply": ("ply_compressed", {}, True),
    "head.splat": ("splat", {}, True),
    "v3.spz": ("spz", {"version": 3}, False),
    "v4.spz": ("spz", {"version": 4}, False),
    "head.sog": ("sog", {}, True),
    "head.glb": ("glb", {}, False),
}


@pytest.fixture(scope="module")
def head(bust: Bust) -> Gaussians:
    """A grey bust with a red nose to its left and above the middle: no mirror or turn leaves it where it is."""
    whole = bust(2000)
    nose = (whole.means - torch.tensor([0.03, 0.045, 0.09])).norm(dim=1) < 0.02
    assert int(nose.sum()) > 10
    colors = torch.where(nose[:, None], torch.tensor([0.95, 0.05, 0.05]), torch.tensor([0.5, 0.5, 0.5]))
    return Gaussians(whole.means, whole.quats, whole.scales * 4, whole.opacities.clamp(min=0.9), colors)


def nose_of(picture: np.ndarray) -> np.ndarray:
    """Centre of what is red, pixels."""
    weights = np.clip(picture[..., 0] - picture[..., 1:].max(-1) - 0.3, 0, None)
    assert weights.sum() > 5, "no nose in the picture"
    y, x = np.mgrid[: len(picture), : picture.shape[1]]
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


@pytest.fixture(scope="module")
def browser(chromium: Launch, node: str) -> Iterator[Any]:
    found = chromium(SOFTWARE_3D)
    yield found
    found.close()


@pytest.fixture
def page(browser: Any, head: Gaussians) -> Iterator[Page]:
    """The page of viewers; its files come from here, and nothing else can be reached."""
    page: Page = browser.new_page(viewport={"width": SIDE, "height": SIDE})
    page.set_default_timeout(60_000)

    def serve(route: Route) -> None:
        path = route.request.url.removeprefix(ORIGIN)
        if path.startswith("/files/"):
            name, options, _ = FILES[path.removeprefix("/files/")]
            route.fulfill(body=formats.write(head, name, **options), content_type="application/octet-stream")
        elif (NPM / path[1:]).is_file():
            route.fulfill(path=NPM / path[1:], content_type=mimetypes.guess_type(path)[0] or "text/javascript")
        else:
            route.abort()

    page.route(f"{ORIGIN}/**", serve)
    page.goto(f"{ORIGIN}/viewers.html")
    page.wait_for_function("window.loaded")
    yield page
    page.close()


def shown(page: Page, file: str) -> np.ndarray:
    page.evaluate("([file, turned]) => show(file, turned)", [file, FILES[file][2]])
    with Image.open(io.BytesIO(page.screenshot())) as image:
        return np.asarray(image.convert("RGB")) / 255.0


@pytest.mark.parametrize(
    ("library", "files", "difference"),
    [
        ("spark", [file for file in FILES if not file.endswith(("glb", "v4.spz"))], 0.02),
        # three's own splats have a wider blur, in every format alike.
        ("three", ["full.ply", "head.splat", "v3.spz", "v4.spz", "head.glb"], 0.08),
    ],
    ids=["spark", "three"],
)
def test_a_viewer_shows_the_nose_where_we_do(
    page: Page, head: Gaussians, library: str, files: list[str], difference: float
) -> None:
    ours = rasterize(head, orbit_cameras([0], width=SIDE, height=SIDE)).rgb[0].permute(1, 2, 0).numpy()
    page.evaluate("library => start(library)", library)
    for file in files:
        theirs = shown(page, file)
        assert np.linalg.norm(nose_of(theirs) - nose_of(ours)) < 1.0, file
        assert np.abs(theirs - ours).mean() < difference, file


def test_spark_does_not_know_version_4_of_spz(page: Page) -> None:
    """What the documentation says of version 4; once Spark reads it, the documentation changes."""
    page.evaluate("start('spark')")
    with pytest.raises(Error):
        shown(page, "v4.spz")

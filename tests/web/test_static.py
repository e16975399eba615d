"""What is checked in is what the sources build."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from headlift.web.app import STATIC

_ROOT = Path(__file__).parents[2]


def test_the_page_names_files_that_are_there(web):
    browser = web.browser()
    page = browser.ask("GET", "/").body.decode()
    assets = [part.split('"')[0] for part in page.split('"./')[1:]]
    assert {path.name for path in (STATIC / "assets").iterdir()} == {Path(a).name for a in assets if "assets/" in a}
    for asset in assets:
        answer = browser.ask("GET", f"/{asset}")
        assert answer.status == 200
        assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.npm
@pytest.mark.slow
def test_the_sources_build_what_is_checked_in():
    if shutil.which("npm") is None:
        pytest.skip("no node on this machine")
    done = subprocess.run([_ROOT / "deploy/build-editor", "--check"], capture_output=True, text=True, check=False)
    if "ECONN" in done.stderr or "ENOTFOUND" in done.stderr:
        pytest.skip("the npm registry cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr

"""What is checked in is what the sources build."""

from __future__ import annotations

import json
import re
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


def sections() -> dict[str, str]:
    """Text under each headline of NOTICE."""
    parts = re.split(r"\n={78}\n(.*?)\n={78}\n", (_ROOT / "NOTICE").read_text(), flags=re.S)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_licence_of_every_bundled_package_is_in_the_notice(web):
    locked = json.loads((_ROOT / "services/editor/package-lock.json").read_text())["packages"]
    bundled = {path.rpartition("node_modules/")[2]: facts for path, facts in locked.items() if path}
    bundled = {name: facts for name, facts in bundled.items() if not facts.get("dev") and not facts.get("peer")}
    assert {"three", "@sparkjsdev/spark"} <= set(bundled)
    for name, facts in bundled.items():
        text = sections()[f"{name} {facts['version']} (built into the editor)"]
        assert "Copyright" in text
        assert {"MIT": "Permission is hereby granted"}[facts["license"]] in text
    served = web.browser().ask("GET", "/licenses.txt")
    assert served.status == 200
    assert served.body.decode() == (_ROOT / "NOTICE").read_text()
    script = next((STATIC / "assets").glob("*.js")).read_text()
    assert "./licenses.txt" in script


@pytest.mark.npm
@pytest.mark.slow
def test_the_sources_build_what_is_checked_in():
    if shutil.which("npm") is None:
        pytest.skip("no node on this machine")
    done = subprocess.run([_ROOT / "deploy/build-editor", "--check"], capture_output=True, text=True, check=False)
    if "ECONN" in done.stderr or "ENOTFOUND" in done.stderr:
        pytest.skip("the npm registry cannot be reached")
    assert done.returncode == 0, done.stdout + done.stderr

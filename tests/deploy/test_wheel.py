"""What pip installs works: a wheel in an environment of its own, used outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = "services", "trainer", "pyproject.toml", "README.md", "LICENSE", "NOTICE"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that packages are built from: setuptools leaves a build folder behind."""
    folder = tmp_path_factory.mktemp("source tree")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SOURCES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(lambda n: (ROOT / n).is_file(), listed.stdout.splitlines()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


def built(sources: Path, kind: str) -> Path:
    """A distribution as pip and build make it, without the network."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}('dist'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=sources, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return sources / "dist" / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(sources: Path) -> Path:
    return built(sources, "wheel")


@pytest.mark.slow
def test_distributions_carry_sources_weights_the_editor_and_licences(sources, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = sources / "services/headlift"
    wanted = {
        f"headlift/{path.relative_to(package).as_posix()}"
        for folder in ("model/splat/native", "weights", "web/static")
        for path in (package / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"headlift/model/splat/native/splat.cpp", "headlift/weights/mini.safetensors"} <= wanted
    assert wanted | {"headlift/py.typed", "headlift_trainer/py.typed"} <= names
    assert {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert not [name for name in names if name.endswith(".so") or name.startswith("tests")]
    with tarfile.open(built(sources, "sdist")) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"services/{name}" for name in wanted} | {"NOTICE", "LICENSE"} <= files


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_wheel_makes_the_demos_files_outside_the_checkout(wheel, tmp_path):
    venv.create(tmp_path / "clean", symlinks=True)
    python = tmp_path / "clean/bin/python"
    paths = {"base": str(tmp_path / "clean"), "platbase": str(tmp_path / "clean")}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    # The packages that headlift needs, from this environment; not headlift, which an editable install finds by a .pth
    # file, and those of a folder that a .pth file names are not read.
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", wheel], check=True, timeout=200)
    environ = {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{tmp_path / 'clean/bin'}{os.pathsep}{os.environ['PATH']}",
        "OMP_WAIT_POLICY": "passive",
    }
    (tmp_path / "home").mkdir()
    demo = [python.with_name("headlift"), "demo", "--out", "out", "--frames", "8", "--size", "128"]
    demo += ["--refine-steps", "2"]
    done = subprocess.run(demo, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("headlift: building the rasteriser once") == 1
    assert "slow" not in done.stderr
    assert list((tmp_path / "home/.cache/headlift/native").glob("splat-*.so"))
    files = {"head.ply", "head.spz", "head.glb", "turntable.mp4", "views.png", "report.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert all((tmp_path / "out" / name).stat().st_size > 500 for name in files)
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["head"]["gaussian_count"] == 65536
    where = subprocess.run(
        [python, "-c", "import headlift; print(headlift.__file__)"],
        cwd=tmp_path, env=environ, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert where.stdout.startswith(str(tmp_path / "clean"))

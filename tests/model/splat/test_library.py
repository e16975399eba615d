"""Building the native library: never stale, never half, and honest where it cannot be built."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from headlift.errors import BackendUnavailableError
from headlift.model.splat import library


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The native sources in a folder of their own."""
    folder = tmp_path / "native"
    shutil.copytree(library.SOURCE_DIR, folder, ignore=shutil.ignore_patterns("*.so", ".build*"))
    monkeypatch.setattr(library, "SOURCE_DIR", folder)
    monkeypatch.setattr(library, "library_name", library.library_name.__wrapped__)
    return folder


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that takes a moment and writes a line into this file for each call; the only one on PATH."""
    tools, calls = tmp_path / "tools", tmp_path / "calls"
    tools.mkdir()
    (tmp_path / "compile.py").write_text(
        "import sys, time\ntime.sleep(0.3)\n"
        "open(sys.argv[sys.argv.index('-o') + 1], 'w').write('built')\n"
        f"open({str(calls)!r}, 'a').write(' '.join(sys.argv) + chr(10))\n"
    )
    # By a shell: the first line of a script cannot name an interpreter in a folder with a space.
    (tools / "g++").write_text(f"#!/bin/sh\nexec '{sys.executable}' '{tmp_path}/compile.py' \"$@\"\n")
    (tools / "g++").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    return calls


@pytest.fixture
def folders(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A user's home folder and folder of temporary files, both empty."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return home, temporary


def test_a_built_library_is_not_built_again(isas: tuple[int, ...]) -> None:
    path = library.build_native()
    before = path.stat().st_mtime_ns
    assert library.build_native() == library.find_library() == library.ensure_native() == path
    assert path.stat().st_mtime_ns == before


def test_the_first_use_builds_into_the_users_cache_and_says_so_once(
    folders: tuple[Path, Path], compiler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = library.ensure_native()
    assert path.is_relative_to(folders[0] / ".cache")
    assert path.read_text() == "built"
    assert library.ensure_native() == path
    assert capsys.readouterr().err.count("building the rasteriser once, about") == 1
    assert sum("-shared" in line for line in compiler.read_text().splitlines()) == 1


def test_processes_that_begin_together_build_once(sources: Path, folders: tuple[Path, Path], compiler: Path) -> None:
    # Without the package around it, which loads torch.
    code = (
        "import importlib.util, pathlib; "
        f"spec = importlib.util.spec_from_file_location('library', {library.__file__!r}); "
        "library = importlib.util.module_from_spec(spec); spec.loader.exec_module(library); "
        f"library.SOURCE_DIR = pathlib.Path({str(sources)!r}); print(library.ensure_native())"
    )
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(folders[1])}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert len({process.communicate(timeout=120)[0] for process in running}) == 1
    assert sum("-shared" in line for line in compiler.read_text().splitlines()) == 1


def test_without_a_cache_that_can_be_written_it_is_built_among_the_temporary_files(
    folders: tuple[Path, Path], compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(compiler / "below-a-file"))
    compiler.touch()
    path = library.ensure_native()
    assert path.is_relative_to(folders[1])
    assert not path.parent.stat().st_mode & 0o077
    assert library.find_library() == path


def test_what_others_could_have_written_is_not_loaded(
    folders: tuple[Path, Path], compiler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(compiler / "below-a-file"))
    compiler.touch()
    path = library.ensure_native()
    path.parent.chmod(0o777)
    assert library.find_library() is None
    with pytest.raises(BackendUnavailableError, match="TMPDIR"):
        library.ensure_native()


def test_a_changed_source_has_another_library(sources: Path) -> None:
    before = library.library_name()
    (sources / "frame.cpp").write_text((sources / "frame.cpp").read_text() + "\n// changed\n")
    assert library.library_name() != before


def test_without_a_compiler_the_error_says_what_to_install(
    folders: tuple[Path, Path], sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(sources))
    for build in (library.build_native, library.ensure_native):
        with pytest.raises(BackendUnavailableError, match=r"g\+\+"):
            build()
    assert not capsys.readouterr().err  # nobody was told that something is being built


def test_a_compiler_that_fails_is_reported_and_leaves_nothing(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = sources.parent / "tools"
    tools.mkdir()
    compiler = tools / "g++"
    compiler.write_text("#!/bin/sh\necho 'fatal error: this compiler knows no C++20' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(BackendUnavailableError, match="knows no"):
        library.build_native()
    assert not list(sources.glob("*.so"))
    assert not list(sources.glob(".build*"))

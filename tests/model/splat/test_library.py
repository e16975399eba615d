"""Building the native library: never stale, never half, and honest where it cannot be built."""

from __future__ import annotations

import shutil
import sys
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
    monkeypatch.setattr(library, "native_library_path", library.native_library_path.__wrapped__)
    return folder


def test_a_built_library_is_not_built_again(isas: tuple[int, ...]) -> None:
    path = library.native_library_path()
    before = path.stat().st_mtime_ns
    assert library.build_native() == path
    assert path.stat().st_mtime_ns == before


def test_a_changed_source_has_another_library(sources: Path) -> None:
    before = library.native_library_path()
    (sources / "frame.cpp").write_text((sources / "frame.cpp").read_text() + "\n// changed\n")
    assert library.native_library_path() != before


def test_without_a_compiler_the_error_says_what_to_install(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(sources))
    with pytest.raises(BackendUnavailableError, match=r"g\+\+"):
        library.build_native()


def test_a_compiler_that_fails_is_reported_and_leaves_nothing(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = sources.parent / "tools"
    tools.mkdir()
    compiler = tools / "g++"
    compiler.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('fatal error: this compiler knows no C++20')\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(BackendUnavailableError, match="knows no"):
        library.build_native()
    assert not list(sources.glob("*.so"))
    assert not list(sources.glob(".build*"))

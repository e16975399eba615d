"""Where the native rasteriser's library lies, and how it is compiled.

One translation unit holds the kernels and is compiled once per instruction set; the library chooses among them when it
is called, so that it may be built on one machine and run on another of the same architecture. The library's file name
carries a hash of sources and flags: a stale build is never loaded.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headlift.errors import BackendUnavailableError

SOURCE_DIR = Path(__file__).parent / "native"
COMPILERS = ("g++", "clang++", "c++")
# Contraction is off and multiply-adds are written out, so that forward and backward round alike.
COMMON_FLAGS = (
    "-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-pthread",
)  # fmt: skip
LINK_FLAGS = ("-shared", "-pthread")
KERNEL_FLAGS: dict[str, tuple[tuple[str, ...], ...]] = {
    "x86_64": (
        (),
        ("-mavx2", "-mfma"),
        ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
    ),
    "other": ((),),
}
BUILD_TIMEOUT_S = 600


def _architecture() -> str:
    machine = platform.machine().lower()
    return "x86_64" if machine in {"x86_64", "amd64"} else machine


def _kernel_flags() -> tuple[tuple[str, ...], ...]:
    return KERNEL_FLAGS.get(_architecture(), KERNEL_FLAGS["other"])


@functools.cache
def native_library_path() -> Path:
    """Where the library built from the present sources lies, whether or not it has been built."""
    digest = hashlib.sha256(repr((COMMON_FLAGS, LINK_FLAGS, _kernel_flags(), sys.platform)).encode())
    for source in sorted(SOURCE_DIR.iterdir()):
        if source.suffix in {".h", ".inl", ".cpp"}:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return SOURCE_DIR / f"splat-{_architecture()}-{digest.hexdigest()[:16]}.so"


def _find_compiler() -> str:
    for name in COMPILERS:
        if found := shutil.which(name):
            return found
    raise BackendUnavailableError(
        f"No C++ compiler was found on PATH (looked for {', '.join(COMPILERS)}), so the native rasteriser cannot be "
        "built. Install g++ 11 or clang++ 14 or newer (Debian: apt-get install g++), or draw with backend='reference'."
    )


def _run(command: list[str]) -> None:
    """Runs one compiler command; raises with its first complaint."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise BackendUnavailableError(
            f"Compiling the native rasteriser took more than {BUILD_TIMEOUT_S} s; try again."
        ) from None
    if done.returncode:
        complaints = done.stderr.strip().splitlines() or ["no message"]
        first = next((line for line in complaints if "error" in line), complaints[0])
        raise BackendUnavailableError(
            f"The native rasteriser did not compile: {first.rsplit('/', 1)[-1][:300]} "
            "A compiler with C++20 is needed: g++ 11 or clang++ 14 or newer."
        )


def _commands(compiler: str, folder: Path) -> Iterator[tuple[list[str], str]]:
    kernels = str(SOURCE_DIR / "kernels.cpp")
    for i, flags in enumerate(_kernel_flags()):
        output = str(folder / f"kernels{i}.o")
        yield [compiler, *COMMON_FLAGS, *flags, "-w", "-c", kernels, "-o", output], output
    for name in ("frame", "splat"):
        output = str(folder / f"{name}.o")
        yield [compiler, *COMMON_FLAGS, "-c", str(SOURCE_DIR / f"{name}.cpp"), "-o", output], output


def build_native(force: bool = False) -> Path:
    """Compile the native rasteriser into the package folder.

    Args:
        force: Compile even if a library of the present sources is there.

    Returns:
        The library's path.

    Raises:
        BackendUnavailableError: No compiler, a compiler that is too old, or a folder that cannot be written.
    """
    target = native_library_path()
    if target.exists() and not force:
        return target
    compiler = _find_compiler()
    try:
        with tempfile.TemporaryDirectory(dir=SOURCE_DIR, prefix=".build-") as name:
            folder = Path(name)
            commands = list(_commands(compiler, folder))
            with ThreadPoolExecutor(len(commands)) as pool:
                list(pool.map(_run, (command for command, _ in commands)))
            library = folder / "splat.so"
            _run([compiler, *LINK_FLAGS, *(output for _, output in commands), "-o", str(library)])
            os.replace(library, target)  # whole or not at all, also when two builds race
    except OSError as error:
        raise BackendUnavailableError(
            f"The package folder of headlift.model.splat cannot be written ({error.strerror}), so the native "
            "rasteriser cannot be built there. Run python -m headlift.model.splat.build as its owner."
        ) from error
    for old in SOURCE_DIR.glob("splat-*.so"):
        if old != target and old.name.startswith(f"splat-{_architecture()}-"):
            old.unlink(missing_ok=True)
    return target

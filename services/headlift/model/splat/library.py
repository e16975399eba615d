"""Where the native rasteriser's library lies, and how it is compiled.

One translation unit holds the kernels and is compiled once per instruction set; the library chooses among them when it
is called, so that it may be built on one machine and run on another of the same architecture. The library's file name
carries the architecture and a hash of sources and flags: a stale build is never loaded.

Images and checkouts build it into the package (``python -m headlift.model.splat.build``). Everybody else gets it at
first use, in the user's cache folder: a wheel carries the sources alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import shutil
import stat
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
_ABOUT_CPU_S = 20  # of all compilations together, on a core of 2024


def _architecture() -> str:
    machine = platform.machine().lower()
    return "x86_64" if machine in {"x86_64", "amd64"} else machine


def _kernel_flags() -> tuple[tuple[str, ...], ...]:
    return KERNEL_FLAGS.get(_architecture(), KERNEL_FLAGS["other"])


@functools.cache
def library_name() -> str:
    """File name of the library built from the present sources."""
    digest = hashlib.sha256(repr((COMMON_FLAGS, LINK_FLAGS, _kernel_flags(), sys.platform)).encode())
    for source in sorted(SOURCE_DIR.iterdir()):
        if source.suffix in {".h", ".inl", ".cpp"}:
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return f"splat-{_architecture()}-{digest.hexdigest()[:16]}.so"


def find_library() -> Path | None:
    """The library built from the present sources: in the package, else in the user's folders; None: not built."""
    folders = (SOURCE_DIR, *_user_folders())
    return next((path for path in (folder / library_name() for folder in folders) if path.is_file()), None)


def _user_folders() -> Iterator[Path]:
    """Where a library may lie that the user built by using it, the best place first; nobody else can write there."""
    with contextlib.suppress(RuntimeError):  # no home folder
        yield Path.home() / ".cache" / "headlift" / "native"
    # The folder of temporary files is everybody's: what somebody else put there in our name must not be loaded.
    shared = Path(tempfile.gettempdir()) / f"headlift-native-{os.getuid()}"
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        facts = shared.lstat()
        if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o022:
            yield shared


def _find_compiler() -> str:
    for name in COMPILERS:
        if found := shutil.which(name):
            return found
    raise BackendUnavailableError(
        f"No C++ compiler was found on PATH (looked for {', '.join(COMPILERS)}), so the native rasteriser cannot be "
        "built. Install g++ 11 or clang++ 14 or newer (Debian: apt-get install g++)."
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
    for name in ("deform", "frame", "refine", "sharpen", "splat"):
        output = str(folder / f"{name}.o")
        yield [compiler, *COMMON_FLAGS, "-c", str(SOURCE_DIR / f"{name}.cpp"), "-o", output], output


def ensure_native() -> Path:
    """The library; compiled into the user's cache folder, with one line on stderr, where it has not been yet.

    Without a cache folder that can be written it goes to a private folder among the temporary files.

    Raises:
        BackendUnavailableError: No compiler, a compiler that is too old, or no folder that can be written.
    """
    if found := find_library():
        return found
    _find_compiler()  # before anybody is told that something is being built
    for folder in _user_folders():
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return _build_once(folder)
    raise BackendUnavailableError(
        "The native rasteriser cannot be built, because neither the user's cache folder nor the folder of temporary "
        "files can be written. Name one that can in TMPDIR."
    )


def _build_once(folder: Path) -> Path:
    """Build into ``folder`` unless another process does, which is then waited for."""
    import fcntl

    target = folder / library_name()
    with (folder / f"{target.name}.lock").open("w") as lock:
        with contextlib.suppress(OSError):  # some network folders cannot lock: then both build, and one is kept
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_file():
            seconds = _ABOUT_CPU_S / min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, 4)
            print(f"headlift: building the rasteriser once, about {seconds:.0f} s", file=sys.stderr, flush=True)
            _build(target)
    return target


def build_native(force: bool = False) -> Path:
    """Compile the native rasteriser into the package folder, for everybody who uses this installation.

    Args:
        force: Compile even if a library of the present sources is there.

    Returns:
        The library's path.

    Raises:
        BackendUnavailableError: No compiler, a compiler that is too old, or a folder that cannot be written.
    """
    target = SOURCE_DIR / library_name()
    if target.exists() and not force:
        return target
    try:
        _build(target)
    except OSError as error:
        raise BackendUnavailableError(
            f"The package folder of headlift.model.splat cannot be written ({error.strerror}), so the native "
            "rasteriser cannot be built there. Run python -m headlift.model.splat.build as its owner, or leave it to "
            "the first use, which builds into the user's cache folder."
        ) from error
    for old in SOURCE_DIR.glob("splat-*.so"):
        if old != target and old.name.startswith(f"splat-{_architecture()}-"):
            old.unlink(missing_ok=True)
    return target


def _build(target: Path) -> None:
    """Compile aside and rename: the library is there whole or not at all, also when two builds race."""
    compiler = _find_compiler()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as name:
        folder = Path(name)
        commands = list(_commands(compiler, folder))
        with ThreadPoolExecutor(len(commands)) as pool:
            list(pool.map(_run, (command for command, _ in commands)))
        library = folder / "splat.so"
        _run([compiler, *LINK_FLAGS, *(output for _, output in commands), "-o", str(library)])
        os.replace(library, target)

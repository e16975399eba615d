"""Installing pretrained models: package -> file inside, checked -> safetensors, once.

Files appear whole or not at all; a lock keeps two installations apart; packages that were fetched are kept until their
models are converted, so that an installation that was cut off goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from headlift.errors import CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.pretrained import dlib_face, tflite
from headlift.pretrained.catalogue import FORMAT, MODELS, Package, PretrainedModel
from headlift.pretrained.installed import model_file

_TIMEOUT_S = 900.0  # for one package; pip gives up on a silent index much earlier
_LARGEST_MEMBER = 64 << 20  # bytes; the largest file that is wanted has 22 million


@dataclass(frozen=True)
class ModelState:
    """One model of the catalogue on this machine."""

    model: PretrainedModel
    state: str  # installed, missing or damaged
    file: Path


def states(folder: Path, models: Sequence[PretrainedModel] = MODELS) -> list[ModelState]:
    """Which models a folder has whole, by their hashes."""
    found = []
    for model in models:
        file = model_file(model, folder)
        state = "missing" if not file.is_file() else "installed" if _is_whole(model, file) else "damaged"
        found.append(ModelState(model, state, file))
    return found


def install(
    folder: Path,
    models: Sequence[PretrainedModel],
    source: Path | None = None,
    tell: Callable[[str], object] = lambda line: None,
) -> list[PretrainedModel]:
    """Install models that are not there whole; returns those that were installed now.

    Args:
        folder: Where they go; made if need be.
        models: Which; with ``source`` those of them that it holds.
        source: A package, or the file inside of it, that is here already; None asks the package index.
        tell: Called with a line for people before each longer step.

    Raises:
        MissingWeightsError: The package cannot be fetched, or the folder cannot be written.
        CorruptWeightsError: A file has another hash than the one that is pinned.
        InvalidInputError: ``source`` holds none of the models.
    """
    with _locked(folder):
        missing = [state.model for state in states(folder, models) if state.state != "installed"]
        if source is not None:
            contents = _contents_of(source, models)
            missing = [model for model in missing if model in contents]
        for package in dict.fromkeys(model.package for model in missing):
            wanted = [model for model in missing if model.package == package]
            if source is None:
                tell(f"Fetching {package.requirement} ({package.size_mb} MB)")
                file = _fetched(package, folder / "packages")
                contents = _members(file, wanted)
                if absent := [m.name for m in wanted if m not in contents]:
                    raise CorruptWeightsError(f"{package.requirement} holds no {absent[0]}; the index changed it.")
            for model in wanted:
                _write(model, contents[model], folder)
            if source is None:
                file.unlink(missing_ok=True)
        return missing


def _fetched(package: Package, folder: Path) -> Path:
    """The file of a package, from the index that pip is set up with; its hash is checked by pip and again here."""
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if _sha256(file) == package.sha256:
            return file
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        command = [
            sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet", "--no-deps",
            "--require-hashes", "--retries", "1", "--timeout", "20", "--dest", scratch, *package.pip_options,
            "--requirement", str(requirements),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise _unfetched(package, f"it took longer than {_TIMEOUT_S:.0f} s") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or [done.stderr.strip()]
            if "DO NOT MATCH" in done.stderr:
                raise CorruptWeightsError(f"The package index gives another {package.requirement} than the one pinned.")
            raise _unfetched(package, lines[-1].removeprefix("ERROR: ") or "pip failed")
        for file in Path(scratch).iterdir():
            if file != requirements and _sha256(file) == package.sha256:
                return file.replace(folder / file.name)
    raise _unfetched(package, "pip fetched nothing of that hash")


def _unfetched(package: Package, why: str) -> MissingWeightsError:
    return MissingWeightsError(
        f"{package.requirement} could not be fetched: {why.rstrip('.')}. Everything works without it; try again later, "
        "or fetch the package elsewhere and run `headlift models install --from FILE`."
    )


def _contents_of(source: Path, models: Sequence[PretrainedModel]) -> dict[PretrainedModel, bytes]:
    """What a file that the user has holds of the models."""
    if not source.is_file():
        raise InvalidInputError(f"There is no file {source}; correct --from.", field="from")
    found = _members(source, models)
    if not found:
        names = ", ".join(dict.fromkeys(model.package.requirement for model in models))
        raise InvalidInputError(
            f"{source.name} holds none of the pinned models; give the file of {names}, or the file inside.",
            field="from",
        )
    return found


def _members(source: Path, models: Sequence[PretrainedModel]) -> dict[PretrainedModel, bytes]:
    """The files of models in a wheel or a source archive, or the source itself if it is one; each is checked.

    Raises:
        CorruptWeightsError: A file has another hash than the one that is pinned, or the archive is damaged.
    """
    found: dict[PretrainedModel, bytes] = {}
    try:
        if zipfile.is_zipfile(source) and source.suffix != ".pth":  # torch's own files are zips as well
            with zipfile.ZipFile(source) as wheel:
                names = set(wheel.namelist())
                for model in models:
                    if model.member in names and wheel.getinfo(model.member).file_size <= _LARGEST_MEMBER:
                        found[model] = wheel.read(model.member)
        elif tarfile.is_tarfile(source):
            with tarfile.open(source) as archive:
                by_path = {entry.name.partition("/")[2]: entry for entry in archive if entry.isfile()}
                for model in models:
                    entry = by_path.get(model.member)
                    if entry is not None and entry.size <= _LARGEST_MEMBER and (stream := archive.extractfile(entry)):
                        found[model] = stream.read()
        else:
            digest = _sha256(source)
            return {model: source.read_bytes() for model in models if model.sha256 == digest}
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise CorruptWeightsError(f"{source.name} is damaged; fetch it again.") from error
    for model, content in found.items():
        if (digest := hashlib.sha256(content).hexdigest()) != model.sha256:
            raise CorruptWeightsError(
                f"{model.member} in {source.name} has SHA-256 {digest}; {model.sha256} is pinned. Fetch it again."
            )
    return found


def _write(model: PretrainedModel, content: bytes, folder: Path) -> None:
    """Convert and write a model and its record."""
    weights, graph = _converted(model, content)
    header = {
        "format": FORMAT, "name": model.name, "source_sha256": model.sha256, "licence": model.licence,
        "copyright": model.copyright, "origin": f"{model.package.requirement}, {model.member}",
    }  # fmt: skip
    file = model_file(model, folder)
    partial = file.with_suffix(".part")
    half = {k: (v.half() if v.is_floating_point() and model.kind != "torch" else v) for k, v in weights.items()}
    save_file(half, partial, metadata=header | ({"graph": graph} if graph else {}))
    record = header | {"sha256": _sha256(partial), "changes": "converted to safetensors by Headlift"}
    partial.chmod(0o644)  # whoever serves may be another user than who installs
    partial.replace(file)
    written = file.with_suffix(".json.part")
    written.write_text(json.dumps(record, indent=1) + "\n")
    written.replace(file.with_suffix(".json"))


def _converted(model: PretrainedModel, content: bytes) -> tuple[dict[str, Tensor], str]:
    """Weights, and the graph as JSON where the file has one."""
    if model.kind == "tflite":
        graph, weights = tflite.convert(content)
        return weights, json.dumps(graph, separators=(",", ":"))
    if model.kind == "dlib":
        return dlib_face.convert(content), ""
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return {name: value.contiguous() for name, value in state.items()}, ""


def _is_whole(model: PretrainedModel, file: Path) -> bool:
    try:
        record = json.loads(file.with_suffix(".json").read_text())
        same = (record["format"], record["source_sha256"]) == (FORMAT, model.sha256)
        return same and bool(record["sha256"] == _sha256(file))
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One installation at a time; ends with the process that holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise MissingWeightsError(
            f"Models cannot be kept in {folder}: {error.strerror}. Name another folder in HEADLIFT_MODELS_DIR."
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

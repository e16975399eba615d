"""Other people's networks that are published as TorchScript archives: loaded from a local file, read before they run.

A TorchScript file is a program, not a table of numbers. It cannot reach Python (its pickle knows tensors and its own
classes alone) but it runs torch's operators, some of which read and write files, and it may run them while it is
loaded. So its source, which lies in the archive as text, is searched first; an archive that calls anything beside
tensor arithmetic is refused unopened. That keeps honest files honest; take them only from where you trust the authors.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch

from headlift.errors import CorruptWeightsError, MissingWeightsError

_TEXT_BYTES_MAX = 8 << 20  # of source; the networks read here have less than 1 MB
_TOUCHES_FILES = re.compile(r"\btorch\.(save|load|from_file|_load\w*|_save\w*)\b|\baten::(save|load|from_file)\b")
_OPERATOR = re.compile(r"\bops\.(\w+)\.")
_KNOWN = frozenset({"aten", "prim", "prims", "quantized", "torchvision"})


def load_script(path: Path | str, name: str, page: str) -> torch.jit.ScriptModule:
    """A frozen network from a TorchScript archive, on the CPU.

    Args:
        path: The local file.
        name: What the network is called, for messages.
        page: Where the published file is to be had.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is no TorchScript archive, is damaged, or calls operators that networks do not need.
    """
    source = Path(path)
    if not source.is_file():
        raise MissingWeightsError(f"There is no weights file {source.name} for {name}. Take it from {page}.")
    _read_before_running(source, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises other formats; these networks are published in this one
            load = cast(Callable[..., Any], torch.jit.load)
            network: torch.jit.ScriptModule = load(str(source), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise CorruptWeightsError(f"{source.name} is not a readable TorchScript archive; fetch it again.") from error
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.eval()


def steady_execution() -> AbstractContextManager[None]:
    """Run scripts as they are: torch's profiling executor gives other roundings from the second call on."""
    context: AbstractContextManager[None] = cast(Any, torch.jit).optimized_execution(False)
    return context


def _read_before_running(source: Path, name: str) -> None:
    """Refuse archives whose code does more than arithmetic.

    Raises:
        CorruptWeightsError: See ``load_script``.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = [m for m in archive.infolist() if "/code/" in f"/{m.filename}" and m.filename.endswith(".py")]
            if sum(m.file_size for m in members) > _TEXT_BYTES_MAX:
                raise CorruptWeightsError(
                    f"{source.name} has more than {_TEXT_BYTES_MAX >> 20} MB of code; no network."
                )
            text = "\n".join(archive.read(m).decode("utf-8", "replace") for m in members)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise CorruptWeightsError(f"{source.name} is not a TorchScript archive; {name} is published as one.") from error
    if not members:
        raise CorruptWeightsError(
            f"{source.name} holds no code: it is a table of weights, and {name} is loaded from a TorchScript archive."
        )
    unknown = set(_OPERATOR.findall(text)) - _KNOWN
    if unknown or (match := _TOUCHES_FILES.search(text)):
        what = f"operators of {sorted(unknown)[0]}" if unknown else match and match.group(0)
        raise CorruptWeightsError(f"{source.name} calls {what}, which {name} does not need; it is not run.")

"""Plain tables of tensors from weights files on disk, and networks filled with them."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError


def read_tensors(source: Path, *, key: str = "state_dict", sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a weights file by name; pickles go through torch's safe loader.

    Args:
        source: A safetensors file, or a pickle of torch's.
        key: Under which a pickle may hold them; others hold them plainly.
        sha256: That the file must have.

    Raises:
        CorruptWeightsError: The file holds something else.
    """
    try:
        if sha256 is not None:
            _check_sha256(source, sha256)
        if source.suffix == ".safetensors":
            return dict(load_file(source))
        weights = torch.load(source, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CorruptWeightsError(f"{source.name} is not a readable weights file; fetch it again.") from error
    weights = weights.get(key, weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CorruptWeightsError(f"{source.name} is not a plain table of weights, as the published files are.")
    return weights


def _check_sha256(source: Path, sha256: str) -> None:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256.lower():
        raise CorruptWeightsError(f"{source.name} has SHA-256 {digest}; {sha256.lower()} was expected. Fetch it again.")


def fill(network: nn.Module, weights: Mapping[str, Tensor], file: str, name: str, *, hint: str = "") -> None:
    """Load tensors that must fit the network one by one.

    Args:
        network: Takes them.
        weights: By their names in the network.
        file: Name of the file that they come from, for messages.
        name: What the network is, for messages.
        hint: A sentence that messages end with: where to get the right file.

    Raises:
        CorruptWeightsError: A tensor is absent, unknown or of another shape; the message names the first.
    """
    wanted = network.state_dict()
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    for key in sorted((wanted.keys() | weights.keys()) - optional):
        actual = tuple(weights[key].shape) if key in weights else "absent"
        needed = tuple(wanted[key].shape) if key in wanted else "absent"
        if actual != needed:
            fault = f"{file} is not {name}: {key} is {actual} there and must be {needed}."
            raise CorruptWeightsError(f"{fault} {hint}".rstrip())
    network.load_state_dict({k: v.float() for k, v in weights.items() if k not in optional}, strict=False)

"""Plain tables of tensors from weights files on disk, and networks filled with them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Tensors of a weights file by name, a wrapping ``state_dict`` taken off; pickles go through torch's safe loader.

    Raises:
        CorruptWeightsError: The file holds something else.
    """
    try:
        if source.suffix == ".safetensors":
            return dict(load_file(source))
        weights = torch.load(source, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise CorruptWeightsError(f"{source.name} is not a readable weights file; fetch it again.") from error
    weights = weights.get("state_dict", weights) if isinstance(weights, dict) else weights
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CorruptWeightsError(f"{source.name} is not a plain table of weights, as the published files are.")
    return weights


def fill(network: nn.Module, weights: Mapping[str, Tensor], file: str, name: str) -> None:
    """Load tensors that must fit the network one by one.

    Raises:
        CorruptWeightsError: A tensor is absent, unknown or of another shape; the message names the first.
    """
    wanted = network.state_dict()
    optional = {key for key in wanted if key.endswith("num_batches_tracked")}
    for key in sorted((wanted.keys() | weights.keys()) - optional):
        found = tuple(weights[key].shape) if key in weights else "absent"
        needed = tuple(wanted[key].shape) if key in wanted else "absent"
        if found != needed:
            raise CorruptWeightsError(f"{file} is not {name}: {key} is {found} there and must be {needed}.")
    network.load_state_dict({k: v.float() for k, v in weights.items() if k not in optional}, strict=False)

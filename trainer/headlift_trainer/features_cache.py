"""A cache of a frozen backbone's features: pictures that come again as they were need not go through it again.

Keys are SHA-256 over the picture's bytes, the backbone's identity and the type of number, so a changed crop, backbone
or layer is another entry. Of use where inputs are not augmented; others would only fill it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.perchead.encoder import Backbone


class CachedBackbone:
    """A backbone that remembers, in memory and, where a folder is given, on disk.

    Args:
        backbone: The frozen network.
        identity: What it is: name, layers, convention, hash of its weights; see `identity_of`.
        memory_bytes: Size of the memory; the entries used longest ago go first.
        folder: Where entries stay between runs; the caller looks after its size.

    Raises:
        InvalidInputError: The memory has less than one byte.
    """

    def __init__(
        self, backbone: Backbone, identity: str, *, memory_bytes: int = 2 << 30, folder: Path | None = None
    ) -> None:
        if memory_bytes < 1:
            raise InvalidInputError(f"A features cache of {memory_bytes} bytes holds nothing; give 1 or more.")
        self._backbone, self._identity, self._limit, self._folder = backbone, identity, memory_bytes, folder
        self._memory: OrderedDict[str, list[Tensor]] = OrderedDict()
        self._held = 0
        self.hits = self.misses = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, images: Tensor) -> list[Tensor]:
        """[B, 3, I, I] -> for each layer [B, P, D], as the backbone gives them; only new pictures go through it."""
        keys = [self._key(image) for image in images]
        rows: dict[str, list[Tensor]] = {}
        for key in keys:
            if key not in rows and (found := self._find(key)) is not None:
                rows[key] = found
        new = {key: row for row, key in enumerate(keys) if key not in rows}
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        if new:
            with torch.no_grad():
                features = self._backbone(images[list(new.values())])
            for index, key in enumerate(new):
                rows[key] = [layer[index].detach().cpu() for layer in features]
                self._keep(key, rows[key])
        return [torch.stack(layer).to(images.device) for layer in zip(*(rows[key] for key in keys), strict=True)]

    def _key(self, image: Tensor) -> str:
        autocast = torch.is_autocast_enabled(image.device.type)
        kind = torch.get_autocast_dtype(image.device.type) if autocast else image.dtype
        digest = hashlib.sha256(f"{self._identity} {kind} {image.dtype} {tuple(image.shape)};".encode())
        digest.update(image.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def _find(self, key: str) -> list[Tensor] | None:
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        if self._folder is None or not (path := self._folder / f"{key}.safetensors").is_file():
            return None
        try:
            stored = load_file(path)
        except (SafetensorError, OSError):  # a damaged entry is a miss, and is made again
            return None
        layers = [stored[str(i)] for i in range(len(stored))]
        self._remember(key, layers)
        return layers

    def _keep(self, key: str, layers: list[Tensor]) -> None:
        self._remember(key, layers)
        if self._folder is not None:
            path = self._folder / f"{key}.safetensors"
            partial = path.with_suffix(".partial")
            save_file({str(i): layer.contiguous().clone() for i, layer in enumerate(layers)}, partial)
            partial.replace(path)

    def _remember(self, key: str, layers: list[Tensor]) -> None:
        self._memory[key] = layers
        self._held += _bytes(layers)
        while self._held > self._limit and len(self._memory) > 1:
            _, oldest = self._memory.popitem(last=False)
            self._held -= _bytes(oldest)


def identity_of(network: nn.Module, *facts: object) -> str:
    """SHA-256 of a network's weights, and further facts (layers, convention), as text."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return " ".join([digest.hexdigest(), *map(str, facts)])


def _bytes(layers: list[Tensor]) -> int:
    return sum(layer.numel() * layer.element_size() for layer in layers)

"""Generated heads as HeadNet sees them: pictures with classes, cameras and landmarks, packed into one mapped file.

Legend: M heads (one geometry in one appearance), V views, S picture side, L landmarks, B batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from headlift.errors import InvalidInputError
from headlift_trainer.datasets.generated import load_views
from headlift_trainer.synthetic.generate import APPEARANCES, path_of
from headlift_trainer.synthetic.prepare import target_path

CHANNELS = 5  # red, green, blue (multiplied by alpha), alpha, class


@dataclass(frozen=True)
class HeadPictures:
    """B pictures and what is true of them."""

    rgba: Tensor  # [B, 4, S, S] premultiplied, 0..1
    classes: Tensor  # [B, 1, S, S] float, class numbers
    viewmats: Tensor  # [B, 4, 4]
    landmarks: Tensor  # [B, L, 3] m
    people: Tensor  # [B] int64, equal for pictures of the same person


class PackedHeads:
    """Shards of the head generator, read once into a file that is mapped afterwards.

    Args:
        shards: Folder of generated heads. targets: Folder of their anchor targets.
        seeds: Geometry seeds to hold; those that are not there yet are left out.
        rows: [L] template anchors that are landmarks.
        cache: The mapped file; it is made again when the heads differ.

    Raises:
        InvalidInputError: No seed has both pictures and targets.
    """

    def __init__(self, shards: Path, targets: Path, seeds: Iterable[int], rows: Tensor, cache: Path) -> None:
        names = [
            (seed, appearance)
            for seed in seeds
            if target_path(targets, seed).exists()
            for appearance in range(APPEARANCES)
            if path_of(shards, seed, appearance).exists()
        ]
        if not names:
            raise InvalidInputError(f"No generated head with targets was found under {shards.name}; run synth first.")
        points = {seed: _landmarks(target_path(targets, seed), rows) for seed in {seed for seed, _ in names}}
        self.landmarks = torch.stack([points[seed] for seed, _ in names])  # [M, L, 3]
        listing = cache.with_suffix(".txt")
        text = "\n".join(f"{seed} {appearance}" for seed, appearance in names)
        if not listing.exists() or listing.read_text() != text:
            _pack(shards, names, cache)
            listing.write_text(text)
        self.viewmats = torch.from_numpy(np.load(cache.with_suffix(".cameras.npy")))  # [M, V, 4, 4]
        self._pictures: NDArray[np.uint8] = np.load(cache, mmap_mode="r")  # [M, V, S, S, 5]

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def size(self) -> int:
        """Picture side, pixels."""
        return int(self._pictures.shape[2])

    @property
    def views(self) -> int:
        """Pictures of each head."""
        return int(self._pictures.shape[1])

    def pictures(self, heads: Tensor, views: Tensor) -> HeadPictures:
        """The heads `heads` [B] seen in `views` [B]."""
        rows = [self._pictures[int(m), int(v)] for m, v in zip(heads, views, strict=True)]
        stack = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2)
        return HeadPictures(
            stack[:, :4].float() / 255, stack[:, 4:].float(), self.viewmats[heads, views], self.landmarks[heads], heads
        )


def _landmarks(path: Path, rows: Tensor) -> Tensor:
    with np.load(path) as target:
        return torch.from_numpy(target["means"][rows.numpy()].astype(np.float32))


def _pack(shards: Path, names: list[tuple[int, int]], cache: Path) -> None:
    cameras = []
    packed: np.memmap[Any, np.dtype[np.uint8]] | None = None
    for row, (seed, appearance) in enumerate(tqdm(names, desc="packing heads")):
        head = load_views(shards, seed, appearance)
        with np.load(path_of(shards, seed, appearance)) as shard:
            classes = shard["classes"]
        if packed is None:
            packed = np.lib.format.open_memmap(cache, "w+", np.uint8, (len(names), *head.rgba.shape[:3], CHANNELS))
        packed[row, ..., :4], packed[row, ..., 4] = head.rgba, classes
        cameras.append(head.viewmats)
    assert packed is not None
    packed.flush()
    np.save(cache.with_suffix(".cameras.npy"), np.stack(cameras).astype(np.float32))

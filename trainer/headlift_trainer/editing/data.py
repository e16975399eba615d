"""Generated heads as the editor learns from them: portraits, maps, what HeadNet finds, records; packed once.

Legend: M heads (one geometry in one appearance), V views, S picture side, F picture features, B batch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from headlift.errors import InvalidInputError
from headlift.model.edit.style import picture_features
from headlift.model.mini.headnet import HeadNet
from headlift_trainer.datasets.generated import load_views
from headlift_trainer.synthetic.generate import APPEARANCES, path_of
from headlift_trainer.synthetic.source.seeds import HELD_OUT

VIEWS = (0, 1, 8, 9, 10)  # of the generator's rig: front, one side at 45 degrees, three random portraits
SIDE = 128  # pixels of packed pictures and maps


@dataclass(frozen=True)
class EditHeads:
    """M heads from V sides."""

    pictures: NDArray[np.uint8]  # [M, V, S, S, 4] premultiplied
    maps: NDArray[np.uint8]  # [M, V, S, S] labels
    features: Tensor  # [M, V, F] what HeadNet finds in the pictures
    viewmats: Tensor  # [M, V, 4, 4] with the portrait crop's intrinsics
    records: list[dict[str, Any]]  # M attribute records
    seeds: list[int]  # M

    def __len__(self) -> int:
        return len(self.records)

    def select(self, heads: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [B, 4, S, S] in 0..1 and maps [B, S, S] uint8 of the heads [B] seen in views [B]."""
        pairs = list(zip(heads.tolist(), views.tolist(), strict=True))
        rgba = torch.from_numpy(np.stack([self.pictures[m, v] for m, v in pairs])).permute(0, 3, 1, 2)
        return rgba.float() / 255, torch.from_numpy(np.stack([self.maps[m, v] for m, v in pairs]))


def pack_heads(shards: Path, seeds: Iterable[int], net: HeadNet, cache: Path) -> EditHeads:
    """Read shards once into a folder of mapped files; a folder that holds the same heads is taken as it is.

    Args:
        shards: What the generator wrote.
        seeds: Of the geometries; those that are not there are left out.
        net: Frozen HeadNet; makes the features.
        cache: Folder of the packed files; made if need be.

    Raises:
        InvalidInputError: None of the seeds is there.
    """
    names = [(s, a) for s in sorted(seeds) for a in range(APPEARANCES) if path_of(shards, s, a).is_file()]
    if not names:
        raise InvalidInputError(f"No generated head was found under {shards.name}; run `headlift synth` first.")
    wanted = json.dumps({"names": names, "headnet": digest_of(net), "side": SIDE})
    listing = cache / "heads.json"
    if not listing.is_file() or listing.read_text() != wanted:
        cache.mkdir(parents=True, exist_ok=True)
        _pack(shards, names, net, cache)
        listing.write_text(wanted)
    return EditHeads(
        np.load(cache / "pictures.npy", mmap_mode="r"),
        np.load(cache / "maps.npy", mmap_mode="r"),
        torch.from_numpy(np.load(cache / "features.npy")).float(),
        torch.from_numpy(np.load(cache / "viewmats.npy")),
        json.loads((cache / "records.json").read_text()),
        [seed for seed, _ in names],
    )


def pack_sets(shards: Path, net: HeadNet, cache: Path) -> tuple[EditHeads, EditHeads]:
    """Training and held-out heads of a folder; see ``pack_heads``."""
    seeds = {int(path.name.split("_")[1]) for path in shards.glob("head_*.npz")}
    return (
        pack_heads(shards, seeds - HELD_OUT, net, cache / "train"),
        pack_heads(shards, seeds & HELD_OUT, net, cache / "held_out"),
    )


def digest_of(net: HeadNet) -> str:
    """A short name of a HeadNet's weights, the same in half and in full precision."""
    total = sum(float(p.detach().half().double().abs().sum()) for p in net.parameters())
    return f"{total:.3f}"


def _pack(shards: Path, names: list[tuple[int, int]], net: HeadNet, cache: Path) -> None:
    shape = (len(names), len(VIEWS), SIDE, SIDE)
    pictures = np.lib.format.open_memmap(cache / "pictures.npy", "w+", np.uint8, (*shape, 4))
    maps = np.lib.format.open_memmap(cache / "maps.npy", "w+", np.uint8, shape)
    features, viewmats, records = [], [], []
    for row, (seed, appearance) in enumerate(tqdm(names, desc="packing heads")):
        head, views = load_views(shards, seed, appearance), list(VIEWS)
        with np.load(path_of(shards, seed, appearance)) as shard:
            classes = shard["classes"][views]
            records.append(json.loads(str(shard["attributes"][0])))
        rgba = head.rgba[views]
        pictures[row] = np.stack([cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for p in rgba])
        maps[row] = np.stack([cv2.resize(p, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST) for p in classes])
        stack = torch.from_numpy(rgba).permute(0, 3, 1, 2).float() / 255
        features.append(picture_features(net, stack).half().numpy())
        viewmats.append(head.viewmats[views])
    pictures.flush()
    maps.flush()
    np.save(cache / "features.npy", np.stack(features))
    np.save(cache / "viewmats.npy", np.stack(viewmats).astype(np.float32))
    (cache / "records.json").write_text(json.dumps(records))

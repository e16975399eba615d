"""The one reader of our generator's shards, and generated heads as a data set like others.

So the paper's recipes run on our data. An item is a shard: one geometry in one appearance, seen by V cameras.

Legend: V views, S picture side.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from headlift.errors import FormatError
from headlift.model.types import FOCAL, Cameras
from headlift_trainer import augment
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.filters import FURTHEST_DEG, Filtered, Split
from headlift_trainer.datasets.headframe import facing_degrees
from headlift_trainer.datasets.interface import PictureSample
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.render.views import portrait_viewmats
from headlift_trainer.synthetic.source.seeds import HELD_OUT

_SHARD = re.compile(r"head_(\d+)_(\d+)\.npz")
_SAME_FOCAL = 1e-4  # relative
_KEPT = 64  # shards in memory; 4 MB each at 256 px


@dataclass(frozen=True)
class HeadViews:
    """All pictures of one generated head, and two kinds of cameras."""

    rgba: NDArray[np.uint8]  # [V, S, S, 4]
    viewmats: NDArray[np.float32]  # [V, 4, 4] with the portrait crop's intrinsics, as a pose estimate says it
    exact: NDArray[np.bool_]  # [V]; elsewhere the focal length was another, and those differ in perspective
    true_viewmats: NDArray[np.float32]  # [V, 4, 4] as the pictures were drawn
    Ks: NDArray[np.float32]  # [V, 3, 3] pixels, likewise

    @property
    def cameras(self) -> Cameras:
        """What to splat each view with: the crop's intrinsics where they hold, the true ones elsewhere."""
        size, exact = self.rgba.shape[1], torch.from_numpy(self.exact)[:, None, None]
        crop = crop_cameras(torch.from_numpy(self.viewmats), size)
        viewmats = torch.where(exact, crop.viewmats, torch.from_numpy(self.true_viewmats))
        return Cameras(viewmats, torch.where(exact, crop.Ks, torch.from_numpy(self.Ks)), size, size)


def load_views(shards: Path, seed: int, appearance: int) -> HeadViews:
    """One generated head.

    The generator shifts some crops by their principal point, and may vary the focal length. In `viewmats` a shift is a
    turn of the camera and a focal length a change of distance, so that every view has the portrait crop's intrinsics.
    """
    with np.load(path_of(shards, seed, appearance)) as shard:
        rgba, viewmats, Ks = shard["rgba"], shard["viewmats"], shard["Ks"]
    size = rgba.shape[1]
    stretch = Ks[:, 0, 0] / (FOCAL * size)
    exact = np.abs(stretch - 1) < _SAME_FOCAL
    # What stays as it was drawn keeps its every bit.
    upright = np.where(exact[:, None, None], viewmats, portrait_viewmats(viewmats, Ks, size))
    off = (Ks[:, :2, 2] - size / 2) / Ks[:, [0, 1], [0, 1]] * np.where(exact, 1, stretch)[:, None]
    turned = torch.from_numpy(upright.astype(np.float32))
    turned[:, :3] = augment.pan_and_tilt(*torch.from_numpy(off.astype(np.float32)).unbind(-1)) @ turned[:, :3]
    return HeadViews(rgba, turned.numpy(), exact, viewmats, Ks)


class GeneratedHeads:
    """Generated heads as a `HeadDataset`.

    Args:
        folder: What `headlift synth` wrote.
        size: Side that pictures are brought to; None leaves them as they are.
        split: "train" leaves out the geometries that are never trained on, "validation" is just those.
        furthest_deg: An input comes from no further round the head; targets from everywhere, which is what generated
            heads are for.
    """

    name = "generated"

    def __init__(
        self, folder: Path, *, size: int | None = None, split: Split = "train", furthest_deg: float = FURTHEST_DEG
    ) -> None:
        self.folder, self.size, self._furthest = folder, size, furthest_deg
        self.filtered = Filtered()
        self._heads: list[tuple[int, int]] = []
        for path in sorted(folder.glob("head_*.npz")):
            match = _SHARD.fullmatch(path.name)
            if match is None:
                continue
            head = int(match[1]), int(match[2])
            if split != "all" and (head[0] in HELD_OUT) != (split == "validation"):
                self.filtered.add(f"geometry not in the {split} split", path.stem)
            else:
                self._heads.append(head)
        self._load = lru_cache(_KEPT)(self._read)

    def __len__(self) -> int:
        return len(self._heads)

    def __getstate__(self) -> dict[str, object]:
        return {k: v for k, v in self.__dict__.items() if k != "_load"}  # caches do not travel to other processes

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._load = lru_cache(_KEPT)(self._read)

    @property
    def subjects(self) -> Sequence[str]:
        """Geometry seeds, each once."""
        return list(dict.fromkeys(f"{seed:05d}" for seed, _ in self._heads))

    def sample(self, index: int, rng: np.random.Generator, targets: int) -> PictureSample:
        """See HeadDataset."""
        seed, appearance = self._heads[index]
        head = self._load(seed, appearance)
        front = np.flatnonzero(facing_degrees(head.viewmats.astype(np.float64)) <= self._furthest)
        if not len(front):
            raise FormatError(f"head_{seed:05d}_{appearance} has no view of the face.")
        first = int(rng.choice(front))
        others = rng.permutation([i for i in range(len(head.rgba)) if i != first])[:targets]
        rows = torch.tensor([first, *others])
        chosen = self._resized(torch.from_numpy(head.rgba[rows.numpy()]).permute(0, 3, 1, 2).float() / 255)
        size = chosen.shape[-1]
        given = crop_cameras(torch.from_numpy(head.viewmats[[first]]), size)
        cameras = head.cameras
        cameras = replace(cameras, viewmats=cameras.viewmats[rows], Ks=cameras.Ks[rows]).resized(size, size)
        names = tuple(f"view{int(row):02d}" for row in rows)
        return PictureSample(chosen[0], given, chosen, cameras, f"{seed:05d}", names)

    def _read(self, seed: int, appearance: int) -> HeadViews:
        try:
            return load_views(self.folder, seed, appearance)
        except (OSError, ValueError, KeyError) as error:
            raise FormatError(f"head_{seed:05d}_{appearance}.npz is missing or damaged; generate it again.") from error

    def _resized(self, pictures: Tensor) -> Tensor:
        if self.size is None or pictures.shape[-1] == self.size:
            return pictures
        shape = (self.size, self.size)
        return F.interpolate(pictures, shape, mode="bilinear", align_corners=False, antialias=True).clamp(0, 1)

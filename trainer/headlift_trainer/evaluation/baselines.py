"""What a network has to beat: the mean training head, and the training head whose picture is nearest.

Both are anchors splatted as the decoder starts them. They come from the training shards and targets themselves
(``TrainingBaselines``), or from a small file that ships beside the weights (``coded_baselines``).

Legend: M training heads, N anchors, t thumbnail side.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.sizes import HeadModel
from headlift.model.types import Gaussians
from headlift_trainer.datasets.generated import load_views
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import target_path
from headlift_trainer.synthetic.source.seeds import HELD_OUT

THUMBNAIL = 32  # pixels
THUMBNAIL_VIEWS = (0, 3)  # rig views that a baseline may be looked up by: front, and the left profile


class Baselines(Protocol):
    """Two heads to compare with."""

    @property
    def description(self) -> dict[str, Any]:
        """Where they come from, as JSON values."""
        ...

    def mean(self) -> Gaussians:
        """The mean training head."""
        ...

    def nearest(self, picture: Tensor, view: int) -> Gaussians:
        """The training head that looks most like a picture [4, S, S] seen in rig view ``view``."""
        ...


def anchor_head(model: HeadModel, means: Tensor, colors: Tensor) -> Gaussians:
    """Anchors [N, 3] m with colours [N, 3] as Gaussians of the decoder's start shape."""
    decoder = model.decoder
    scales = decoder.spacing[:, None] * means.new_tensor([0.75, 0.75, 0.35])
    return Gaussians(means, decoder.disc_quats, scales, torch.full_like(decoder.spacing, 0.9), colors.clamp(0, 1))


def thumbnail(picture: Tensor) -> Tensor:
    """A picture [4, S, S] as the numbers that pictures are compared by, [4, t, t]."""
    return F.adaptive_avg_pool2d(picture, THUMBNAIL)


class TrainingBaselines:
    """From the training heads themselves; pictures are read once, anchors when they are wanted.

    Args:
        model: Gives the decoder's start shape and the template.
        shards: Generated heads.
        targets: Their anchor targets.
        seeds: Which geometries to look for; None takes all in the folder. Held-out ones are always left out.

    Raises:
        InvalidInputError: No training head has both, or the targets belong to another template.
    """

    def __init__(self, model: HeadModel, shards: Path, targets: Path, seeds: Iterable[int] | None = None) -> None:
        self._model, self._shards, self._targets = model, shards, targets
        known = sorted(int(path.stem) for path in targets.glob("[0-9]*.npz")) if seeds is None else seeds
        self.entries: list[tuple[int, int]] = []
        means, colors = np.zeros(model.decoder.anchors.shape), np.zeros(model.decoder.anchors.shape)
        geometries = 0
        for seed in known:
            if seed in HELD_OUT or not target_path(targets, seed).is_file():
                continue
            position, appearances = self._read(seed)
            rows = [row for row in range(len(appearances)) if path_of(shards, seed, row).is_file()]
            if not rows:
                continue
            self.entries += [(seed, row) for row in rows]
            means += position
            colors += appearances[rows].mean(0)
            geometries += 1
        if not geometries:
            raise InvalidInputError(
                f"{shards.name}/ and {targets.name}/ have no training head in common; run synth and prepare first."
            )
        self._mean = torch.from_numpy(means / geometries).float(), torch.from_numpy(colors / geometries / 255).float()
        self._thumbnails: dict[int, Tensor] = {}

    @property
    def description(self) -> dict[str, Any]:
        """See Baselines."""
        return {"from": "training heads", "heads": len(self.entries)}

    def mean(self) -> Gaussians:
        """See Baselines."""
        return anchor_head(self._model, *self._mean)

    def nearest(self, picture: Tensor, view: int) -> Gaussians:
        """See Baselines."""
        return self.head(self.nearest_row(picture, view))

    def nearest_row(self, picture: Tensor, view: int) -> int:
        """Which entry that is."""
        return nearest_row(thumbnail(picture), self.thumbnails(view))

    def head(self, row: int) -> Gaussians:
        """One training head."""
        return anchor_head(self._model, *self.anchors(row))

    def anchors(self, row: int) -> tuple[Tensor, Tensor]:
        """Positions [N, 3] m and colours [N, 3] of one training head."""
        seed, appearance = self.entries[row]
        means, colors = self._read(seed)
        return torch.from_numpy(means).float(), torch.from_numpy(colors[appearance]).float() / 255

    def thumbnails(self, view: int) -> Tensor:
        """Every training head in one rig view, [M, 4, t, t]."""
        if not self._thumbnails:
            views: dict[int, list[Tensor]] = {v: [] for v in THUMBNAIL_VIEWS}
            for seed, appearance in self.entries:
                rgba = load_views(self._shards, seed, appearance).rgba[list(THUMBNAIL_VIEWS)]
                pictures = torch.from_numpy(rgba).permute(0, 3, 1, 2).float() / 255
                for v, picture in zip(THUMBNAIL_VIEWS, pictures, strict=True):
                    views[v].append(thumbnail(picture))
            self._thumbnails = {v: torch.stack(rows) for v, rows in views.items()}
        return self._thumbnails[known_view(view, self._thumbnails)]

    def _read(self, seed: int) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        with np.load(target_path(self._targets, seed)) as target:
            if str(target["template"]) != self._model.template.sha256:
                raise InvalidInputError(f"Targets of seed {seed} belong to another template; prepare them again.")
            return target["means"].astype(np.float64), target["colors"]


def known_view(view: int, thumbnails: dict[int, Tensor]) -> int:
    """The view, if baselines can be looked up by it; InvalidInputError otherwise."""
    if view not in thumbnails:
        raise InvalidInputError(f"Baselines are looked up by rig views {sorted(thumbnails)}, not by view {view}.")
    return view


def nearest_row(picture: Tensor, thumbnails: Tensor) -> int:
    """Row of the nearest of [M, 4, t, t]."""
    return int((thumbnails - picture).square().flatten(1).sum(1).argmin())

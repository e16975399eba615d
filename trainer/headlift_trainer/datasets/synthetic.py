"""Generated heads with their anchor targets, held in memory, as training batches; `generated` reads the shards.

Legend: G geometries, M appearances, V views, N anchors, S picture side, B batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.template import Template
from headlift.model.types import FOCAL
from headlift_trainer import augment, augment_wild
from headlift_trainer.datasets.generated import load_views
from headlift_trainer.recipes.mini import Augmentation
from headlift_trainer.synthetic.prepare import target_path

MIRROR = torch.tensor([-1.0, 1.0, 1.0])


# How often each view of the generator's rig is an input: the random portraits mostly, the back never.
_INPUT_WEIGHTS = (1.0, 0.8, 0.8, 0.4, 0.4, 0.0, 0.05, 0.05, 2.0, 2.0, 2.0, 2.0, 0.3, 0.3)


@dataclass(frozen=True)
class HeadBatch:
    """B heads: what the model sees of each, and what it should answer."""

    picture: Tensor  # [B, 4, S, S] premultiplied RGB and alpha, 0..1
    viewmats: Tensor  # [B, 4, 4] the true cameras of the pictures
    means: Tensor  # [B, N, 3] m
    colors: Tensor  # [B, N, 3] 0..1
    visibility: Tensor  # [B, N] 0..1, how well the target colours are known
    target: Tensor | None = None  # [B, C, 4, S, S] further pictures of the same heads
    target_viewmats: Tensor | None = None  # [B, C, 4, 4]


class SyntheticHeads:
    """Shards of the head generator and their prepared targets.

    Args:
        shards: Folder that `headlift_trainer.synthetic.generate` wrote.
        targets: Folder that `headlift_trainer.synthetic.prepare` wrote.
        template: The template that the targets were made for.
        seeds: Geometry seeds to hold; those that are not there yet are left out.

    Raises:
        InvalidInputError: No seed has both pictures and targets, or the targets belong to another template.
    """

    def __init__(self, shards: Path, targets: Path, template: Template, seeds: Iterable[int]) -> None:
        self.template = template
        self.seeds: list[int] = []
        pictures, cameras, exact, means, colors, seen, hair, geometry = [], [], [], [], [], [], [], []
        for seed in seeds:
            path = target_path(targets, seed)
            if not path.exists():
                continue
            with np.load(path) as target:
                if str(target["template"]) != template.sha256:
                    raise InvalidInputError(f"Targets of seed {seed} belong to another template; prepare them again.")
                if "hair" not in target:
                    raise InvalidInputError(f"Targets of seed {seed} do not tell where hair is; prepare them again.")
                means.append(target["means"])
                hair.extend(target["hair"])
                for row, (color, weight) in enumerate(zip(target["colors"], target["seen"], strict=True)):
                    head = load_views(shards, seed, row)
                    pictures.append(head.rgba)
                    cameras.append(head.viewmats)
                    exact.append(head.exact)
                    colors.append(color)
                    seen.append(weight)
                    geometry.append(len(self.seeds))
            self.seeds.append(seed)
        if not pictures:
            raise InvalidInputError(f"No generated head with targets was found under {shards.name}; run synth first.")
        self.pictures = torch.from_numpy(np.stack(pictures))  # [M, V, S, S, 4] uint8
        self.viewmats = torch.from_numpy(np.stack(cameras))  # [M, V, 4, 4]
        self.exact = torch.from_numpy(np.stack(exact))  # [M, V] bool, cameras of the crop's focal length
        self.means = torch.from_numpy(np.stack(means))  # [G, N, 3] float16
        self.colors = torch.from_numpy(np.stack(colors))  # [M, N, 3] uint8
        self.visibility = torch.from_numpy(np.stack(seen))  # [M, N] uint8
        self.hair = torch.from_numpy(np.stack(hair))  # [M, Q] uint8, how far hair covers each patch
        self.geometry = torch.tensor(geometry)  # [M]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def size(self) -> int:
        """Picture side, pixels."""
        return int(self.pictures.shape[2])

    def batch(self, rows: Tensor, views: Tensor, target_views: Tensor | None = None) -> HeadBatch:
        """The heads `rows` [B] seen in `views` [B], as they are."""

        def picture(view: Tensor) -> Tensor:
            return self.pictures[rows, view].permute(0, 3, 1, 2).float() / 255

        batch = HeadBatch(
            picture(views),
            self.viewmats[rows, views],
            self.means[self.geometry[rows]].float(),
            self.colors[rows].float() / 255,
            self.visibility[rows].float() / 255,
        )
        if target_views is None:
            return batch
        targets = torch.stack([picture(view) for view in target_views.T], 1)
        return replace(batch, target=targets, target_viewmats=self.viewmats[rows[:, None], target_views])

    def sample(
        self,
        count: int,
        generator: torch.Generator,
        *,
        views: Tensor,
        targets: int = 0,
        augmentation: Augmentation = "standard",
        among: Tensor | None = None,
    ) -> HeadBatch:
        """A random batch, augmented and half of it mirrored.

        Args:
            count: B.
            generator: Every random choice comes from it.
            views: Weight of each view as an input [V].
            targets: How many further views come along; of the crop's focal length, as they are splatted with that.
            augmentation: What is done to the pictures.
            among: The rows to draw from; None is all.
        """
        rows = torch.randint(len(self) if among is None else len(among), (count,), generator=generator)
        rows = rows if among is None else among[rows]
        chosen = torch.multinomial(views, count, replacement=True, generator=generator)
        orders = [torch.randperm(len(views), generator=generator) for _ in range(count)]
        further = torch.stack([o[self.exact[row, o]][:targets] for o, row in zip(orders, rows, strict=True)])
        batch = self.batch(rows, chosen, further if targets else None)
        batch = mirrored(batch, torch.rand(count, generator=generator) < 0.5, self.template.mirror)
        return augmented(batch, generator, augmentation)


@dataclass(frozen=True)
class Corpus:
    """What a run learns from, and what its figures are made of."""

    train: SyntheticHeads
    held_out: SyntheticHeads

    @classmethod
    def of(cls, shards: Path, targets: Path, template: Template, train: list[int], held_out: list[int]) -> Corpus:
        """Read both into memory."""
        return cls(*(SyntheticHeads(shards, targets, template, seeds) for seeds in (train, held_out)))


def input_weights(views: int) -> Tensor:
    """How often each of the rig's first views is an input, [V]."""
    return torch.tensor(_INPUT_WEIGHTS[:views])


def mirrored(batch: HeadBatch, chosen: Tensor, mirror: Tensor) -> HeadBatch:
    """The batch with the heads `chosen` [B] bool replaced by their mirror images; `mirror` [N] as in Template."""
    flip = torch.diag(torch.cat([MIRROR, torch.ones(1)]))

    def pictures(value: Tensor) -> Tensor:
        pick = chosen.view(-1, *[1] * (value.dim() - 1))
        return torch.where(pick, value.flip(-1), value)

    def cameras(value: Tensor) -> Tensor:
        pick = chosen.view(-1, *[1] * (value.dim() - 1))
        return torch.where(pick, flip @ value @ flip, value)

    rows = chosen[:, None, None]
    return HeadBatch(
        pictures(batch.picture),
        cameras(batch.viewmats),
        torch.where(rows, batch.means[:, mirror] * MIRROR, batch.means),
        torch.where(rows, batch.colors[:, mirror], batch.colors),
        torch.where(chosen[:, None], batch.visibility[:, mirror], batch.visibility),
        None if batch.target is None else pictures(batch.target),
        None if batch.target_viewmats is None else cameras(batch.target_viewmats),
    )


def augmented(batch: HeadBatch, generator: torch.Generator, augmentation: Augmentation = "standard") -> HeadBatch:
    """The batch as a camera, a cropper and a matter might have delivered it."""
    if augmentation == "none":
        return batch
    count = len(batch.picture)
    shift = augment.sample_color_shift(count, generator)
    picture, viewmats = augment.apply_crop_jitter(
        _shifted(batch.picture, shift), batch.viewmats, augment.sample_crop_jitter(count, generator, FOCAL)
    )
    if augmentation == "wild":
        picture = augment_wild.simulate_capture(picture, generator)
    picture = augment.degrade_image(augment.degrade_matte(picture, generator), generator)
    target = None
    if batch.target is not None:
        target = _shifted(batch.target.flatten(0, 1), shift.repeated(batch.target.shape[1])).view_as(batch.target)
    return replace(batch, picture=picture, viewmats=viewmats, colors=shift(batch.colors), target=target)


def _shifted(rgba: Tensor, shift: augment.ColorShift) -> Tensor:
    """A colour shift of premultiplied pictures [B, 4, S, S]."""
    alpha = rgba[:, 3:]
    straight = (rgba[:, :3] / alpha.clamp_min(1e-3)).clamp(0, 1)
    return torch.cat([shift(straight.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * alpha, alpha], 1)

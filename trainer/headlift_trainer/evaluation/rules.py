"""What each hand-made rule of ``mini`` gains: held-out heads with one rule switched off, or put as simply as it can be.

A variant is a function that patches one rule for as long as a head is made. What comes out are differences to the model
as it is: with the rule, less without it. ``headlift.model.mini`` keeps the ledger, RULES.md.

Run it as ``python -m headlift_trainer.evaluation.rules FOLDER [RULE ...]``, FOLDER being held-out heads of
``headlift synth``.

Legend: V rig views, S picture side.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import headlift.weights
from headlift.model.mini import finish, hair, landmark_fit, model, outline_fit, projection
from headlift.model.mini.model import MiniHead
from headlift.model.mini.projection import ProjectedImage, ProjectedSample
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians, ImageTokens
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.evaluation.held_out import HeldOutHeads
from headlift_trainer.evaluation.synthetic import FRONT, GROUPS, PROFILE
from headlift_trainer.metrics import psnr
from headlift_trainer.synthetic.render.views import RIG_DEG
from headlift_trainer.tasks.mini import load_mini

Patch = contextlib.AbstractContextManager[Any]
Scores = dict[str, float]  # PSNR of each group of views in dB, and "iou"
INPUTS = (FRONT, PROFILE)  # every second head is also given from its profile


@dataclass(frozen=True)
class Variant:
    """A model with one rule off."""

    apply: Callable[[MiniHead], Patch]
    fits: bool = False  # it changes camera or shape, so that portraits must be encoded again


def constants(module: Any, *, fits: bool = False, **values: Any) -> Variant:
    """Other values of a module's names."""
    return Variant(lambda _: mock.patch.multiple(module, **values), fits)


def configured(*, fits: bool = False, **values: float) -> Variant:
    """Other values in the model's config, which are not checked: they may switch things off."""

    @contextlib.contextmanager
    def patch(head: MiniHead) -> Iterator[None]:
        before = {name: getattr(head.config, name) for name in values}
        for name, value in values.items():
            object.__setattr__(head.config, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                object.__setattr__(head.config, name, value)

    return Variant(patch, fits)


def buffer(name: str, made: Callable[[MiniHead], Tensor], *, fits: bool = False) -> Variant:
    """Another value of a buffer."""

    @contextlib.contextmanager
    def patch(head: MiniHead) -> Iterator[None]:
        before = getattr(head, name)
        setattr(head, name, made(head))
        try:
            yield
        finally:
            setattr(head, name, before)

    return Variant(patch, fits)


OFF = (-9.0, -8.0)  # a ramp that is 1 everywhere


def _own_only(image: ProjectedImage, *args: Tensor) -> tuple[ProjectedSample, ProjectedSample]:
    own = image.sample(*args)
    return own, replace(own, visible=torch.zeros_like(own.visible))


def _nothing_beneath(head: Gaussians, neighbors: Tensor, normals: Tensor, face: Tensor, overlap: float) -> Gaussians:
    return finish.fill_holes(head, neighbors, normals, torch.zeros_like(face), overlap)


VARIANTS: dict[str, Variant] = {
    "landmark outliers": constants(landmark_fit, fits=True, _OUTLIER=1e9),
    "outline fit and deformation": configured(fits=True, outline_steps=0),
    "outline bound": constants(outline_fit, fits=True, _MAX_STD=1e9),
    "shift prior": constants(outline_fit, fits=True, _SHIFT_STD=1e9),
    "shift disc scale": constants(outline_fit, fits=True, _SHIFT_DISC_SCALE=1.0),
    "face stays": buffer("deform_weight", lambda head: torch.ones_like(head.deform_weight), fits=True),
    "facing ramp": constants(projection, _FACING=OFF),
    "depth test": constants(projection, _VISIBLE_M=90.0, _HIDDEN_M=91.0),
    "slopes": constants(projection, _SLOPE_REACH_M=0.0),
    "groups and regions": buffer("compatibility", lambda head: torch.ones_like(head.compatibility)),
    "mirror image": constants(ProjectedImage, sample_mirrored=_own_only),
    "color code": configured(color_ridge=1e9),
    "color code by area": constants(model, _MAX_AREA=1e-3),
    "largest area": constants(model, _MAX_AREA=1e9),
    "hidden hair": constants(hair, _TRUST=0.0),
    "hidden hair half trusted": constants(hair, _TRUST=1.0),
    "hair by height": constants(hair, _EVIDENCE=1e9),
    "share of hair": constants(hair, _SHARE_PRIOR=1e-9),
    "strands": configured(hair_grain=0.0),
    "no holes": configured(min_disc_overlap=0.0),
    "beneath": constants(model, fill_holes=_nothing_beneath),
    "nearest": constants(finish, _NEAREST=8),
    "one tone": constants(finish, _COLOR_RMS=-1.0),
}


@torch.no_grad()
def scores_of(cloud: Gaussians, viewmats: Tensor, truth: Tensor, view: int) -> Scores:
    """PSNR of each group of rig views, and mean IoU of the masks.

    Args:
        cloud: A head.
        viewmats: [V, 4, 4]. truth: [V, 4, S, S] premultiplied.
        view: Which of them the model was given.
    """
    views = rasterize(cloud, crop_cameras(viewmats, truth.shape[-1]))
    by_view, groups = psnr(views.rgb, truth[:, :3]), GROUPS[view]
    ours, theirs = views.alpha[:, 0] > 0.5, truth[:, 3] > 0.5
    iou = (ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2)).clamp_min(1)
    found = {name: float(by_view[[g == name for g in groups]].mean()) for name in dict.fromkeys(groups)}
    return {"input": found["input"], "novel": found["novel"], "extreme": found["extreme"], "iou": float(iou.mean())}


class Ledger:
    """Measures variants on held-out heads that are kept in memory, each with the tokens of the model as it is."""

    def __init__(self, head: MiniHead, heads: HeldOutHeads) -> None:
        self.head, views = head, len(RIG_DEG)
        self._asked: list[tuple[Tensor, Tensor, int]] = []  # view matrices, pictures, input view
        for i, held_out in enumerate(heads):
            for view in INPUTS[: 1 + i % 2]:
                self._asked.append((held_out.viewmats[:views], held_out.pictures[:views], view))
        with torch.no_grad():
            self._seen = [head.observe(p[view][None, :3], p[view][None, 3:]) for _, p, view in self._asked]
        self._tokens = self._fitted()
        self.base = self._measured(self._tokens)

    def gain(self, variant: Variant) -> Scores:
        """Mean scores with the rule, less those without it."""
        with variant.apply(self.head):
            tokens = self._fitted() if variant.fits else self._tokens
            without = self._measured(tokens)
        return {name: value - without[name] for name, value in self.base.items()}

    @torch.no_grad()
    def _fitted(self) -> list[ImageTokens]:
        return [self.head.fit_camera_and_shape(tokens, features, fixed_camera=False) for tokens, features in self._seen]

    @torch.no_grad()
    def _measured(self, tokens: Sequence[ImageTokens]) -> Scores:
        rows = [
            scores_of(self.head.decode(token)[0], viewmats, pictures, view)
            for token, (viewmats, pictures, view) in zip(tokens, self._asked, strict=True)
        ]
        return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def described(scores: Mapping[str, float]) -> str:
    """One line."""
    return "  ".join(
        f"{name} {value:+.4f}" if name == "iou" else f"{name} {value:+.3f}" for name, value in scores.items()
    )


def main() -> None:
    """Print the gain of rules."""
    parser = argparse.ArgumentParser(description="What each rule of mini gains on held-out heads.")
    parser.add_argument("folder", type=Path, help="held-out heads, as `headlift synth` writes them")
    parser.add_argument("rule", nargs="*", help=f"default: all of {', '.join(VARIANTS)}")
    parser.add_argument("--limit", type=int, help="at most so many heads, evenly over the sources")
    args = parser.parse_args()
    if unknown := sorted(set(args.rule) - set(VARIANTS)):
        parser.error(f"there is no rule {unknown[0]!r}; choose among {', '.join(VARIANTS)}")
    mini = load_mini(Path(headlift.weights.__file__).with_name("mini.safetensors"))
    ledger = Ledger(mini, HeldOutHeads(args.folder, limit=args.limit))
    print(f"{'as it is':28} {described(ledger.base)}", flush=True)
    for name in args.rule or VARIANTS:
        print(f"{name:28} {described(ledger.gain(VARIANTS[name]))}", flush=True)


if __name__ == "__main__":
    main()

"""Hair from its outline: camera and head code moved until the head fills the matte.

Landmarks hold the face and say nothing about the hair, whose volume no small network guesses well; but the matte shows
where it ends. A few gradient steps on what landmarks leave open, through the splatting of a thinned head, make the two
outlines meet. The code is of whole heads, so what the outline says of the hair also reaches its hidden side, and an
outline that no head fills says that the camera stands elsewhere. Analysis by synthesis, as with morphable models
(Blanz and Vetter, SIGGRAPH 1999); ours.

Legend: B batch, n thinned anchors, K geometry code numbers, S working side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.cameras import cameras_from_pose
from headlift.model.landmark_fit import HeadFit, moved_camera, pose_of
from headlift.model.layers import full_precision
from headlift.model.passes import count_pass
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians

THINNING = 4  # every how many-th anchor takes part
SIDE = 128  # pixels; with fewer, what the rasteriser adds to each disc counts as hair
_RATE = 0.2  # of a step, in standard errors
_PIXELS_AS_ONE = 30.0  # neighbouring pixels err together: this many count as one observation
NOISE = 0.25  # standard error of a pixel's opacity
_FURTHEST = 3.0  # how many standard errors the fit may move
OPACITY = 0.9


@dataclass(frozen=True)
class ThinnedHead:
    """Some of a head's Gaussians, and how they follow the geometry code: mean + code @ basis."""

    mean: Tensor  # [n, 3] m
    basis: Tensor  # [K, n, 3] m
    quats: Tensor  # [n, 4] wxyz
    scales: Tensor  # [n, 3] m

    def means(self, code: Tensor) -> Tensor:
        """Where a code [K] puts them, [n, 3] m."""
        return self.mean + (code @ self.basis.flatten(1)).reshape(self.mean.shape)


@torch.no_grad()
def fit_silhouette(
    alpha: Tensor,  # [B, 1, S', S'] 0..1, the matte
    head: ThinnedHead,
    fit: HeadFit,  # to landmarks
    *,
    steps: int,
    known: Tensor | None = None,  # [B, 1, S', S'], 1 where the portrait shows its photograph, 0 past its borders
    fixed_camera: bool = False,
) -> tuple[Tensor, Tensor]:
    """The pose [B, 9] and the geometry code [B, K] that also explain the matte.

    They move by at most three standard errors along each axis of what the landmarks leave open.
    """
    count_pass("outline_fit")
    with full_precision(fit.code.device), torch.inference_mode(False), torch.enable_grad():
        target, judged = outlines(alpha, known)
        # Clones: what inference mode made cannot take part in gradients.
        head = ThinnedHead(head.mean.clone(), head.basis.clone(), head.quats.clone(), head.scales.clone())
        pose, code, spread = fit.pose.float().clone(), fit.code.float().clone(), _spread(fit.precision, fixed_camera)
        rows = [
            _fit_one(target[i], judged[i], head, pose[i : i + 1], code[i], spread[i], steps) for i in range(len(code))
        ]
    poses, codes = zip(*rows, strict=True)
    return (fit.pose if fixed_camera else torch.cat(poses)), torch.stack(codes)


def _spread(precision: Tensor, fixed_camera: bool) -> Tensor:
    """Matrices that make independent numbers of variance 1 into changes with these precisions [B, 6 + K, 6 + K]."""
    first = 6 if fixed_camera else 0
    spread = torch.zeros_like(precision)
    spread[:, first:, first:] = torch.linalg.inv(torch.linalg.cholesky(precision[:, first:, first:])).mT
    return spread


def _fit_one(
    target: Tensor, judged: Tensor, head: ThinnedHead, pose: Tensor, code: Tensor, spread: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """One pose [1, 9] and one code [K]: Adam, in standard errors of the fit to landmarks."""
    camera = cameras_from_pose(pose, SIDE).detach()
    opacities, colors = torch.full_like(head.mean[:, 0], OPACITY), torch.ones_like(head.mean)
    moved = torch.zeros_like(spread[0], requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=_RATE, betas=(0.8, 0.95))
    rotation, translation = camera.viewmats[:, :3, :3], camera.viewmats[:, :3, 3]

    def now() -> tuple[Tensor, Tensor, Tensor]:
        change = spread @ moved
        turned, there = moved_camera(rotation, translation, change[None, :3], change[None, 3:6])
        return turned, there, code + change[6:]

    for _ in range(steps):
        turned, there, shape = now()
        # The head moves and the camera stays: to the outline it is the same.
        means = (head.means(shape) @ turned[0].mT + there - translation) @ rotation[0]
        drawn = rasterize(Gaussians(means, head.quats, head.scales, opacities, colors), camera).alpha[0]
        pixels = ((drawn - target) * judged).square().sum() / (_PIXELS_AS_ONE * NOISE**2)
        (moved.grad,) = torch.autograd.grad(pixels + moved.square().sum(), moved)
        optimizer.step()
        with torch.no_grad():
            moved.clamp_(-_FURTHEST, _FURTHEST)
    with torch.no_grad():
        turned, there, shape = now()
        return pose_of(turned, there), shape


def outlines(alpha: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mattes at the working side, [B, 1, S, S], and 1 where they are to be believed.

    That is where the portrait shows its photograph, and down to the last row that shows anybody: below it the
    photograph may have ended, not the person, and not every matte comes with its photograph's borders.
    """
    target = F.interpolate(alpha.float(), (SIDE, SIDE), mode="area").clone()
    shows = (target.amax(-1, keepdim=True) > 0.5).float()
    judged = shows.flip(2).cummax(2).values.flip(2).expand_as(target)
    if known is None:
        return target, judged
    return target, judged * (F.interpolate(known.float(), (SIDE, SIDE), mode="area") > 0.99)

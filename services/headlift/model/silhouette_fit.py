"""Hair from its outline: the head code moved until the head fills the matte.

Landmarks hold the face and say nothing about the hair, whose volume no small network guesses well; but the matte shows
where it ends. A few gradient steps on the geometry code, through the splatting of a thinned head, make the two outlines
meet. The code is of whole heads, so what the outline says of the hair also reaches its hidden side. Analysis by
synthesis, as with morphable models (Blanz and Vetter, SIGGRAPH 1999); ours.

Legend: B batch, n thinned anchors, L landmarks, K geometry code numbers, S working side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.cameras import cameras_from_pose
from headlift.model.landmark_fit import LandmarkShape
from headlift.model.layers import full_precision
from headlift.model.splat import rasterize
from headlift.model.types import FOCAL, Gaussians

THINNING = 4  # every how many-th anchor takes part
SIDE = 128  # pixels; with fewer, what the rasteriser adds to each disc counts as hair
_RATE = 0.2  # of a step, in standard errors of the code
_PIXELS_AS_ONE = 360.0  # neighbouring pixels err together: this many count as one observation
_NOISE = 0.25  # standard error of a pixel's opacity
PIXEL_VARIANCE = _PIXELS_AS_ONE * _NOISE**2
_HOLD = 0.004  # share of the picture's side by which landmarks may leave their place
_LEAST_DOUBT, _FURTHEST = 0.05, 3.0  # of a code number: its least standard error; how many of them it may move
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
    landmarks: LandmarkShape,
    pose: Tensor,  # [B, 9], kept
    code: Tensor,  # [B, K] first guess
    doubt: Tensor,  # [K] standard error of the guess
    *,
    steps: int,
    known: Tensor | None = None,  # [B, 1, S', S'], 1 where the portrait shows its photograph, 0 past its borders
) -> Tensor:
    """The geometry code [B, K] that also explains the matte.

    Code numbers move by at most three standard errors, and landmarks hardly move in the picture.
    """
    with full_precision(code.device), torch.inference_mode(False), torch.enable_grad():
        target, judged = outlines(alpha, known)
        scale = doubt.float().clamp_min(_LEAST_DOUBT).clone()
        rows = [
            _fit_one(target[i], judged[i], head, landmarks, pose[i : i + 1].float().clone(), guess, scale, steps)
            for i, guess in enumerate(code.float().clone())
        ]
    return torch.stack(rows)


def _fit_one(
    target: Tensor, judged: Tensor, head: ThinnedHead, landmarks: LandmarkShape, pose: Tensor, code: Tensor,
    doubt: Tensor, steps: int,
) -> Tensor:  # fmt: skip
    """One code [K]: Adam, in units of its standard errors."""
    camera = cameras_from_pose(pose, SIDE).detach()
    opacities, colors = torch.full_like(head.mean[:, 0], OPACITY), torch.ones_like(head.mean)
    held = _places(camera.viewmats[0], landmarks, code)
    moved = torch.zeros_like(code, requires_grad=True)
    optimizer = torch.optim.Adam([moved], lr=_RATE, betas=(0.8, 0.95))
    for _ in range(steps):
        now = code + moved * doubt
        drawn = rasterize(Gaussians(head.means(now), head.quats, head.scales, opacities, colors), camera).alpha[0]
        pixels = ((drawn - target) * judged).square().sum() / PIXEL_VARIANCE
        off = (_places(camera.viewmats[0], landmarks, now) - held).square().sum() / _HOLD**2 / len(held)
        (moved.grad,) = torch.autograd.grad(pixels + off + moved.square().sum(), moved)
        optimizer.step()
        with torch.no_grad():
            moved.clamp_(-_FURTHEST, _FURTHEST)
    return (code + moved * doubt).detach()


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


def _places(matrix: Tensor, landmarks: LandmarkShape, code: Tensor) -> Tensor:
    """Where the landmarks of a code [K] lie in the picture, [L, 2] in 0..1."""
    points = landmarks.mean + torch.einsum("k,kld->ld", code, landmarks.basis)
    x, y, z = (points @ matrix[:3, :3].mT + matrix[:3, 3]).unbind(-1)
    return 0.5 + FOCAL * torch.stack([x, y], -1) / z.clamp_min(0.05)[:, None]

"""Hair and clothes drawn to their outline: what is left between head and matte once the head code has done its best.

A code of whole heads knows no bun, no parting that stands up, no collar. A smooth field of shifts in the picture's
plane, on a coarse grid, moves hair, neck and clothes until they fill the matte, and leaves the face to its landmarks.
What lies behind a place of the picture moves with what lies before it, so that the outline also holds from behind;
and what the outline gains on both sides of the head, the head gains in depth: an afro is round.
Free-form deformation (Sederberg and Parry, SIGGRAPH 1986) by analysis by synthesis; ours.

Legend: B batch, N anchors, n thinned anchors, G cells a side, S working side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.cameras import cameras_from_pose
from headlift.model.layers import full_precision
from headlift.model.passes import count_pass
from headlift.model.silhouette_fit import NOISE, OPACITY, SIDE, ThinnedHead, outlines
from headlift.model.splat import rasterize
from headlift.model.template import Region
from headlift.model.types import FOCAL, Gaussians

_RATE = 0.01  # of a step, share of the picture's side
_PIXELS_AS_ONE = 360.0  # neighbouring pixels err together: this many count as one observation
_SLOPE = 0.06  # standard difference of neighbouring cells' shifts, share of the picture's side
_FURTHEST = 0.1  # standard shift, likewise
_SCALES = 0.85  # of the thinned head's discs: its outline lies where the decoded head's does
_HELD, _FREE = 0.01, 0.06  # m from the face: up to where anchors are held, and from where they are free
_FACE_SAMPLES = 600  # anchors that stand for the face in distances


def freedom(anchors: Tensor, regions: Tensor) -> Tensor:
    """How far each anchor [N, 3] of these template regions [N] may leave its place, [N] in 0..1: 0 in the face."""
    if anchors.is_meta:  # sizes are counted there, nothing is computed
        return torch.empty_like(anchors[:, 0])
    face = anchors[regions <= Region.MOUTH]
    if not len(face):
        return torch.ones_like(anchors[:, 0])
    face = face[:: max(1, len(face) // _FACE_SAMPLES)]
    off = torch.cat([torch.cdist(part, face).amin(1) for part in torch.split(anchors, 4096)])
    x = ((off - _HELD) / (_FREE - _HELD)).clamp(0, 1)
    return x * x * (3 - 2 * x)


def middle_of(anchors: Tensor, hairy: Tensor) -> Tensor:
    """The middle [3] of what wears hair: of anchors [N, 3] m weighed by [N, 1]; the origin where nothing does."""
    return (anchors * hairy).sum(0) / hairy.sum().clamp_min(1)


def warped(
    means: Tensor,  # [B, N, 3] m
    warp: Tensor,  # [B, 2, G, G] shifts in x and y at places of the picture, share of its side
    free: Tensor,  # [N]
    viewmats: Tensor,  # [B, 4, 4] of cameras of the portrait crop
    middle: Tensor | None = None,  # [3] m, which lets heads also grow in depth
) -> Tensor:
    """The means [B, N, 3] moved in the picture's plane and, about ``middle``, at right angles to it."""
    rotation, translation = viewmats[:, :3, :3], viewmats[:, None, :3, 3]
    x, y, z = (means @ rotation.mT + translation).unbind(-1)
    z = z.clamp_min(0.05)
    moves = [*_shifts(warp, x, y, z).unbind(-1), torch.zeros_like(z)]
    if middle is not None:
        moves[2] = _growth(warp, x, y, z, (middle @ rotation.mT + translation[:, 0]).unbind(-1))
    return means + (torch.stack(moves, -1) * free[:, None]) @ rotation


def _shifts(warp: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Where the camera sees x, y, z [B, N] m: the shifts [B, N, 2] m."""
    places = 2 * FOCAL * torch.stack([x, y], -1) / z[..., None]  # -1..1 across the picture
    shifts = F.grid_sample(warp, places[:, None], mode="bilinear", padding_mode="border", align_corners=True)
    return shifts[:, :, 0].mT * z[..., None] / FOCAL


def _growth(warp: Tensor, x: Tensor, y: Tensor, z: Tensor, middle: tuple[Tensor, ...]) -> Tensor:
    """How far places x, y, z [B, N] m move along the optical axis, [B, N] m.

    Turned about the picture's upright axis to either side of the middle, a place moves outwards there; the lesser of
    both counts, and where one side does not grow (a ponytail on the other, a head seen from its side) there is none.
    """
    x0, z0 = middle[0][:, None], middle[2][:, None]
    aside = torch.stack([x - x0, z - z0], -1).norm(dim=-1).clamp_min(1e-4)
    right = _shifts(warp, x0 + aside, y, z0)[..., 0]
    left = -_shifts(warp, x0 - aside, y, z0)[..., 0]
    growth: Tensor = torch.minimum(left, right).clamp_min(0) * (z - z0) / aside
    return growth


@torch.no_grad()
def fit_warp(
    alpha: Tensor,  # [B, 1, S', S'] 0..1, the matte
    head: ThinnedHead,
    free: Tensor,  # [n]
    pose: Tensor,  # [B, 9]
    code: Tensor,  # [B, K] of the geometry
    *,
    cells: int,
    steps: int,
    known: Tensor | None = None,  # [B, 1, S', S'], 1 where the portrait shows its photograph, 0 past its borders
) -> Tensor:
    """The shifts [B, 2, G, G], for ``warped``, with which heads fill their mattes."""
    count_pass("deformation_fit")
    with full_precision(code.device), torch.inference_mode(False), torch.enable_grad():
        target, judged = outlines(alpha, known)
        # Clones: what inference mode made cannot take part in gradients.
        thin = Gaussians(
            head.mean.clone(), head.quats.clone(), _SCALES * head.scales, torch.full_like(free, OPACITY),
            torch.ones_like(head.mean),
        )  # fmt: skip
        rows = []
        for i in range(len(code)):
            drawn = replace(thin, means=head.means(code[i].float()).clone())
            where = pose[i : i + 1].float().clone()
            rows.append(_fit_one(target[i], judged[i], drawn, free.clone(), where, cells, steps))
    return torch.stack(rows)


def _fit_one(
    target: Tensor, judged: Tensor, head: Gaussians, free: Tensor, pose: Tensor, cells: int, steps: int
) -> Tensor:
    """One grid [2, G, G]: Adam."""
    camera = cameras_from_pose(pose, SIDE).detach()
    warp = free.new_zeros(1, 2, cells, cells).requires_grad_(True)
    optimizer = torch.optim.Adam([warp], lr=_RATE, betas=(0.8, 0.95))
    for _ in range(steps):
        moved = warped(head.means[None], warp, free, camera.viewmats)[0]
        drawn = rasterize(replace(head, means=moved), camera).alpha[0]
        pixels = ((drawn - target) * judged).square().sum() / (_PIXELS_AS_ONE * NOISE**2)
        steep = (warp.diff(dim=-1).square().sum() + warp.diff(dim=-2).square().sum()) / (2 * _SLOPE) ** 2
        far = warp.square().sum() / (2 * _FURTHEST) ** 2
        (warp.grad,) = torch.autograd.grad(pixels + steep + far, warp)
        optimizer.step()
    return warp.detach()[0]

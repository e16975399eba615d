"""Hair and clothes drawn to their outline: what is left between head and matte once the head code has done its best.

A code of whole heads knows no bun, no parting that stands up, no collar. A smooth field of shifts in the picture's
plane, on a coarse grid, moves hair, neck and clothes until they fill the matte, and leaves the face to its landmarks.
What lies behind a place of the picture moves with what lies before it, so that the outline also holds from behind.
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
from headlift.model.silhouette_fit import OPACITY, PIXEL_VARIANCE, SIDE, ThinnedHead, inside
from headlift.model.splat import rasterize
from headlift.model.template import Region
from headlift.model.types import FOCAL, Gaussians

_RATE = 0.01  # of a step, share of the picture's side
_SLOPE = 0.06  # standard difference of neighbouring cells' shifts, share of the picture's side
_FURTHEST = 0.1  # standard shift, likewise
_SCALES = 0.8  # of the thinned head's discs: its outline lies where the decoded head's does
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


def warped(
    means: Tensor,  # [B, N, 3] m
    warp: Tensor,  # [B, 2, G, G] shifts in x and y at places of the picture, share of its side
    free: Tensor,  # [N]
    viewmats: Tensor,  # [B, 4, 4] of cameras of the portrait crop
) -> Tensor:
    """The means [B, N, 3] moved in the picture's plane."""
    rotation, translation = viewmats[:, :3, :3], viewmats[:, None, :3, 3]
    x, y, z = (means @ rotation.mT + translation).unbind(-1)
    z = z.clamp_min(0.05)[..., None]
    places = 2 * FOCAL * torch.stack([x, y], -1) / z  # -1..1 across the picture
    shift = F.grid_sample(warp, places[:, None], mode="bilinear", padding_mode="border", align_corners=True)
    flat = shift[:, :, 0].mT * z / FOCAL * free[:, None]  # [B, N, 2] m
    return means + F.pad(flat, (0, 1)) @ rotation


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
) -> Tensor:
    """The shifts [B, 2, G, G], for ``warped``, with which heads fill their mattes."""
    with full_precision(code.device), torch.inference_mode(False), torch.enable_grad():
        target = F.interpolate(alpha.float(), (SIDE, SIDE), mode="area").clone()
        # Clones: what inference mode made cannot take part in gradients.
        thin = Gaussians(
            head.mean.clone(), head.quats.clone(), _SCALES * head.scales, torch.full_like(free, OPACITY),
            torch.ones_like(head.mean),
        )  # fmt: skip
        rows = []
        for i in range(len(code)):
            drawn = replace(thin, means=head.means(code[i].float()).clone())
            rows.append(_fit_one(target[i], drawn, free.clone(), pose[i : i + 1].float().clone(), cells, steps))
    return torch.stack(rows)


def _fit_one(target: Tensor, head: Gaussians, free: Tensor, pose: Tensor, cells: int, steps: int) -> Tensor:
    """One grid [2, G, G]: Adam."""
    camera = cameras_from_pose(pose, SIDE).detach()
    judged = inside(target)
    warp = free.new_zeros(1, 2, cells, cells).requires_grad_(True)
    optimizer = torch.optim.Adam([warp], lr=_RATE, betas=(0.8, 0.95))
    for _ in range(steps):
        moved = warped(head.means[None], warp, free, camera.viewmats)[0]
        drawn = rasterize(replace(head, means=moved), camera).alpha[0]
        pixels = ((drawn - target) * judged).square().sum() / PIXEL_VARIANCE
        steep = (warp.diff(dim=-1).square().sum() + warp.diff(dim=-2).square().sum()) / (2 * _SLOPE) ** 2
        far = warp.square().sum() / (2 * _FURTHEST) ** 2
        (warp.grad,) = torch.autograd.grad(pixels + steep + far, warp)
        optimizer.step()
    return warp.detach()[0]

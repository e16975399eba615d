"""Camera, head code and a deformation from the matte, by rendering a subsampled head (analysis by synthesis).

Landmarks hold the face and say nothing about the hair, whose volume no small network guesses well; but the matte shows
where it ends. A few gradient steps on what landmarks leave open make the two outlines meet (``fit_outline``; compare
Blanz and Vetter, SIGGRAPH 1999). The code is of whole heads, so what the outline says of the hair also reaches its
hidden side, and an outline that no head fills says that the camera stands elsewhere.

A code knows no bun, no parting that stands up, no collar. So a smooth field of shifts in the picture's plane, on a
coarse grid, then moves hair, neck and clothes until they fill the matte, and leaves the face to its landmarks
(``fit_deformation``; Sederberg and Parry, SIGGRAPH 1986). What lies behind a place of the picture moves with what lies
before it, so that the outline also holds from behind.

Legend: B batch, N anchors, n subsampled anchors, K geometry code numbers, G cells a side, S working side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.adam import Adam
from headlift.model.cameras import NEAR_M, cameras_from_pose
from headlift.model.layers import full_precision
from headlift.model.mini.landmark_fit import HeadFit, moved_camera, pose_of
from headlift.model.passes import count_pass
from headlift.model.splat import rasterize
from headlift.model.template import Region
from headlift.model.types import FOCAL, Cameras, Gaussians

STRIDE = 4  # every how many-th anchor takes part
SIDE = 128  # pixels; with fewer, what the rasteriser adds to each disc counts as hair
_OPACITY = 0.9
_ALPHA_STD = 0.25  # standard error of a pixel's opacity
_AGREES = 0.001  # pixels whose opacities differ by less say nothing: inside the head all of them
_BETAS = (0.8, 0.95)  # of Adam: a few dozen steps
_RATE = 0.2  # of a step of camera and code, in standard errors
_MAX_STD = 3.0  # how many standard errors camera and code may move
_PIXELS_AS_ONE = 30.0  # neighbouring pixels err together: this many count as one observation of the code ...
_SHIFT_PIXELS_AS_ONE = 360.0  # ... and of the shifts, which are freer
_SHIFT_RATE = 0.01  # of a step, share of the picture's side
_SHIFT_SLOPE_STD = 0.06  # standard difference of neighbouring cells' shifts, share of the picture's side
_SHIFT_STD = 0.1  # standard shift, likewise
_SHIFT_DISC_SCALE = 0.85  # of the subsampled head's discs: its outline lies where the decoded head's does
_FACE_M, _FREE_M = 0.01, 0.06  # from the face: up to where anchors are held, and from where they are free
_FACE_SAMPLES = 600  # anchors that stand for the face in distances


@dataclass(frozen=True)
class SubsampledHead:
    """Some of a head's Gaussians, and how they follow the geometry code: mean + code @ basis."""

    mean: Tensor  # [n, 3] m
    basis: Tensor  # [K, n, 3] m
    quats: Tensor  # [n, 4] wxyz
    scales: Tensor  # [n, 3] m

    def means(self, code: Tensor) -> Tensor:
        """Where a code [K] puts them, [n, 3] m."""
        return self.mean + (code @ self.basis.flatten(1)).reshape(self.mean.shape)

    def gaussians(self, disc_scale: float = 1.0) -> Gaussians:
        """White discs at the mean."""
        opacities, colors = torch.full_like(self.mean[:, 0], _OPACITY), torch.ones_like(self.mean)
        return Gaussians(self.mean, self.quats, disc_scale * self.scales, opacities, colors)

    def clone(self) -> SubsampledHead:
        """A copy that may take part in gradients, as what inference mode made may not."""
        return SubsampledHead(*(t.clone() for t in (self.mean, self.basis, self.quats, self.scales)))


@torch.no_grad()
def fit_outline(
    alpha: Tensor,  # [B, 1, S', S'] 0..1, the matte
    head: SubsampledHead,
    fit: HeadFit,  # to landmarks
    *,
    steps: int,
    source_mask: Tensor | None = None,  # [B, 1, S', S'], 1 where the portrait shows its photograph
    fixed_camera: bool = False,
) -> tuple[Tensor, Tensor]:
    """The pose [B, 9] and the geometry code [B, K] that also explain the matte.

    They move by at most three standard errors along each axis of what the landmarks leave open.
    """
    count_pass("outline_fit")
    with full_precision(fit.code.device), torch.inference_mode(False), torch.enable_grad():
        target, mask = outlines(alpha, source_mask)
        head, pose, code = head.clone(), fit.pose.float().clone(), fit.code.float().clone()
        spread = _spread(fit.precision, fixed_camera)
        rows = [
            _fit_outline_of(target[i], mask[i], head, pose[i : i + 1], code[i], spread[i], steps)
            for i in range(len(code))
        ]
    poses, codes = zip(*rows, strict=True)
    return (fit.pose if fixed_camera else torch.cat(poses)), torch.stack(codes)


def _fit_outline_of(
    target: Tensor, mask: Tensor, head: SubsampledHead, pose: Tensor, code: Tensor, spread: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """One pose [1, 9] and one code [K], in standard errors of the fit to landmarks."""
    camera = cameras_from_pose(pose, SIDE).detach()
    discs = head.gaussians()
    rotation, translation = camera.viewmats[:, :3, :3], camera.viewmats[:, :3, 3]

    def at(moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        change = spread @ moved
        turned, there = moved_camera(rotation, translation, change[None, :3], change[None, 3:6])
        return turned, there, code + change[6:]

    def loss(moved: Tensor) -> Tensor:
        turned, there, shape = at(moved)
        # The head moves and the camera stays: to the outline it is the same.
        means = (head.means(shape) @ turned[0].mT + there - translation) @ rotation[0]
        return _error(replace(discs, means=means), camera, target, mask, _PIXELS_AS_ONE) + moved.square().sum()

    moved = _minimised(torch.zeros_like(spread[0]), loss, steps, rate=_RATE, bound=_MAX_STD)
    with torch.no_grad():
        turned, there, shape = at(moved)
        return pose_of(turned, there), shape


def _spread(precision: Tensor, fixed_camera: bool) -> Tensor:
    """Matrices that make independent numbers of variance 1 into changes with these precisions [B, 6 + K, 6 + K]."""
    first = 6 if fixed_camera else 0
    spread = torch.zeros_like(precision)
    spread[:, first:, first:] = torch.linalg.inv(torch.linalg.cholesky(precision[:, first:, first:])).mT
    return spread


@torch.no_grad()
def fit_deformation(
    alpha: Tensor,  # [B, 1, S', S'] 0..1, the matte
    head: SubsampledHead,
    weight: Tensor,  # [n] deform_weight
    pose: Tensor,  # [B, 9]
    code: Tensor,  # [B, K] of the geometry
    *,
    cells: int,
    steps: int,
    source_mask: Tensor | None = None,  # [B, 1, S', S'], 1 where the portrait shows its photograph
) -> Tensor:
    """The shifts [B, 2, G, G], for ``apply_deformation``, with which heads fill their mattes."""
    count_pass("deformation_fit")
    with full_precision(code.device), torch.inference_mode(False), torch.enable_grad():
        target, mask = outlines(alpha, source_mask)
        head, weight = head.clone(), weight.clone()
        discs = head.gaussians(_SHIFT_DISC_SCALE)
        rows = []
        for i in range(len(code)):
            means = head.means(code[i].float()).clone()
            camera = cameras_from_pose(pose[i : i + 1].float().clone(), SIDE).detach()
            rows.append(
                _fit_deformation_of(target[i], mask[i], replace(discs, means=means), weight, camera, cells, steps)
            )
    return torch.stack(rows)


def _fit_deformation_of(
    target: Tensor, mask: Tensor, discs: Gaussians, weight: Tensor, camera: Cameras, cells: int, steps: int
) -> Tensor:
    """One grid [2, G, G]."""

    def loss(shifts: Tensor) -> Tensor:
        moved = apply_deformation(discs.means[None], shifts, weight, camera.viewmats)[0]
        error = _error(replace(discs, means=moved), camera, target, mask, _SHIFT_PIXELS_AS_ONE)
        slopes = shifts.diff(dim=-1).square().sum() + shifts.diff(dim=-2).square().sum()
        return error + slopes / (2 * _SHIFT_SLOPE_STD) ** 2 + shifts.square().sum() / (2 * _SHIFT_STD) ** 2

    return _minimised(weight.new_zeros(1, 2, cells, cells), loss, steps, rate=_SHIFT_RATE)[0]


def _error(head: Gaussians, camera: Cameras, target: Tensor, mask: Tensor, pixels_as_one: float) -> Tensor:
    """Squared error of the outline in standard errors, as many as there are independent observations."""
    off = (rasterize(head, camera).alpha[0] - target) * mask
    off = F.hardshrink(off, _AGREES)  # the rasteriser's gradient skips blocks of pixels that ask for nothing
    return off.square().sum() / (pixels_as_one * _ALPHA_STD**2)


def _minimised(
    start: Tensor, loss: Callable[[Tensor], Tensor], steps: int, *, rate: float, bound: float | None = None
) -> Tensor:
    """``start`` after steps of Adam down ``loss``, each number within ``bound`` of zero."""
    parameter = start.requires_grad_(True)
    optimizer = Adam([parameter], [rate], betas=_BETAS, eps=1e-8)
    for _ in range(steps):
        (parameter.grad,) = torch.autograd.grad(loss(parameter), parameter)
        optimizer.step()
        if bound is not None:
            with torch.no_grad():
                parameter.clamp_(-bound, bound)
    return parameter.detach()


def outlines(alpha: Tensor, source_mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mattes at the working side, [B, 1, S, S], and 1 where they are to be believed.

    That is where the portrait shows its photograph, and down to the last row that shows anybody: below it the
    photograph may have ended, not the person, and not every matte comes with its photograph's borders.
    """
    target = F.interpolate(alpha.float(), (SIDE, SIDE), mode="area").clone()
    occupied = (target.amax(-1, keepdim=True) > 0.5).float()
    mask = occupied.flip(2).cummax(2).values.flip(2).expand_as(target)
    if source_mask is None:
        return target, mask
    return target, mask * (F.interpolate(source_mask.float(), (SIDE, SIDE), mode="area") > 0.99)


def deform_weight(anchors: Tensor, regions: Tensor) -> Tensor:
    """How far each anchor [N, 3] of these template regions [N] may leave its place, [N] in 0..1: 0 in the face."""
    if anchors.is_meta:  # sizes are counted there, nothing is computed
        return torch.empty_like(anchors[:, 0])
    face = anchors[regions <= Region.MOUTH]
    if not len(face):
        return torch.ones_like(anchors[:, 0])
    face = face[:: max(1, len(face) // _FACE_SAMPLES)]
    distance = torch.cat([torch.cdist(part, face).amin(1) for part in torch.split(anchors, 4096)])
    x = ((distance - _FACE_M) / (_FREE_M - _FACE_M)).clamp(0, 1)
    return x * x * (3 - 2 * x)


def apply_deformation(
    means: Tensor,  # [B, N, 3] m
    shifts: Tensor,  # [B, 2, G, G] in x and y at places of the picture, share of its side
    weight: Tensor,  # [N] deform_weight
    viewmats: Tensor,  # [B, 4, 4] of cameras of the portrait crop
) -> Tensor:
    """The means [B, N, 3] moved in the picture's plane."""
    rotation, translation = viewmats[:, :3, :3], viewmats[:, None, :3, 3]
    x, y, z = (means @ rotation.mT + translation).unbind(-1)
    z = z.clamp_min(NEAR_M)
    places = 2 * FOCAL * torch.stack([x, y], -1) / z[..., None]  # -1..1 across the picture
    found = F.grid_sample(shifts, places[:, None], mode="bilinear", padding_mode="border", align_corners=True)
    moves = found[:, :, 0].mT * z[..., None] / FOCAL
    return means + (moves * weight[:, None]) @ rotation[:, :2]

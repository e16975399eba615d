"""The portrait as its camera took it: what it shows at a point in space, and how far that may be believed.

Facing and a depth test against the coarse head say whether the camera sees a point; parsing says whether what is there
can be it. No gradient flows into where things project: photometric gradients through sampling positions are noise.

Legend: B batch, n points, R z-buffer side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.cameras import NEAR_M, project
from headlift.model.layers import full_precision, ramp
from headlift.model.types import Cameras

_ZBUFFER_SIDE = 128  # 3 mm pixels: finer than this and 65,536 points leave holes
_VISIBLE_M, _HIDDEN_M = 0.008, 0.012  # this far behind the nearest surface a point still counts as seen; no longer
_SLOPE_REACH_M = 0.0045  # where a surface slopes, as far again as it falls over the cells that a point is compared with
_MIN_SLOPE_COSINE = 0.15  # to the camera; steeper surfaces are taken to fall no more than this
# Cosine to the camera up to which a pixel is not a point's own, and from which it is: a camera that is a degree off
# finds hair, rim light or wall where a surface turns away (18 photographs: dark fringes along jaws below .2).
_FACING = 0.2, 0.55
_RECOLOR_FACING, _RECOLOR_FIT = (0.3, 0.7), (0.25, 0.6)  # stricter: refinement would smear a rim along the side


@dataclass(frozen=True)
class ProjectedSample:
    """What the portrait shows at the projection of some points."""

    uv: Tensor  # [B, n, 2] where, 0..1 across the crop (x, y)
    color: Tensor  # [B, n, 3] the pixel there, alpha divided out
    alpha: Tensor  # [B, n, 1]
    facing: Tensor  # [B, n, 1] cosine between the surface normal and the direction to the camera
    visible: Tensor  # [B, n, 1] 1 where nothing of the coarse head is in front, 0 where something is
    parsing: Tensor  # [B, n, 6] what the picture shows there
    fit: Tensor  # [B, n, 1] how well that fits the anchor's region

    @property
    def weight(self) -> Tensor:
        """How far the pixel may be taken for the point's own colour, [B, n, 1] in 0..1."""
        return self.visible * ramp(self.facing, *_FACING) * self.alpha * self.fit

    @property
    def numbers(self) -> Tensor:
        """All but the place, [B, n, 13]."""
        return torch.cat([self.color, self.alpha, self.facing, self.visible, self.weight, self.parsing], -1)


class ProjectedImage:
    """A portrait with its camera and the coarse head before it, ready to be asked about points in space."""

    def __init__(
        self,
        pixels: Tensor,  # [B, 4, S, S] RGB multiplied by alpha, and alpha
        cameras: Cameras,  # C = B
        coarse_means: Tensor,  # [B, N, 3] m, the occluders of the depth test
        parsing: Tensor,  # [B, 6, h, h] 0..1
    ) -> None:
        self.pixels = pixels
        self.parsing = parsing
        self.cameras = cameras.detach()
        self.zbuffer = z_buffer(self.cameras, coarse_means.detach())

    @torch.no_grad()
    def sample(
        self,
        points: Tensor,  # [B, n, 3] m
        normals: Tensor,  # [n, 3]
        compatibility: Tensor,  # [n, 6] what each point may show (region_compatibility)
    ) -> ProjectedSample:
        """What the portrait shows at each point."""
        with full_precision(points.device):
            uv, depth = project(self.cameras, points)
            nearest = sample_maps(self.zbuffer[:, None], uv, "nearest")
            behind = depth[..., None] - nearest
            cosine = facing(self.cameras, points, normals)
            falls = _SLOPE_REACH_M * (cosine.clamp(_MIN_SLOPE_COSINE, 1).pow(-2) - 1).sqrt()  # tangent of the slope
            visible = (1 - ramp(behind - falls, _VISIBLE_M, _HIDDEN_M)) * (depth[..., None] > NEAR_M)
            rgba = sample_maps(self.pixels.float(), uv)
            color = (rgba[..., :3] / rgba[..., 3:].clamp_min(0.05)).clamp(0, 1)
            parsing = sample_maps(self.parsing.float(), uv)
            fit = (parsing * compatibility).sum(-1, keepdim=True)
            return ProjectedSample(uv, color, rgba[..., 3:], cosine, visible, parsing, fit)

    def sample_mirrored(
        self, points: Tensor, normals: Tensor, compatibility: Tensor
    ) -> tuple[ProjectedSample, ProjectedSample]:
        """What the portrait shows at each point, and at its mirror image across the head's middle plane."""
        mirror = points.new_tensor([-1.0, 1.0, 1.0])
        own = self.sample(points, normals, compatibility)
        return own, self.sample(points * mirror, normals * mirror, compatibility)


def facing(cameras: Cameras, points: Tensor, normals: Tensor) -> Tensor:
    """Cosine between normals [n, 3] and the way from points [B, n, 3] to the camera: [B, n, 1]."""
    eyes = -(cameras.viewmats[:, :3, :3].mT @ cameras.viewmats[:, :3, 3:]).mT
    return (F.normalize(eyes - points, dim=-1) * normals).sum(-1, keepdim=True)


@torch.no_grad()
def z_buffer(cameras: Cameras, points: Tensor, side: int = _ZBUFFER_SIDE) -> Tensor:
    """Depth of the nearest of points [B, n, 3] in each cell, spread by one cell to close gaps: [B, side, side] m."""
    with full_precision(points.device):
        uv, depth = project(cameras, points.float())
        column, row = (uv * side).floor().long().unbind(-1)
        inside = (column >= 0) & (column < side) & (row >= 0) & (row < side) & (depth > NEAR_M)
        slot = torch.where(inside, row * side + column, side * side)
        far = torch.full((len(points), side * side + 1), torch.finfo(depth.dtype).max, device=points.device)
        nearest = far.scatter_reduce(1, slot, depth, "amin")[:, :-1].reshape(-1, side, side)
        return -F.max_pool2d(-nearest, 3, 1, 1)


def sample_maps(maps: Tensor, uv: Tensor, mode: str = "bilinear") -> Tensor:
    """Values of maps [B, C, H, W] at places [B, n, 2] in 0..1: [B, n, C]; zeros outside."""
    grid = (2 * uv - 1)[:, None]
    sampled = F.grid_sample(maps.to(uv.dtype), grid, mode=mode, padding_mode="zeros", align_corners=False)
    return sampled[:, :, 0].transpose(1, 2)


@torch.no_grad()
def recolor_trust(parsing: Tensor, camera: Cameras, points: Tensor, normals: Tensor, compatibility: Tensor) -> Tensor:
    """How far a picture may recolour points where it shows, [N] in 0..1.

    Nothing where it shows what a point cannot be, and nothing where the surface turns away.

    Args:
        parsing: [1, 6, h, h] what the picture shows.
        camera: The picture's.
        points: [N, 3] m. normals: [N, 3]. compatibility: [N, 6] (region_compatibility).
    """
    uv, _ = project(camera, points[None])
    shown = sample_maps(parsing.float(), uv)[0]
    cosine = facing(camera, points[None], normals)[0, :, 0]
    return ramp((shown * compatibility).sum(-1), *_RECOLOR_FIT) * ramp(cosine, *_RECOLOR_FACING)

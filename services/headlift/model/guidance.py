"""Projected guidance (ours): look up in the input picture what each anchor would see there.

With the input camera known, the coarse head is projected into the portrait. Each template patch starts from the token
and the colour at its own projection and at that of its mirror image (heads are nearly symmetric, so the seen half says
much about the hidden one); each Gaussian fetches its pixel the same way. Facing and a depth test say how far to trust
what was found. No gradient flows into where things project: photometric gradients through sampling positions are noise.

Legend: B batch, n points, Q patches, R z-buffer side, D width, G tokens a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.encoder import token_grid
from headlift.model.layers import Mlp, full_precision, zero_init
from headlift.model.surfaces import Shown
from headlift.model.types import Cameras, ImageTokens

_ZBUFFER_SIDE = 128  # 3 mm pixels: finer than this and 65,536 points leave holes
_SEEN_M, _HIDDEN_M = 0.008, 0.012  # this far behind the nearest surface a point still counts as seen; no longer
_REACH_M = 0.0045  # and where a surface slopes, as far again as it falls over the cells that a point is compared with
_STEEPEST = 0.15  # least cosine to the camera that this goes by
_NEAR_M = 0.05
_TURNED_AWAY = 0.2, 0.55  # cosine to the camera up to which a pixel is not a point's own, and from which it is
_SURE, _OPAQUE = 0.7, 0.9  # probability and alpha from which a pixel is surely hair
_SIGHTING = 7  # numbers that describe a point in the picture: colour 3, alpha, facing, visible, weight
_SHOWN = len(Shown)  # and what is shown there, for models that parse


@dataclass(frozen=True)
class Sighting:
    """What the portrait shows at the projection of some points."""

    uv: Tensor  # [B, n, 2] where, 0..1 across the crop (x, y)
    color: Tensor  # [B, n, 3] the pixel there, alpha divided out
    alpha: Tensor  # [B, n, 1]
    facing: Tensor  # [B, n, 1] cosine between the surface normal and the direction to the camera
    visible: Tensor  # [B, n, 1] 1 where nothing of the coarse head is in front, 0 where something is
    shown: Tensor | None = None  # [B, n, 6] what the picture shows there, for models that parse
    fit: Tensor | None = None  # [B, n, 1] how well that fits the anchor's region

    @property
    def weight(self) -> Tensor:
        """How far the pixel may be taken for the point's own colour, [B, n, 1] in 0..1.

        Little where the surface turns away: there a camera that is a degree off finds the hair or the light behind.
        """
        weight = self.visible * _ramp(self.facing, *_TURNED_AWAY) * _ramp(self.alpha, 0.6, 0.95)
        return weight if self.fit is None else weight * self.fit

    @property
    def numbers(self) -> Tensor:
        """All but the place, [B, n, 7], or [B, n, 13] for models that parse."""
        shown = [] if self.shown is None else [self.shown]
        return torch.cat([self.color, self.alpha, self.facing, self.visible, self.weight, *shown], -1)


class Viewer:
    """The portrait as seen by its camera, ready to be asked about points in space."""

    def __init__(
        self,
        pixels: Tensor,  # [B, 4, S, S] RGB multiplied by alpha, and alpha
        cameras: Cameras,  # C = B
        coarse_means: Tensor,  # [B, N, 3] m, the occluders of the depth test
        shown: Tensor | None = None,  # [B, 6, h, h] 0..1, the parsed picture
    ) -> None:
        self.pixels = pixels
        self.shown = shown
        self.cameras = cameras.detach()
        self.zbuffer = z_buffer(self.cameras, coarse_means.detach())

    @torch.no_grad()
    def look(
        self,
        points: Tensor,  # [B, n, 3] m
        normals: Tensor,  # [n, 3]
        fits: Tensor | None = None,  # [n, 6] what each point may show (surfaces.fits)
    ) -> Sighting:
        """What the portrait shows at each point."""
        with full_precision(points.device):
            uv, depth = project(self.cameras, points)
            nearest = sample(self.zbuffer[:, None], uv, "nearest")
            behind = depth[..., None] - nearest
            faces = facing(self.cameras, points, normals)
            falls = _REACH_M * (faces.clamp(_STEEPEST, 1).pow(-2) - 1).sqrt()  # the tangent of the slope
            visible = (1 - _ramp(behind - falls, _SEEN_M, _HIDDEN_M)) * (depth[..., None] > _NEAR_M)
            rgba = sample(self.pixels.float(), uv)
            color = (rgba[..., :3] / rgba[..., 3:].clamp_min(0.05)).clamp(0, 1)
            if self.shown is None or fits is None:
                return Sighting(uv, color, rgba[..., 3:], faces, visible)
            shown = sample(self.shown.float(), uv)
            return Sighting(uv, color, rgba[..., 3:], faces, visible, shown, (shown * fits).sum(-1, keepdim=True))

    def look_twice(self, points: Tensor, normals: Tensor, fits: Tensor | None = None) -> tuple[Sighting, Sighting]:
        """What the portrait shows at each point, and at its mirror image across the head's middle plane."""
        mirror = points.new_tensor([-1.0, 1.0, 1.0])
        return self.look(points, normals, fits), self.look(points * mirror, normals * mirror, fits)


class ProjectedGuidance(nn.Module):
    """Turns sightings into additions to the queries and into the Gaussians' colours."""

    def __init__(self, dim: int, token_dim: int, token_side: int, gaussian_dim: int, *, parses: bool = False) -> None:
        super().__init__()
        self.token_side = token_side
        numbers = _SIGHTING + (_SHOWN if parses else 0)
        # Own and mirrored, each twice: always, and only as far as visible. Applied before sampling, which is linear
        # too, because there are far fewer tokens than queries.
        self.token_maps = nn.Linear(token_dim, 4 * dim)
        self.sightings = nn.Linear(2 * numbers + 2, dim)
        self.pixel_mlp = Mlp(gaussian_dim + 2 * numbers + 3, 48, 5)
        zero_init(self.pixel_mlp.fc2)
        with torch.no_grad():
            self.pixel_mlp.fc2.bias[3] = 1.0  # the gate starts mostly open: a seen pixel is the best first guess

    def query_offsets(
        self,
        tokens: ImageTokens,
        viewer: Viewer,
        centers: Tensor,  # [B, Q, 3] m, patch centres on the coarse head
        normals: Tensor,  # [Q, 3]
        fits: Tensor | None = None,  # [Q, 6]
    ) -> Tensor:
        """What to add to the patches' queries, [B, Q, D]."""
        own, mirrored = viewer.look_twice(centers.detach(), normals, fits)
        grid = token_grid(tokens, self.token_side)
        maps = self.token_maps(grid.flatten(2).transpose(1, 2)).mT.reshape(len(grid), -1, *grid.shape[-2:])
        maps_own, maps_mirrored = maps.chunk(2, 1)
        always_own, seen_own = sample(maps_own, own.uv).chunk(2, -1)
        always_mirrored, seen_mirrored = sample(maps_mirrored, mirrored.uv).chunk(2, -1)
        found = always_own + own.visible * seen_own + always_mirrored + mirrored.visible * seen_mirrored
        out: Tensor = found + self.sightings(torch.cat([own.numbers, mirrored.numbers, 2 * own.uv - 1], -1))
        return out

    def colors(
        self,
        latents: Tensor,  # [B, n, d]
        viewer: Viewer,
        means: Tensor,  # [B, n, 3] m
        normals: Tensor,  # [n, 3]
        coarse_colors: Tensor,  # [B, n, 3] 0..1
        logits: Tensor,  # [B, n, 3] the colour before guidance
        fits: Tensor | None = None,  # [n, 6]
    ) -> Tensor:
        """Colours in 0..1, [B, n, 3]: corrected, then blended towards the pixels that can be trusted."""
        own, mirrored = viewer.look_twice(means.detach(), normals, fits)
        told = torch.cat([latents, own.numbers, mirrored.numbers, coarse_colors.detach()], -1)
        residual, gate, mirrored_gate = self.pixel_mlp(told).float().split([3, 1, 1], -1)
        # The mirror image stands in where the point itself is not seen.
        color = torch.lerp((logits + residual).sigmoid(), mirrored.color, mirrored_gate.sigmoid() * mirrored.weight)
        return torch.lerp(color, own.color, gate.sigmoid() * own.weight).clamp(0, 1)  # lerp may round past its ends


def require_guidance(tokens: ImageTokens) -> tuple[Tensor, Cameras]:
    """The pixels and cameras that projected guidance needs; InvalidInputError where tokens came without."""
    if tokens.pixels is None or tokens.camera is None:
        raise InvalidInputError("This model projects into the portrait: its tokens must carry pixels and a camera.")
    return tokens.pixels, tokens.camera


def project(cameras: Cameras, points: Tensor) -> tuple[Tensor, Tensor]:
    """World points [B, n, 3] -> places [B, n, 2] in 0..1 of the picture (x, y) and depths [B, n] in metres."""
    in_camera = points @ cameras.viewmats[:, :3, :3].mT + cameras.viewmats[:, None, :3, 3]
    depth = in_camera[..., 2]
    pixels = in_camera @ cameras.Ks.mT
    size = points.new_tensor([cameras.width, cameras.height])
    return pixels[..., :2] / depth.clamp_min(_NEAR_M)[..., None] / size, depth


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
        inside = (column >= 0) & (column < side) & (row >= 0) & (row < side) & (depth > _NEAR_M)
        slot = torch.where(inside, row * side + column, side * side)
        far = torch.full((len(points), side * side + 1), torch.finfo(depth.dtype).max, device=points.device)
        nearest = far.scatter_reduce(1, slot, depth, "amin")[:, :-1].reshape(-1, side, side)
        return -F.max_pool2d(-nearest, 3, 1, 1)


def sample(maps: Tensor, uv: Tensor, mode: str = "bilinear") -> Tensor:
    """Values of maps [B, C, H, W] at places [B, n, 2] in 0..1: [B, n, C]; zeros outside."""
    grid = (2 * uv - 1)[:, None]
    return F.grid_sample(maps.to(uv.dtype), grid, mode=mode, padding_mode="zeros", align_corners=False)[
        :, :, 0
    ].transpose(1, 2)


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return ((x - low) / (high - low)).clamp(0, 1)


@torch.no_grad()
def hair_color(pixels: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
    """Mean colour of what a parsed picture surely shows as hair, [B, 3], and its share of the picture, [B, 1].

    Args:
        pixels: [B, 4, S, S] RGB multiplied by alpha, and alpha. shown: [B, 6, h, h] 0..1.
    """
    hair = shown[:, Shown.HAIR, None].float()
    small = F.interpolate(pixels.float(), hair.shape[-2:], mode="area")
    weight = hair * (hair > _SURE) * (small[:, 3:] > _OPAQUE)
    total = weight.sum((2, 3))
    color = (weight * small[:, :3] / small[:, 3:].clamp_min(_OPAQUE)).sum((2, 3)) / total.clamp_min(1e-3)
    return color, total / weight[0].numel()


@torch.no_grad()
def recolor_trust(parsing: Tensor, camera: Cameras, points: Tensor, normals: Tensor, fits: Tensor) -> Tensor:
    """How far a picture may recolour points where it shows, [N] in 0..1.

    Nothing where it shows what a point cannot be, and nothing where the surface turns away: what grazes the outline, a
    rim of light or of background, would be smeared along the side of the head.

    Args:
        parsing: [1, 6, h, h] what the picture shows.
        camera: The picture's.
        points: [N, 3] m. normals: [N, 3]. fits: [N, 6] what each point may show (surfaces.fits).
    """
    uv, _ = project(camera, points[None])
    shown = sample(parsing.float(), uv)[0]
    faces = facing(camera, points[None], normals)[0, :, 0]
    return _ramp((shown * fits).sum(-1), 0.25, 0.6) * _ramp(faces, 0.3, 0.7)

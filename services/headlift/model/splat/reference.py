"""The rasteriser in plain torch: the oracle of the other backends, and what draws where nothing was compiled.

It follows gsplat 1.5.3: covariances blurred by 0.3 px^2, Gaussians nearer than 1 cm left out, the Jacobian taken within
1.3 times the field of view, alpha at most 0.999 and dropped below 1/255, a pixel done before the Gaussian that would
bring its transmittance to 1e-4 or less. Any device, float32 or float64; autograd gives the gradients.

Legend: N Gaussians, V visible ones, I pairs of a Gaussian and a tile.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

TILE = 16
EPS_2D = 0.3  # px^2
NEAR = 0.01  # m
MAX_ALPHA = 0.999
MIN_ALPHA = 1.0 / 255.0
MIN_TRANSMITTANCE = 1e-4
HUGE = 1e18  # px; beyond it float32 arithmetic on positions is no longer finite


def rotation_matrices(quats: Tensor) -> Tensor:
    """Rotation matrices [N,3,3] of quaternions [N,4] (wxyz), which need not be normalised."""
    w, x, y, z = F.normalize(quats, dim=-1).unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).view(-1, 3, 3)


def _jacobians(points: Tensor, K: Tensor, width: int, height: int) -> Tensor:
    """Perspective's derivative [V,2,3] at camera-space points [V,3]."""
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    x, y, z = points.unbind(-1)
    tan_x = torch.minimum((1.15 * width - cx) / fx, torch.maximum(-(0.15 * width + cx) / fx, x / z))
    tan_y = torch.minimum((1.15 * height - cy) / fy, torch.maximum(-(0.15 * height + cy) / fy, y / z))
    zero = torch.zeros_like(z)
    return torch.stack([fx / z, zero, -fx * tan_x / z, zero, fy / z, -fy * tan_y / z], dim=-1).view(-1, 2, 3)


def _project(
    gaussians: tuple[Tensor, ...], viewmat: Tensor, K: Tensor, width: int, height: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centres [V,2] px, conics [V,3] (xx, xy, yy), depths [V] m and half extents [V,2] px."""
    means, quats, scales, opacities, _ = gaussians
    points = means @ viewmat[:3, :3].T + viewmat[:3, 3]
    to_picture = _jacobians(points, K, width, height) @ viewmat[:3, :3]
    axes = to_picture @ (rotation_matrices(quats) * scales[:, None, :])  # [V,2,3]
    cov = axes @ axes.mT
    a, b, c = cov[:, 0, 0], cov[:, 0, 1], cov[:, 1, 1]
    # The cross product of the rows gives a c - b^2 without cancellation.
    det = torch.linalg.cross(axes[:, 0], axes[:, 1]).square().sum(-1) + EPS_2D * (a + c) + EPS_2D * EPS_2D
    a, c = a + EPS_2D, c + EPS_2D
    conics = torch.stack([c / det, -b / det, a / det], dim=-1)
    centres = points[:, :2] / points[:, 2:] * K[[0, 1], [0, 1]] + K[:2, 2]
    with torch.no_grad():
        reach = (2 * torch.log(opacities * 255.0).clamp(min=0.0)).sqrt()
        extents = reach[:, None] * torch.stack([a, c], dim=-1).sqrt()
        finite = (det < HUGE) & (centres.abs() < HUGE).all(-1)
        extents = torch.where(finite[:, None], extents, torch.full_like(extents, -HUGE))
    return centres, conics, points[:, 2], extents


@torch.no_grad()
def _visible(gaussians: tuple[Tensor, ...], viewmat: Tensor, K: Tensor, width: int, height: int) -> Tensor:
    """Indices [V] of the Gaussians that can colour a pixel, near to far. Only these enter the graph, so that those that
    cannot be projected give no gradient that is not finite."""
    means, _, _, opacities, _ = gaussians
    z = means @ viewmat[2, :3] + viewmat[2, 3]
    ahead = torch.nonzero((z >= NEAR) & (opacities >= MIN_ALPHA))[:, 0]
    centres, _, depths, extents = _project(tuple(t[ahead] for t in gaussians), viewmat, K, width, height)
    size = centres.new_tensor([width, height])
    inside = ((centres + extents > 0) & (centres - extents < size)).all(-1)
    order = torch.argsort(depths[inside], stable=True)
    return ahead[inside][order]


@torch.no_grad()
def _tile_lists(centres: Tensor, extents: Tensor, tiles_x: int, tiles_y: int) -> tuple[Tensor, list[int]]:
    """For all tiles in turn the Gaussians that touch them [I], in the order given, and each tile's count."""
    limit = centres.new_tensor([tiles_x, tiles_y])
    low = ((centres - extents) / TILE).floor().clamp(min=0.0).minimum(limit).long()
    high = (((centres + extents) / TILE).floor() + 1).clamp(min=0.0).minimum(limit).long()
    spans = (high - low).clamp(min=0)
    counts = spans[:, 0] * spans[:, 1]
    ids = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    place = torch.arange(len(ids), device=ids.device) - (counts.cumsum(0) - counts)[ids]
    tile = (low[ids, 1] + place // spans[ids, 0]) * tiles_x + low[ids, 0] + place % spans[ids, 0]
    order = torch.argsort(tile, stable=True)
    return ids[order], torch.bincount(tile, minlength=tiles_x * tiles_y).tolist()


def _composite(splats: Tensor, pixels: Tensor) -> Tensor:
    """Colour, weight and weighted depth [P,5] of pixels [P,2] from splats [G,10] given near to far."""
    mx, my, a, b, c, opacity = splats[:, :6, None].unbind(1)
    dx, dy = mx - pixels[:, 0], my - pixels[:, 1]
    sigma = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacity * torch.exp(-sigma)).clamp(max=MAX_ALPHA)
    alpha = torch.where((sigma >= 0) & (alpha >= MIN_ALPHA), alpha, torch.zeros_like(alpha))
    after = torch.cumprod(1 - alpha, dim=0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    weights = torch.where(after > MIN_TRANSMITTANCE, alpha * before, torch.zeros_like(alpha))
    values = torch.cat([splats[:, 6:9], torch.ones_like(splats[:, :1]), splats[:, 9:]], dim=1)
    return weights.mT @ values


def _render(gaussians: tuple[Tensor, ...], viewmat: Tensor, K: Tensor, width: int, height: int) -> Tensor:
    """One camera's colour, alpha and depth [H,W,5]."""
    visible = _visible(gaussians, viewmat, K, width, height)
    seen = tuple(t[visible] for t in gaussians)
    centres, conics, depths, extents = _project(seen, viewmat, K, width, height)
    splats = torch.cat([centres, conics, seen[3][:, None], seen[4], depths[:, None]], dim=1)
    tiles_x, tiles_y = -(-width // TILE), -(-height // TILE)
    ids, counts = _tile_lists(centres, extents, tiles_x, tiles_y)
    steps = torch.arange(TILE, device=splats.device, dtype=splats.dtype) + 0.5
    rows = []
    for i, tile_splats in enumerate(torch.split(splats[ids], counts)):
        origin_y, origin_x = divmod(i, tiles_x)
        y, x = torch.meshgrid(steps + origin_y * TILE, steps + origin_x * TILE, indexing="ij")
        pixels = torch.stack([x, y], dim=-1).reshape(-1, 2)
        if not counts[i]:
            rows.append(splats.new_zeros(TILE * TILE, 5))
        elif tile_splats.requires_grad:  # the weights of all pixels and Gaussians would fill the memory
            rows.append(checkpoint(_composite, tile_splats, pixels, use_reentrant=False, preserve_rng_state=False))
        else:
            rows.append(_composite(tile_splats, pixels))
    picture = torch.stack(rows).view(tiles_y, tiles_x, TILE, TILE, 5).transpose(1, 2).flatten(2, 3).flatten(0, 1)
    return picture[:height, :width]


def rasterize_reference(tensors: tuple[Tensor, ...], width: int, height: int) -> tuple[Tensor, ...]:
    """Draw with torch operations.

    Args:
        tensors: means [N,3], quats [N,4], scales [N,3], opacities [N], colors [N,3], viewmats [C,4,4], Ks [C,3,3];
            one device, float32 or float64.
        width: Pixels.
        height: Pixels.

    Returns:
        rgb [C,3,H,W], alpha [C,1,H,W], depth [C,1,H,W].
    """
    *gaussians, viewmats, Ks = tensors
    if not len(viewmats):
        return tuple(viewmats.new_zeros(0, channels, height, width) for channels in (3, 1, 1))
    views = torch.stack([_render(tuple(gaussians), V, K, width, height) for V, K in zip(viewmats, Ks, strict=True)])
    rgb, alpha, weighted = views.permute(0, 3, 1, 2).tensor_split((3, 4), dim=1)
    return rgb, alpha, weighted / alpha.clamp(min=1e-10)

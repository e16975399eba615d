"""What the decoder should answer for a generated head: a position and a colour for every template anchor.

Data flow: template + mean head -> `fit_correspondence` (once) -> for each head: `anchor_positions` on its own mesh,
`lift_onto_hair`, `anchor_colors` from its pictures. Supervising anchors directly needs no splatting, which makes a
training step some twenty times cheaper than one through pictures.

Legend: N anchors, V mesh vertices, F triangles, C views, S picture side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from headlift.model.cameras import project
from headlift.model.mini.projection import facing as cosine
from headlift.model.mini.projection import sample_maps, z_buffer
from headlift.model.template import Region, Template
from headlift.model.types import Cameras

Array = NDArray[np.float64]

# Hair is a radial height field about this axis: spherical above the centre, cylindrical below it.
AXIS = np.array([0.0, 0.03, -0.015])
AZIMUTHS, ELEVATIONS, HEIGHTS = 96, 24, 48
LOWEST = 0.27  # m below the centre down to which hair is looked for
MAX_LIFT = 0.13  # m
SEEN_WITHIN = 0.01  # m, how far behind the foremost anchor one still counts as seen
HAIR_SHELL = 0.015  # m, how far the template's hair shell floats above the scalp


@dataclass(frozen=True)
class Correspondence:
    """Where each anchor of a template lies on the generator's mesh topology."""

    triangles: NDArray[np.int64]  # [N, 3] vertex indices
    barycentric: Array  # [N, 3] weights, sum 1

    def points(self, vertices: Array) -> Array:
        """Positions [N, 3] of the anchors on a head with these mesh vertices [V, 3]."""
        return np.asarray(np.einsum("nk,nkd->nd", self.barycentric, vertices[self.triangles]))


def vertex_normals(vertices: Array, faces: NDArray[np.int64]) -> Array:
    """Area-weighted unit normals [V, 3]."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    face_normals = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normals)
    return np.asarray(normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12))


def fit_correspondence(
    template: Template, vertices: Array, faces: NDArray[np.int64], *, seed: int = 0, samples: int = 600_000
) -> Correspondence:
    """Lay a template onto the mean head of the generator.

    Nearest surface points with agreeing normals pull every anchor; the pulls are smoothed on the template's neighbour
    graph, strongly at first and less each round, so that the template bends before it snaps.
    """
    rng = np.random.default_rng(seed)
    corners = vertices[faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    picked = rng.choice(len(faces), samples, p=areas / areas.sum())
    weights = rng.random((samples, 2))
    over = weights.sum(1) > 1
    weights[over] = 1 - weights[over]
    barycentric = np.concatenate([1 - weights.sum(1, keepdims=True), weights], 1)
    surface = np.einsum("nk,nkd->nd", barycentric, corners[picked])
    normals = np.einsum("nk,nkd->nd", barycentric, vertex_normals(vertices, faces)[faces[picked]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12

    anchors = template.anchors.double().numpy()
    anchor_normals = template.normals.double().numpy()
    shell = template.regions.numpy() == Region.HAIR
    current = anchors - np.where(shell[:, None], HAIR_SHELL, 0.0) * anchor_normals
    tree = cKDTree(_oriented(surface, normals))
    neighbors = template.neighbors.numpy()
    for smoothing in (200, 120, 60, 30, 12, 4):
        nearest = tree.query(_oriented(current, anchor_normals))[1]
        pull = surface[nearest] - current
        for _ in range(smoothing):
            pull = 0.5 * pull + 0.5 * pull[neighbors].mean(1)
        current = current + pull
    # The hair shell lies over the same skin as the scalp, so the two are spread apart from each other.
    for group in (~shell, shell):
        current[group] = _spread(current[group], template.spacing.numpy()[group], surface, normals)
    nearest = cKDTree(surface).query(current)[1]
    return Correspondence(faces[picked[nearest]], barycentric[nearest])


def _oriented(points: Array, normals: Array) -> Array:
    """Points with their normals worth 3 cm of distance: the far side of a lip or an ear is never nearest."""
    return np.concatenate([points, 0.03 * normals], 1)


def _spread(points: Array, spacing: Array, surface: Array, normals: Array, *, rounds: int = 16) -> Array:
    """Even out points [M, 3] on a sampled surface by Lloyd's algorithm, keeping their density where it was.

    Projection onto a differently shaped head leaves gaps beside folds; centroids of the cells close them.
    """
    tree = cKDTree(surface)
    nearest = tree.query(points)[1]
    current = surface[nearest]
    # Only the surface that the group covers takes part, weighted by the anchors' own density there.
    near, owner = cKDTree(current).query(surface)
    inside = near < np.maximum(4 * spacing[owner], 0.006)
    cells, cell_normals = surface[inside], normals[inside]
    weight = 1 / spacing[owner[inside]] ** 2
    for _ in range(rounds):
        facing = normals[nearest]
        owner = cKDTree(_oriented(current, facing)).query(_oriented(cells, cell_normals))[1]
        total = np.bincount(owner, weight, len(current))
        center = np.stack([np.bincount(owner, weight * cells[:, k], len(current)) for k in range(3)], 1)
        moved = np.where(total[:, None] > 0, center / np.maximum(total, 1e-12)[:, None], current)
        # Over-relaxed: Lloyd's plain step is slow to carry points across a gap.
        nearest = tree.query(current + 1.3 * (moved - current))[1]
        current = surface[nearest]
    return np.asarray(current)


def _spherical(points: Array) -> tuple[Array, Array, Array, Array]:
    """Radius, azimuth bin, vertical bin and outward direction of points about the hair axis."""
    x, y, z = (points - AXIS).T
    horizontal = np.hypot(x, z)
    above = y > 0
    radius = np.where(above, np.hypot(horizontal, y), horizontal)
    azimuth = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * AZIMUTHS
    vertical = np.where(
        above,
        HEIGHTS + np.arctan2(y, horizontal) / (np.pi / 2) * ELEVATIONS,
        np.clip(HEIGHTS + y * HEIGHTS / LOWEST, 0, HEIGHTS),
    )
    outward = np.stack([x, np.where(above, y, 0.0), z], 1) / np.maximum(radius, 1e-6)[:, None]
    return radius, azimuth, vertical, outward


def lift_onto_hair(points: Array, hair: Array, neighbors: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
    """Move anchors outward onto the hair that covers them.

    Args:
        points: Anchors on the skin [N, 3], m.
        hair: Points on the opaque hair [M, 3], m; may be empty.
        neighbors: The template's neighbour graph [N, 8].

    Returns:
        Lifted positions [N, 3] and which anchors are under hair [N].
    """
    if len(hair) == 0:
        return points, np.zeros(len(points), bool)
    radius, azimuth, vertical, _ = _spherical(hair)
    field = np.zeros((AZIMUTHS, HEIGHTS + ELEVATIONS + 1))
    np.maximum.at(field, (azimuth.astype(int) % AZIMUTHS, vertical.astype(int)), radius)

    own, azimuth, vertical, outward = _spherical(points)
    azimuth = azimuth - 0.5
    vertical = np.clip(vertical - 0.5, 0, HEIGHTS + ELEVATIONS - 1.001)
    a0, v0 = np.floor(azimuth).astype(int), np.floor(vertical).astype(int)
    fa, fv = azimuth - a0, vertical - v0
    total = np.zeros(len(points))
    covered = np.zeros(len(points))
    for i in (0, 1):
        for j in (0, 1):
            value = field[(a0 + i) % AZIMUTHS, v0 + j]
            weight = (fa if i else 1 - fa) * (fv if j else 1 - fv) * (value > 0)
            total += weight * value
            covered += weight
    height = np.where(covered > 0.25, total / np.maximum(covered, 1e-6), 0.0)
    lift = np.clip(height - own, 0.0, MAX_LIFT)
    under = lift > 0.002
    lift = 0.5 * lift + 0.5 * lift[neighbors].mean(1)
    return points + outward * lift[:, None], under


class FanNormals:
    """Normals of a moved template: the cross products around each anchor's ordered fan of neighbours."""

    def __init__(self, template: Template) -> None:
        anchors, normals = template.anchors.double().numpy(), template.normals.double().numpy()
        neighbors = template.neighbors.numpy()
        helper = np.where(np.abs(normals[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
        tangent = np.cross(normals, helper)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        bitangent = np.cross(normals, tangent)
        offsets = anchors[neighbors] - anchors[:, None]
        angle = np.arctan2((offsets * bitangent[:, None]).sum(-1), (offsets * tangent[:, None]).sum(-1))
        self._fan = np.take_along_axis(neighbors, angle.argsort(1), 1)
        self._rest = normals

    def __call__(self, points: Array) -> Array:
        """Unit normals [N, 3] of anchors at `points`; the template's own where the fan has folded."""
        offsets = points[self._fan] - points[:, None]
        normals = np.cross(offsets, np.roll(offsets, -1, 1)).sum(1)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
        folded = (normals * self._rest).sum(1) < -0.3
        normals[folded] = self._rest[folded]
        return np.asarray(normals)


def hair_cover(
    points: Tensor, normals: Tensor, hair: Tensor, alpha: Tensor, viewmats: Tensor, Ks: Tensor, neighbors: Tensor
) -> Tensor:
    """How far hair covers every anchor, from the pictures that see it: [N] in 0..1.

    Args:
        points: [N, 3] m. normals: [N, 3] unit.
        hair: [C, S, S] 1 where pictures show hair. alpha: [C, S, S] 0..1.
        viewmats: [C, 4, 4]. Ks: [C, 3, 3] pixels.
        neighbors: [N, 8] int64.
    """
    shown = torch.stack([hair * alpha] * 3 + [alpha], 1)
    return anchor_colors(points, normals, shown, viewmats, Ks, neighbors)[0][:, 0]


def anchor_colors(
    points: Tensor, normals: Tensor, rgba: Tensor, viewmats: Tensor, Ks: Tensor, neighbors: Tensor
) -> tuple[Tensor, Tensor]:
    """Colour of every anchor from the pictures that see it.

    A view counts by the cube of how squarely it faces the anchor. Anchors that no view sees take the mean of their
    neighbours.

    Args:
        points: [N, 3] m. normals: [N, 3] unit.
        rgba: [C, 4, S, S] 0..1, premultiplied.
        viewmats: [C, 4, 4]. Ks: [C, 3, 3] pixels.
        neighbors: [N, 8] int64.

    Returns:
        Colours [N, 3] 0..1 and how well each was seen [N] 0..1.
    """
    size = rgba.shape[-1]
    cameras = Cameras(viewmats, Ks, size, size)
    everywhere = points.expand(len(viewmats), -1, -1)
    uv, depth = project(cameras, everywhere)
    sampled = sample_maps(rgba, uv).transpose(1, 2)  # [C, 4, N]
    facing = cosine(cameras, everywhere, normals)[..., 0].clamp_min(0)
    alpha = sampled[:, 3]
    # A z-buffer of the anchors themselves: they may float above the hair that the renderer saw.
    visible = depth <= sample_maps(z_buffer(cameras, everywhere)[:, None], uv, "nearest")[..., 0] + SEEN_WITHIN
    weight = facing**3 * alpha**2 * (alpha > 0.6) * (facing > 0.1) * visible
    total = weight.sum(0)
    colors = (sampled[:, :3] / alpha.clamp_min(1e-3)[:, None] * weight[:, None]).sum(0) / total.clamp_min(1e-6)
    colors = colors.T.contiguous()
    known = total > 1e-3
    for _ in range(60):
        if bool(known.all()):
            break
        seen = known[neighbors].float()
        count = seen.sum(1)
        fill = ~known & (count > 0)
        colors[fill] = (colors[neighbors[fill]] * seen[fill][..., None]).sum(1) / count[fill][:, None]
        known = known | fill
    return colors.clamp(0, 1), (total * 1.5).clamp(0, 1)

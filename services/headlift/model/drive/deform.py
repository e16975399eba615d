"""Gaussians of one head, moved by its rig: `bind` once a head, `drive` once a frame.

    means' = means + sum_e w_e B_e;  frames follow the displacements of neighbours:
    a_k = t_k + P_k (d_j - d_i),  n = a_1 x a_2,  quats' = R quats,  scales' = scales |F axis|

`deform_reference` is the oracle in torch, `native.deform` the same in C++. With nothing to perform, `drive` gives the
head back as it is stored.

Legend: N Gaussians of the head, M inner ones, A rows that move (the last M are the inner ones), E = 52 weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidGaussiansError, InvalidInputError
from headlift.model.drive import native
from headlift.model.drive.pose import Performance
from headlift.model.drive.rig import INNER_PARTS, Rig
from headlift.model.gaussians import multiply_quats, quats_from_normals
from headlift.model.splat.reference import rotation_matrices
from headlift.model.template import Region, Template
from headlift.model.types import Gaussians, _Tensors

PIVOT = (0.0, -0.10, -0.03)  # m, where neck and head turn
STRETCH = (0.3, 3.0)  # limits of a Gaussian's growth along one axis
_MOVES = 1e-4  # m, what moves less under every expression stays
_INNER_DEPTH = 0.004  # m, how far inner parts stand behind where the anchors say
_EYE_DEPTH = 0.002  # m, how far eyeballs stand behind the painted ones: lids must cover their edges
_BRIGHT_SKIN = 0.62  # mean colour that the inner parts' colours were chosen beside
_DISC = (0.62, 0.62, 0.25)  # scales of an inner Gaussian, in spacings of its part
_LEVELS = 256  # of how far a Gaussian turns with the head


@dataclass(frozen=True)
class BoundRig(_Tensors):
    """A rig laid on one head: what `drive` needs and no frame changes."""

    head: Gaussians  # [N] as stored
    rest: Gaussians  # [N + M], inner parts behind lips and lids
    rows: Tensor  # [A] int64 into the N + M, ascending
    basis: Tensor  # [52, 3, A] m
    neighbors: Tensor  # [8, A] int32 into the A; itself where there is none to look at
    slopes: Tensor  # [2, 8, A] 1/m, the pseudo-inverse of the neighbours' offsets along the tangents
    tangents: Tensor  # [2, 3, A] unit
    axes: Tensor  # [3, 3, A], the Gaussians' axes in the frame (t1, t2, n): component, axis
    turning: Tensor  # [N + M] uint8 of _LEVELS, how far each turns with the head
    eye_centers: Tensor  # [2, 3] m, left and right
    eyes: Tensor  # [2, K] int64 into the N + M: inner Gaussians of both eyeballs
    eyeball: Tensor  # [L] int64 into the N: anchors on the eyeballs, hidden while inner ones look somewhere


def bind(rig: Rig, template: Template, head: Gaussians, rows: Tensor | None = None) -> BoundRig:
    """Lay a rig on a head.

    Args:
        rig: Of the head's template.
        template: Whose order the head is in.
        head: [N], edited or not.
        rows: [N] int64, the anchor whose motion each Gaussian takes; None is its own. Registration of lips and lids
            against more picture points says others.

    Raises:
        InvalidGaussiansError: The head has another number of Gaussians than the template.
        InvalidInputError: The rig is another template's, or rows lie outside the anchors.
    """
    n = len(template)
    if len(head) != n:
        raise InvalidGaussiansError(f"The head has {len(head)} Gaussians; the rig drives heads of {n} anchors.")
    if rig.template != template.sha256:
        raise InvalidInputError(f"The rig was made for {rig.template[:12]!r}, not for {template.sha256[:12]!r}.")
    head = head.detach()
    if rows is not None and (tuple(rows.shape) != (n,) or int(rows.min()) < 0 or int(rows.max()) >= n):
        raise InvalidInputError(f"rows must be [{n}] indices of anchors 0..{n - 1}.")
    inner, centers = _inner(rig, template, head)
    rest = Gaussians(*(torch.cat([a, b]) for a, b in _pairs(head, inner.gaussians)))
    basis = rig.basis if rows is None else rig.basis[:, rows]
    moving = torch.nonzero(basis.norm(dim=2).amax(0) > _MOVES)[:, 0]
    active = torch.cat([moving, torch.arange(n, n + len(inner.gaussians))])
    place = torch.full((n,), -1, dtype=torch.long)
    place[moving] = torch.arange(len(moving))
    near = template.neighbors.long()[moving]
    used = (place[near] >= 0) & ~rig.torn[moving]
    t1, t2 = _tangents(rest_normals(rig, template, inner.normals)[active])
    offsets = head.means[near] - head.means[moving][:, None]
    far = offsets.norm(dim=-1)
    used &= far < 3 * far.median(dim=1, keepdim=True).values
    slopes = torch.zeros(len(active), 2, 8)
    slopes[: len(moving)] = _slopes(offsets, t1[: len(moving)], t2[: len(moving)], used)
    own = torch.arange(len(active))[:, None].expand(-1, 8).clone()
    own[: len(moving)] = torch.where(used, place[near], own[: len(moving)])
    frame = torch.stack([t1, t2, torch.linalg.cross(t1, t2)], -1)
    eye = n + torch.nonzero(rig.inner_parts == INNER_PARTS.index("eye"))[:, 0]
    return BoundRig(
        head=head,
        rest=rest,
        rows=active,
        basis=torch.cat([basis[:, moving], inner.basis], 1).mT.contiguous(),
        neighbors=own.T.contiguous().int(),
        slopes=slopes.permute(1, 2, 0).contiguous(),
        tangents=torch.stack([t1.T, t2.T]).contiguous(),
        axes=(frame.mT @ rotation_matrices(rest.quats[active])).permute(1, 2, 0).contiguous(),
        turning=torch.cat([rig.turning * (_LEVELS - 1), torch.full((len(rest) - n,), _LEVELS - 1.0)]).round().byte(),
        eye_centers=centers,
        eyes=eye.view(2, -1),
        eyeball=torch.nonzero(rig.eyeball)[:, 0],
    )


@torch.no_grad()
def drive(bound: BoundRig, performance: Performance, *, reference: bool = False) -> Gaussians:
    """A head as it performs.

    Args:
        bound: From `bind`.
        performance: Relative to the head as it was made.
        reference: Compute by the oracle in torch.

    Returns:
        The stored head itself where nothing moves, else [N + M] Gaussians: its own, then the inner parts.

    Raises:
        InvalidInputError: Wrong shapes, or values out of range.
    """
    performance.validate()
    if performance.is_rest:
        return bound.head
    deform = deform_reference if reference else native.deform
    means, quats, scales = deform(bound, performance.weights.float(), _turn_table(performance.turn.float()))
    opacities = bound.rest.opacities
    if performance.gaze.any():
        means, quats, opacities = _look(bound, performance, means, quats)
    else:
        # The portrait's own eyes are on the head's anchors; two pairs of irises must never be seen at once.
        opacities = opacities.clone()
        opacities[bound.eyes] = 0.0
    return replace(bound.rest, means=means, quats=quats, scales=scales, opacities=opacities)


def deform_reference(bound: BoundRig, weights: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means, quats and scales [N + M] under weights [52] and turns [256, 7] (quaternion, shift); the oracle."""
    rest, rows = bound.rest, bound.rows
    d = torch.einsum("e,eca->ca", weights, bound.basis)
    steps = d[:, bound.neighbors.long()] - d[:, None]  # [3, 8, A]
    a1, a2 = bound.tangents + torch.einsum("kja,cja->kca", bound.slopes, steps)
    normal = F.normalize(torch.linalg.cross(a1, a2, dim=0), dim=0, eps=1e-9)
    e1 = F.normalize(a1 + torch.linalg.cross(a2, normal, dim=0), dim=0, eps=1e-9)
    e2 = torch.linalg.cross(normal, e1, dim=0)
    t1, t2 = bound.tangents
    t3 = torch.linalg.cross(t1, t2, dim=0)
    # The turn from frame t to frame e, as quaternion: (1 + trace, sum of t x e).
    real = 1 + (t1 * e1 + t2 * e2 + t3 * normal).sum(0)
    axis = sum(torch.linalg.cross(t, e, dim=0) for t, e in ((t1, e1), (t2, e2), (t3, normal)))
    turned = F.normalize(torch.cat([real.clamp_min(1e-3)[None], axis]), dim=0).T
    grown = a1[:, None] * bound.axes[0] + a2[:, None] * bound.axes[1] + normal[:, None] * bound.axes[2]  # [3, 3, A]
    means, quats, scales = rest.means.clone(), rest.quats.clone(), rest.scales.clone()
    means[rows] += d.T
    quats[rows] = multiply_quats(turned, rest.quats[rows])
    scales[rows] *= grown.norm(dim=0).clamp(*STRETCH).T
    if not bool(turns[-1, 1:].any()):
        return means, quats, scales
    own = turns[bound.turning.long()]
    means = (rotation_matrices(own[:, :4]) @ means[:, :, None])[:, :, 0] + own[:, 4:]
    return means, multiply_quats(own[:, :4], quats), scales


def rest_normals(rig: Rig, template: Template, inner: Tensor) -> Tensor:
    """[N + M, 3], the surface that each Gaussian lies on."""
    return torch.cat([template.normals, inner])


@dataclass(frozen=True)
class _Inner:
    gaussians: Gaussians
    normals: Tensor  # [M, 3]
    basis: Tensor  # [52, M, 3] m


def _inner(rig: Rig, template: Template, head: Gaussians) -> tuple[_Inner, Tensor]:
    """The rig's inner parts in the shape and light of a head, and its eyeballs' centres [2, 3]."""
    anchors, regions = template.anchors, template.regions
    mouth = ((anchors - anchors.new_tensor([0, -0.045, 0.06])).norm(dim=1) < 0.035) | (regions == Region.MOUTH)
    scale, turn, shift = _similarity(anchors[mouth], head.means[mouth])
    means = scale * rig.inner_points @ turn.T + shift - _INNER_DEPTH * turn[:, 2]
    normals = rig.inner_normals @ turn.T
    eye = rig.inner_parts == INNER_PARTS.index("eye")
    centers = []
    for side in (1.0, -1.0):
        own = eye & (rig.inner_points[:, 0] * side > 0)
        surface = rig.eyeball & (anchors[:, 0] * side > 0)
        radius = float(0.5 * (rig.inner_points[own, 0].max() - rig.inner_points[own, 0].min()))
        middle = head.means[surface].median(0).values
        center = middle - middle.new_tensor([0.0, 0.0, radius + _EYE_DEPTH])
        means[own] = center + radius * rig.inner_normals[own]
        normals[own] = rig.inner_normals[own]
        centers.append(center)
    face = (regions == Region.FACE) & (template.normals[:, 2] > 0.6) & (anchors[:, 1].abs() < 0.03)
    light = float(head.colors[face].median(0).values.mean()) / _BRIGHT_SKIN
    made = Gaussians(
        means=means,
        quats=quats_from_normals(normals),
        scales=rig.inner_radii[:, None] * scale * rig.inner_radii.new_tensor(_DISC),
        opacities=torch.full((len(means),), 0.97),
        colors=(rig.inner_colors * light).clamp(0, 1),
    )
    return _Inner(made, normals, scale * rig.inner_basis @ turn.T), torch.stack(centers)


def _pairs(a: Gaussians, b: Gaussians) -> list[tuple[Tensor, Tensor]]:
    return [(getattr(a, name), getattr(b, name)) for name in ("means", "quats", "scales", "opacities", "colors")]


def _similarity(source: Tensor, target: Tensor) -> tuple[float, Tensor, Tensor]:
    """Scale, turn [3, 3] and shift [3] that take points to others best."""
    from_mean, to_mean = source.mean(0), target.mean(0)
    a, b = source - from_mean, target - to_mean
    u, s, vt = torch.linalg.svd(b.T @ a)
    sign = torch.stack([s.new_ones(()), s.new_ones(()), torch.det(u @ vt).sign()])
    turn = (u * sign) @ vt
    scale = float((s * sign).sum() / a.square().sum())
    return scale, turn, to_mean - scale * turn @ from_mean


def _tangents(normals: Tensor) -> tuple[Tensor, Tensor]:
    """Two unit vectors [A, 3] each, so that t1 x t2 is the normal."""
    up = torch.where(normals[:, 1:2].abs() < 0.9, normals.new_tensor([0.0, 1, 0]), normals.new_tensor([1.0, 0, 0]))
    t1 = F.normalize(torch.linalg.cross(normals, up), dim=1)
    return t1, torch.linalg.cross(normals, t1)


def _slopes(offsets: Tensor, t1: Tensor, t2: Tensor, used: Tensor) -> Tensor:
    """[A, 2, 8]: ridge pseudo-inverse of neighbours' offsets [A, 8, 3] in the tangent plane."""
    flat = torch.stack([(offsets * t1[:, None]).sum(-1), (offsets * t2[:, None]).sum(-1)], -1) * used[..., None]
    gram = flat.mT @ flat
    ridge = gram.diagonal(dim1=1, dim2=2).mean(-1) * 1e-2 + 1e-9
    solved: Tensor = torch.linalg.solve(gram + ridge[:, None, None] * torch.eye(2), flat.mT)
    return solved


def _turn_table(turn: Tensor) -> Tensor:
    """[256, 7]: quaternion and shift of a turn about PIVOT, from none to all of it."""
    part = torch.linspace(0, 1, _LEVELS)
    half = 0.5 * turn.norm() * part
    axis = F.normalize(turn, dim=0)
    quats = torch.cat([half.cos()[:, None], half.sin()[:, None] * axis], 1)
    pivot = turn.new_tensor(PIVOT)
    return torch.cat([quats, pivot - rotation_matrices(quats) @ pivot], 1)


def _look(bound: BoundRig, performance: Performance, means: Tensor, quats: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Own eyeballs take the place of the painted ones and turn."""
    table = _turn_table(performance.turn.float())[-1]
    to_world = rotation_matrices(table[None, :4])[0]
    for side in range(2):
        yaw, pitch = performance.gaze[side].tolist()
        gaze = _turn_quat(1, yaw), _turn_quat(0, -pitch)
        turned = multiply_quats(*gaze)
        rows, center = bound.eyes[side], bound.eye_centers[side]
        own = multiply_quats(table[:4], turned)
        rays = bound.rest.means[rows] - center
        means[rows] = rays @ rotation_matrices(own[None])[0].T + to_world @ center + table[4:]
        quats[rows] = multiply_quats(own.expand(len(rows), 4), bound.rest.quats[rows])
    opacities = bound.rest.opacities.clone()
    opacities[bound.eyeball] = 0.0
    return means, quats, opacities


def _turn_quat(axis: int, angle: float) -> Tensor:
    half = torch.tensor(0.5 * angle)
    quat = torch.zeros(4)
    quat[0], quat[1 + axis] = half.cos(), half.sin()
    return quat

"""Into the canonical head frame: similarity fits, triangulation, and what a rig of cameras alone says about the head.

How a moment's head frame is found, best first:

1. ``headlift_pose.json`` beside the data (poses.py), which ``headlift data pose`` writes: landmarks seen in every view,
   triangulated, and fitted to the same places of the template by a similarity (here);
2. the data set's own tracked pose, where its layout has one;
3. the cameras: a capture rig looks at the head from in front of it. Good to some degrees and centimetres.

A pose is a similarity ``head_from_world`` [4, 4], s R | t: it takes the data set's world, in whatever unit, to metres
in the head frame. Float64 throughout. Legend: V cameras, L landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headlift.errors import FormatError, InvalidInputError
from headlift.model.types import HEAD_CENTER
from headlift_trainer.datasets.interface import F64

_ROUNDS = 12  # of reweighting; weights settle after about five
_FEWEST = 4  # landmarks that fix a similarity with one to spare
_FEWEST_VIEWS = 2


@dataclass(frozen=True)
class HeadPose:
    """Where a head is in its data set's world."""

    head_from_world: F64  # [4, 4] similarity, the world's unit to metres
    source: str  # "sidecar", "tracked", "assumed" or "rig"; the latter two are rough
    rms_m: float | None = None  # of the fit it comes from

    @property
    def rough(self) -> bool:
        """Whether it may be off by centimetres or ten degrees."""
        return self.source in ("assumed", "rig")

    def viewmats(self, world: F64) -> F64:
        """View matrices [V, 4, 4] of the world as such of the head frame, in metres; pictures stay the same."""
        scale = scale_of(self.head_from_world)
        moved = world @ np.linalg.inv(self.head_from_world)
        moved[:, :3] *= scale  # x_cam in metres: projections do not notice
        return moved


def scale_of(matrix: F64) -> float:
    """Scale of a similarity [4, 4].

    Raises:
        FormatError: It mirrors, shears or collapses.
    """
    linear = matrix[:3, :3]
    scale = float(np.cbrt(np.linalg.det(linear)))
    if not scale > 0 or np.abs(linear @ linear.T / scale**2 - np.eye(3)).max() > 1e-3:
        raise FormatError("A head pose must be a similarity: a rotation times one positive scale, and a shift.")
    return scale


def fit_similarity(source: F64, target: F64, weights: F64 | None = None, *, outlier: float = np.inf) -> tuple[F64, F64]:
    """The similarity that takes points to points (Umeyama, TPAMI 1991), with outliers weighted down (Cauchy).

    Args:
        source: [L, 3]. target: [L, 3], in metres.
        weights: [L] >= 0; None weighs all alike.
        outlier: Distance in the target's unit past which a pair counts less and less.

    Returns:
        [4, 4] and the distances [L] that are left.

    Raises:
        InvalidInputError: Fewer than four pairs, or all on a line.
    """
    given = np.ones(len(source)) if weights is None else weights
    if (given > 0).sum() < _FEWEST:
        raise InvalidInputError(f"A head frame needs {_FEWEST} landmarks or more; {(given > 0).sum()} were found.")
    now = given
    for _ in range(_ROUNDS):
        matrix = _umeyama(source, target, now)
        off = np.linalg.norm(source @ matrix[:3, :3].T + matrix[:3, 3] - target, axis=1)
        if not np.isfinite(outlier):
            break
        now = given / (1 + (off / outlier) ** 2)
    return matrix, off


def _umeyama(source: F64, target: F64, weights: F64) -> F64:
    w = (weights / weights.sum())[:, None]
    a, b = (w * source).sum(0), (w * target).sum(0)
    from_mean, to_mean = source - a, target - b
    u, singular, vt = np.linalg.svd((w * to_mean).T @ from_mean)
    if singular[1] < 1e-6 * singular[0] or singular[0] <= 0:
        raise InvalidInputError("The landmarks lie on a line; a head frame needs places all over the face.")
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * flip) @ vt
    scale = (singular * flip).sum() / (w * from_mean**2).sum()
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, b - scale * rotation @ a
    return matrix


def triangulate(points: F64, spread: F64, viewmats: F64, Ks: F64) -> tuple[F64, F64]:
    """3D places from 2D sightings, linear, then reweighted so that wrong sightings drop out.

    Args:
        points: [V, L, 2] pixels. spread: [V, L] expected errors, pixels; infinite where not seen.
        viewmats: [V, 4, 4]. Ks: [V, 3, 3].

    Returns:
        [L, 3] in the cameras' world, and [L] mean reprojection error in units of `spread`; infinite where a place was
        seen by fewer than two cameras.
    """
    projections = Ks @ viewmats[:, :3]  # [V, 3, 4]
    # Two equations a sighting, x P3 - P1 and y P3 - P2: [V, L, 2, 4].
    rows = points[..., None] * projections[:, None, 2:3] - projections[:, None, :2]
    seen = np.isfinite(spread)
    trust = np.where(seen, 1 / np.where(seen, spread, 1.0), 0.0)
    depth, weight = np.ones_like(trust), trust
    for _ in range(_ROUNDS):
        scaled = np.where(seen[..., None, None], rows, 0.0) * (weight / depth)[..., None, None]
        system = np.swapaxes(scaled, 0, 1).reshape(points.shape[1], -1, 4)
        homogeneous = np.linalg.svd(system)[2][:, -1]
        safe = np.where(np.abs(homogeneous[:, 3:]) < 1e-12, 1e-12, homogeneous[:, 3:])
        places = homogeneous[:, :3] / safe
        cast = np.einsum("vij,lj->vli", projections, np.concatenate([places, np.ones((len(places), 1))], 1))
        depth = np.where(np.abs(cast[..., 2]) < 1e-9, 1e-9, cast[..., 2])
        off = np.linalg.norm(cast[..., :2] / depth[..., None] - np.where(seen[..., None], points, 0.0), axis=-1) * trust
        weight = trust / (1 + (off / 3.0) ** 2)
    count = seen.sum(0)
    error = np.where(seen, off, 0.0).sum(0) / np.maximum(count, 1)
    return places, np.where(count >= _FEWEST_VIEWS, error, np.inf)


def rig_frame(viewmats: F64) -> F64:
    """The head frame [4, 4] that cameras [V, 4, 4] in metres suggest: they look at the head, from in front, upright.

    Raises:
        InvalidInputError: Fewer than two cameras, or they stand all around, so that no side is the front.
    """
    rotations, centers = viewmats[:, :3, :3], camera_centers(viewmats)
    axes = rotations[:, 2]
    if len(axes) < _FEWEST_VIEWS:
        raise InvalidInputError("One camera alone does not tell where the head is; write headlift_pose.json.")
    across = np.eye(3) - axes[:, :, None] * axes[:, None]
    middle = np.linalg.lstsq(across.reshape(-1, 3), np.einsum("vij,vj->vi", across, centers).ravel(), rcond=None)[0]
    up = -rotations[:, 1].mean(0)
    forward = -axes.mean(0)
    side = np.cross(up, forward)
    if np.linalg.norm(side) < 0.2:
        raise InvalidInputError("The cameras stand all around; which side is the face needs headlift_pose.json.")
    x = side / np.linalg.norm(side)
    y = up / np.linalg.norm(up)
    y = (y - (y @ x) * x) / np.linalg.norm(y - (y @ x) * x)
    rotation = np.stack([x, y, np.cross(x, y)])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, np.array(HEAD_CENTER) - rotation @ middle
    return matrix


def camera_centers(viewmats: F64) -> F64:
    """Where cameras [V, 4, 4] stand, [V, 3]."""
    return np.asarray(-np.einsum("vji,vj->vi", viewmats[:, :3, :3], viewmats[:, :3, 3]))


def facing_degrees(viewmats: F64) -> F64:
    """Angle [V] between the face's axis and the way to each camera [V, 4, 4], degrees; 180 is behind the head."""
    offset = camera_centers(viewmats) - np.array(HEAD_CENTER)
    return np.asarray(np.degrees(np.arccos(np.clip(offset[:, 2] / np.linalg.norm(offset, axis=1), -1, 1))))

"""Makes the rig of a checkpoint's template: `python -m headlift_trainer.synthetic.rig --assets DIR --out FILE`.

ICT-FaceKit's 53 expressions (MIT) lie on the generator's mesh; the generator's correspondence says where each anchor of
the template lies on it. Carried over, they are made symmetric, anchors between the lips are given to one lip, and edges
of the neighbour graph that any expression tears are cut. Teeth, gums with the tongue, the mouth's socket and eyeballs
come from ICT's own meshes as Gaussians that exist only while a head is driven.

Legend: N anchors, M inner Gaussians, E expressions.
"""

from __future__ import annotations

import argparse
import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy.spatial import cKDTree

from headlift.model.checkpoint import load_checkpoint
from headlift.model.drive.rig import EXPRESSIONS, INNER_PARTS, MAX_INNER, RADIUS_STEP, STORED, mirrored_name
from headlift.model.template import Region, Template
from headlift_trainer.synthetic.base.assets import MakeHumanAssets
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.prepare import correspondence_with_assets, load_correspondence, save_correspondence
from headlift_trainer.synthetic.source.expressions import EXPRESSIONS as ICT_EXPRESSIONS
from headlift_trainer.synthetic.source.ict.model import (
    GUMS,
    LOWER_TEETH,
    MOUTH_SOCKET,
    SCLERA_L,
    UPPER_TEETH,
    IctModel,
    fit_sphere,
)
from headlift_trainer.synthetic.source.ict.registration import skin_count
from headlift_trainer.synthetic.source.ict.shapes import IctShapes
from headlift_trainer.synthetic.targets import Correspondence

_Array = NDArray[np.floating]

TEARS = 1.5  # stretch of a neighbour edge, relative to its length, above which frames must not see it
_LIP_Y = -0.0420  # m, where the lips of ICT's mean face meet
_LOWER, _UPPER = 0.8, 0.25  # shares of the lower lip's motion under jawOpen that tell the lips apart
_SPACING = {"upper_teeth": 0.0018, "lower_teeth": 0.0018, "gums": 0.0039, "socket": 0.0048}  # m
_EYE_SPACING = 0.0016  # m
_IRIS, _PUPIL = 0.0060, 0.0024  # m, radii
_SUNK = 0.0035  # m, how far an eyeball's anchors sink under a closed lid
_NECK = (-0.150, -0.090)  # m, below the lower end the body stays, above the upper end all turns with the head

_PARTS = {"upper_teeth": UPPER_TEETH, "lower_teeth": LOWER_TEETH, "gums": GUMS, "socket": MOUTH_SOCKET}
_BASE_COLORS = {
    "upper_teeth": (0.80, 0.74, 0.66), "lower_teeth": (0.74, 0.68, 0.60), "gums": (0.55, 0.27, 0.26),
    "socket": (0.20, 0.06, 0.06), "sclera": (0.82, 0.79, 0.76), "iris": (0.28, 0.20, 0.13), "pupil": (0.03, 0.03, 0.03),
}  # fmt: skip


@dataclass(frozen=True)
class InnerParts:
    """The x >= 0 half and its mirror image; the second half's row i + M/2 mirrors row i."""

    points: _Array  # [M, 3] m, the template's frame
    normals: _Array  # [M, 3] unit
    radii: _Array  # [M] m, spacing of the part
    colors: _Array  # [M, 3] 0..1, of bright skin, in good light
    parts: NDArray[np.uint8]  # [M], index into INNER_PARTS
    basis: _Array  # [E, M, 3] m


def carried(correspondence: Correspondence, offsets: _Array) -> _Array:
    """Offsets [E, V, 3] of the generator's mesh at the anchors, [E, N, 3] m."""
    out = np.zeros((len(offsets), len(correspondence.triangles), 3), np.float32)
    for k in range(3):
        out += correspondence.barycentric[:, k, None].astype(np.float32) * offsets[:, correspondence.triangles[:, k]]
    return out


def made_symmetric(basis: _Array, mirror: NDArray[np.int64]) -> _Array:
    """The mean of a basis [E, N, 3] and its mirror image: a left shape is then the mirrored right one."""
    swap = [EXPRESSIONS.index(mirrored_name(name)) for name in EXPRESSIONS]
    return np.asarray((basis + basis[swap][:, mirror] * np.array([-1, 1, 1], np.float32)) / 2, np.float32)


def lips_parted(basis: _Array, on_face: _Array) -> _Array:
    """A basis whose anchors between the lips move with one of them: half of the jaw's motion tears the mouth.

    `on_face` [N, 3] m is where the anchors lie on the mean face, lips shut. It tells the lips apart where the template
    does not: some anchors of its upper lip lie on faces' lower lip.
    """
    jaw = np.linalg.norm(basis[EXPRESSIONS.index("jawOpen")], axis=1)
    height = on_face[:, 1] - _LIP_Y
    mouth = (np.abs(on_face[:, 0]) < 0.0235) & (np.abs(height) < 0.012) & (on_face[:, 2] > 0.045)
    share = jaw / np.percentile(jaw[mouth], 90)
    between = np.flatnonzero(mouth & (share > _UPPER) & (share < _LOWER) & (np.abs(height) < 0.006))
    upper, lower = np.flatnonzero(mouth & (share <= _UPPER)), np.flatnonzero(mouth & (share >= _LOWER))
    to_upper, near_upper = cKDTree(on_face[upper]).query(on_face[between])
    to_lower, near_lower = cKDTree(on_face[lower]).query(on_face[between])
    source = np.arange(len(on_face))
    source[between] = np.where(to_upper < to_lower, upper[near_upper], lower[near_lower])
    return basis[:, source]


def eyeballs_sunk(basis: _Array, anchors: _Array, eyeball: NDArray[np.bool_]) -> _Array:
    """A basis under whose eyeBlink the anchors on the eyeball sink, so that wide ones do not pierce the lid."""
    basis = basis.copy()
    for name, side in (("eyeBlink_L", 1), ("eyeBlink_R", -1)):
        own = eyeball & (anchors[:, 0] * side > 0)
        rays = anchors[own] - (anchors[own].mean(0) - [0, 0, 0.010])
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        basis[EXPRESSIONS.index(name)][own] -= np.float32(_SUNK) * rays
    return basis


def torn_edges(basis: _Array, template: Template) -> NDArray[np.bool_]:
    """[N, 8], which edges to neighbours some expression stretches by more than `TEARS` of their length."""
    anchors, neighbors = template.anchors.numpy(), template.neighbors.numpy()
    length = np.maximum(np.linalg.norm(anchors[neighbors] - anchors[:, None], axis=-1), 2e-4)
    worst = np.zeros(length.shape, np.float32)
    for shape in basis:
        np.maximum(worst, np.linalg.norm(shape[neighbors] - shape[:, None], axis=-1) / length, out=worst)
    return worst > TEARS


def make_inner(model: IctModel, to_template: tuple[float, _Array, _Array]) -> InnerParts:
    """Inner parts from ICT's meshes; `to_template` is the similarity (scale, turn, shift) of mouth and eyes."""
    scale, turn, shift = to_template
    points, normals, radii, colors, parts, basis = [], [], [], [], [], []
    rng = np.random.default_rng(0)
    for name, part in _PARTS.items():
        where, normal, moved = _sampled(model, part, _SPACING[name], rng)
        if name == "socket":
            normal = -normal  # it is seen from inside
        keep = (where[:, 0] >= 0) & ((normal[:, 2] > -0.3) | ("teeth" not in name))
        where, normal, moved = where[keep], normal[keep], moved[:, keep]
        points.append(where)
        normals.append(normal)
        basis.append(moved)
        radii.append(np.full(len(where), _SPACING[name]))
        depth = np.clip((where[:, 2:] - 0.015) / 0.045, 0.12, 1.0) * (0.8 if name == "socket" else 1.0)
        colors.append(np.array(_BASE_COLORS[name]) * depth)
        parts.append(np.full(len(where), INNER_PARTS.index(name)))
    center, radius = fit_sphere(model.neutral[SCLERA_L])
    where, normal, color = _eyeball(center, radius)
    points.append(where)
    normals.append(normal)
    colors.append(color)
    radii.append(np.full(len(where), _EYE_SPACING))
    parts.append(np.full(len(where), INNER_PARTS.index("eye")))
    basis.append(np.zeros((len(EXPRESSIONS), len(where), 3)))
    flip = np.array([-1.0, 1.0, 1.0])
    swap = [EXPRESSIONS.index(mirrored_name(name)) for name in EXPRESSIONS]
    half_points, half_normals = np.concatenate(points) * scale @ turn.T + shift, np.concatenate(normals) @ turn.T
    half_basis = np.concatenate(basis, 1) * scale @ turn.T
    return InnerParts(
        np.concatenate([half_points, half_points * flip]).astype(np.float32),
        np.concatenate([half_normals, half_normals * flip]).astype(np.float32),
        np.tile(np.concatenate(radii) * scale, 2).astype(np.float32),
        np.tile(np.concatenate(colors), (2, 1)).astype(np.float32),
        np.tile(np.concatenate(parts), 2).astype(np.uint8),
        np.concatenate([half_basis, half_basis[swap] * flip], 1).astype(np.float32),
    )


def similarity(source: _Array, target: _Array) -> tuple[float, _Array, _Array]:
    """Scale, turn [3, 3] and shift [3] that take points to others best: target ~ scale * source @ turn.T + shift."""
    from_mean, to_mean = source.mean(0), target.mean(0)
    a, b = source - from_mean, target - to_mean
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = float((s * sign).sum() / (a**2).sum())
    return scale, turn, to_mean - scale * turn @ from_mean


def _sampled(model: IctModel, part: slice, spacing: float, rng: np.random.Generator) -> tuple[_Array, _Array, _Array]:
    """Points [K, 3], normals [K, 3] and offsets [E, K, 3] on a part of ICT's mesh, no two nearer than `spacing`."""
    triangles = model.triangles_of(part)
    corners = model.neutral[triangles].astype(np.float64)
    crossed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(crossed, axis=1)
    picked = rng.choice(len(triangles), int(area.sum() / spacing**2 * 5) + 500, p=area / area.sum())
    weights = rng.random((len(picked), 2))
    over = weights.sum(1) > 1
    weights[over] = 1 - weights[over]
    weights = np.concatenate([1 - weights.sum(1, keepdims=True), weights], 1)
    points = np.einsum("mk,mkd->md", weights, corners[picked])
    pairs = cKDTree(points).query_ball_point(points, spacing)
    free, keep = np.ones(len(points), bool), []
    for i, near in enumerate(pairs):
        if free[i]:
            keep.append(i)
            free[near] = False
    picked, weights = picked[keep], weights[keep]
    moved = np.einsum("mk,emkd->emd", weights, model.expression[:, triangles[picked]])
    order = [ICT_EXPRESSIONS.index(name) for name in EXPRESSIONS]
    return points[keep], crossed[picked] / (area[picked, None] + 1e-12), moved[order]


def _eyeball(center: _Array, radius: float) -> tuple[_Array, _Array, _Array]:
    """Points, normals and colours of the left eyeball's front, the iris looking along +Z."""
    count = int(2 * np.pi * radius**2 * 0.85 / _EYE_SPACING**2)
    k = np.arange(count) + 0.5
    z = 1 - 0.85 * k / count  # even by area on the cap
    angle = k * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - z**2)
    rays = np.stack([flat * np.cos(angle), flat * np.sin(angle), z], 1)
    out = flat * radius
    color = np.where(out[:, None] < _IRIS, _BASE_COLORS["iris"], _BASE_COLORS["sclera"])
    color = np.where(out[:, None] < _PUPIL, _BASE_COLORS["pupil"], color)
    color = color * np.where((out > 0.87 * _IRIS) & (out < _IRIS), 0.55, 1.0)[:, None]  # the ring around the iris
    return center + radius * rays, rays, color


def quantized(basis: _Array) -> tuple[NDArray[np.int8], _Array]:
    """Steps int8 [S, 3, N] of the STORED shapes, and the size [S] m of a step."""
    chosen = basis[[EXPRESSIONS.index(name) for name in STORED]]
    step = np.maximum(np.abs(chosen).max((1, 2)) / 127, 1e-9)
    steps = np.rint(chosen / step[:, None, None]).astype(np.int8)
    return np.ascontiguousarray(steps.transpose(0, 2, 1)), step.astype(np.float32)


def make_rig(
    template: Template, correspondence: Correspondence, shapes: IctShapes, topology: Topology
) -> dict[str, torch.Tensor]:
    """The tensors of a rig file."""
    anchors = template.anchors.numpy()
    order = [ICT_EXPRESSIONS.index(name) for name in EXPRESSIONS]
    basis = made_symmetric(carried(correspondence, shapes.expression[order]), template.mirror.numpy())
    on_ict = correspondence.points((topology.mean + shapes.mean_offset).astype(np.float64))
    basis = lips_parted(basis, on_ict)
    eyeball = np.asarray((correspondence.triangles >= skin_count(topology)).any(1))
    basis = eyeballs_sunk(basis, anchors, eyeball)
    regions = template.regions.numpy()
    near = (np.linalg.norm(anchors - [0, -0.045, 0.06], axis=1) < 0.035) | (regions == Region.MOUTH)
    inner = make_inner(shapes.model, similarity(on_ict[near], anchors[near]))
    assert len(inner.points) <= MAX_INNER, f"{len(inner.points)} inner Gaussians"
    steps, step = quantized(basis)
    inner_steps, inner_step = quantized(inner.basis)
    t = np.clip((anchors[:, 1] + 0.3 * np.maximum(anchors[:, 2], 0) - _NECK[0]) / (_NECK[1] - _NECK[0]), 0, 1)
    turning = t * t * (3 - 2 * t) * (regions != Region.SHOULDERS)
    arrays = {
        "basis": steps,
        "torn": np.packbits(torn_edges(basis, template)),
        "eyeball": np.packbits(eyeball),
        "turning": np.rint(turning * 255).astype(np.uint8),
        "inner_basis": inner_steps,
        "inner_points": inner.points.astype(np.float16).view(np.uint8),
        "inner_normals": np.rint(inner.normals * 127).astype(np.int8),
        "inner_colors": np.rint(np.clip(inner.colors, 0, 1) * 255).astype(np.uint8),
        "inner_radii": np.rint(inner.radii / RADIUS_STEP).astype(np.uint8),
        "inner_parts": inner.parts,
    }
    tensors = {name: torch.frombuffer(bytearray(_packed(array)), dtype=torch.uint8) for name, array in arrays.items()}
    return tensors | {"step": torch.from_numpy(step), "inner_step": torch.from_numpy(inner_step)}


def _packed(array: NDArray[np.generic]) -> bytes:
    return lzma.compress(np.ascontiguousarray(array).tobytes(), preset=9 | lzma.PRESET_EXTREME)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, required=True, help="folder with MakeHuman's and ICT-FaceKit's assets")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True, help="weights whose template the rig is for")
    parser.add_argument("--correspondence", type=Path, help="where the fit is kept, and found again")
    args = parser.parse_args(argv)
    template = load_checkpoint(args.checkpoint)[0].template
    kept: Path | None = args.correspondence
    if kept is not None and kept.exists():
        correspondence = load_correspondence(kept, template)
    else:
        correspondence = correspondence_with_assets(template, args.assets)
        if kept is not None:
            save_correspondence(kept, correspondence, template)
    assets = MakeHumanAssets(args.assets)
    topology = Topology(assets)
    shapes = IctShapes(args.assets, assets, topology)
    tensors = make_rig(template, correspondence, shapes, topology)
    save_file(
        tensors, args.out, metadata={"template": template.sha256, "license": "MIT (ICT-FaceKit), CC0 (MakeHuman)"}
    )
    print(f"{args.out}: {args.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

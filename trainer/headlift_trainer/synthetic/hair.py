"""Hair: MakeHuman's styles fitted, flipped, scaled and lengthened, and crops grown from the scalp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.assets import Floats, MakeHumanAssets
from headlift_trainer.synthetic.compiled import ALPHA_TEXTURE, KIND_HAIR
from headlift_trainer.synthetic.identity import Person
from headlift_trainer.synthetic.scene import Part, vertex_normals
from headlift_trainer.synthetic.shells import Body
from headlift_trainer.synthetic.surfaces import cropped_hair_part
from headlift_trainer.synthetic.textures import TextureAtlas
from headlift_trainer.synthetic.topology import HAIR, Frame, smooth_noise, smoothstep

GROWN = ("bald", "shaved", "buzz", "crew", "curly", "afro")
HAIR_POINTS = 20_000
_CENTER = np.array([0.0, 0.045, -0.035], np.float32)  # m, middle of the skull


@dataclass(frozen=True)
class Hair:
    """Hair of one head. Legend: N base vertices."""

    style: str
    part: Part | None
    points: Floats  # [HAIR_POINTS, 3] m on opaque hair; [0, 3] where there is no hair mesh
    scalp: Floats  # [N] 0..1, how much of the skin takes the hair's colour
    texture: str | None


def sample_hair(
    rng: np.random.Generator,
    person: Person,
    body: Body,
    shape: Floats,
    frame: Frame,
    assets: MakeHumanAssets,
    atlas: TextureAtlas,
) -> Hair:
    """Draw and fit a hair style. `shape` [N, 3] dm is the head that proxies are fitted to."""
    topology = body.topology
    hairline = topology.hairline.copy()
    receding = person.is_male and rng.random() < 0.15 + 0.35 * max(0.0, 2 * person.age - 1)
    if receding:
        hairline = _receded(topology.mean, hairline, rng)
    style = _draw_style(rng, person, assets.proxy_names("hair"))
    if style in ("bald", "shaved"):
        scalp = smoothstep(-0.004, 0.012, hairline) * (0.0 if style == "bald" else rng.uniform(0.25, 0.75))
        return Hair(style, None, np.zeros((0, 3), np.float32), np.asarray(scalp, np.float32), None)
    if style in GROWN:
        length, curl = {
            "buzz": (rng.uniform(0.003, 0.006), 0.0),
            "crew": (rng.uniform(0.008, 0.018), rng.uniform(0.05, 0.5)),
            "curly": (rng.uniform(0.020, 0.040), rng.uniform(0.6, 1.0)),
            "afro": (rng.uniform(0.035, 0.085), rng.uniform(0.5, 0.9)),
        }[style]
        part = cropped_hair_part(body, length, curl, hairline, rng)
        return Hair(style, part, _points_on(part, None, atlas, rng), smoothstep(-0.002, 0.008, hairline), None)
    texture = f"hair/{style}"
    part = _fitted(rng, style, shape, frame, assets)
    points = _points_on(part, texture, atlas, rng)
    distance, _ = cKDTree(points).query(body.vertices, distance_upper_bound=0.06)
    scalp = smoothstep(-0.004, 0.008, topology.hairline) * smoothstep(0.045, 0.025, np.minimum(distance, 0.06))
    return Hair(style, part, points, np.asarray(scalp, np.float32), texture)


def _draw_style(rng: np.random.Generator, person: Person, fitted: list[str]) -> str:
    old = max(0.0, 2 * person.age - 1)
    weights = {
        name: (1.0 if "short" in name or not person.is_male else 0.2) * (0.8 if "short" in name else 1.0)
        for name in fitted
    }
    male = person.is_male
    weights |= {
        "bald": (0.15 + 0.5 * old) if male else 0.06,
        "shaved": 0.4 if male else 0.08,
        "buzz": 0.7 if male else 0.1,
    }
    weights |= {"crew": 0.9 if male else 0.15, "curly": 0.5, "afro": 0.25 + 0.5 * person.descent.get("african", 0.0)}
    names = list(weights)
    share = np.array([weights[name] for name in names])
    return str(names[rng.choice(len(names), p=share / share.sum())])


def _receded(mean: Floats, hairline: Floats, rng: np.random.Generator) -> Floats:
    """A higher hairline at the temples, and now and then a bare crown."""
    x, y, z = mean.T
    front = smoothstep(-0.06, 0.02, z) * smoothstep(0.06, 0.09, y)
    temples = front * (0.3 + 0.7 * np.clip(np.abs(x) / 0.05, 0, 1)) * rng.uniform(0.01, 0.05)
    bare = rng.random() < 0.4
    crown = smoothstep(0.055, 0.02, np.linalg.norm(mean - np.array([0, 0.14, -0.07]), axis=1)) * (
        rng.uniform(0.04, 0.1) if bare else 0.0
    )
    return np.asarray(hairline - temples - crown, np.float32)


def _fitted(rng: np.random.Generator, style: str, shape: Floats, frame: Frame, assets: MakeHumanAssets) -> Part:
    proxy = assets.proxy("hair", style)
    triangles, uvs = proxy.mesh.triangles, proxy.mesh.corner_uvs
    offset = frame.apply(proxy.fit(shape)) - _CENTER
    grow = np.array([rng.uniform(1.0, 1.10), rng.uniform(1.0, 1.12), rng.uniform(1.0, 1.10)]) - 1
    offset = offset * (1 + grow * smoothstep(-0.12, 0.03, offset[:, 1])[:, None])
    normals = vertex_normals(offset, triangles)
    offset = offset + rng.uniform(0.0, 0.004) * smooth_noise(offset, 45.0, rng)[:, None] * normals
    hanging = offset[:, 1] < -0.05
    offset[hanging, 1] = -0.05 + (offset[hanging, 1] + 0.05) * rng.uniform(0.6, 1.25)
    waves = rng.random() < 0.4
    if waves:
        below = smoothstep(0.0, -0.12, offset[:, 1])[:, None]
        offset = (
            offset
            + below
            * rng.uniform(0.002, 0.007)
            * np.sin(offset[:, 1:2] * rng.uniform(60, 160) + rng.uniform(0, 6.28))
            * normals
        )
    if rng.random() < 0.5:
        offset = offset * np.array([-1, 1, 1])
        triangles, uvs = triangles[:, ::-1], uvs[:, ::-1]
    vertices = np.asarray(offset + _CENTER, np.float32)
    # cards have normals of their own every which way: lean them outward, as light falls on hair as on a volume
    normals = vertex_normals(vertices, triangles)
    outward = np.asarray(offset / (np.linalg.norm(offset, axis=1, keepdims=True) + 1e-9), np.float32)
    normals = normals * np.where((normals * outward).sum(1, keepdims=True) < 0, -1, 1)
    normals = 0.55 * normals + 0.45 * outward
    return Part(
        "hair",
        vertices,
        np.ascontiguousarray(triangles),
        np.ascontiguousarray(uvs),
        np.full(len(vertices), HAIR, np.uint8),
        kind=KIND_HAIR,
        alpha=ALPHA_TEXTURE,
        normals=np.asarray(normals / np.linalg.norm(normals, axis=1, keepdims=True), np.float32),
        fade=_cut_fringe(vertices, rng) if rng.random() < 0.85 else None,
    )


def _cut_fringe(vertices: Floats, rng: np.random.Generator) -> Floats:
    """Opacity [V] of hair that is cut above the eyes: three of MakeHuman's styles hide one."""
    x, y, z = vertices.T
    height = rng.uniform(0.042, 0.080) + rng.uniform(-0.4, 0.4) * x
    inside = np.minimum(np.minimum(height - y, z - 0.025), 0.062 - np.abs(x))
    return np.asarray(0.5 - inside / 0.008, np.float32)


def _points_on(part: Part, texture: str | None, atlas: TextureAtlas, rng: np.random.Generator) -> Floats:
    """HAIR_POINTS random points on the part, evenly by area, where it is more than 0.4 opaque; [HAIR_POINTS, 3] m."""
    corners = part.vertices[part.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    count = 3 * HAIR_POINTS
    chosen = rng.choice(len(area), count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], 1).astype(np.float32)
    opacity = np.ones(count, np.float32)
    if part.fade is not None:
        opacity = np.clip((weights * part.fade[part.triangles[chosen]]).sum(1), 0, 1)
    if texture is not None:
        opacity = opacity * atlas.opacity(texture, np.einsum("nk,nkd->nd", weights, part.uvs[chosen]))
    solid = np.flatnonzero(opacity > 0.4)
    if not len(solid):
        return np.zeros((0, 3), np.float32)
    solid = solid[:HAIR_POINTS] if len(solid) >= HAIR_POINTS else rng.choice(solid, HAIR_POINTS)
    return np.asarray(np.einsum("nk,nkd->nd", weights[solid], corners[chosen[solid]]), np.float32)

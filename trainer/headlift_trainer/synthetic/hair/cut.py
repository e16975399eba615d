"""Hair: which style a person wears; MakeHuman's styles fitted, flipped, scaled and lengthened; crops and our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.assets import MakeHumanAssets
from headlift_trainer.synthetic.base.identity import Person
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.base.textures import TextureAtlas
from headlift_trainer.synthetic.base.topology import Frame
from headlift_trainer.synthetic.classes import HAIR
from headlift_trainer.synthetic.hair.cropped import cropped_hair_part
from headlift_trainer.synthetic.hair.strands import Strands, strands_of
from headlift_trainer.synthetic.hair.styles import OWN_STYLES, grow_style
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import ALPHA_TEXTURE, KIND_HAIR
from headlift_trainer.synthetic.render.scene import Part, vertex_normals
from headlift_trainer.synthetic.wear.hats import Hat, tucked

GROWN = ("bald", "shaved", "buzz", "crew", "curly", "afro")
HAIR_POINTS = 20_000
_CENTER = np.array([0.0, 0.045, -0.035], np.float32)  # m, middle of the skull


@dataclass(frozen=True)
class Hair:
    """Hair of one head. Legend: N base vertices."""

    style: str
    parts: tuple[Part, ...]
    textures: tuple[str | None, ...]  # per part
    strands: tuple[Strands, ...]  # per part
    points: Floats  # [HAIR_POINTS, 3] m on opaque hair; [0, 3] where there is no hair mesh
    scalp: Floats  # [N] 0..1, how much of the skin takes the hair's colour
    length: str  # bald, shaved, short, medium or long
    curl: str  # straight, wavy, curly or coily
    receding: bool = False


def sample_hair(
    rng: np.random.Generator,
    person: Person,
    body: Body,
    shape: Floats,
    frame: Frame,
    assets: MakeHumanAssets,
    atlas: TextureAtlas,
    worn: Sequence[Part] = (),
) -> Hair:
    """Draw and make a hair style. `shape` [N, 3] dm is the head that MakeHuman's styles are fitted to; hair that is
    long enough lies on the clothes `worn`.
    """
    topology = body.topology
    hairline = topology.hairline + np.float32(0.002) * smooth_noise(topology.mean, 150.0, rng)
    above = smoothstep(0.06, 0.09, topology.mean[:, 1])
    hairline = np.asarray(hairline + rng.uniform(-0.006, 0.004) * above, np.float32)
    receding = person.is_male and rng.random() < 0.15 + 0.5 * max(0.0, 2 * person.age - 1)
    if receding:
        hairline = _receded(topology.mean, hairline, rng)
    style = _draw_style(rng, person, assets.proxy_names("hair"))
    grown = smoothstep(-0.002, 0.008, hairline)
    empty = np.zeros((0, 3), np.float32)
    if style in ("bald", "shaved"):
        scalp = smoothstep(-0.004, 0.012, hairline) * (0.0 if style == "bald" else rng.uniform(0.25, 0.75))
        return Hair(style, (), (), (), empty, np.asarray(scalp, np.float32), style, "straight", receding)
    if style in GROWN:
        length, curl = _draw_crop(style, rng)
        part = cropped_hair_part(body, length, curl, hairline, rng)
        points = points_on([part], [None], atlas, rng)
        name = "short" if length < 0.05 else "medium"
        kind = "straight" if curl < 0.3 else "coily"
        return Hair(style, (part,), (None,), (strands_of(part, rng),), points, grown, name, kind, receding)
    if style in OWN_STYLES:
        made = grow_style(style, body, hairline, rng, male=person.is_male, worn=worn)
        parts, textures, strands = tuple(zip(*made.parts, strict=True)) or ((), (), ())
        if made.parting is not None:
            grown = np.asarray(grown * (1 - 0.75 * made.parting), np.float32)
        name = "short" if made.length < 0.09 else "medium" if made.length < 0.25 else "long"
        points = points_on(parts, textures, atlas, rng)
        return Hair(style, parts, textures, strands, points, grown, name, made.curl, receding)
    texture = f"hair/{style}"
    part = _fitted(rng, style, shape, frame, assets)
    points = points_on([part], [texture], atlas, rng)
    distance, _ = cKDTree(points).query(body.vertices, distance_upper_bound=0.06)
    scalp = smoothstep(-0.004, 0.008, topology.hairline) * smoothstep(0.045, 0.025, np.minimum(distance, 0.06))
    name = "short" if "short" in style else "medium" if "bob" in style else "long"
    return Hair(
        style, (part,), (texture,), (strands_of(part, rng),), points, np.asarray(scalp, np.float32), name, "straight"
    )


def _draw_crop(style: str, rng: np.random.Generator) -> tuple[float, float]:
    """Length in metres and curl 0..1 of hair that stands off the scalp."""
    length, curl = {
        "buzz": (rng.uniform(0.002, 0.006), 0.0),
        "crew": (rng.uniform(0.008, 0.018), rng.uniform(0.05, 0.5)),
        "curly": (rng.uniform(0.020, 0.040), rng.uniform(0.6, 1.0)),
        "afro": (rng.uniform(0.035, 0.085), rng.uniform(0.5, 0.9)),
    }[style]
    return float(length), float(curl)


_STYLE_SHARES = {
    # men, women
    "bald": (0.05, 0.004),
    "shaved": (0.05, 0.006),
    "buzz": (0.09, 0.01),
    "crew": (0.05, 0.01),
    "curly": (0.02, 0.015),
    "afro": (0.008, 0.008),
    "strand short": (0.34, 0.08),
    "strand medium": (0.05, 0.15),
    "strand long": (0.04, 0.25),
    "strand curly": (0.04, 0.11),
    "strand afro": (0.03, 0.03),
    "twists": (0.03, 0.015),
    "dreadlocks": (0.02, 0.025),
    "bun": (0.005, 0.04),
    "high bun": (0.01, 0.02),
    "tail": (0.01, 0.05),
    "pigtails": (0.0, 0.01),
}
_FITTED_SHARE = (0.13, 0.15)  # of all of MakeHuman's styles together


def _draw_style(rng: np.random.Generator, person: Person, fitted: list[str]) -> str:
    column = 0 if person.is_male else 1
    old = max(0.0, 2 * person.age - 1)
    african = person.descent.get("african", 0.0)
    weights = {name: shares[column] for name, shares in _STYLE_SHARES.items()}
    weights["bald"] *= 1 + 4 * old
    for name in ("afro", "strand afro", "twists", "dreadlocks"):
        weights[name] *= 0.4 + 1.8 * african
    for name in ("strand long", "dreadlocks", "pigtails", "tail"):
        weights[name] *= 1 - 0.6 * old
    for name in ("strand short", "curly"):
        weights[name] *= 1 + 1.5 * old
    plain = {name: (1.0 if "short" in name or not person.is_male else 0.1) for name in fitted}
    weights |= {name: _FITTED_SHARE[column] * share / sum(plain.values()) for name, share in plain.items()}
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
        fade=_cut_fringe(vertices, rng) if rng.random() < 0.93 else None,
    )


def _cut_fringe(vertices: Floats, rng: np.random.Generator) -> Floats:
    """Opacity [V] of hair that is cut above the eyes: three of MakeHuman's styles hide one."""
    x, y, z = vertices.T
    height = rng.uniform(0.042, 0.080) + rng.uniform(-0.4, 0.4) * x
    inside = np.minimum(np.minimum(height - y, z - 0.025), 0.062 - np.abs(x))
    return np.asarray(0.5 - inside / 0.008, np.float32)


def under_hat(hair: Hair, hat: Hat, atlas: TextureAtlas, rng: np.random.Generator) -> Hair:
    """The hair below a hat; the hat counts as hair where points are concerned, so that anchors are lifted onto it."""
    if not hat.parts:
        return hair
    kept = [
        (tucked(part, hat), texture, strands)
        for part, texture, strands in zip(hair.parts, hair.textures, hair.strands, strict=True)
        if hat.hides(part.vertices).min(initial=1.0) < 0.9
    ]
    parts, textures, strands = (tuple(column) for column in zip(*kept, strict=True)) if kept else ((), (), ())
    points = points_on((*parts, *hat.parts), (*textures, *(None for _ in hat.parts)), atlas, rng)
    return replace(hair, parts=parts, textures=textures, strands=strands, points=points)


def points_on(
    parts: Sequence[Part], textures: Sequence[str | None], atlas: TextureAtlas, rng: np.random.Generator
) -> Floats:
    """HAIR_POINTS random points on the parts, even by area, where they are more than 0.4 opaque; [0, 3] if nowhere."""
    areas, total = [], 0.0
    for part in parts:
        corners = part.vertices[part.triangles]
        area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        areas.append(area)
        total += float(area.sum())
    found = []
    for part, texture, area in zip(parts, textures, areas, strict=True):
        count = int(3 * HAIR_POINTS * float(area.sum()) / max(total, 1e-12)) + 1
        if not area.sum() > 0:
            continue
        chosen = rng.choice(len(area), count, p=area / area.sum())
        u, v = np.sqrt(rng.random(count)), rng.random(count)
        weights = np.stack([1 - u, u * (1 - v), u * v], 1).astype(np.float32)
        opacity = np.ones(count, np.float32)
        if part.fade is not None:
            opacity = np.clip((weights * part.fade[part.triangles[chosen]]).sum(1), 0, 1)
        if texture is not None:
            opacity = opacity * atlas.opacity(texture, np.einsum("nk,nkd->nd", weights, part.uvs[chosen]))
        solid = opacity > 0.4
        corners = part.vertices[part.triangles[chosen[solid]]]
        found.append(np.einsum("nk,nkd->nd", weights[solid], corners))
    points = np.concatenate(found) if found else np.zeros((0, 3), np.float32)
    if not len(points):
        return np.zeros((0, 3), np.float32)
    kept = rng.choice(len(points), HAIR_POINTS, replace=len(points) < HAIR_POINTS)
    return np.asarray(points[kept], np.float32)

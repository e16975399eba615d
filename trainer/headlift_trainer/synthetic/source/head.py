"""One synthetic head: geometry in the canonical frame, ready to be dressed in any skin, colours and light.

Legend: N base vertices (19,158 in MakeHuman's mesh), V scene vertices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.base.assets import MakeHumanAssets
from headlift_trainer.synthetic.base.identity import Person, add_expression, neutral_shape, sample_person
from headlift_trainer.synthetic.base.shells import Body, skin_part
from headlift_trainer.synthetic.base.textures import TextureAtlas
from headlift_trainer.synthetic.base.topology import Frame, Topology
from headlift_trainer.synthetic.classes import BROW_L, BROW_R, EYE_L, EYE_R, HAIR, MOUTH
from headlift_trainer.synthetic.hair.beards import Beard, sample_beard
from headlift_trainer.synthetic.hair.cut import Hair, sample_hair, under_hat
from headlift_trainer.synthetic.hair.strands import Strands
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import ALPHA_NONE, ALPHA_TEXTURE, KIND_EYE
from headlift_trainer.synthetic.render.scene import Part, Scene
from headlift_trainer.synthetic.skin.blemishes import SkinChart
from headlift_trainer.synthetic.wear.accessories import Accessories, sample_accessories
from headlift_trainer.synthetic.wear.garments import Garment, sample_garment
from headlift_trainer.synthetic.wear.hats import Hat, sample_hat

# how often a kind of brows is drawn; the others' frown stays visible
_BROWS = {
    f"eyebrow{number:03d}": share for number, share in ((1, 1.0), (6, 0.7), (8, 0.6), (9, 0.8), (10, 0.6), (12, 1.0))
}


class HeadAssets:
    """Everything that heads are made from; read once, shared by all heads of a process."""

    def __init__(self, root: Path) -> None:
        self.makehuman = MakeHumanAssets(root)

    @cached_property
    def topology(self) -> Topology:
        """Regions of the base mesh."""
        return Topology(self.makehuman)

    @cached_property
    def atlas(self) -> TextureAtlas:
        """All textures."""
        return TextureAtlas(self.makehuman, self.topology)

    @cached_property
    def chart(self) -> SkinChart:
        """Where blemishes are painted."""
        return SkinChart.of(self.topology)


@dataclass(frozen=True)
class HeadMesh:
    """Geometry of one head and what was drawn for it."""

    seed: int
    person: Person
    scene: Scene  # baked
    base_vertices: Floats  # [N, 3] m, every vertex of the base mesh with expression (helpers included)
    hair: Hair
    beard: Beard
    garment: Garment
    part_textures: tuple[str | None, ...]  # per part; the skin's is drawn with each appearance
    flush: Floats  # [N] how much blood shows, relative to the mean of the face
    skin_index: Ints  # base vertex of each vertex of the part `skin`
    strands: dict[str, Strands]  # by part of hair or beard
    hat: Hat
    accessories: Accessories

    def attributes(self) -> dict[str, object]:
        """What a file says about the head."""
        return {
            "seed": self.seed,
            "maleness": self.person.maleness,
            "age": self.person.age,
            "age_years": round(self.person.age_years),
            "descent": self.person.descent,
            "expression": self.person.expression_name,
            "expression_units": self.person.expression,
            "gaze_deg": self.person.gaze_deg,
            "hair_style": self.hair.style,
            "hair_length": self.hair.length,
            "hair_curl": self.hair.curl,
            "receding": self.hair.receding,
            "beard": self.beard.style,
            "beard_length": self.beard.length_name,
            "garment": self.garment.style,
            "neckline": self.garment.neckline,
            "hat": self.hat.style,
            "glasses": self.accessories.glasses,
            "earrings": self.accessories.earrings,
            "necklace": self.accessories.necklace,
        }


def sample_head(seed: int, assets: HeadAssets) -> HeadMesh:
    """The head of a seed: the same seed gives the same head.

    The frame is that of the neutral face, so expressions never move the head (see `Topology.frame`).
    """
    rng = np.random.default_rng(seed)
    makehuman, topology = assets.makehuman, assets.topology
    person = sample_person(rng, makehuman)
    shape = neutral_shape(person, makehuman, rng)
    frame = topology.frame(shape)
    add_expression(shape, person, makehuman)
    body = Body.of(topology, frame.apply(shape))
    return _assembled(seed, assets, person, frame, (shape, body), (shape, body), lambda part: rng)


def perform_head(
    seed: int, assets: HeadAssets, pose: Callable[[Floats], None], gaze_deg: tuple[float, float]
) -> HeadMesh:
    """One head, another face: what is worn is drawn on the neutral body, every part from a stream of its own.

    It is the person of `sample_head`, with hair, clothes and brows of its own that are the same in every pose.

    Args:
        seed: Whose head.
        assets: What heads are made from.
        pose: Moves the base vertices [N, 3] dm out of the neutral face, in place.
        gaze_deg: Yaw and pitch of both eyes.
    """
    rng = np.random.default_rng(seed)
    makehuman, topology = assets.makehuman, assets.topology
    person = replace(sample_person(rng, makehuman), expression={}, expression_name="performed", gaze_deg=gaze_deg)
    shape = neutral_shape(person, makehuman, rng)
    frame = topology.frame(shape)
    neutral = shape.copy(), Body.of(topology, frame.apply(shape))
    pose(shape)
    posed = shape, Body.of(topology, frame.apply(shape))
    return _assembled(seed, assets, person, frame, posed, neutral, lambda part: np.random.default_rng([seed, 1 + part]))


def _assembled(
    seed: int,
    assets: HeadAssets,
    person: Person,
    frame: Frame,
    face: tuple[Floats, Body],
    worn_on: tuple[Floats, Body],
    stream: Callable[[int], np.random.Generator],
) -> HeadMesh:
    """All parts of a head: on `face` what moves with it, on `worn_on` what is worn; part i draws from stream i."""
    makehuman, topology = assets.makehuman, assets.topology
    (shape, body), (dressed_shape, dressed) = face, worn_on
    garment = sample_garment(stream(0), dressed)
    hair = sample_hair(stream(1), person, dressed, dressed_shape, frame, makehuman, assets.atlas, garment.parts)
    hat = sample_hat(stream(2), person, dressed)
    hair = under_hat(hair, hat, assets.atlas, stream(3))
    beard = sample_beard(stream(4), person, body)
    worn_things = sample_accessories(stream(5), person, dressed)
    skin = _skin(body, garment.cover, hair, beard.stubble)
    parts = [skin.compact(), *garment.parts, *_organs(stream(6), person, shape, frame, makehuman, body.vertices)]
    grown = (*beard.parts, *hair.parts)
    parts.extend((*grown, *hat.parts, *worn_things.parts))
    worn = {part.name: texture for part, texture in zip(grown, (*beard.textures, *hair.textures), strict=True)}
    strands = {part.name: own for part, own in zip(grown, (*beard.strands, *hair.strands), strict=True)}
    textures = [worn.get(part.name, part.name if "/" in part.name else None) for part in parts]
    scene = Scene(tuple(parts))
    rows = np.array([assets.atlas.row(name) for name in textures], np.int32)
    scene.bake(rows, assets.atlas.texels)
    return HeadMesh(
        seed, person, scene, body.vertices, hair, beard, garment, tuple(textures), _flush(topology, stream(7)),
        np.unique(skin.triangles).astype(np.int32), strands, hat, worn_things,
    )  # fmt: skip


def _skin(body: Body, cover: Floats, hair: Hair, stubble: Floats) -> Part:
    topology = body.topology
    classes = np.where(hair.scalp > 0.5, HAIR, topology.classes).astype(np.uint8)
    painted = np.maximum(hair.scalp, stubble)
    surface = np.zeros((len(body.vertices), 3), np.float32)
    grown = smoothstep(-0.01, 0.01, topology.hairline)
    surface[:, 0] = (1 - 0.9 * grown) * (1 - 0.7 * painted)  # scalps are painted with stubble: leave that to us
    surface[:, 1] = 0.55 * painted
    surface[:, 2] = 1 - 0.8 * painted
    lips = topology.upper_lip | topology.lower_lip
    surface[lips, 0] = 0.6
    surface[lips, 2] = 1.6
    surface[topology.mouth_inside] = (0.25, 0.0, 1.5)
    surface[topology.eye_socket] = (0.0, 0.0, 0.5)
    return skin_part(body, cover, classes, surface)


def _flush(topology: Topology, rng: np.random.Generator) -> Floats:
    """Blood in cheeks, nose and ears, and blotches."""
    mean = topology.mean
    cheeks = np.exp(-((np.abs(mean[:, 0]) - 0.045) ** 2 + (mean[:, 1] + 0.012) ** 2) / 0.022**2)
    cheeks = cheeks * smoothstep(0.0, 0.03, mean[:, 2])
    tip = np.exp(-((mean - np.array([0.0, -0.010, 0.078])) ** 2).sum(1) / 0.016**2)
    blotches = 0.05 * smooth_noise(mean, 50.0, rng) + 0.035 * smooth_noise(mean, 150.0, rng)
    warm = rng.uniform(0, 0.25) * cheeks + rng.uniform(0, 0.22) * tip + 0.15 * topology.ear
    return np.asarray(warm + blotches, np.float32)


def _organs(
    rng: np.random.Generator, person: Person, shape: Floats, frame: Frame, assets: MakeHumanAssets, skin: Floats
) -> list[Part]:
    """Eyes, brows, lashes, teeth and tongue; `skin` [N, 3] m is the head they sit on."""
    parts = [_eyes(person, shape, frame, assets)]
    names = assets.proxy_names("eyebrows")
    share = np.array([_BROWS.get(name, 0.15) for name in names])
    brows = str(names[rng.choice(len(names), p=share / share.sum())])
    part = _proxy_part("eyebrows", brows, shape, frame, assets, (BROW_R, BROW_L))
    parts.append(_settled_brows(part, skin, rng))
    names = assets.proxy_names("eyelashes")
    parts.append(_proxy_part("eyelashes", str(names[rng.integers(len(names))]), shape, frame, assets, (EYE_R, EYE_L)))
    for kind in ("teeth", "tongue"):
        parts.extend(_proxy_part(kind, name, shape, frame, assets, (MOUTH, MOUTH)) for name in assets.proxy_names(kind))
    return parts


def _settled_brows(part: Part, skin: Floats, rng: np.random.Generator) -> Part:
    """Brows turned level: most of MakeHuman's stand in a frown. They keep their distance from the skin."""
    vertices = part.vertices.copy()
    face = skin[(skin[:, 2] > 0.02) & (np.abs(skin[:, 1] - 0.045) < 0.035) & (np.abs(skin[:, 0]) < 0.07)]
    if not len(face):
        return part
    tree = cKDTree(face[:, :2])
    wanted = rng.uniform(-0.04, 0.16)
    for side in (1, -1):
        own = vertices[:, 0] * side > 0
        if own.sum() < 3:
            continue
        out, height = np.abs(vertices[own, 0]), vertices[own, 1]
        slope = float(np.polyfit(out, height, 1)[0])
        turn = np.clip(wanted - slope, -0.35, 0.15)
        moved = vertices[own].copy()
        moved[:, 1] += turn * (out - out.mean())
        for points, sign in ((vertices[own], -1), (moved, 1)):
            distance, near = tree.query(points[:, :2], k=3)
            weight = 1 / (distance + 1e-4)
            depth = (face[near, 2] * weight).sum(1) / weight.sum(1)
            moved[:, 2] += sign * depth
        moved[:, 2] += 0.0010
        vertices[own] = moved
    return replace(part, vertices=vertices, fade=np.full(len(vertices), rng.uniform(0.6, 1.0), np.float32))


def _proxy_part(
    kind: str, name: str, shape: Floats, frame: Frame, assets: MakeHumanAssets, labels: tuple[int, int]
) -> Part:
    proxy = assets.proxy(kind, name)
    vertices = frame.apply(proxy.fit(shape))
    hairy = kind in ("eyebrows", "eyelashes")
    return Part(
        f"{kind}/{name}",
        vertices,
        proxy.mesh.triangles,
        proxy.mesh.corner_uvs,
        np.where(vertices[:, 0] > 0, labels[1], labels[0]).astype(np.uint8),
        alpha=ALPHA_TEXTURE if hairy else ALPHA_NONE,
        casts_shadow=not hairy,
    )


def _eyes(person: Person, shape: Floats, frame: Frame, assets: MakeHumanAssets) -> Part:
    """Eyeballs turned into the person's gaze."""
    proxy = assets.proxy("eyes", "high-poly")
    vertices = frame.apply(proxy.fit(shape))
    yaw, pitch = np.radians(person.gaze_deg)
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    for side in (vertices[:, 0] > 0, vertices[:, 0] <= 0):
        center = vertices[side].mean(0)
        vertices[side] = (vertices[side] - center) @ (turn @ nod).T + center
    labels = np.where(vertices[:, 0] > 0, EYE_L, EYE_R).astype(np.uint8)
    mesh = proxy.mesh
    return Part("eyes", vertices, mesh.triangles, mesh.corner_uvs, labels, kind=KIND_EYE, alpha=ALPHA_TEXTURE)

"""One synthetic head: geometry in the canonical frame, ready to be dressed in any skin, colours and light.

Legend: N base vertices (19,158 in MakeHuman's mesh), V scene vertices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from headlift_trainer.synthetic.assets import Floats, Ints, MakeHumanAssets
from headlift_trainer.synthetic.compiled import ALPHA_NONE, ALPHA_TEXTURE, KIND_EYE
from headlift_trainer.synthetic.hair import Hair, sample_hair
from headlift_trainer.synthetic.identity import Person, add_expression, neutral_shape, sample_person
from headlift_trainer.synthetic.scene import Part, Scene
from headlift_trainer.synthetic.shells import Body, skin_part
from headlift_trainer.synthetic.surfaces import NECKLINES, beard_mask, beard_part, cloth_part, neckline_field
from headlift_trainer.synthetic.textures import TextureAtlas
from headlift_trainer.synthetic.topology import (
    BROW_L,
    BROW_R,
    EYE_L,
    EYE_R,
    HAIR,
    MOUTH,
    Frame,
    Topology,
    smooth_noise,
    smoothstep,
)


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


@dataclass(frozen=True)
class HeadMesh:
    """Geometry of one head and what was drawn for it."""

    seed: int
    person: Person
    scene: Scene  # baked
    base_vertices: Floats  # [N, 3] m, every vertex of the base mesh with expression (helpers included)
    hair: Hair
    beard: str
    neckline: str
    part_textures: tuple[str | None, ...]  # per part; the skin's is drawn with each appearance
    stubble: Floats  # [N] 0..1 hair painted on the skin of the face
    flush: Floats  # [N] how much blood shows, relative to the mean of the face
    skin_index: Ints  # base vertex of each vertex of the part `skin`

    def attributes(self) -> dict[str, object]:
        """What a file says about the head."""
        return {
            "seed": self.seed,
            "maleness": self.person.maleness,
            "age": self.person.age,
            "descent": self.person.descent,
            "expression": self.person.expression_name,
            "expression_units": self.person.expression,
            "gaze_deg": self.person.gaze_deg,
            "hair_style": self.hair.style,
            "beard": self.beard,
            "neckline": self.neckline,
        }


def sample_head(seed: int, assets: HeadAssets) -> HeadMesh:
    """The head of a seed: the same seed gives the same head.

    The frame is that of the neutral face, so expressions never move the head (see `topology.Topology.frame`).
    """
    rng = np.random.default_rng(seed)
    makehuman, topology = assets.makehuman, assets.topology
    person = sample_person(rng, makehuman)
    shape = neutral_shape(person, makehuman, rng)
    frame = topology.frame(shape)
    add_expression(shape, person, makehuman)
    body = Body.of(topology, frame.apply(shape))
    hair = sample_hair(rng, person, body, shape, frame, makehuman, assets.atlas)
    beard = _draw_beard(rng, person)
    mask = beard_mask(body, beard) if beard != "none" else np.zeros(len(body.vertices), np.float32)
    neckline = str(rng.choice(list(NECKLINES), p=[0.34, 0.08, 0.14, 0.14, 0.2, 0.1]))
    cover = neckline_field(topology, neckline, rng)
    density = rng.uniform(0.15, 0.6) if beard == "stubble" else rng.uniform(0.7, 0.95)
    stubble = np.asarray(mask * density, np.float32)
    skin = _skin(body, cover, hair, stubble)
    parts = [skin.compact(), cloth_part(body, neckline, cover, rng), *_organs(rng, person, shape, frame, makehuman)]
    if beard in ("full", "goatee", "moustache"):
        parts.append(beard_part(body, mask, _draw_beard_length(rng, beard), rng))
    if hair.part is not None:
        parts.append(hair.part)
    textures = [hair.texture if part.name == "hair" else (part.name if "/" in part.name else None) for part in parts]
    scene = Scene(tuple(parts))
    rows = np.array([assets.atlas.row(name) for name in textures], np.int32)
    scene.bake(rows, assets.atlas.texels)
    return HeadMesh(
        seed, person, scene, body.vertices, hair, beard, neckline, tuple(textures), stubble, _flush(topology, rng),
        np.unique(skin.triangles).astype(np.int32),
    )  # fmt: skip


def _draw_beard(rng: np.random.Generator, person: Person) -> str:
    if not person.is_male or person.age < 0.5:
        return "none"
    return str(rng.choice(["none", "stubble", "full", "goatee", "moustache"], p=[0.42, 0.25, 0.18, 0.1, 0.05]))


def _draw_beard_length(rng: np.random.Generator, beard: str) -> float:
    """Length in metres: trimmed, or for a full beard up to 22 mm."""
    trimmed = rng.uniform(0.002, 0.006)
    if beard != "full":
        return float(trimmed)
    return float(rng.uniform(0.004, 0.010) if rng.random() < 0.6 else rng.uniform(0.010, 0.022))


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
    rng: np.random.Generator, person: Person, shape: Floats, frame: Frame, assets: MakeHumanAssets
) -> list[Part]:
    """Eyes, brows, lashes, teeth and tongue."""
    parts = [_eyes(person, shape, frame, assets)]
    for kind, labels in (("eyebrows", (BROW_R, BROW_L)), ("eyelashes", (EYE_R, EYE_L))):
        names = assets.proxy_names(kind)
        part = _proxy_part(kind, names[rng.integers(len(names))], shape, frame, assets, labels)
        parts.append(part)
    for kind in ("teeth", "tongue"):
        parts.extend(_proxy_part(kind, name, shape, frame, assets, (MOUTH, MOUTH)) for name in assets.proxy_names(kind))
    return parts


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

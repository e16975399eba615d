"""The source `procedural`: heads from our own code alone, for everyone and for tests."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.base.shells import Body, skin_part
from headlift_trainer.synthetic.classes import HAIR
from headlift_trainer.synthetic.hair.beards import beard_mask, beard_part
from headlift_trainer.synthetic.hair.cropped import cropped_hair_part
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.scene import Part, Scene
from headlift_trainer.synthetic.source.expressions import EXPRESSIONS
from headlift_trainer.synthetic.source.interface import BaseMesh
from headlift_trainer.synthetic.source.procedural.atlas import atlas
from headlift_trainer.synthetic.source.procedural.dressing import PaintedSkin, ProceduralDressing, dressed, texture_of
from headlift_trainer.synthetic.source.procedural.landmarks import landmark_vertices
from headlift_trainer.synthetic.source.procedural.mesh import topology
from headlift_trainer.synthetic.source.procedural.organs import brow_parts, eye_parts, sink_sockets, teeth_part
from headlift_trainer.synthetic.source.procedural.shape import Person, displaced, sample_person
from headlift_trainer.synthetic.source.procedural.strands import bun_part, lock_part, sample_cut
from headlift_trainer.synthetic.wear.cloth import NECKLINES, cloth_part, neckline_field

HAIR_POINTS = 20_000
_LOCKS = ("short", "bob", "long", "bun")


@dataclass(frozen=True)
class ProceduralHead:
    """One geometry. Legend: N vertices of the base mesh."""

    seed: int
    person: Person
    scene: Scene  # baked
    base_vertices: Floats  # [N, 3] m
    hair_points: Floats  # [20000, 3] m or [0, 3]
    scalp: Floats  # [N] 0..1
    stubble: Floats  # [N] 0..1
    hair_style: str
    beard: str
    neckline: str
    skin_index: Ints  # base vertex of each vertex of the part `skin`

    @property
    def expression_code(self) -> Floats:
        """[53] 0..1, ICT-FaceKit's blendshapes."""
        return np.array([self.person.code.get(name, 0.0) for name in EXPRESSIONS], np.float32)

    @property
    def landmarks(self) -> Floats:
        """[68, 3] m, iBUG's order."""
        return self.base_vertices[landmark_vertices()]

    def attributes(self) -> dict[str, object]:
        """What was drawn, as JSON values."""
        person = self.person
        return {
            "source": "procedural",
            "seed": self.seed,
            "maleness": person.maleness,
            "age": person.age,
            "expression": person.expression_name,
            "gaze_deg": person.gaze_deg,
            "hair_style": self.hair_style,
            "beard": self.beard,
            "neckline": self.neckline,
            "glasses": "none",
            "hat": "none",
            "traits": {name: round(value, 3) for name, value in person.traits.items()},
        }

    def dress(self, rng: np.random.Generator) -> ProceduralDressing:
        """A new appearance and light."""
        skin = PaintedSkin(self.scalp, self.stubble, self.skin_index)
        return dressed(self.person, self.scene, skin, rng)


class ProceduralSource:
    """Heads without any file."""

    name = "procedural"

    def base_mesh(self) -> BaseMesh:
        """The mean head; of the skin the bust, without the inside of the mouth."""
        found = topology()
        bust = found.mean[found.triangles][:, :, 1].min(1) > -0.27
        return BaseMesh(found.mean, found.triangles[bust & ~found.mouth_inside[found.triangles].all(1)])

    def head(self, seed: int) -> ProceduralHead:
        """The head of a seed; the same seed gives the same head."""
        rng = np.random.default_rng([seed, 80])
        person = sample_person(rng, seed)
        regions = topology()
        vertices = displaced(regions.mean, person)
        sink_sockets(vertices, regions.eye_socket, person)
        body = Body.of(regions, vertices)
        style = _draw_style(rng, person)
        hairline = _hairline(rng, person)
        hair, scalp = _hair_parts(rng, body, style, hairline)
        beard = _draw_beard(rng, person)
        mask = beard_mask(body, beard) if beard != "none" else np.zeros(len(body.vertices), np.float32)
        neckline = str(rng.choice(list(NECKLINES)))
        cover = neckline_field(regions, neckline, rng)
        stubble = np.asarray(mask * (rng.uniform(0.2, 0.6) if beard == "stubble" else 0.8), np.float32)
        skin = _skin(body, cover, scalp, stubble)
        parts = [skin.compact(), cloth_part(body, neckline, cover, rng), *eye_parts(person), teeth_part(person)]
        parts += brow_parts(body, rng, person.maleness)
        if beard in ("full", "goatee", "moustache"):
            length = rng.uniform(0.003, 0.012) if beard == "full" else rng.uniform(0.002, 0.006)
            parts.append(beard_part(body, mask, float(length), rng))
        scene = Scene([*parts, *hair])
        rows = np.array([atlas().row(texture_of(part, "plain", "brown")) for part in scene.parts], np.int32)
        scene.bake(rows, atlas().texels)
        return ProceduralHead(
            seed, person, scene, body.vertices, _points_on(hair, rng), scalp, stubble, style, beard, neckline,
            np.unique(skin.triangles).astype(np.int32),
        )  # fmt: skip


def _draw_style(rng: np.random.Generator, person: Person) -> str:
    old = max(0.0, 2 * person.age - 1)
    male = person.is_male
    weights = {
        "bald": 0.3 + 0.6 * old if male else 0.05,
        "buzz": 0.9 if male else 0.1,
        "crew": 1.0 if male else 0.15,
        "short": 1.6 if male else 0.8,
        "bob": 0.15 if male else 1.3,
        "long": 0.25 if male else 1.6,
        "bun": 0.12 if male else 0.8,
        "curly": 0.5,
        "afro": 0.35,
    }
    share = np.array(list(weights.values()))
    return str(rng.choice(list(weights), p=share / share.sum()))


def _draw_beard(rng: np.random.Generator, person: Person) -> str:
    if not person.is_male or person.age < 0.5:
        return "none"
    return str(rng.choice(["none", "stubble", "full", "goatee", "moustache"], p=[0.45, 0.23, 0.18, 0.09, 0.05]))


def _hairline(rng: np.random.Generator, person: Person) -> Floats:
    """[N] m, positive where hair grows; wavy, and now and then higher at the temples."""
    regions = topology()
    mean = regions.mean
    line: NDArray[np.floating] = (
        regions.hairline + 0.0022 * smooth_noise(mean, 120.0, rng) + np.float32(rng.uniform(-0.004, 0.004))
    )
    if person.is_male and rng.random() < 0.2 + 0.4 * max(0.0, 2 * person.age - 1):
        front = smoothstep(-0.06, 0.02, mean[:, 2]) * smoothstep(0.06, 0.09, mean[:, 1])
        line = line - front * (0.3 + 0.7 * np.clip(np.abs(mean[:, 0]) / 0.05, 0, 1)) * rng.uniform(0.01, 0.04)
    line[regions.ear] = np.minimum(line[regions.ear], -0.006)
    return np.asarray(line, np.float32)


def _hair_parts(rng: np.random.Generator, body: Body, style: str, hairline: Floats) -> tuple[list[Part], Floats]:
    """Parts of the hair and the painted scalp [N]; under locks lies a cap, so that no skin shows through."""
    painted = smoothstep(-0.003, 0.006, hairline)
    if style == "bald":
        return [], np.asarray(painted * (0.0 if rng.random() < 0.5 else rng.uniform(0.15, 0.6)), np.float32)
    if style in _LOCKS:
        cap = cropped_hair_part(body, 0.0035 if style != "bun" else 0.002, 0.0, hairline, rng)
        parts = [replace(cap, name="cap"), lock_part(body, sample_cut(rng, style), hairline, rng)]
        return parts + ([bun_part(body, rng)] if style == "bun" else []), painted
    length, curl = {
        "buzz": (rng.uniform(0.003, 0.006), 0.0),
        "crew": (rng.uniform(0.007, 0.015), rng.uniform(0.05, 0.4)),
        "curly": (rng.uniform(0.018, 0.035), rng.uniform(0.5, 0.9)),
        "afro": (rng.uniform(0.035, 0.080), rng.uniform(0.4, 0.7)),
    }[style]
    return [cropped_hair_part(body, float(length), float(curl), hairline, rng)], painted


def _skin(body: Body, cover: Floats, scalp: Floats, stubble: Floats) -> Part:
    regions = topology()
    classes = np.where(scalp > 0.5, HAIR, regions.classes).astype(np.uint8)
    painted = np.maximum(scalp, stubble)
    surface = np.zeros((len(body.vertices), 3), np.float32)
    surface[:, 0] = 1 - 0.8 * painted
    surface[:, 1] = 0.5 * painted + 0.05 * (1 - painted)
    surface[:, 2] = 1 - 0.8 * painted
    lips = regions.upper_lip | regions.lower_lip
    surface[lips] = (0.5, 0.0, 1.5)
    surface[regions.mouth_inside] = (0.0, 0.0, 0.6)
    surface[regions.eye_socket] = (0.0, 0.0, 0.3)
    return skin_part(body, cover, classes, surface)


def _points_on(parts: list[Part], rng: np.random.Generator) -> Floats:
    """[HAIR_POINTS, 3] m even by area on opaque hair; [0, 3] where there is none."""
    if not parts:
        return np.zeros((0, 3), np.float32)
    corners = np.concatenate([part.vertices[part.triangles] for part in parts])
    opaque = np.concatenate([_opacities(part) for part in parts])
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) * opaque
    chosen = rng.choice(len(area), HAIR_POINTS, p=area / area.sum())
    share = rng.dirichlet([1.0, 1.0, 1.0], HAIR_POINTS)
    return np.asarray(np.einsum("nk,nkd->nd", share, corners[chosen]), np.float32)


def _opacities(part: Part) -> Floats:
    """[T] 1 where a triangle is mostly opaque."""
    if part.fade is not None:
        return np.asarray(part.fade[part.triangles].mean(1) > 0.4, np.float32)
    if part.name == "hair":
        return np.asarray(atlas().opacity("strands", part.uvs.mean(1)) > 0.4, np.float32)
    return np.ones(len(part.triangles), np.float32)

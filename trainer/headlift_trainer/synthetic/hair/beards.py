"""Beards and moustaches: a soft layer close to the skin and strands that fall from it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.identity import Person
from headlift_trainer.synthetic.base.obstacle import Obstacle
from headlift_trainer.synthetic.base.shells import Body, Shell, shell_part
from headlift_trainer.synthetic.classes import FACE
from headlift_trainer.synthetic.hair.strands import Growth, Strands, cards, grow, roots_on, strands_of
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.compiled import KIND_PLAIN
from headlift_trainer.synthetic.render.scene import Part

STYLES = ("none", "stubble", "full", "goatee", "moustache", "circle", "chinstrap")


@dataclass(frozen=True)
class Beard:
    """What grows on one face. Legend: N base vertices."""

    style: str
    length: float  # m
    stubble: Floats  # [N] 0..1 hair painted on the skin
    parts: tuple[Part, ...]
    textures: tuple[str | None, ...]
    strands: tuple[Strands, ...]

    @property
    def length_name(self) -> str:
        """stubble, short, medium or long."""
        if self.style in ("none", "stubble"):
            return self.style
        return "short" if self.length < 0.012 else "medium" if self.length < 0.04 else "long"


def sample_beard(rng: np.random.Generator, person: Person, body: Body) -> Beard:
    """Draw a beard; women and boys have none."""
    style = "none"
    if person.is_male and person.age_years > 19:
        style = str(rng.choice(STYLES, p=[0.34, 0.19, 0.25, 0.05, 0.06, 0.08, 0.03]))
    count = len(body.vertices)
    if style == "none":
        return Beard(style, 0.0, np.zeros(count, np.float32), (), (), ())
    mask = beard_mask(body, style)
    mask = np.clip(mask * (1 + 0.25 * smooth_noise(body.topology.mean, 120.0, rng)), 0, 1)
    density = rng.uniform(0.12, 0.6) if style == "stubble" else rng.uniform(0.6, 0.95)
    stubble = np.asarray(mask * density, np.float32)
    if style == "stubble":
        return Beard(style, 0.0, stubble, (), (), ())
    length = _draw_length(rng, style)
    shell = beard_part(body, np.asarray(mask, np.float32), min(0.55 * length, 0.006), rng)
    parts, strands = [replace(shell, name="beard shell")], [strands_of(shell, rng)]
    textures: list[str | None] = [None]
    grown = _strands(body, np.asarray(mask, np.float32), length, rng)
    if grown is not None:
        parts.append(grown[0])
        textures.append(str(rng.choice(["strands/coarse", "strands/wiry"])))
        strands.append(grown[1])
    return Beard(style, length, stubble, tuple(parts), tuple(textures), tuple(strands))


def _draw_length(rng: np.random.Generator, style: str) -> float:
    """Length in metres: mostly trimmed; full beards may reach the chest."""
    if style != "full":
        return float(rng.uniform(0.003, 0.012))
    band = rng.choice(3, p=[0.4, 0.4, 0.2])
    return float((rng.uniform(0.004, 0.012), rng.uniform(0.012, 0.04), rng.uniform(0.04, 0.12))[band])


def _strands(body: Body, mask: Floats, length: float, rng: np.random.Generator) -> tuple[Part, Strands] | None:
    count = int(500 + 4000 * min(length, 0.06))
    roots, normals = roots_on(body, np.asarray(np.clip(mask - 0.25, 0, 1), np.float32), count, rng)
    if not len(roots):
        return None
    mouth = body.vertices[body.topology.upper_lip, 1].mean()
    moustache = (roots[:, 1] > mouth) & (np.abs(roots[:, 0]) < 0.035)
    sideways = np.where(moustache, np.sign(roots[:, 0]) * 0.55, 0.2 * np.sign(roots[:, 0]))
    comb = np.stack([sideways, np.full(len(roots), -1.0), np.where(moustache, 0.1, 0.25)], 1).astype(np.float32)
    # hair is longest at the chin; below the lip and on cheeks and upper lip it is cut
    chin = np.exp(-((roots[:, 0] / 0.05) ** 2)) * (roots[:, 1] < mouth - 0.012)
    own = np.where(
        moustache, min(length, 0.012) * np.exp(-((roots[:, 0] / 0.03) ** 4)) + 0.002, length * (0.35 + 0.65 * chin)
    )
    growth = Growth(
        1.0, 0.0, steps=6, lift=rng.uniform(0.25, 0.6), bend=max(0.3 * length, 0.004), volume=min(0.3 * length, 0.012),
        drape=0.0, keeps_face_free=False, wave=0.0, frizz=min(0.10 * length, 0.003),
    )  # fmt: skip
    guides = grow(roots, normals, comb, replace(growth, length=1.0), Obstacle(body), rng, lengths=own)
    return cards("beard strands", guides, 0.006 + min(0.06 * length, 0.004), FACE, rng, tilt=0.5)


def beard_part(body: Body, mask: Floats, length: float, rng: np.random.Generator) -> Part:
    """A beard with volume: `mask` [N] 0..1 says where it grows, `length` is in metres."""
    shell = Shell(
        "beard",
        FACE,
        KIND_PLAIN,
        fade_width=0.04,
        refinements=2,
        lump_size=0.18,
        lump_frequency=220.0,
        ragged=0.001,
        droop=0.4,
        grain=0.8,
    )
    return shell_part(
        body, shell, np.asarray((mask - 0.3) * 0.1, np.float32), np.asarray(length * mask, np.float32), rng
    )


def beard_mask(body: Body, style: str) -> Floats:
    """[N] 0..1 where a beard of this style grows: full or stubble, goatee, circle, chinstrap, moustache."""
    topology = body.topology
    x, y, z = topology.mean.T
    mouth_y = float(topology.mean[topology.upper_lip, 1].mean())
    cheeks = smoothstep(mouth_y + 0.020, mouth_y - 0.006, y - 0.55 * np.clip(0.03 - z, 0, 0.1))
    below = smoothstep(-0.125, -0.100, y + 0.25 * np.clip(z, 0, 0.1))
    front = smoothstep(-0.035, -0.012, z)
    mask = cheeks * below * front
    central = np.exp(-((x / 0.030) ** 4))
    moustache = (
        smoothstep(mouth_y + 0.018, mouth_y + 0.008, y)
        * np.exp(-((x / 0.030) ** 6))
        * smoothstep(mouth_y - 0.012, mouth_y, y)
        * front
    )
    if style in ("goatee", "circle"):
        mask = mask * np.exp(-((x / 0.026) ** 4)) if style == "goatee" else np.maximum(mask * central, moustache)
    elif style == "chinstrap":
        jaw = smoothstep(mouth_y - 0.012, mouth_y - 0.028, y - 0.55 * np.clip(0.03 - z, 0, 0.1))
        mask = mask * jaw
    elif style == "moustache":
        mask = moustache
    else:
        mask = np.maximum(mask, moustache)
    bare = topology.upper_lip | topology.lower_lip | topology.mouth_inside | topology.nose | topology.ear
    distance, _ = cKDTree(topology.mean[bare]).query(topology.mean)
    return np.asarray(mask * smoothstep(0.001, 0.007, distance), np.float32)

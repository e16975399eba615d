"""Dressing a procedural head: skin tone in melanin and blood, hair, lips, irises, clothes, light and exposure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.classes import FACE, NOSE
from headlift_trainer.synthetic.hair.color import hair_color
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.lighting import Light, random_light
from headlift_trainer.synthetic.render.renderer import Material, Renderer
from headlift_trainer.synthetic.render.scene import Part, Scene
from headlift_trainer.synthetic.skin.tone import BLOOD_DENSITY, skin_tone
from headlift_trainer.synthetic.source.procedural.atlas import IRISES, WEAVES, atlas
from headlift_trainer.synthetic.source.procedural.mesh import topology
from headlift_trainer.synthetic.source.procedural.organs import is_lash
from headlift_trainer.synthetic.source.procedural.shape import Person

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class PaintedSkin:
    """What is painted on the skin, whatever its tone. Legend: N vertices of the base mesh."""

    scalp: Floats  # [N] 0..1, in the hair's colour
    stubble: Floats  # [N] 0..1
    index: Ints  # base vertex of each vertex of the part `skin`


@dataclass(frozen=True)
class ProceduralDressing:
    """One appearance of a head."""

    renderer: Renderer
    attributes: dict[str, object]


def texture_of(part: Part, weave: str, iris: str) -> str | None:
    """The name of a part's texture; None for plain ones."""
    match part.name:
        case "skin":
            return "skin"
        case "cloth":
            return f"weave/{weave}"
        case "eyes":
            return f"iris/{iris}"
        case "teeth":
            return "teeth"
        case "hair":
            return "strands" if part.normals is not None else None  # locks; shells have no normals of their own
    return None


@dataclass(frozen=True)
class _Palette:
    """The colours of one appearance."""

    melanin: float
    tone: Floats  # [3] albedo of the skin
    strands: Floats  # [3] albedo of the hair
    lips: Floats  # [3]
    cloth: NDArray[np.float64]  # [3]
    weave: str
    iris: str


def dressed(person: Person, scene: Scene, skin: PaintedSkin, rng: np.random.Generator) -> ProceduralDressing:
    """Draw an appearance and a light for a baked scene."""
    melanin = float(np.clip(rng.beta(1.1, 1.4), 0.0, 1.0))
    blood = float(np.clip(rng.normal(0.03, 0.09), -0.12, 0.25))
    tone = np.asarray(skin_tone(melanin, blood) * rng.uniform(0.9, 1.08), np.float32)
    strands = hair_color(rng, melanin, person.age)
    lipstick = not person.is_male and rng.random() < 0.35
    weave = str(rng.choice(WEAVES, p=[0.6, 0.2, 0.12, 0.08]))
    iris = str(rng.choice(list(IRISES), p=_iris_shares(melanin)))
    cloth = np.clip(rng.uniform(0.02, 0.6) * np.clip(rng.normal(1, 0.3, 3), 0.2, 1.7), 0.01, 0.62)
    palette = _Palette(melanin, tone, strands, _lip_color(rng, tone, melanin, lipstick), cloth, weave, iris)
    colors = np.ones((len(scene.positions), 3), np.float32)
    materials = []
    for part in scene.parts:
        material, color = _material_of(part, skin, palette, rng)
        materials.append(material)
        colors[scene.slice_of(part.name)] = color
    table = np.array([atlas().row(material.texture) for material in materials], np.int32)
    light = _exposed(scene, random_light(rng), tone, rng)
    attributes: dict[str, object] = {
        "melanin": melanin,
        "skin_albedo": tone.tolist(),
        "hair_albedo": strands.tolist(),
        "eye_texture": iris,
        "weave": weave,
        "cloth_albedo": cloth.tolist(),
        "lipstick": bool(lipstick),
    }
    return ProceduralDressing(Renderer.of(scene, colors, materials, table, atlas().texels, light), attributes)


def _material_of(
    part: Part, skin: PaintedSkin, palette: _Palette, rng: np.random.Generator
) -> tuple[Material, Floats | NDArray[np.float64]]:
    """Material of a part, and its colour [3] or [V, 3]."""
    texture = texture_of(part, palette.weave, palette.iris)
    color: Floats | NDArray[np.float64]
    strands, material = palette.strands, Material(texture, roughness=0.7, specular=0.15, grain_frequency=700.0)
    match part.name.split()[0]:
        case "skin":
            material = Material(texture, rng.uniform(0.42, 0.58), rng.uniform(0.25, 0.55), rng.uniform(0.6, 1.2), 900.0)
            color = _skin_colors(skin, rng, palette)[skin.index]
        case "lid":
            material = Material(None, roughness=0.5, specular=0.35)
            color = np.tile(palette.tone * np.array([0.90, 0.82, 0.80], np.float32), (len(part.vertices), 1))
            color[is_lash(part)] = 0.015
        case "eyes":
            material, color = Material(texture, roughness=0.12, specular=1.0), np.full(3, 0.92)
        case "teeth":
            material = Material(texture, roughness=0.3, specular=0.5)
            color = np.array([0.95, 0.92, 0.85]) * rng.uniform(0.8, 1.05)
        case "cloth":
            material, color = Material(texture, roughness=0.8, specular=0.2, bump=0.3), palette.cloth
        case "brow":
            color = np.minimum(_undyed(strands) * 0.55, 0.18)
        case "beard":
            color = strands * np.float32(rng.uniform(0.7, 1.1))
        case _:
            material = Material(texture, 0.7, rng.uniform(0.3, 0.9), grain_frequency=500.0)
            color = _strand_colors(part, rng, strands)
    return material, color


def _iris_shares(melanin: float) -> list[float]:
    """Probabilities of IRISES: dark skins mostly have dark eyes."""
    light = max(0.0, 1 - 2.2 * melanin)
    share = np.array([1.0, 0.4 + 1.5 * melanin, 0.5 * light, 0.3 * light, 0.8 * light, 0.4 * light])
    return list(share / share.sum())


def _lip_color(rng: np.random.Generator, tone: Floats, melanin: float, lipstick: bool) -> Floats:
    natural = tone * np.exp(-rng.uniform(0.25, 0.6) * np.array([0.35, 1.0, 0.75])) * (0.82 + 0.25 * melanin)
    if not lipstick:
        return np.asarray(natural, np.float32)
    red = np.clip(rng.normal([0.42, 0.07, 0.09], [0.15, 0.04, 0.05]), 0.03, 0.7)
    return np.asarray(0.35 * natural + 0.65 * red, np.float32)


def _skin_colors(skin: PaintedSkin, rng: np.random.Generator, palette: _Palette) -> Floats:
    """Albedo [N, 3] of the base mesh: blood in cheeks, nose and ears, darker lids, painted hair."""
    regions, tone, strands = topology(), palette.tone, palette.strands
    mean = regions.mean
    cheeks = np.exp(-((np.abs(mean[:, 0]) - 0.040) ** 2 + (mean[:, 1] + 0.012) ** 2) / 0.020**2)
    cheeks = cheeks * smoothstep(0.0, 0.03, mean[:, 2])
    tip = np.exp(-((mean - np.array([0.0, -0.014, 0.086])) ** 2).sum(1) / 0.014**2)
    around = np.exp(-((((np.abs(mean[:, 0]) - 0.031) / 0.019) ** 2 + ((mean[:, 1] - 0.026) / 0.013) ** 2) ** 1.5))
    flush: NDArray[np.floating] = (
        rng.uniform(0, 0.28) * cheeks + rng.uniform(0, 0.22) * tip + 0.12 * regions.ear + 0.18 * around
    )
    flush = flush + 0.04 * smooth_noise(mean, 50.0, rng) + 0.03 * smooth_noise(mean, 150.0, rng)
    color: NDArray[np.floating] = tone * np.exp(-np.outer(flush * (1 - 0.6 * palette.melanin), BLOOD_DENSITY))
    color = color * (1 - rng.uniform(0.02, 0.15) * around[:, None])
    color[regions.upper_lip] = palette.lips * 0.9
    color[regions.lower_lip] = palette.lips
    scalp = np.clip(skin.scalp * 0.9, 0, 1)[:, None]
    color = color * (1 - scalp) + strands * 0.6 * scalp
    stubble = (skin.stubble * 0.7)[:, None]
    color = color * (1 - stubble) + np.minimum(strands, 0.3) * 0.8 * stubble
    color[regions.mouth_inside] = (0.07, 0.018, 0.016)
    color[regions.eye_socket] = tone * np.array([0.6, 0.35, 0.35])
    return np.asarray(color, np.float32)


def _undyed(strands: Floats) -> Floats:
    """A colour that hair grows in: as it is if red > green > blue, else brown of the same brightness."""
    if strands[0] >= strands[1] >= strands[2]:
        return strands
    return np.asarray(float(strands @ _LUMINANCE) * np.array([1.25, 0.97, 0.75]), np.float32)


def _strand_colors(part: Part, rng: np.random.Generator, strands: Floats) -> Floats:
    """Albedo [V, 3]: one colour that varies softly from lock to lock."""
    shade = 1 + 0.10 * smooth_noise(part.vertices, 180.0, rng)[:, None]
    return np.asarray(strands * np.clip(shade, 0.6, 1.4) * (0.75 if part.name == "cap" else 1.0), np.float32)


def _exposed(scene: Scene, light: Light, tone: Floats, rng: np.random.Generator) -> Light:
    """Expose as a camera does: the face lands in the middle tones, dark skin a little darker than light skin."""
    face = np.isin(scene.classes, (FACE, NOSE)) & (scene.normals[:, 2] > 0.3)
    transfer = scene.transfer[face]
    glow: NDArray[np.floating] = np.maximum(transfer[:, :9] @ light.sh, 0)
    for direction, color in zip(light.key_direction, light.key_color, strict=True):
        facing = np.maximum(scene.normals[face] @ direction, 0) * np.minimum(1, transfer[:, 9] * 1.3)
        glow = glow + np.outer(facing, color)
    bright = glow @ _LUMINANCE
    average = glow[bright >= np.median(bright)].mean(0) * 0.85  # hair may lie over much of the face
    mean = float(average @ _LUMINANCE)
    light = light.tinted(np.asarray((mean / np.maximum(average, 1e-3)) ** 0.6, np.float32))
    wanted = 0.74 * (0.45 / float(tone @ _LUMINANCE)) ** 0.40 * float(np.exp(rng.normal(0, 0.14)))
    return light.scaled(wanted / max(mean, 1e-3))

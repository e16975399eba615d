"""Dressing a head: skin tone in melanin and blood, hair colour, lips, eyes, clothes, light and exposure.

Colours are linear albedo. Tone is drawn apart from sex, age and texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.assets import Floats
from headlift_trainer.synthetic.compiled import KIND_PLAIN
from headlift_trainer.synthetic.head import HeadAssets, HeadMesh
from headlift_trainer.synthetic.lighting import Light, random_light
from headlift_trainer.synthetic.renderer import Material, Renderer
from headlift_trainer.synthetic.scene import Part
from headlift_trainer.synthetic.textures import WEAVES
from headlift_trainer.synthetic.topology import FACE, NOSE, smooth_noise, smoothstep

# albedo of skin at melanin 0, 1/3, 2/3, 1
_TONES = np.array([[0.72, 0.46, 0.365], [0.52, 0.305, 0.21], [0.27, 0.135, 0.080], [0.100, 0.047, 0.028]])
_BLOOD = np.array([0.22, 1.0, 0.80])  # optical density per unit of haemoglobin
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class Appearance:
    """One dressing of a head, and how it came about."""

    renderer: Renderer
    attributes: dict[str, object]


@dataclass(frozen=True)
class Palette:
    """The colours of one appearance."""

    melanin: float  # 0..1
    tone: Floats  # [3] albedo of the skin
    strands: Floats  # [3] albedo of the hair
    lipstick: Floats | None  # [3]
    age: float  # as in Person, for further hair colours


def skin_tone(melanin: float, blood: float) -> Floats:
    """Albedo [3] of skin: melanin 0..1, blood about -0.3..0.3 around the mean."""
    keys = np.linspace(0, 1, len(_TONES))
    density = [np.interp(melanin, keys, np.log(_TONES[:, channel])) for channel in range(3)]
    return np.asarray(np.exp(np.array(density) - blood * _BLOOD * 0.5), np.float32)


def hair_color(rng: np.random.Generator, melanin: float, age: float) -> Floats:
    """Albedo [3] of hair: black to blond and red by two pigments, grey with age, dyed now and then."""
    if rng.random() < 0.04:
        return np.asarray(np.clip(rng.dirichlet([0.9] * 3) * rng.uniform(0.1, 0.7) + 0.02, 0.01, 0.5), np.float32)
    lightness = rng.beta(1, 1.7) * (1 if melanin < 0.45 else 0.3)
    redness = rng.beta(1, 3)
    black, brown = np.array([0.013, 0.010, 0.008]), np.array([0.14, 0.07, 0.032])
    blond, red = np.array([0.42, 0.29, 0.17]), np.array([0.26, 0.075, 0.028])
    color = black + (brown - black) * min(1, 2 * lightness)
    if lightness > 0.5:
        color = brown + (blond - brown) * (2 * lightness - 1)
    color = (
        color * (1 - redness) + red * redness * min(1, 2.5 * lightness) + black * redness * max(0, 1 - 2.5 * lightness)
    )
    greyness = np.clip(rng.normal(1.9 * (2 * age - 1) - 0.6, 0.3), 0, 1)
    return np.asarray(
        color * (1 - greyness) + rng.uniform(0.18, 0.48) * np.array([1, 0.98, 0.95]) * greyness, np.float32
    )


def dress(head: HeadMesh, assets: HeadAssets, rng: np.random.Generator) -> Appearance:
    """Draw an appearance and a light for a head; the geometry and its light transfer are shared by all of them."""
    palette = _draw_palette(head, rng)
    colors = np.ones((len(head.scene.positions), 3), np.float32)
    colors[head.scene.slice_of("skin")] = _skin_colors(head, assets, rng, palette)
    skin = _draw_skin(rng, assets.atlas.skins, head.person.age)
    weave = str(rng.choice(WEAVES, p=[0.45, 0.2, 0.15, 0.1, 0.1]))
    cloth = _draw_cloth_color(rng)
    eyes = _draw_eyes(rng, assets.atlas.eyes, palette.melanin)
    drawn = {"skin": skin, "cloth": f"weave/{weave}", "eyes": eyes}
    materials = []
    for part, fixed in zip(head.scene.parts, head.part_textures, strict=True):
        rows = head.scene.slice_of(part.name)
        material, color = _look_of(part, drawn.get(part.name, fixed), palette, cloth, rng)
        materials.append(material)
        if color is not None:
            colors[rows] = color
    table = np.array([assets.atlas.row(material.texture) for material in materials], np.int32)
    light = _exposed(head, random_light(rng), palette.tone, rng)
    attributes: dict[str, object] = {
        "melanin": palette.melanin,
        "skin_albedo": palette.tone.tolist(),
        "hair_albedo": palette.strands.tolist(),
        "skin_texture": skin,
        "eye_texture": eyes,
        "weave": weave,
        "cloth_albedo": cloth.tolist(),
        "lipstick": palette.lipstick is not None,
    }
    return Appearance(Renderer.of(head.scene, colors, materials, table, assets.atlas.texels, light), attributes)


def _draw_palette(head: HeadMesh, rng: np.random.Generator) -> Palette:
    african = head.person.descent.get("african", 0.0)
    melanin = float(np.clip(rng.beta(1.1, 1.4) * 0.85 + 0.35 * (african - 0.33), 0.0, 1.0))
    blood = float(np.clip(rng.normal(0.03, 0.09), -0.12, 0.25))
    tone = np.asarray(skin_tone(melanin, blood) * rng.uniform(0.9, 1.08), np.float32)
    strands = hair_color(rng, melanin, head.person.age)
    lipstick = None
    if not head.person.is_male and rng.random() >= 0.6:
        red = np.clip(rng.normal([0.42, 0.07, 0.09], [0.15, 0.04, 0.05]), 0.03, 0.7)
        lipstick = np.asarray(red, np.float32)
    return Palette(melanin, tone, strands, lipstick, head.person.age)


def _look_of(
    part: Part, texture: str | None, palette: Palette, cloth: Floats, rng: np.random.Generator
) -> tuple[Material, Floats | None]:
    """Material of a part, and its colour [3] or [V, 3] (None keeps what the vertices have)."""
    strands = palette.strands
    material = Material(texture)
    color: NDArray[np.floating] | None = None
    match part.name.split("/")[0]:
        case "skin":
            roughness, specular, bump = rng.uniform(0.42, 0.60), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.9)
            material = Material(texture, roughness, specular, bump)
        case "cloth":
            material, color = Material(texture, roughness=0.8, specular=0.25, bump=0.3), cloth
        case "eyes":
            material, color = Material(texture, roughness=0.12, specular=1.0), np.array([0.70, 0.69, 0.67])
        case "hair":
            color = _strand_colors(part.vertices, rng, palette)
            shine = 0.1 if part.kind == KIND_PLAIN else rng.uniform(0.3, 1.0)
            material = Material(texture, roughness=0.7, specular=shine, grain_frequency=500.0)
        case "beard":
            color = strands * rng.uniform(0.7, 1.15)
            material = Material(None, roughness=0.7, specular=0.15, grain_frequency=700.0)
        case "eyebrows":
            color = np.minimum(_undyed(strands) * 0.7, 0.25)
        case "eyelashes":
            color = np.full(3, 0.015)
        case "teeth":
            # brighter than white: they stand in the mouth's own shadow, which the coarse light transfer overdoes
            color = np.array([1.55, 1.48, 1.36]) * rng.uniform(0.85, 1.1)
            material = Material(texture, roughness=0.3, specular=0.6)
    return material, None if color is None else np.asarray(color, np.float32)


def _draw_cloth_color(rng: np.random.Generator) -> Floats:
    """Albedo [3] of clothes: mostly muted, sometimes any colour."""
    if rng.random() < 0.75:
        color = rng.uniform(0.02, 0.75) * np.clip(rng.normal(1, 0.22, 3), 0.25, 1.6)
    else:
        color = rng.uniform(0.02, 0.6, 3)
    return np.asarray(np.clip(color, 0.01, 0.62), np.float32)


def _draw_eyes(rng: np.random.Generator, names: tuple[str, ...], melanin: float) -> str:
    """An eye texture; dark skins mostly have brown eyes."""
    drawn = names[rng.integers(len(names))]
    if melanin > 0.45 and "brown_eye" in names and rng.random() < 0.85:
        return "brown_eye"
    return drawn


def _draw_skin(rng: np.random.Generator, names: tuple[str, ...], age: float) -> str:
    """A texture of about the person's age, of any sex and colour: only its detail is used."""
    old = 2 * age - 1
    wanted = {
        "young": max(0.05, 1 - 1.4 * old),
        "middleage": 0.25 + (0.9 if 0.25 < old < 0.8 else 0),
        "old": max(0.0, old - 0.3) * 3,
    }
    share = np.array([wanted.get(name.split("_")[0], 0.5) * (0.5 if "dark" in name else 1.0) + 1e-3 for name in names])
    return names[rng.choice(len(names), p=share / share.sum())]


def _skin_colors(head: HeadMesh, assets: HeadAssets, rng: np.random.Generator, palette: Palette) -> Floats:
    """Albedo [V, 3] of the skin's vertices."""
    topology, tone, strands = assets.topology, palette.tone, palette.strands
    visible = 1 - 0.6 * palette.melanin  # blood shows less through more melanin
    color = tone * np.exp(-np.outer(head.flush * visible, _BLOOD))
    lips = tone * np.exp(-rng.uniform(0.25, 0.6) * np.array([0.35, 1.0, 0.75])) * (0.82 + 0.25 * palette.melanin)
    if palette.lipstick is not None:
        lips = 0.35 * lips + 0.65 * palette.lipstick
    color[topology.upper_lip | topology.lower_lip] = lips
    scalp = np.clip(head.hair.scalp * 0.9, 0, 1)[:, None]
    color = color * (1 - scalp) + strands * 0.6 * scalp
    stubble = (head.stubble * 0.75)[:, None]
    color = color * (1 - stubble) + np.minimum(strands, 0.3) * 0.8 * stubble
    color[topology.mouth_inside] = (0.30, 0.075, 0.07)
    color[topology.eye_socket] = np.minimum(tone * np.array([0.8, 0.5, 0.5]), 0.4)
    return np.asarray(color[head.skin_index], np.float32)


def _undyed(strands: Floats) -> Floats:
    """A colour that hair grows in: as it is if red > green > blue, else brown of the same brightness."""
    if strands[0] >= strands[1] >= strands[2]:
        return strands
    return np.asarray(float(strands @ _LUMINANCE) * np.array([1.25, 0.97, 0.75]), np.float32)


def _strand_colors(vertices: Floats, rng: np.random.Generator, palette: Palette) -> Floats:
    """Albedo [V, 3] of hair: one colour, or highlights, or a gradient to the tips."""
    color: NDArray[np.floating] = np.tile(palette.strands * rng.uniform(0.85, 1.2), (len(vertices), 1))
    if rng.random() < 0.15:
        natural = rng.random() < 0.7
        second = hair_color(rng, palette.melanin, palette.age) if natural else rng.uniform(0.02, 0.5, 3)
        share = smoothstep(0.02, -0.10, vertices[:, 1])
        if rng.random() < 0.4:
            share = 0.6 * smoothstep(-1.0, 2.0, smooth_noise(vertices, 40.0, rng))
        color = color + (second - color) * share[:, None]
    return np.asarray(color, np.float32)


def _exposed(head: HeadMesh, light: Light, tone: Floats, rng: np.random.Generator) -> Light:
    """Expose as a camera does: the face lands in the middle tones, dark skin a little darker than light skin."""
    scene = head.scene
    face = np.isin(scene.classes, (FACE, NOSE)) & (scene.normals[:, 2] > 0.3)
    transfer = scene.transfer[face]
    glow = np.maximum(transfer[:, :9] @ light.sh, 0)
    for direction, color in zip(light.key_direction, light.key_color, strict=True):
        glow = glow + np.outer(
            np.maximum(scene.normals[face] @ direction, 0) * np.minimum(1, transfer[:, 9] * 1.3), color
        )
    average = glow.mean(0) if face.any() else np.ones(3)
    mean = float(average @ _LUMINANCE)
    balance = (mean / np.maximum(average, 1e-3)) ** 0.6  # white balance, most of the way
    light = light.tinted(np.asarray(balance * np.array([1.01, 1.0, 0.99]), np.float32))
    albedo = float(tone @ _LUMINANCE)
    wanted = 0.74 * (0.45 / albedo) ** 0.40 * float(np.exp(rng.normal(0, 0.14)))
    return light.scaled(wanted / max(mean, 1e-3))

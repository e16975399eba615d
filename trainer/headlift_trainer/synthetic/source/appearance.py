"""Dressing a head: skin tone in melanin and blood, hair colour, lips, eyes, clothes, light and exposure.

Colours are linear albedo. Tone is drawn apart from sex, age and texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.classes import FACE, NOSE
from headlift_trainer.synthetic.hair.color import HairColor, draw_hair_color
from headlift_trainer.synthetic.hair.strands import Strands
from headlift_trainer.synthetic.render.compiled import KIND_PLAIN
from headlift_trainer.synthetic.render.lighting import Light, random_light
from headlift_trainer.synthetic.render.renderer import Material, Renderer
from headlift_trainer.synthetic.render.scene import Part
from headlift_trainer.synthetic.skin.blemishes import Makeup, draw_complexion, draw_makeup
from headlift_trainer.synthetic.skin.tone import BLOOD_DENSITY, skin_tone
from headlift_trainer.synthetic.source.head import HeadAssets, HeadMesh
from headlift_trainer.synthetic.wear.wardrobe import Worn, color_name, draw_worn

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
    hair: HairColor
    makeup: Makeup
    beard: HairColor
    shine: float  # of the hair

    @property
    def strands(self) -> Floats:
        """[3] albedo of the hair as a whole."""
        return self.hair.middle


def dress(head: HeadMesh, assets: HeadAssets, rng: np.random.Generator) -> Appearance:
    """Draw an appearance and a light for a head; the geometry and its light transfer are shared by all of them."""
    palette = _draw_palette(head, rng)
    colors = np.ones((len(head.scene.positions), 3), np.float32)
    colors[head.scene.slice_of("skin")] = _skin_colors(head, assets, rng, palette)
    skin = _draw_skin(rng, assets.atlas.skins, head.person.age)
    eyes = _draw_eyes(rng, assets.atlas.eyes, palette.melanin)
    drawn = {"skin": skin, "eyes": eyes}
    worn = draw_worn(rng)
    materials = []
    for part, fixed in zip(head.scene.parts, head.part_textures, strict=True):
        rows = head.scene.slice_of(part.name)
        style = PartStyle(palette, worn, head.strands.get(part.name))
        material, color = _material_of(part, drawn.get(part.name, fixed), style, rng)
        materials.append(material)
        if color is not None:
            colors[rows] = color
    complexion = draw_complexion(
        assets.chart, rng, head.person.age_years, palette.melanin, palette.makeup, palette.tone
    )
    table, texels = assets.atlas.subset([material.texture for material in materials], {skin: complexion.ratio})
    light = _exposed(head, random_light(rng), palette.tone, rng)
    attributes: dict[str, object] = {
        "melanin": palette.melanin,
        "skin_albedo": palette.tone.tolist(),
        "hair_albedo": palette.strands.tolist(),
        "hair_color_name": palette.hair.name,
        "skin_texture": skin,
        "eye_texture": eyes,
        "weave": worn.cloth_texture.split("/")[1],
        "cloth_color": color_name(worn.cloth),
        "cloth_albedo": worn.cloth.tolist(),
        "hat_color": color_name(worn.hat) if head.hat.parts else "none",
        "glasses_color": worn.frame_name if head.accessories.glasses != "none" else "none",
        "makeup": palette.makeup.name,
        "lipstick": palette.makeup.lipstick is not None,
        "wrinkles": complexion.wrinkles,
        "freckles": complexion.freckles,
        "moles": complexion.moles,
    }
    return Appearance(Renderer.of(head.scene, colors, materials, table, texels, light), attributes)


def _draw_palette(head: HeadMesh, rng: np.random.Generator) -> Palette:
    african = head.person.descent.get("african", 0.0)
    melanin = float(np.clip(rng.beta(1.1, 1.4) * 0.85 + 0.35 * (african - 0.33), 0.0, 1.0))
    blood = float(np.clip(rng.normal(0.03, 0.09), -0.12, 0.25))
    tone = np.asarray(skin_tone(melanin, blood) * rng.uniform(0.9, 1.08), np.float32)
    hair = draw_hair_color(rng, melanin, head.person.age_years)
    makeup = draw_makeup(rng, head.person.maleness, head.person.age_years)
    return Palette(melanin, tone, hair, makeup, hair.grown_out(rng), float(rng.uniform(0.25, 0.9)))


@dataclass(frozen=True)
class PartStyle:
    """What a part's material and colours follow from."""

    palette: Palette
    worn: Worn
    locks: Strands | None  # of hair and beards


def _material_of(
    part: Part, texture: str | None, style: PartStyle, rng: np.random.Generator
) -> tuple[Material, Floats | None]:
    """Material of a part, and its colour [3] or [V, 3] (None keeps what the vertices have)."""
    kind = part.name.split("/")[0].split(" ")[0]
    color: NDArray[np.floating] | None
    if kind in ("cloth", "hat", "glasses", "earrings", "necklace"):
        material, color = _worn_material(part.name, style.worn)
    elif kind in ("hair", "beard"):
        material, color = _hair_material(part, texture, style)
    else:
        material, color = _organ_material(kind, texture, style.palette, rng)
    return material, None if color is None else np.asarray(color, np.float32)


def _worn_material(name: str, worn: Worn) -> tuple[Material, NDArray[np.floating]]:
    match name.split(" ", maxsplit=1)[0]:
        case "cloth":
            weave = worn.inner_texture if "inner" in name else worn.cloth_texture
            color = worn.inner if "inner" in name else worn.scarf if "scarf" in name else worn.cloth
            if "rib" in name or "collar" in name:
                color, weave = color * worn.trim, "weave/plain"
            return Material(weave, roughness=0.8, specular=0.2, bump=0.35), color
        case "hat":
            return Material(worn.hat_texture, roughness=0.85, specular=0.15, bump=0.5), worn.hat
        case "glasses":
            if "lens" in name:
                return Material(None, roughness=0.08, specular=1.0), worn.lens
            return Material(None, roughness=0.25, specular=0.9), worn.frame
    return Material(None, roughness=0.25, specular=1.5), worn.jewel


def _hair_material(part: Part, texture: str | None, style: PartStyle) -> tuple[Material, NDArray[np.floating] | None]:
    palette, beard = style.palette, part.name.startswith("beard")
    paint = palette.beard if beard else palette.hair
    # the same draw for all parts of one head of hair
    color = None if style.locks is None else paint.of(style.locks, np.random.default_rng(int(palette.melanin * 1e6)))
    shine = 0.25 if beard else 0.1 if part.kind == KIND_PLAIN else palette.shine
    return Material(texture, roughness=0.7, specular=shine, grain_frequency=700.0 if beard else 500.0), color


def _organ_material(
    kind: str, texture: str | None, palette: Palette, rng: np.random.Generator
) -> tuple[Material, NDArray[np.floating] | None]:
    match kind:
        case "skin":
            roughness, specular, bump = rng.uniform(0.42, 0.60), rng.uniform(0.25, 0.6), rng.uniform(0.4, 0.9)
            return Material(texture, roughness, specular, bump), None
        case "eyes":
            return Material(texture, roughness=0.12, specular=1.0), np.array([0.70, 0.69, 0.67])
        case "eyebrows":
            return Material(texture), np.minimum(palette.beard.middle * 0.6, 0.22)
        case "eyelashes":
            return Material(texture), np.full(3, 0.015)
        case "teeth":
            # brighter than white: they stand in the mouth's own shadow, which the coarse light transfer overdoes
            color = np.array([1.55, 1.48, 1.36]) * rng.uniform(0.85, 1.1)
            return Material(texture, roughness=0.3, specular=0.6), color
    return Material(texture), None


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
    color = tone * np.exp(-np.outer(head.flush * visible, BLOOD_DENSITY))
    lips = tone * np.exp(-rng.uniform(0.25, 0.6) * np.array([0.35, 1.0, 0.75])) * (0.82 + 0.25 * palette.melanin)
    if palette.makeup.lipstick is not None:
        lips = 0.3 * lips + 0.7 * palette.makeup.lipstick
    color[topology.upper_lip | topology.lower_lip] = lips
    scalp = np.clip(head.hair.scalp * 0.9, 0, 1)[:, None]
    color = color * (1 - scalp) + strands * 0.6 * scalp
    stubble = (head.beard.stubble * 0.75)[:, None]
    color = color * (1 - stubble) + np.minimum(palette.beard.middle, 0.4) * 0.7 * stubble
    color[topology.mouth_inside] = (0.30, 0.075, 0.07)
    color[topology.eye_socket] = np.minimum(tone * np.array([0.8, 0.5, 0.5]), 0.4)
    return np.asarray(color[head.skin_index], np.float32)


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

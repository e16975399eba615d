"""Colours and fabrics of what is worn: clothes, hats, glasses, jewellery. Linear albedo."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.textures import WEAVES

_PLAIN = (  # white, black, navy, denim blue, grey
    (0.58, 0.57, 0.56),
    (0.015, 0.015, 0.017),
    (0.018, 0.028, 0.075),
    (0.065, 0.12, 0.24),
    (0.18, 0.18, 0.185),
)


@dataclass(frozen=True)
class Worn:
    """Colours [3] and textures of what is worn."""

    cloth: Floats
    hat: Floats
    hat_texture: str
    frame: Floats
    frame_name: str
    lens: Floats
    jewel: Floats
    cloth_texture: str
    inner: Floats
    inner_texture: str
    scarf: Floats
    trim: Floats  # ratio to the cloth's colour


_FRAMES = {
    "black": (0.012, 0.012, 0.013),
    "tortoise": (0.085, 0.035, 0.012),
    "gold": (0.42, 0.27, 0.09),
    "silver": (0.40, 0.40, 0.42),
    "red": (0.30, 0.02, 0.02),
    "blue": (0.02, 0.06, 0.25),
    "clear": (0.55, 0.52, 0.48),
}
_JEWELS = ((0.55, 0.36, 0.10), (0.50, 0.50, 0.52), (0.72, 0.68, 0.62), (0.05, 0.05, 0.06))


def draw_worn(rng: np.random.Generator) -> Worn:
    """Draw all of them."""
    weave = str(rng.choice(WEAVES, p=[0.34, 0.14, 0.12, 0.08, 0.08, 0.12, 0.06, 0.06]))
    cloth = draw_cloth_color(rng)
    name = str(rng.choice(list(_FRAMES), p=[0.42, 0.18, 0.12, 0.12, 0.05, 0.05, 0.06]))
    lens = np.array([0.03, 0.03, 0.03]) * np.exp(rng.normal(0, 0.35, 3))
    hat = draw_cloth_color(rng)
    texture = str(rng.choice(["plain", "knit", "heather", "stripes", "checks"], p=[0.45, 0.2, 0.2, 0.1, 0.05]))
    jewel = np.array(_JEWELS[int(rng.choice(4, p=[0.4, 0.35, 0.15, 0.1]))])
    inner = draw_cloth_color(rng) if rng.random() < 0.5 else np.full(3, rng.uniform(0.4, 0.62), np.float32)
    trim = np.full(3, rng.uniform(0.75, 1.1)) if rng.random() < 0.8 else rng.uniform(0.3, 1.6, 3)
    return Worn(
        cloth=cloth,
        cloth_texture=f"weave/{weave}",
        inner=inner,
        inner_texture=f"weave/{rng.choice(WEAVES[:6])}",
        scarf=draw_cloth_color(rng),
        trim=np.asarray(trim, np.float32),
        hat=hat,
        hat_texture=f"weave/{texture}",
        frame=np.asarray(_FRAMES[name], np.float32),
        frame_name=name,
        lens=np.asarray(lens, np.float32),
        jewel=np.asarray(jewel, np.float32),
    )


def draw_cloth_color(rng: np.random.Generator) -> Floats:
    """Albedo [3] of clothes: mostly muted, sometimes any colour."""
    if rng.random() < 0.85:
        color = rng.uniform(0.12, 0.72) ** 1.6 * np.clip(rng.normal(1, 0.18, 3), 0.3, 1.6)
    else:
        color = rng.uniform(0.02, 0.42, 3)
    if rng.random() < 0.35:  # white, black, navy, denim blue, grey
        color = np.array(_PLAIN[int(rng.integers(len(_PLAIN)))]) * rng.uniform(0.75, 1.05)
    return np.asarray(np.clip(color, 0.01, 0.62), np.float32)


def color_name(color: Floats) -> str:
    """An everyday name of an albedo [3]."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(channel) ** (1 / 2.2) for channel in np.clip(color, 0, 1)))
    if value < 0.22:
        return "black"
    if saturation < 0.14:
        return "white" if value > 0.72 else "grey"
    if hue < 0.11 and value < 0.55:
        return "brown"
    edges = ((0.04, "red"), (0.11, "orange"), (0.19, "yellow"), (0.45, "green"), (0.53, "turquoise"), (0.72, "blue"))
    return next((name for edge, name in (*edges, (0.82, "purple"), (0.94, "pink"), (1.01, "red")) if hue < edge), "red")

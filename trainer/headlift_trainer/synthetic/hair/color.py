"""Colours of hair: pigments, age, dyes, and how they run from root to tip and from lock to lock. Linear albedo."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.hair.strands import Strands
from headlift_trainer.synthetic.noise import smoothstep

_NATURAL = {
    "black": (0.012, 0.009, 0.008),
    "dark brown": (0.040, 0.022, 0.013),
    "brown": (0.095, 0.050, 0.026),
    "light brown": (0.19, 0.110, 0.058),
    "dark blond": (0.27, 0.175, 0.095),
    "blond": (0.42, 0.29, 0.165),
    "platinum": (0.58, 0.49, 0.38),
    "auburn": (0.135, 0.040, 0.017),
    "red": (0.27, 0.080, 0.026),
    "copper": (0.33, 0.125, 0.045),
}
_LIGHT_SKIN = (0.13, 0.19, 0.19, 0.14, 0.09, 0.10, 0.03, 0.06, 0.04, 0.03)
_DARK_SKIN = (0.62, 0.24, 0.06, 0.02, 0.01, 0.01, 0.005, 0.02, 0.005, 0.01)
_WHITE = np.array([0.44, 0.43, 0.415])


@dataclass(frozen=True)
class HairColor:
    """Everything that colours one head of hair."""

    name: str
    base: Floats  # [3] pigment
    grey: float  # 0..1, share of hairs without pigment
    salted: float  # 0..1, how unevenly the grey is spread over the locks
    tips: Floats  # [3]
    tip_start: float  # 0..1 along the strand
    tip_share: float  # 0 one colour, 1 the tips have their own
    streaks: float  # share of highlighted locks
    rainbow: bool = False

    @property
    def middle(self) -> Floats:
        """[3] of the whole."""
        return np.asarray(self.base * (1 - self.grey) + _WHITE * self.grey, np.float32)

    def grown_out(self, rng: np.random.Generator) -> HairColor:
        """Colour of beard and brows: natural, a little darker or redder, grey a little sooner."""
        base = self.base
        if self.name in ("dyed", "rainbow"):
            base = np.asarray(_NATURAL[str(rng.choice(["black", "dark brown", "brown", "dark blond"]))], np.float32)
        base = base * rng.uniform(0.7, 1.1) * np.array([1.0, rng.uniform(0.85, 1.0), rng.uniform(0.75, 1.0)])
        grey = float(np.clip(self.grey * rng.uniform(0.8, 1.3) + (0.1 if self.grey > 0.1 else 0.0), 0, 1))
        salted = float(rng.uniform(0.2, 0.9) * (1 - abs(2 * grey - 1)))
        return HairColor(self.name, np.asarray(base, np.float32), grey, salted, self.base, 0.5, 0.0, 0.0)

    def of(self, strands: Strands, rng: np.random.Generator) -> Floats:
        """Albedo [V, 3] along these strands."""
        along, lock = strands.along[:, None], strands.lock[:, None]
        spread = np.exp(0.32 * (lock - 0.5) * 2 * (1 if self.grey < 0.5 else 0.6))
        color = self.base * spread * (0.82 + 0.25 * along)
        mixed = np.clip(self.grey + 0.6 * self.salted * (lock - 0.5), 0, 1)
        color = color * (1 - mixed) + _WHITE * (0.75 + 0.3 * lock) * mixed
        if self.streaks > 0:
            lit = smoothstep(1 - self.streaks - 0.1, 1 - self.streaks + 0.1, (lock * 7.13) % 1.0)
            color = color + (self.tips - color) * lit * smoothstep(0.05, 0.3, along)
        if self.tip_share > 0:
            share = self.tip_share * smoothstep(self.tip_start, self.tip_start + 0.35, along + 0.25 * (lock - 0.5))
            color = color + (self.tips - color) * share
        if self.rainbow:
            hue = 0.8 * strands.along + 0.55 * strands.lock + rng.random()
            vivid = np.array([colorsys.hsv_to_rgb(h % 1.0, 0.85, 0.75) for h in hue]) ** 2.2
            color = vivid * (0.6 + 0.6 * lock)
        return np.asarray(np.clip(color, 0.004, 0.8), np.float32)


def draw_hair_color(rng: np.random.Generator, melanin: float, age_years: float) -> HairColor:
    """Natural pigment by the skin's melanin, grey by age, dyes and highlights now and then."""
    names = list(_NATURAL)
    dark = float(np.clip((melanin - 0.30) / 0.25, 0, 1))
    share = np.array(_LIGHT_SKIN) * (1 - dark) + np.array(_DARK_SKIN) * dark
    name = str(names[rng.choice(len(names), p=share / share.sum())])
    base = np.array(_NATURAL[name]) * np.exp(rng.normal(0, 0.15)) * np.exp(rng.normal(0, 0.05, 3))
    grey = float(np.clip(rng.normal((age_years - 52) / 22, 0.35), 0, 1)) if age_years > 32 else 0.0
    if rng.random() < 0.02:
        grey = 1.0  # white and silver are worn young too
    salted = float(rng.uniform(0.2, 0.9) * (1 - abs(2 * grey - 1)))
    tips, start, tip_share, streaks, rainbow = base, 0.5, 0.0, 0.0, False
    drawn = rng.random()
    if drawn < 0.035:  # dyed all over, reds and violets most of all
        hue, vividness = (rng.normal(0.93, 0.1) if rng.random() < 0.6 else rng.random()) % 1.0, rng.uniform(0.4, 0.85)
        base = np.array(colorsys.hsv_to_rgb(hue, vividness, rng.uniform(0.25, 0.7))) ** 2.2
        name, grey, salted = "dyed", 0.0, 0.0
    elif drawn < 0.05:
        name, rainbow, grey = "rainbow", True, 0.0
    elif drawn < 0.17 and grey < 0.3:  # lighter or dyed tips
        tips = base * rng.uniform(1.8, 4.0) * np.array([1.0, 0.92, 0.8])
        if rng.random() < 0.25:
            tips = np.array(colorsys.hsv_to_rgb(rng.random(), 0.8, 0.7)) ** 2.2
        start, tip_share = float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.5, 1.0))
    elif drawn < 0.30 and grey < 0.5:
        tips, streaks = base * rng.uniform(1.6, 3.2) * np.array([1.0, 0.93, 0.82]), float(rng.uniform(0.15, 0.45))
    if grey > 0.75:
        name = "white" if grey > 0.95 else "grey"
    elif grey > 0.3:
        name = f"greying {name}"
    base, tips = (np.asarray(np.clip(color, 0.006, 0.62), np.float32) for color in (base, tips))
    return HairColor(name, base, grey, salted, tips, start, tip_share, streaks, rainbow)


def hair_color(rng: np.random.Generator, melanin: float, age: float) -> Floats:
    """Albedo [3] of hair for skin of this melanin and a person of this age (0.5 young, 1 old), as one colour."""
    return draw_hair_color(rng, melanin, float(np.interp(age, [0.0, 0.5, 1.0], [11.0, 25.0, 80.0]))).middle

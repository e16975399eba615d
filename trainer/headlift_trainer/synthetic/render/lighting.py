"""Random light: a low-frequency environment in spherical harmonics and one or two key lights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from headlift_trainer.synthetic.arrays import Floats

_DIRECTIONS = 512  # samples of the sphere that an environment is projected from


@dataclass(frozen=True)
class Light:
    """Light on a head, linear RGB. Legend: K key lights."""

    sh: Floats  # [9, 3] radiance of the environment, real spherical harmonics (order of `sh_basis`)
    key_direction: Floats  # [K, 3] unit, toward the light; only the first casts sharp shadows
    key_color: Floats  # [K, 3] irradiance of a surface that faces the light, over pi
    softness: float  # radius of the penumbra, share of the shadow map's side

    def tinted(self, color: Floats) -> Light:
        """The same light through a filter of this colour [3]."""
        return replace(self, sh=self.sh * color, key_color=self.key_color * color)

    def scaled(self, factor: float) -> Light:
        """The same light, brighter."""
        return replace(self, sh=self.sh * np.float32(factor), key_color=self.key_color * np.float32(factor))


def sphere_directions(count: int) -> Floats:
    """Evenly spread unit vectors (golden spiral), [count, 3]."""
    index = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * index / count), np.pi * (1 + 5**0.5) * index
    return np.stack([np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], 1).astype(
        np.float32
    )


def sh_basis(directions: Floats) -> Floats:
    """The first nine real spherical harmonics at unit vectors [..., 3] -> [..., 9]."""
    x, y, z = directions[..., 0], directions[..., 1], directions[..., 2]
    terms = [
        0.282095 * np.ones_like(x),
        0.488603 * y,
        0.488603 * z,
        0.488603 * x,
        1.092548 * x * y,
        1.092548 * y * z,
        0.315392 * (3 * z * z - 1),
        1.092548 * x * z,
        0.546274 * (x * x - y * y),
    ]
    return np.stack(terms, -1).astype(np.float32)


def random_light(rng: np.random.Generator) -> Light:
    """A plausible portrait light: mostly soft and frontal, sometimes hard, sideways or from behind. Not yet exposed."""
    directions = sphere_directions(_DIRECTIONS)
    up = np.clip(0.5 + 0.7 * directions[:, 1:2], 0, 1)
    radiance = _tint(rng, 0.07) * rng.uniform(0.5, 0.9) * up + _tint(rng, 0.09) * rng.uniform(0.2, 0.45) * (1 - up)
    for _ in range(rng.integers(1, 5)):
        toward = _toward(rng.uniform(-np.pi, np.pi), rng.uniform(-0.1, 1.2))
        lobe = np.exp(rng.uniform(3, 20) * (directions @ toward - 1))[:, None]
        radiance = radiance + _tint(rng, 0.14) * rng.uniform(0.4, 2.2) * lobe
    sh = 4 * np.pi / _DIRECTIONS * sh_basis(directions).T @ radiance
    style = rng.choice(3, p=[0.70, 0.20, 0.10])  # soft, hard, from behind
    strength = (rng.uniform(0.25, 0.8), rng.uniform(0.7, 1.4), rng.uniform(0.5, 1.2))[style]
    azimuth = rng.normal(0, 0.7) if style < 2 else rng.choice([-1, 1]) * rng.uniform(1.8, 2.8)
    keys, colors = [_toward(azimuth, rng.uniform(0.1, 0.95))], [_tint(rng, 0.07) * strength]
    if rng.random() < 0.4:
        keys.append(_toward(rng.uniform(-np.pi, np.pi), rng.uniform(-0.1, 1.0)))
        colors.append(_tint(rng, 0.12) * strength * rng.uniform(0.2, 0.6))
    softness = rng.uniform(0.02, 0.045) if style == 0 else rng.uniform(0.006, 0.02)
    return Light(sh.astype(np.float32), np.array(keys, np.float32), np.array(colors, np.float32), float(softness))


def _toward(azimuth: float, elevation: float) -> Floats:
    flat = np.cos(elevation)
    return np.array([np.sin(azimuth) * flat, np.sin(elevation), np.cos(azimuth) * flat], np.float32)


def _tint(rng: np.random.Generator, spread: float) -> Floats:
    """A colour of mean 1 between warm and cool."""
    warmth, green = rng.normal(0, spread), rng.normal(0, spread * 0.25)
    color = np.clip([1 + warmth, 1 + green, 1 - warmth], 0.3, 1.7)
    return np.asarray(color / color.mean(), np.float32)

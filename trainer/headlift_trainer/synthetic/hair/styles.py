"""Hair cuts of our own: what is drawn for each, and the guides, cards, tubes and caps that make it up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.obstacle import Obstacle
from headlift_trainer.synthetic.base.shells import Body
from headlift_trainer.synthetic.classes import HAIR
from headlift_trainer.synthetic.hair.cropped import cropped_hair_part
from headlift_trainer.synthetic.hair.strands import Growth, Guides, Strands, cards, grow, roots_on, tubes
from headlift_trainer.synthetic.noise import smooth_noise, smoothstep
from headlift_trainer.synthetic.render.scene import Part

LOCKS = ("strand short", "strand medium", "strand long", "strand curly", "strand afro", "twists", "dreadlocks")
GATHERED = ("bun", "high bun", "tail", "pigtails")
OWN_STYLES = LOCKS + GATHERED


@dataclass(frozen=True)
class Grown:
    """Hair of one cut."""

    parts: tuple[tuple[Part, str | None, Strands], ...]  # part, texture, what its colours need
    parting: Floats | None  # [N] 0..1, where the scalp shows between the hair; None without a parting
    length: float  # m
    curl: str


def grow_style(
    style: str, body: Body, hairline: Floats, rng: np.random.Generator, *, male: bool, worn: Sequence[Part] = ()
) -> Grown:
    """Grow one of OWN_STYLES on the scalp, where `hairline` [N] m is positive, over the clothes `worn`."""
    obstacle = Obstacle(body, worn=worn)
    if style in ("twists", "dreadlocks"):
        return _tubes(style, body, hairline, obstacle, rng)
    if style in GATHERED:
        return _gathered(style, body, hairline, obstacle, rng)
    return _loose(style, body, hairline, obstacle, rng, male=male)


def _loose(
    style: str, body: Body, hairline: Floats, obstacle: Obstacle, rng: np.random.Generator, *, male: bool
) -> Grown:
    growth, curl = _draw_growth(style, rng)
    combs = ["part", "back", "forward", "side", "messy"]
    share = [0.3, 0.2, 0.15, 0.2, 0.15] if style == "strand short" else [0.7, 0.12, 0.0, 0.1, 0.08]
    comb = str(rng.choice(combs, p=share))
    if style in ("strand afro", "strand curly"):
        comb = "messy"
    line = float(rng.choice([0.0, 0.02, -0.02, 0.033, -0.033], p=[0.36, 0.16, 0.16, 0.16, 0.16]))
    density = smoothstep(-0.002, 0.008, hairline)
    count = _count(growth)
    roots, normals = roots_on(body, density, count, rng)
    if not len(roots):
        return Grown((), None, growth.length, curl)
    direction = _combed(roots, normals, comb, line, rng)
    short = growth.length < 0.07
    lengths = None
    if short and comb != "messy":  # cut shorter at the nape and around the ears
        taper = rng.uniform(0.2, 0.7)
        lengths = growth.length * (taper + (1 - taper) * smoothstep(0.0, 0.085, roots[:, 1]))
    guides = grow(roots, normals, direction, growth, obstacle, rng, lengths)
    pieces = [guides]
    if not short and comb != "back" and rng.random() < (0.1 if male else 0.3):
        pieces.append(_fringe(body, hairline, growth, obstacle, rng))
    texture = str(rng.choice(["strands/fine", "strands/coarse", "strands/wisps"], p=[0.4, 0.4, 0.2]))
    if curl in ("curly", "coily"):
        texture = str(rng.choice(["strands/wiry", "strands/coarse"]))
    width = rng.uniform(0.005, 0.009) if short else rng.uniform(0.014, 0.022)
    parts = [_cap(body, hairline, rng, min(0.5 * growth.length, 0.005))]
    for index, piece in enumerate(pieces):
        part, strands = cards(f"hair {index}", piece, width, HAIR, rng, tilt=0.35 if short else 0.3)
        parts.append((part, texture, strands))
    loose = rng.random(guides.count) < 0.12
    if loose.any():
        wild = Guides(
            np.asarray(guides.points[loose] + 0.004 * rng.normal(size=(int(loose.sum()), 1, 3)), np.float32),
            guides.outward[loose], guides.clump[loose],
        )  # fmt: skip
        part, strands = cards("hair wisps", wild, 1.5 * width, HAIR, rng, tilt=0.8)
        parts.append((part, "strands/wisps", strands))
    parting = None
    if comb == "part" and curl != "coily":
        mean = body.topology.mean
        crown = smoothstep(-0.05, -0.02, mean[:, 2]) * smoothstep(0.07, 0.09, mean[:, 1])
        parting = np.asarray(np.exp(-(((mean[:, 0] - line) / 0.003) ** 2)) * crown, np.float32)
    return Grown(tuple(parts), parting, growth.length, curl)


def _draw_growth(style: str, rng: np.random.Generator) -> tuple[Growth, str]:
    """Lengths and forces of a style, and the name of its curl."""
    if style == "strand short":
        length = float(rng.uniform(0.02, 0.065))
        curl = str(rng.choice(["straight", "wavy", "curly"], p=[0.6, 0.25, 0.15]))
        growth = Growth(
            length, 0.2, steps=6, lift=rng.uniform(0.1, 0.55), bend=rng.uniform(0.03, 0.09), gravity=0.8,
            volume=rng.uniform(0.004, 0.013), keeps_face_free=False, frizz=rng.uniform(0.0005, 0.003),
        )  # fmt: skip
        if curl != "straight":
            growth = replace(growth, steps=9, wave=rng.uniform(0.002, 0.005), wavelength=rng.uniform(0.02, 0.04))
        return growth, curl
    if style == "strand afro":
        length = float(rng.uniform(0.03, 0.10))
        return Growth(
            length, 0.08, steps=9, lift=1.0, gravity=rng.uniform(0.0, 0.2), bend=0.3, volume=length,
            keeps_face_free=False, wave=rng.uniform(0.003, 0.006), wavelength=0.02, clumps=250, frizz=0.006,
        ), "coily"  # fmt: skip
    if style == "strand curly":
        length = float(rng.uniform(0.08, 0.38))
        steps = int(np.clip(length / 0.009, 12, 30))
        return Growth(
            length, 0.15, steps=steps, lift=rng.uniform(0.3, 0.7), bend=rng.uniform(0.02, 0.05),
            volume=rng.uniform(0.010, 0.03), front=rng.uniform(0.2, 0.8), wave=rng.uniform(0.005, 0.010),
            wavelength=rng.uniform(0.035, 0.07), clumps=int(rng.integers(30, 90)), frizz=rng.uniform(0.002, 0.006),
        ), "curly"  # fmt: skip
    long = style == "strand long"
    length = float(rng.uniform(0.28, 0.55) if long else rng.uniform(0.11, 0.26))
    wavy = rng.random() < 0.5
    growth = Growth(
        length, 0.06 if rng.random() < 0.5 else 0.18, steps=int(np.clip(length / 0.015, 10, 30)),
        lift=rng.uniform(0.1, 0.4), bend=rng.uniform(0.012, 0.03), volume=rng.uniform(0.005, 0.02),
        drape=rng.uniform(0.1, 0.5),
        front=rng.choice([0.02, 0.3, 0.6, 0.95], p=[0.2, 0.3, 0.3, 0.2]), frizz=rng.uniform(0.0, 0.004),
    )  # fmt: skip
    if wavy:
        growth = replace(
            growth, wave=rng.uniform(0.004, 0.011), wavelength=rng.uniform(0.06, 0.13),
            clumps=int(rng.integers(20, 70)), steps=int(np.clip(length / 0.012, 12, 36)),
        )  # fmt: skip
    return growth, "wavy" if wavy else "straight"


def _count(growth: Growth) -> int:
    """Guides that cover the head: short hair needs more of them."""
    return int(np.clip(1600 - 5000 * growth.length, 430, 1400))


def _combed(roots: Floats, normals: Floats, comb: str, line: float, rng: np.random.Generator) -> Floats:
    """Direction [G, 3] in which hair leaves the skin: on top as the comb says, on the sides down and back."""
    count = len(roots)
    x, y, _ = roots.T
    top = (smoothstep(0.065, 0.105, y) * smoothstep(-0.085, -0.03, roots[:, 2]))[:, None]
    down = np.tile([0.0, -1.0, -0.35], (count, 1))
    side = np.where(x > line, 1.0, -1.0)
    ways = {
        "part": np.stack([1.0 * side, np.full(count, -0.1), np.full(count, -0.45)], 1),
        "back": np.tile([0.0, 0.15, -1.0], (count, 1)),
        "forward": np.tile([0.1, -0.1, 1.0], (count, 1)),
        "side": np.tile([np.sign(line + 1e-3) * 1.0, 0.1, 0.3], (count, 1)),
        "messy": np.stack([smooth_noise(roots, 60.0, rng), np.full(count, 0.1), smooth_noise(roots, 60.0, rng)], 1),
    }
    return np.asarray(top * ways[comb] + (1 - top) * down + 0.07 * rng.normal(size=(count, 3)), np.float32)


def _fringe(body: Body, hairline: Floats, growth: Growth, obstacle: Obstacle, rng: np.random.Generator) -> Guides:
    """Hair that falls over the forehead and ends above the eyes."""
    x, y, z = body.topology.mean.T
    width = rng.uniform(0.025, 0.05)
    front = smoothstep(0.0, 0.03, z) * smoothstep(width + 0.012, width, np.abs(x)) * (y > 0.06)
    roots, normals = roots_on(body, front * smoothstep(-0.002, 0.006, hairline), 150, rng)
    sweep = rng.normal(0, 0.35)
    comb = np.tile(np.array([sweep, -0.2, 1.0], np.float32), (len(roots), 1))
    length = 0.042 + 1.1 * max(0.0, float(roots[:, 1].max(initial=0.0)) - 0.105) + rng.uniform(-0.012, 0.008)
    cut = replace(
        growth, length=length, length_spread=0.07, steps=9, bend=0.02, lift=0.5, volume=0.006, keeps_face_free=False,
        wave=growth.wave * 0.3,
    )  # fmt: skip
    return grow(roots, normals, comb, cut, obstacle, rng)


def _cap(body: Body, hairline: Floats, rng: np.random.Generator, height: float) -> tuple[Part, str | None, Strands]:
    """A thin opaque layer below the strands, so that no scalp shines through."""
    part = cropped_hair_part(body, max(height, 0.002), 0.0, hairline - 0.002, rng)
    part = replace(part, name="hair cap")
    count = len(part.vertices)
    return part, None, Strands(np.zeros(count, np.float32), np.full(count, 0.35, np.float32))


def _tubes(style: str, body: Body, hairline: Floats, obstacle: Obstacle, rng: np.random.Generator) -> Grown:
    """Twists that stand off, or dreadlocks that fall."""
    falling = style == "dreadlocks"
    length = float(rng.uniform(0.12, 0.42) if falling else rng.uniform(0.03, 0.09))
    growth = Growth(
        length, 0.15, steps=int(np.clip(length / 0.012, 7, 30)), lift=rng.uniform(0.25, 0.5) if falling else 1.2,
        bend=rng.uniform(0.02, 0.04) if falling else rng.uniform(0.06, 0.3), gravity=1.0 if falling else 0.5,
        volume=rng.uniform(0.012, 0.03) if falling else length, front=rng.uniform(0.1, 0.7),
        keeps_face_free=falling, wave=0.002 if falling else 0.003, wavelength=0.04, clumps=400,
        frizz=0.004,
    )  # fmt: skip
    faded = hairline
    if not falling and rng.random() < 0.6:  # shaved sides
        y = body.topology.mean[:, 1]
        faded = np.asarray(np.minimum(hairline, (y - rng.uniform(0.03, 0.07)) * 1.0), np.float32)
    count = int(rng.integers(140, 230))
    roots, normals = roots_on(body, smoothstep(-0.001, 0.006, faded), count, rng)
    comb = _combed(roots, normals, "part" if falling else "messy", 0.0, rng)
    guides = grow(roots, normals, comb, growth, obstacle, rng)
    radius = rng.uniform(0.0035, 0.0065) if falling else rng.uniform(0.0045, 0.0075)
    part, strands = tubes("hair 0", guides, radius, HAIR, rng)
    return Grown((_cap(body, hairline, rng, rng.uniform(0.002, 0.006)), (part, None, strands)), None, length, "coily")


def _gathered(style: str, body: Body, hairline: Floats, obstacle: Obstacle, rng: np.random.Generator) -> Grown:
    """Hair drawn tight to one or two points and tied into buns or tails."""
    height = {"bun": rng.uniform(0.02, 0.07), "high bun": rng.uniform(0.14, 0.16), "tail": rng.uniform(0.02, 0.11)}
    ties = [np.array([0.0, height.get(style, 0.05), 0.0])]
    if style == "pigtails":
        ties = [np.array([side * 0.085, rng.uniform(0.0, 0.05), -0.05]) for side in (1, -1)]
    else:
        ties[0][2] = -0.115 + 0.6 * max(0.0, ties[0][1] - 0.07)
    roots, _ = roots_on(body, smoothstep(-0.001, 0.005, hairline), 700, rng)
    if not len(roots):
        return Grown((), None, 0.0, "straight")
    nearest = np.argmin([np.linalg.norm(roots - tie, axis=1) for tie in ties], axis=0)
    goal = np.stack(ties)[nearest]
    steps = 12
    share = np.linspace(0, 1, steps)[None, :, None]
    path = roots[:, None] + (goal - roots)[:, None] * share
    lifted, out = [], []
    for k in range(steps):
        layer = np.full(len(roots), 0.003 + 0.004 * rng.random())
        point, surface, _ = obstacle.push_out(path[:, k].astype(np.float32), layer.astype(np.float32))
        lifted.append(point)
        out.append(surface)
    tight = Guides(np.stack(lifted, 1), np.stack(out, 1), np.zeros(len(roots), np.int32))
    part, strands = cards("hair 0", tight, rng.uniform(0.010, 0.016), HAIR, rng, tilt=0.15)
    parts: list[tuple[Part, str | None, Strands]] = [
        _cap(body, hairline, rng, 0.004), (part, "strands/fine", strands)
    ]  # fmt: skip
    curl = "straight"
    length = 0.1
    for index, tie in enumerate(ties):
        if "bun" in style:
            parts.append(_bun(f"hair bun {index}", tie, rng))
        else:
            piece, length, curl = _tail(f"hair tail {index}", tie, obstacle, rng)
            parts.append(piece)
    return Grown(tuple(parts), None, length, curl)


def _bun(name: str, tie: Floats, rng: np.random.Generator) -> tuple[Part, str | None, Strands]:
    """A knot: strands wound around a ball."""
    radius = rng.uniform(0.030, 0.050)
    away = tie - np.array([0.0, 0.05, -0.03])
    away = away / np.linalg.norm(away)
    helper = np.array([1.0, 0.0, 0.0])
    first = np.cross(away, helper)
    first /= np.linalg.norm(first)
    second = np.cross(away, first)
    count, steps = 90, 16
    polar = np.abs(np.arccos(rng.uniform(-0.75, 1.0, (count, 1))) - 0.25 * np.sin(np.linspace(0, 3, steps))[None])
    around = rng.uniform(0, 6.28, (count, 1)) + np.linspace(0, rng.uniform(3.0, 5.5), steps)[None]
    normal = np.cos(polar)[..., None] * away + np.sin(polar)[..., None] * (
        np.cos(around)[..., None] * first + np.sin(around)[..., None] * second
    )
    size = radius * rng.uniform(0.75, 1.06, (count, 1, 1))
    points = tie + 0.65 * radius * away + normal * size
    guides = Guides(points.astype(np.float32), normal.astype(np.float32), np.zeros(count, np.int32))
    part, strands = cards(name, guides, 0.016, HAIR, rng, tilt=0.15)
    return part, "strands/fine", strands


def _tail(
    name: str, tie: Floats, obstacle: Obstacle, rng: np.random.Generator
) -> tuple[tuple[Part, str | None, Strands], float, str]:
    """Hair that falls from a tie."""
    length = float(rng.uniform(0.15, 0.42))
    wavy = rng.random() < 0.5
    count = 170
    away = tie - np.array([0.0, 0.05, -0.03])
    away = away / np.linalg.norm(away)
    roots = (tie + 0.012 * rng.normal(size=(count, 3))).astype(np.float32)
    normals = np.tile(away, (count, 1)).astype(np.float32)
    growth = Growth(
        length, 0.1, steps=int(np.clip(length / 0.015, 8, 28)), lift=1.0, bend=rng.uniform(0.03, 0.06),
        volume=0.03, front=0.0, keeps_face_free=False, frizz=0.004,
        wave=rng.uniform(0.004, 0.010) if wavy else 0.0, wavelength=rng.uniform(0.04, 0.10), clumps=12,
    )  # fmt: skip
    guides = grow(roots, normals, np.zeros((count, 3), np.float32), growth, obstacle, rng)
    part, strands = cards(name, guides, rng.uniform(0.012, 0.02), HAIR, rng)
    return (part, "strands/fine", strands), length, "wavy" if wavy else "straight"

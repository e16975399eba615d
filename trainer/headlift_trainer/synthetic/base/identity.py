"""Who a head is: a continuous mix of sex, age and descent, small face details, and a mild natural expression."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from headlift_trainer.synthetic.arrays import Floats
from headlift_trainer.synthetic.base.assets import MACRO_RACES, MakeHumanAssets

DETAIL_REGIONS = ("head", "eyes", "nose", "mouth", "chin", "cheek", "ears", "forehead", "eyebrows", "neck")
DETAIL_LIMIT = 0.3  # larger weights of single targets make grimaces, not people
# pairs of names that undo each other: one signed weight drives both
_OPPOSITES = (
    ("decr", "incr"),
    ("down", "up"),
    ("in", "out"),
    ("concave", "convex"),
    ("backward", "forward"),
    ("compress", "uncompress"),
)
_SHAPES = (
    "round",
    "square",
    "triangular",
    "triangle",
    "pointed",
    "oval",
    "rectangular",
    "invertedtriangular",
    "diamond",
)


@dataclass(frozen=True)
class Person:
    """What was drawn for one head; all shares 0..1."""

    maleness: float
    age: float  # 0 child, 0.5 young adult, 1 old
    descent: dict[str, float]  # shares of MACRO_RACES, sum 1
    details: dict[str, float] = field(default_factory=dict)  # target -> weight
    expression: dict[str, float] = field(default_factory=dict)  # unit -> weight
    expression_name: str = "neutral"
    gaze_deg: tuple[float, float] = (0.0, 0.0)  # right(+X), up

    @property
    def age_years(self) -> float:
        """Roughly how old the shape looks: child shapes are about eleven, young ones 25, old ones 80."""
        return float(np.interp(self.age, [0.0, 0.5, 1.0], [11.0, 25.0, 80.0]))

    @property
    def is_male(self) -> bool:
        """Which way beards and hair cuts are drawn."""
        return self.maleness > 0.5


def sample_person(rng: np.random.Generator, assets: MakeHumanAssets) -> Person:
    """Draw a person: sex and descent mixed continuously, age from 15 to 80, symmetric details, mild expression."""
    male = rng.random() < 0.5
    maleness = float(np.clip(rng.normal(0.88, 0.12), 0.5, 1.0))
    shares = rng.dirichlet([0.5] * len(MACRO_RACES))
    age = float(rng.uniform(0.28, 0.45) if rng.random() < 0.07 else 0.5 + 0.5 * rng.beta(0.8, 1.5))
    name, expression = sample_expression(rng)
    return Person(
        maleness=maleness if male else 1.0 - maleness,
        age=age,
        descent=dict(zip(MACRO_RACES, map(float, shares), strict=True)),
        details=sample_details(rng, assets),
        expression=expression,
        expression_name=name,
        gaze_deg=(float(np.clip(rng.normal(0, 5), -14, 14)), float(np.clip(rng.normal(0, 3), -7, 7))),
    )


def sample_details(rng: np.random.Generator, assets: MakeHumanAssets) -> dict[str, float]:
    """Weights of detail targets: left and right alike up to a tenth, opposites never together, |weight| <= 0.3."""
    names = [name for region in DETAIL_REGIONS for name in assets.target_names(region) if not _moves_the_head(name)]
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_axis_of(name), []).append(name)
    weights: dict[str, float] = {}
    for members in groups.values():
        if rng.random() > 0.4:
            continue
        endings = sorted({_side_free(name) for name in members})
        chosen = endings[rng.integers(len(endings))]
        weight = min(abs(rng.normal(0, 0.2)), DETAIL_LIMIT)
        for name in members:
            if _side_free(name) == chosen:
                weights[name] = float(min(weight * (1 + rng.normal(0, 0.1)), DETAIL_LIMIT))
    return weights


def sample_expression(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    """Name and unit weights of a natural expression: mostly neutral or smiling, one side a little ahead of the other.

    MakeHuman's resting face looks stern and tired: lids and inner brows are raised a little in every expression.
    """
    name = str(rng.choice(list(_EXPRESSIONS), p=[weight for weight, _ in _EXPRESSIONS.values()]))
    units = {"eye-*-opened-up": float(rng.uniform(0.0, 0.22)), "eyebrows-*-inner-up": float(rng.uniform(0.15, 0.45))}
    strength = rng.uniform(0.45, 1.0)
    for unit, weight in _EXPRESSIONS[name][1].items():
        units[unit] = float(weight * strength * rng.uniform(0.8, 1.2))
    if rng.random() < (0.2 if name == "neutral" else 0.5):
        units["eyebrows-*-up"] = float(rng.uniform(0.05, 0.45))
    units["mouth-corner-puller"] = units.get("mouth-corner-puller", 0.0) + float(rng.uniform(0.0, 0.12))
    if "eye-*-closure" in units:
        units["eye-*-opened-up"] = 0.0
    both: dict[str, float] = {}
    lopsided = rng.normal(0, 0.05)
    for unit, weight in units.items():
        for side, sign in (("left", 1), ("right", -1)) if "*" in unit else (("", 0),):
            both[unit.replace("*", side)] = weight * float(1 + sign * lopsided + rng.normal(0, 0.03))
    return name, both


_SMILE = {"mouth-corner-puller": 0.6, "mouth-retraction": 0.35, "eye-*-slit": 0.10}

# probability, unit weights at full strength; `*` stands for both sides
_EXPRESSIONS: dict[str, tuple[float, dict[str, float]]] = {
    "neutral": (0.30, {}),
    "smile": (0.24, _SMILE),
    "toothy smile": (0.22, _SMILE | {"mouth-upward-retraction": 0.9, "eye-*-slit": 0.14}),
    "laugh": (
        0.07,
        _SMILE | {"mouth-upward-retraction": 1.0, "mouth-open": 0.10, "mouth-retraction": 0.5, "eye-*-slit": 0.2},
    ),
    "lips parted": (0.07, {"mouth-parling": 0.45, "mouth-corner-puller": 0.15}),
    "talking": (0.04, {"mouth-open": 0.25, "mouth-corner-puller": 0.1}),
    "pursed": (0.02, {"mouth-pursing": 0.35}),
    "serious": (0.03, {"eyebrows-*-down": 0.25, "mouth-compression": 0.15}),
    "eyes closed": (0.01, {"eye-*-closure": 0.95}),
}


def neutral_shape(person: Person, assets: MakeHumanAssets, rng: np.random.Generator) -> Floats:
    """Base vertices [N, 3] dm of a person without expression. The body's weight is drawn here."""
    vertices = assets.base.vertices.copy()
    build = str(rng.choice(["minweight", "averageweight", "maxweight"], p=[0.2, 0.55, 0.25]))
    build_share = float(rng.uniform(0.3, 0.9))
    for sex, sex_share in (("male", person.maleness), ("female", 1 - person.maleness)):
        for age, age_share in age_shares(person.age).items():
            share = sex_share * age_share
            if share < 0.005:
                continue
            for race, race_share in person.descent.items():
                assets.offset(vertices, f"macrodetails/{race}-{sex}-{age}", share * race_share)
            for name, name_share in ((build, build_share), ("averageweight", 1 - build_share)):
                target = f"macrodetails/universal-{sex}-{age}-averagemuscle-{name}"
                assets.offset(vertices, target, share * name_share)
    for name, weight in person.details.items():
        assets.offset(vertices, name, weight)
    return vertices


def add_expression(vertices: Floats, person: Person, assets: MakeHumanAssets) -> None:
    """Move the vertices [N, 3] dm into the person's expression, in place."""
    for unit, weight in person.expression.items():
        for race, share in person.descent.items():
            if share > 0.01:
                assets.offset(vertices, f"expression/units/{race}/{unit}", weight * share)


def age_shares(age: float) -> dict[str, float]:
    """Shares of the child, young and old shapes: 0.5 is young, linear on both sides."""
    old, child = max(0.0, 2 * age - 1), max(0.0, 1 - 2 * age)
    return {name: share for name, share in (("child", child), ("young", 1 - old - child), ("old", old)) if share > 0}


def _moves_the_head(name: str) -> bool:
    return name.startswith(
        ("head/head-trans", "head/head-angle", "neck/neck-trans", "chin/chin-jaw-drop", "head/head-age")
    )


def _side_free(name: str) -> str:
    return re.sub(r"/[lr]-", "/", name)


def _axis_of(name: str) -> str:
    """The name without side and direction: targets of one axis exclude each other."""
    words = _side_free(name).split("-")
    for pair in _OPPOSITES:
        if words[-1] in pair:
            return "-".join(words[:-1])
    return "-".join(words[:-1]) + "-shape" if words[-1] in _SHAPES else "-".join(words)

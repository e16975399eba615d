"""The paper's protocols: which views are asked of which input (appendix F.1; its subjects: `datasets.subjects`).

The paper says that an extreme view is "the corresponding opposing horizontal view", and for NeRSemble large vertical
changes too; it does not list its pairs of cameras. Ours follow from the cameras alone, so that anyone with the data
gets the same ones:

novel    inputs are the cameras nearest to yaw 0, 45 and -45 degrees; targets every camera within 75 degrees of the
         input whose own yaw is within 100 (faces, not backs of heads), at most 4, evenly by yaw
extreme  inputs are all cameras 30 to 100 degrees to one side; the target is the one nearest to the mirrored direction,
         if within 15 degrees of it. With ``vertical``, also inputs 12 degrees or more above or below, and the target
         nearest to the opposite pitch

Angles are those of the canonical head frame; pitch is positive from above. Legend: C cameras.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.types import HEAD_CENTER

Protocol = Literal["novel", "extreme"]
PROTOCOLS: tuple[Protocol, ...] = ("novel", "extreme")

_INPUT_YAWS = (0.0, 45.0, -45.0)
_NOVEL_WITHIN, _FACE_WITHIN = 75.0, 100.0
_NOVEL_TARGETS = 4
_SIDE = (30.0, 100.0)
_STEEP = 12.0
_OPPOSITE_WITHIN = 15.0


@dataclass(frozen=True)
class Pair:
    """A view to give and a view to ask for, as indices of cameras."""

    input: int
    target: int
    group: Protocol


def directions(viewmats: Tensor) -> Tensor:
    """Yaw and pitch [C, 2] in degrees of where cameras [C, 4, 4] stand about the head."""
    matrices = viewmats.double()
    centers = -(matrices[:, :3, :3].mT @ matrices[:, :3, 3:])[..., 0] - torch.tensor(HEAD_CENTER, dtype=torch.float64)
    x, y, z = centers.unbind(-1)
    return torch.stack([torch.atan2(x, z), torch.atan2(y, torch.hypot(x, z))], -1).rad2deg().float()


def between(one: Sequence[float], other: Sequence[float]) -> float:
    """Angle between two directions (yaw, pitch), degrees."""
    (yaw_a, pitch_a), (yaw_b, pitch_b) = ((math.radians(v) for v in pair) for pair in (one, other))
    cosine = math.sin(pitch_a) * math.sin(pitch_b) + math.cos(pitch_a) * math.cos(pitch_b) * math.cos(yaw_a - yaw_b)
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def pairs(protocol: Protocol, viewmats: Tensor, *, vertical: bool = False) -> list[Pair]:
    """The protocol's pairs of cameras [C, 4, 4] about one head, in a fixed order.

    Raises:
        InvalidInputError: There is no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"There is no protocol {protocol!r}; choose among {', '.join(PROTOCOLS)}.")
    where = [(float(yaw), float(pitch)) for yaw, pitch in directions(viewmats)]
    return _novel(where) if protocol == "novel" else _extreme(where, vertical)


def _novel(where: list[tuple[float, float]]) -> list[Pair]:
    found: list[Pair] = []
    for yaw in _INPUT_YAWS:
        given = _nearest(where, (yaw, 0.0), lambda _: True)
        if given is None or between(where[given], (yaw, 0.0)) > 30:
            continue
        near = [
            i
            for i, place in enumerate(where)
            if i != given and abs(place[0]) <= _FACE_WITHIN and between(place, where[given]) <= _NOVEL_WITHIN
        ]
        near.sort(key=lambda i: where[i])
        count = min(len(near), _NOVEL_TARGETS)
        found += [Pair(given, near[(2 * k + 1) * len(near) // (2 * count)], "novel") for k in range(count)]
    return list(dict.fromkeys(found))


def _extreme(where: list[tuple[float, float]], vertical: bool) -> list[Pair]:
    found: list[Pair] = []
    for given, (yaw, pitch) in enumerate(where):
        opposite = []
        if _SIDE[0] <= abs(yaw) <= _SIDE[1]:
            opposite.append((-yaw, pitch))
        if vertical and abs(pitch) >= _STEEP and abs(yaw) <= _FACE_WITHIN:
            opposite.append((yaw, -pitch))
        for place in opposite:
            target = _nearest(where, place, lambda i, given=given: i != given)  # type: ignore[misc]
            if target is not None and between(where[target], place) <= _OPPOSITE_WITHIN:
                found.append(Pair(given, target, "extreme"))
    return list(dict.fromkeys(found))


def _nearest(
    where: list[tuple[float, float]], place: tuple[float, float], allowed: Callable[[int], bool]
) -> int | None:
    """The allowed camera nearest to a direction."""
    return min((i for i in range(len(where)) if allowed(i)), key=lambda i: between(where[i], place), default=None)

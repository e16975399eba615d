"""Edits as differences (ours): what the editing model says changed, done to the head that is there.

All heads have the same anchors in the same order, so what changes between two decoded heads can be added to a third
one, Gaussian by Gaussian: new = parent + (after - before), in coordinates without ends (logits, logarithms, turns).
Where nothing changed nothing is touched, and the person stays the person.

Legend: N Gaussians.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.edit.complexion import COLOR_EDGE
from headlift.model.gaussians import multiply_quats
from headlift.model.types import Gaussians

# What counts as noise of the decoder, and from where on a change is taken whole.
_MOVED_M = (0.0004, 0.0012)
_RECOLORED = (0.15, 0.45)  # logits
_EASED = (0.15, 0.4)  # logits of opacity
# A Gaussian has turned into something else if it moved so far, or less far and is recoloured so much.
_ELSEWHERE_M = (0.008, 0.025)
_OFF_M, _OTHER_COLOR = (0.003, 0.008), (1.2, 2.8)
_OPACITY_EDGE = 1e-4  # opacities likewise as COLOR_EDGE


def apply_difference(
    parent: Gaussians, before: Gaussians, after: Gaussians, *, shape: bool = True, color: bool = True
) -> Gaussians:
    """The parent with what changed from ``before`` to ``after``; N Gaussians each, in the same order.

    Args:
        parent: The head that is edited.
        before: What the editing model makes of the parent's map and style.
        after: Likewise of the new ones.
        shape: Whether places, sizes, turns and opacities may change.
        color: Whether colours may. With both, what turns into something else takes the colour of ``after``.

    Raises:
        InvalidInputError: The heads have different numbers of Gaussians.
    """
    if not len(parent) == len(before) == len(after):
        raise InvalidInputError(
            f"The head has {len(parent)} Gaussians and the editing model makes {len(after)}; only heads of the same "
            "network can be edited.",
            reason="NOT_EDITABLE",
            field="head",
        )
    means, quats, scales, opacities, colors = (
        parent.means, parent.quats, parent.scales, parent.opacities, parent.colors,
    )  # fmt: skip
    moved = after.means - before.means
    distance = moved.norm(dim=-1, keepdim=True)
    if shape:
        weight = _ramp(distance, *_MOVED_M)
        means = means + weight * moved
        turn = multiply_quats(after.quats, before.quats * before.quats.new_tensor([1.0, -1, -1, -1]))
        turn = torch.where(turn[:, :1] < 0, -turn, turn)
        still = turn.new_tensor([1.0, 0, 0, 0])
        quats = F.normalize(multiply_quats(F.normalize(torch.lerp(still, turn, weight), dim=-1), quats), dim=-1)
        grown = after.scales.clamp_min(1e-7).log() - before.scales.clamp_min(1e-7).log()
        scales = scales * (weight * grown).exp()
        eased = _logit(after.opacities, _OPACITY_EDGE) - _logit(before.opacities, _OPACITY_EDGE)
        eased = eased * _ramp(eased.abs(), *_EASED)
        opacities = torch.where(eased == 0, opacities, (_logit(opacities, _OPACITY_EDGE) + eased).sigmoid())
    if color:
        change = _logit(after.colors, COLOR_EDGE) - _logit(before.colors, COLOR_EDGE)
        most = change.abs().amax(-1, keepdim=True)
        weight = _ramp(most, *_RECOLORED)
        changed = (_logit(colors, COLOR_EDGE) + weight * change).sigmoid()
        if shape:
            other = _ramp(distance, *_OFF_M) * _ramp(most, *_OTHER_COLOR)
            changed = torch.lerp(changed, after.colors, weight * torch.maximum(_ramp(distance, *_ELSEWHERE_M), other))
        colors = torch.where(weight == 0, colors, changed)
    return Gaussians(means, quats, scales, opacities, colors)


def _logit(x: Tensor, edge: float) -> Tensor:
    return x.clamp(edge, 1 - edge).logit()


def _ramp(x: Tensor, low: float, high: float) -> Tensor:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return ((x - low) / (high - low)).clamp(0, 1)

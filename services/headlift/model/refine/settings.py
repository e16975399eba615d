"""Everything about refinement that may be turned."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from headlift.errors import InvalidInputError
from headlift.limits import SIDE_MAX, SIDE_MIN


@dataclass(frozen=True)
class RefineSettings:
    """Steps, rates, weights and bounds of refinement.

    Rates are Adam's steps at the start; they fall to a tenth by a cosine. Weights stand against a mean absolute error
    of pictures in 0..1. ``steps=0`` is the paper: the network's Gaussians as they are.

    Raises:
        InvalidInputError: A value out of range, named.
    """

    steps: int = 100
    size: int = 192  # px, side of the pictures compared at first ...
    final_size: int = 384  # ... and in the last steps; 65,536 Gaussians resolve no more
    final_share: float = 0.3  # of the steps
    seed: int = 0  # of the random backgrounds

    means_rate: float = 0.0004  # m
    colors_rate: float = 0.05  # logits
    scales_rate: float = 0.02  # logarithms
    opacities_rate: float = 0.03  # logits
    camera_turn_rate: float = 0.001  # rad
    camera_shift_rate: float = 0.0005  # m

    gradient_floor: float = 0.5  # of a gradient's root mean square, below which steps shrink in proportion

    scale_weights: tuple[float, ...] = (1.0, 0.7, 0.5)  # of the L1 error at full, half, quarter size ...
    alpha_weight: float = 0.8
    distrusted_weight: float = 0.1  # of the colours' error where what is visible may not be recoloured; at most 1
    smooth_means: float = 20.0  # of squared differences to the neighbours' mean, offsets in cm
    smooth_colors: float = 2.0
    smooth_scales: float = 0.1
    smooth_opacities: float = 0.02
    pull_means: float = 0.01  # towards the start, offsets in cm
    pull_others: float = 0.002
    mirror_colors: float = 0.005  # of what the camera does not see, towards the mirrored side

    max_offset: float = 0.03  # m
    max_growth: float = 2.0  # of a scale, and its inverse the largest shrinking
    max_scale_ratio: float = 3.0  # times the distance to the neighbours; scales that start above may stay, not grow
    max_logit: float = 4.0  # change of colours and opacities
    max_camera_turn: float = 0.12  # rad about each axis
    max_camera_shift: float = 0.05  # m along each axis

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            if any(not math.isfinite(x) or x < 0 for x in numbers):
                raise InvalidInputError(f"{field.name} is {value}; it must be a finite number >= 0.", field=field.name)
        limits = {
            "steps": (0, 10_000), "size": (SIDE_MIN, SIDE_MAX), "final_size": (SIDE_MIN, SIDE_MAX),
            "final_share": (0, 1), "distrusted_weight": (0, 1), "max_growth": (1, 100), "max_scale_ratio": (0.1, 1000),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it must lie in {low}..{high}.", field=name)
        if not self.scale_weights or len(self.scale_weights) > 5:
            raise InvalidInputError(
                f"scale_weights has {len(self.scale_weights)} entries; 1..5 are needed.", field="scale_weights"
            )

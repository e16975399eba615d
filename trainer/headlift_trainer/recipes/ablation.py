"""The ablation in small: our perceptual loss against L1 + SSIM, each with and without pictures as from the wild."""

from __future__ import annotations

import math
from dataclasses import replace

from headlift.errors import InvalidInputError
from headlift_trainer.recipes.mini import Augmentation, Stage, TrainConfig, mini

LOSSES = {"perceptual": {"perceptual_weight": 1.0}, "l1_ssim": {"l1_weight": 1.0, "ssim_weight": 1.0}}
_FOREVER = 1e6  # minutes
AUGMENTATIONS: dict[str, Augmentation] = {"clean": "none", "wild": "wild"}


def ablation(minutes: float = math.inf, *, steps: int | None = None, seed: int = 0) -> dict[str, TrainConfig]:
    """Four runs that differ in the loss on pictures and in what is done to the input pictures, and in nothing else.

    Args:
        minutes: Of wall time, for each.
        steps: Optimiser steps, for each: on a machine that also does other things, what makes the runs alike.
        seed: Of all four.

    Returns:
        By name, a run of one stage, `pictures`.

    Raises:
        InvalidInputError: Neither minutes nor steps.
    """
    if steps is None and math.isinf(minutes):
        raise InvalidInputError("The ablation's runs never end; give minutes, steps, or both.")
    base = mini(min(minutes, _FOREVER) / 60, sharpener=0.0)
    (stage,) = base.stages
    stage = stage if steps is None else replace(stage, steps=steps)
    # As many further views as in the paper: half as many as ours, for nearly twice the steps.
    stage = replace(stage, views=3, pixel_weight=0.0, perceptual_weight=0.0)
    return {
        f"{loss}_{inputs}": replace(
            base, name=f"{loss}_{inputs}", stages=(_stage(stage, loss, augmentation),), seed=seed, ema_power=None
        )
        for loss in LOSSES
        for inputs, augmentation in AUGMENTATIONS.items()
    }


def _stage(stage: Stage, loss: str, augmentation: Augmentation) -> Stage:
    weights = LOSSES[loss]
    return replace(
        stage,
        augmentation=augmentation,
        perceptual_weight=weights.get("perceptual_weight", 0.0),
        l1_weight=weights.get("l1_weight", 0.0),
        ssim_weight=weights.get("ssim_weight", 0.0),
    )

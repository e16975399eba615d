"""The ablation in small: our perceptual loss against L1 + SSIM, each with and without pictures as from the wild."""

from __future__ import annotations

from dataclasses import replace

from headlift.errors import InvalidInputError
from headlift_trainer.recipes.mini import Augmentation, MiniRecipe, mini, pictures

AUGMENTATIONS: dict[str, Augmentation] = {"clean": "none", "wild": "wild"}


def ablation(
    minutes: float | None = None, *, steps: int | None = None, seed: int = 0, device: str = "auto"
) -> dict[str, MiniRecipe]:
    """Four runs that differ in the loss on pictures and in what is done to the input pictures, and in nothing else.

    Args:
        minutes: Of wall time, for each.
        steps: Optimiser steps, for each: on a machine that also does other things, what makes the runs alike.
        seed: Of all four.
        device: Of all four.

    Returns:
        By name, a run of one stage, `pictures`.

    Raises:
        InvalidInputError: Neither minutes nor steps.
    """
    if steps is None and minutes is None:
        raise InvalidInputError("The ablation's runs never end; give minutes, steps, or both.")
    # As many further views as in the paper: half as many as ours, for nearly twice the steps.
    stage = replace(pictures(minutes, seed, steps=steps), views=3, pixel_weight=0.0, perceptual_weight=0.0)
    stage = replace(stage, schedule=replace(stage.schedule, ema_power=None))
    losses = {
        "perceptual": replace(stage, perceptual_weight=1.0),
        "l1_ssim": replace(stage, l1_weight=1.0, ssim_weight=1.0),
    }
    base = replace(mini(seed=seed, device=device), sharpener=None)
    return {
        f"{loss}_{inputs}": replace(
            base, name=f"{loss}_{inputs}", stages=(replace(weighted, augmentation=augmentation),)
        )
        for loss, weighted in losses.items()
        for inputs, augmentation in AUGMENTATIONS.items()
    }

"""Runs as functions that return a complete `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass

from headlift.model.config import PercHeadConfig, named_config


@dataclass(frozen=True)
class Stage:
    """One stage of a run: what is trained, on what, for how long.

    A stage ends at `steps` optimiser steps or after `minutes`, whichever comes first; the learning rate follows
    whichever is further on.
    """

    name: str
    steps: int
    minutes: float
    batch_size: int
    learning_rate: float
    patches: int | None  # template patches decoded per step; None is all, which splatting needs
    views: int = 0  # further pictures per head to splat against; 0 supervises anchors only
    anchor_weight: float = 1.0  # of the direct supervision of anchors


@dataclass(frozen=True)
class TrainConfig:
    """Everything that shapes a run, apart from where its data lie."""

    name: str
    model: PercHeadConfig
    stages: tuple[Stage, ...]
    seed: int = 0
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    warmup_steps: int = 60
    ema_decay: float = 0.995
    camera_noise: float = 0.02  # of the pose numbers that guidance is given, as an estimate would be off
    sharpener_minutes: float = 5.0
    thumbnails: int = 14_000  # samples of the closed-form first guess, for models that have one


def mini(hours: float = 1.5) -> TrainConfig:
    """The shipped weights: camera and code in closed form, then the decoder on anchors directly, then on pictures."""
    minutes = hours * 60
    return TrainConfig(
        name="mini",
        model=named_config("mini"),
        stages=(
            Stage("anchors", 1_000_000, 0.5 * minutes, batch_size=8, learning_rate=3e-4, patches=256),
            Stage("pictures", 1_000_000, 0.4 * minutes, batch_size=2, learning_rate=1.5e-4, patches=None, views=2),
        ),
        sharpener_minutes=0.1 * minutes,
    )

"""Our own runs, as functions that return a complete `TrainConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headlift.errors import InvalidInputError
from headlift.model.perchead.config import PercHeadConfig
from headlift.model.sizes import named_config

# What is done to input pictures: nothing; odd light, crops, mattes and blur; and, beside those, what photographs from
# the wild bring (`augment_wild`).
Augmentation = Literal["none", "standard", "wild"]


@dataclass(frozen=True)
class Stage:
    """One stage of a run: what is trained, on what, for how long.

    A stage ends at `steps` optimiser steps or after `minutes`, whichever comes first; the learning rate follows
    whichever is further on.

    Raises:
        InvalidInputError: Pictures are asked for of a part of the patches.
    """

    name: str
    steps: int
    minutes: float
    batch_size: int
    learning_rate: float
    patches: int | None  # template patches decoded a step; None is all, which splatting needs
    views: int = 0  # further pictures per head to splat against; 0 supervises anchors only
    anchor_weight: float = 1.0  # of the direct supervision of anchors
    own_cameras: float = 0.0  # share of the batches that guidance sees with the model's own camera estimate
    own_frames: float = 0.0  # share of those that are judged as that estimate sees them, whole turns forgiven
    pixel_weight: float = 1.0  # of the pixel losses of splatted views
    perceptual_weight: float = 0.0  # of HeadNet's tokens of splatted views
    perceptual_size: int = 128  # side at which HeadNet compares views, pixels
    l1_weight: float = 0.0  # of the plain mean absolute difference of splatted views
    ssim_weight: float = 0.0  # of 1 - SSIM of splatted views
    augmentation: Augmentation = "standard"  # of the input pictures

    def __post_init__(self) -> None:
        if self.views and self.patches is not None:
            raise InvalidInputError(
                f"The stage {self.name!r} splats {self.views} views of {self.patches} patches; set patches to None."
            )


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
    ema_power: float | None = None  # takes its place (ema.Ema)
    camera_noise: float = 0.02  # of the pose numbers that guidance is given, as an estimate would be off
    sharpener_minutes: float = 5.0
    thumbnails: int = 12_000  # samples of the closed-form first guess, for models that have one


def mini(hours: float = 1.5, *, anchors: float = 0.0, sharpener: float = 0.1) -> TrainConfig:
    """The shipped weights: camera and code in closed form, then the decoder on pictures, then the sharpener.

    Args:
        hours: Of wall time, closed forms apart.
        anchors: Share of them for training on anchors directly, before pictures. It gained nothing (+0.0 dB) once the
            closed forms were there.
        sharpener: Share of them for the sharpener.
    """
    minutes = hours * 60
    direct = Stage(
        "anchors", 1_000_000, anchors * minutes, batch_size=8, learning_rate=5e-4, patches=256, own_cameras=0.7
    )
    pictures = Stage(
        "pictures", 1_000_000, (1 - anchors - sharpener) * minutes, batch_size=2, learning_rate=3e-4, patches=None,
        views=6, anchor_weight=0.3, own_cameras=0.8, own_frames=0.5, perceptual_weight=0.5,
    )  # fmt: skip
    return TrainConfig(
        name="mini",
        model=named_config("mini"),
        stages=(direct, pictures) if anchors > 0 else (pictures,),
        sharpener_minutes=sharpener * minutes,
        camera_noise=0.01,
        ema_power=1.0,
    )

"""Our own run: the shipped weights, from generated heads to the sharpener, as one complete config.

    heads -> HeadNet at 128, then 192 px -> closed forms -> decoder on pictures -> sharpener on renders

Averages over a stage's steps are the loop's (`Schedule.ema_power`), and part of the config; none is made by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headlift.errors import InvalidInputError
from headlift.model.mini.config import MiniConfig
from headlift_trainer.schedule import Schedule

# What is done to input pictures: nothing; odd light, crops, mattes and blur; and, beside those, what photographs from
# the wild bring (`augment_wild`).
Augmentation = Literal["none", "standard", "wild"]


@dataclass(frozen=True)
class HeadNetStage:
    """HeadNet at one size of picture."""

    size: int  # pixels a side
    people: int  # in a batch; each is seen twice
    schedule: Schedule


@dataclass(frozen=True)
class DecoderStage:
    """What the decoder is trained on, and by what; the closed forms stay as they are."""

    name: str
    schedule: Schedule
    batch_size: int
    views: int = 0  # further pictures per head to splat against; 0 supervises anchors only
    anchor_weight: float = 1.0  # of the direct supervision of anchors
    own_cameras: float = 0.0  # share of the batches that guidance sees with the model's own camera estimate
    own_frames: float = 0.0  # share of those that are judged as that estimate sees them, whole turns forgiven
    camera_noise: float = 0.02  # of the pose numbers that guidance is given elsewhere, as an estimate would be off
    pixel_weight: float = 1.0  # of the pixel losses of splatted views
    perceptual_weight: float = 0.0  # of HeadNet's tokens of splatted views
    perceptual_size: int = 128  # side at which HeadNet compares views, pixels
    l1_weight: float = 0.0  # of the plain mean absolute difference of splatted views
    ssim_weight: float = 0.0  # of 1 - SSIM of splatted views
    augmentation: Augmentation = "standard"  # of the input pictures


@dataclass(frozen=True)
class SharpenerStage:
    """The sharpener on renders of training heads, which are drawn first: decoding is what is slow."""

    schedule: Schedule
    render_minutes: float  # of drawing
    batch_size: int = 6  # pictures
    worst_loss_db: float = 0.02  # of PSNR on renders held back; a sharpener that costs more is not kept


@dataclass(frozen=True)
class MiniRecipe:
    """A whole run, apart from where its files lie.

    Raises:
        InvalidInputError: Fewer than 4 heads.
    """

    name: str
    model: MiniConfig
    headnet: tuple[HeadNetStage, ...]
    stages: tuple[DecoderStage, ...]
    sharpener: SharpenerStage | None
    heads: int = 1000  # geometries to train on, each in two appearances and 14 views
    picture_size: int = 256  # pixels a side of generated pictures
    thumbnails: int = 12_000  # samples of the closed-form first guess
    seed: int = 0
    device: str = "auto"  # of the networks: cpu, cuda, or whichever there is

    def __post_init__(self) -> None:
        if self.heads < 4:
            raise InvalidInputError(f"heads is {self.heads}, too little for a code of heads: give at least 4.")


def mini(
    *, heads: int = 1000, headnet_hours: float = 3.4, hours: float = 3.0, seed: int = 0, device: str = "auto"
) -> MiniRecipe:
    """The shipped weights, whole. By default as long as those took, in all their sittings (MODEL_CARD.md).

    Args:
        heads: Geometries to train on.
        headnet_hours: Of wall time, for HeadNet.
        hours: Of wall time, for decoder and sharpener; closed forms come on top.
        seed: Of everything.
        device: Of the networks.

    Raises:
        InvalidInputError: Too few heads, or no time.
    """
    if headnet_hours <= 0 or hours <= 0:
        raise InvalidInputError(
            f"headnet_hours {headnet_hours:g} and hours {hours:g} ask for too little: give more than 0."
        )
    return MiniRecipe(
        name="mini",
        model=MiniConfig(),
        headnet=(
            # Small pictures first, where steps are cheap.
            HeadNetStage(128, 16, _headnet_schedule(0.45 * 60 * headnet_hours, 1e-3, seed)),
            HeadNetStage(192, 12, _headnet_schedule(0.55 * 60 * headnet_hours, 7e-4, seed)),
        ),
        stages=(pictures(0.9 * 60 * hours, seed),),
        sharpener=SharpenerStage(
            Schedule(
                minutes=0.05 * 60 * hours, learning_rate=2e-3, final_share=0.0, warmup_steps=0, clip_norm=None,
                weight_decay=0.0, betas=(0.9, 0.999), ema_decay=0.99, checkpoint_minutes=2.0, keep=1, seed=seed + 100,
            ),
            render_minutes=0.05 * 60 * hours,
        ),
        heads=heads,
        seed=seed,
        device=device,
    )  # fmt: skip


def pictures(minutes: float | None, seed: int = 0, *, steps: int | None = None) -> DecoderStage:
    """The decoder on splatted pictures; it ends by minutes, by steps, or with the first of both."""
    schedule = Schedule(
        steps=steps, minutes=minutes, learning_rate=3e-4, warmup_steps=60, weight_decay=0.01, ema_decay=0.995,
        ema_power=1.0, precision="bf16", checkpoint_minutes=5.0, keep=1, seed=seed,
    )  # fmt: skip
    return DecoderStage(
        "pictures", schedule, batch_size=2, views=6, anchor_weight=0.3, own_cameras=0.8, own_frames=0.5,
        camera_noise=0.01, perceptual_weight=0.5,
    )  # fmt: skip


def _headnet_schedule(minutes: float, rate: float, seed: int) -> Schedule:
    return Schedule(
        minutes=minutes, learning_rate=rate, weight_decay=0.02, betas=(0.9, 0.98), ema_decay=0.998, precision="bf16",
        checkpoint_minutes=5.0, keep=1, seed=seed,
    )  # fmt: skip

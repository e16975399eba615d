"""Our editing weights: a small CLIP, then the painter, as one complete config."""

from __future__ import annotations

from dataclasses import dataclass

from headlift.errors import InvalidInputError
from headlift_trainer.schedule import Schedule


@dataclass(frozen=True)
class EditorConfig:
    """A whole run, apart from where its files lie."""

    size: str  # of the editing model
    clip: Schedule
    painter: Schedule
    seed: int = 0
    device: str = "auto"  # of the painter; the CLIP is so small that it stays on the CPU


def editor(
    size: str = "mini", *, clip_minutes: float = 10.0, minutes: float = 20.0, seed: int = 0, device: str = "auto"
) -> EditorConfig:
    """The shipped editing weights.

    Args:
        size: Of the editing model.
        clip_minutes: For the small CLIP.
        minutes: For the painter; 0 leaves it as it begins.
        seed: Of everything.
        device: Of the painter.

    Raises:
        InvalidInputError: No time.
    """
    if clip_minutes <= 0 or minutes < 0:
        raise InvalidInputError(f"clip_minutes {clip_minutes:g} must be over 0, and minutes {minutes:g} at least 0.")
    return EditorConfig(
        size,
        Schedule(
            minutes=clip_minutes, learning_rate=1e-3, warmup_steps=50, weight_decay=0.1, betas=(0.9, 0.98),
            ema_decay=0.99, checkpoint_minutes=3.0, keep=1, seed=seed,
        ),
        Schedule(
            minutes=minutes, learning_rate=1.5e-3, warmup_steps=40, weight_decay=0.02, ema_decay=0.99,
            precision="bf16", checkpoint_minutes=3.0, keep=1, seed=seed,
        ),
        seed,
        device,
    )  # fmt: skip

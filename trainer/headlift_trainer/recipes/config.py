"""What a recipe of the paper's kind returns: everything that shapes a run, apart from where its files lie."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from headlift.errors import InvalidInputError
from headlift.model.sizes import HeadModelConfig
from headlift_trainer.schedule import Schedule

TaskName = Literal["reconstruction", "sharpening", "editing"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms of a loss; 0 leaves a term out."""

    dino: float = 0.0  # DINOv2 ViT-S/14 tokens, cosine
    sam: float = 0.0  # SAM 2.1 image encoding
    lpips: float = 0.0
    l1: float = 0.0
    dino_layers: tuple[int, ...] = (8, 11)
    dino_tokens: tuple[Literal["class", "patches"], ...] = ("class", "patches")
    dino_convention: Literal["hub", "hf"] = "hf"
    dino_side: int = 504  # pixels that DINOv2 sees a side

    def __post_init__(self) -> None:
        terms = {name: getattr(self, name) for name in ("dino", "sam", "lpips", "l1")}
        if min(terms.values()) < 0 or not any(terms.values()):
            raise InvalidInputError(f"Loss weights are {terms}; none may be negative and one must be over 0.")


@dataclass(frozen=True)
class RecipeConfig:
    """A whole run.

    Raises:
        InvalidInputError: A count below 1, or a sharpening run of a model without a sharpener.
    """

    name: str
    task: TaskName
    model: HeadModelConfig
    mixture: tuple[tuple[str, float], ...]  # data set and share of the samples
    loss: LossWeights
    schedule: Schedule
    batch_size: int  # heads in a micro-batch
    target_views: int = 3  # further views that a head is compared in, beside the input's
    augmented: bool = False  # whether the sources change pictures at random; off lets frozen features be cached
    held_out_heads: int = 8  # of the figures
    device: str = "auto"  # cpu, cuda, cuda:N, or the GPU where there is one; Ray gives each worker its own
    editor: str = ""  # size of the editing encoder, for editing runs
    starts_from: str | None = None  # recipe whose result this run starts from
    about: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.target_views < 0 or self.held_out_heads < 1:
            raise InvalidInputError(
                f"batch_size {self.batch_size}, target_views {self.target_views}, held_out_heads "
                f"{self.held_out_heads}: they must be at least 1, 0 and 1."
            )
        if (self.task == "editing") != bool(self.editor):
            raise InvalidInputError(f"The run {self.name!r} names the editor {self.editor!r}; editing runs name one.")
        if self.task == "sharpening" and self.model.sharpener is None:
            raise InvalidInputError(f"The model {self.model.name!r} has no sharpener to train.")

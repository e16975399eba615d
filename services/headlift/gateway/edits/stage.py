"""What the editing network must be able to do; ``headlift.stages.edit.Edit`` can."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from headlift.model.types import Cameras, Gaussians, Portrait
from headlift.stages.edit import EditOrder, Segmentation


class EditStage(Protocol):
    """Segments, embeds and edits; blocks. Safe to call from several threads."""

    @property
    def fingerprint(self) -> str:
        """All that its answers depend on besides what it is given."""
        ...

    @property
    def map_size(self) -> int:
        """Side of its maps, pixels."""
        ...

    @property
    def style_dim(self) -> int:
        """D: how many numbers a style has."""
        ...

    def segment(self, portrait: Portrait) -> Segmentation:
        """What each place of a portrait shows."""
        ...

    def embed_text(self, text: str, about: Tensor | None = None) -> Tensor:
        """The style [D] that words describe, unit; what they do not name stays as in ``about``."""
        ...

    def embed_picture(self, portrait: Portrait) -> Tensor:
        """The style [D] of a portrait, unit."""
        ...

    def blend(self, styles: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """A weighted mix [D] on the sphere, unit."""
        ...

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that it does not know, in lower case."""
        ...

    def paint_words(self, labels: Tensor, text: str, camera: Cameras, strength: float = 1.0) -> Tensor:
        """The map [H, H] with the shapes that words name; ``labels`` itself where nothing changes."""
        ...

    def __call__(self, order: EditOrder, check: Callable[[], None]) -> Gaussians:
        """The edited head; ``check`` raises when nobody waits for it any more."""
        ...

"""Losses on maps: SAM 2.1's image embedding (paper, section 3.3), LPIPS, and the pixels themselves.

Legend: C pictures, H W pixels, S side that a network sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift_trainer import losses
from headlift_trainer.metrics.lpips import Lpips
from headlift_trainer.metrics.sam2 import MULTIPLE, SIDE, Sam2Encoder
from headlift_trainer.perceptual.term import Framing, Memory, PictureTerm


class SamLoss(PictureTerm):
    """1 - cosine of SAM 2.1's image embeddings, mean over the embedding's places.

    Args:
        network: Frozen, on the pictures' device.
        framing: Its side must be a multiple of 32; SAM's own is 1024.
        chunk, memory: See `PictureTerm`. A picture of 1024 pixels needs more than a gigabyte of activations.

    Raises:
        InvalidInputError: A side that is no multiple of 32.
    """

    def __init__(
        self,
        network: Sam2Encoder,
        framing: Framing | None = None,
        *,
        chunk: int | None = None,
        memory: Memory = "keep",
    ) -> None:
        super().__init__(network, chunk=chunk, memory=memory)
        self.framing = framing or Framing(SIDE)
        if self.framing.side % MULTIPLE:
            raise InvalidInputError(
                f"The SAM 2.1 loss sees a side of {self.framing.side} pixels; it must be a multiple of {MULTIPLE}."
            )

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The embedding [C, 256, S / 16, S / 16]."""
        return [self.network(self.framing(pictures))]

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Distances [C]."""
        return 1 - F.cosine_similarity(ours[0].float(), theirs[0].float(), dim=1).mean((1, 2))

    def extra_repr(self) -> str:
        """The settings, also for the identity of kept features."""
        return f"{self.framing}, no_memory={self.network.adds_no_memory}"


class LpipsLoss(PictureTerm):
    """LPIPS, at the pictures' own size.

    Args:
        network: Frozen, on the pictures' device.
        chunk, memory: See `PictureTerm`.
    """

    def __init__(self, network: Lpips, *, chunk: int | None = None, memory: Memory = "keep") -> None:
        super().__init__(network, chunk=chunk, memory=memory)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Normalised features of five layers."""
        found: list[Tensor] = self.network.layers(pictures.float())
        return found

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Distances [C]."""
        distances: Tensor = self.network.distance(ours, theirs)
        return distances


class PixelLoss(PictureTerm):
    """A function of two pictures, as a term."""

    def __init__(self, distance: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take a function from pictures and targets [C, 3, H, W] to [C]."""
        super().__init__()
        self._distance = distance

    def features(self, pictures: Tensor) -> list[Tensor]:
        """The pictures."""
        return [pictures]

    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Distances [C]."""
        return self._distance(ours[0].float(), theirs[0].float())


def sam_loss(network: Sam2Encoder, *, side: int = SIDE, chunk: int | None = None, memory: Memory = "keep") -> SamLoss:
    """The paper's SAM 2.1 loss at a side of `side` pixels, a multiple of 32; errors and arguments as `SamLoss`."""
    return SamLoss(network, Framing(side), chunk=chunk, memory=memory)


def lpips_loss(network: Lpips, *, chunk: int | None = None, memory: Memory = "keep") -> LpipsLoss:
    """LPIPS; arguments as `LpipsLoss`."""
    return LpipsLoss(network, chunk=chunk, memory=memory)


def l1_loss() -> PixelLoss:
    """Mean absolute difference."""
    return PixelLoss(losses.l1)


def ssim_loss() -> PixelLoss:
    """1 - SSIM."""
    return PixelLoss(losses.dissimilarity)

"""What every loss term on pictures has in common: targets are encoded once, pictures are compared with them.

Targets are encoded without gradients, and may be kept. Gradients flow through the frozen network to the rendered
pictures alone. Pictures never look at each other, so a batch may be compared a few pictures at a time.

Legend: C pictures, H W pixels, S side that a network sees.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from headlift.errors import InvalidInputError

# How the networks' activations are had when gradients are wanted: kept until the backward pass; computed again in it;
# or never needed there, because each chunk's gradient is taken at once (the least memory, and no second pass).
Memory = Literal["keep", "recompute", "early"]
Distances = Callable[..., Tensor]  # (pictures [C, 3, H, W], *features [C, ...]) -> [C]


@dataclass(frozen=True)
class Framing:
    """How pictures are brought to the side that a network sees.

    The shorter side becomes `resized` pixels, antialiased; then the middle `side` pixels are cut out.

    Raises:
        InvalidInputError: The cut is larger than the picture.
    """

    side: int  # pixels
    resized: int | None = None  # pixels; None is `side`: nothing is cut off a square picture
    mode: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if not 1 <= self.side <= (self.resized or self.side):
            raise InvalidInputError(
                f"A cut of {self.side} pixels from a side of {self.resized}; it must fit, and be 1."
            )

    def __call__(self, pictures: Tensor) -> Tensor:
        """[C, 3, H, W] -> [C, 3, S, S], float32."""
        x, short = pictures.float(), min(pictures.shape[-2:])
        wanted = self.resized or self.side
        if short != wanted:
            height, width = (int(wanted * edge / short) for edge in x.shape[-2:])
            x = F.interpolate(x, (height, width), mode=self.mode, align_corners=False, antialias=True)
        top, left = (round((edge - self.side) / 2) for edge in x.shape[-2:])
        return x[..., top : top + self.side, left : left + self.side]


class PictureTerm(nn.Module, ABC):
    """One way to compare pictures. Frozen: stays in evaluation mode, and its network takes no gradients.

    Args:
        network: What sees the pictures, if anything does.
        chunk: Pictures that go through the network together; None is all.
        memory: See `Memory`. With "recompute" and "early" the peak is what one chunk needs.

    Raises:
        InvalidInputError: A chunk below 1, an unknown `memory`, or a network with trainable parameters.
    """

    def __init__(self, network: Any = None, *, chunk: int | None = None, memory: Memory = "keep") -> None:
        super().__init__()
        if (chunk is not None and chunk < 1) or memory not in get_args(Memory):
            raise InvalidInputError(
                f"chunk is {chunk} and memory {memory!r}; a chunk has at least 1 picture, and memory is one of "
                f"{', '.join(get_args(Memory))}."
            )
        if isinstance(network, nn.Module) and any(p.requires_grad for p in network.parameters()):
            raise InvalidInputError(
                f"The loss network {type(network).__name__} has trainable parameters; freeze it with "
                ".eval().requires_grad_(False)."
            )
        self.network = network
        self.chunk, self.memory = chunk, memory

    @abstractmethod
    def features(self, pictures: Tensor) -> list[Tensor]:
        """What is compared of pictures [C, 3, H, W] in 0..1: tensors [C, ...]."""

    @abstractmethod
    def compare(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Distances [C] of the features of C pictures each, float32."""

    @torch.no_grad()
    def encode(self, targets: Tensor) -> list[Tensor]:
        """Features of the true pictures [C, 3, H, W]; they may be kept, and given in their place."""
        parts = [self.features(rows) for rows in torch.split(targets, self.chunk or max(1, len(targets)))]
        return [torch.cat(layer) for layer in zip(*parts, strict=True)]

    def distances(self, pictures: Tensor, targets: Tensor | Sequence[Tensor]) -> Tensor:
        """One distance a picture, [C], differentiable in the pictures alone.

        Args:
            pictures: [C, 3, H, W] in 0..1.
            targets: True pictures of that shape, or their features as `encode` gives them.

        Raises:
            InvalidInputError: There are not as many targets as pictures.
        """
        wanted = self.encode(targets) if isinstance(targets, Tensor) else [f.detach() for f in targets]
        counts = {len(pictures), *(len(layer) for layer in wanted)}
        if len(counts) != 1 or not len(pictures):
            raise InvalidInputError(f"{len(pictures)} pictures are compared with {counts} targets; one each is needed.")
        size = self.chunk or len(pictures)
        chunks = zip(*(torch.split(layer, size) for layer in (pictures, *wanted)), strict=True)
        return torch.cat([self._chunk_distances(*chunk) for chunk in chunks])

    def forward(self, pictures: Tensor, targets: Tensor | Sequence[Tensor]) -> Tensor:
        """The mean of `distances`."""
        return self.distances(pictures, targets).mean()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def _chunk_distances(self, pictures: Tensor, *wanted: Tensor) -> Tensor:
        if self.memory == "keep" or not (pictures.requires_grad and torch.is_grad_enabled()):
            return self._compared(pictures, *wanted)
        if self.memory == "early":
            return _early(self._compared, pictures, *wanted)
        # Nothing is drawn at random in a frozen network, so its state need not be kept.
        again: Tensor = checkpoint(self._compared, pictures, *wanted, use_reentrant=False, preserve_rng_state=False)
        return again

    def _compared(self, pictures: Tensor, *wanted: Tensor) -> Tensor:
        return self.compare(self.features(pictures), wanted)


class _EarlyGradient(torch.autograd.Function):
    """Distances whose gradient to the pictures is taken in the forward pass; the activations go at once."""

    @staticmethod
    def forward(ctx: Any, distances: Distances, pictures: Tensor, *wanted: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = pictures.detach().requires_grad_()
            values = distances(leaf, *wanted)
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        ctx.save_for_backward(gradient)
        ctx.wanted = len(wanted)
        return values.detach()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        scale = upstream[0].to(gradient.dtype).view(-1, *[1] * (gradient.dim() - 1))
        return (None, gradient * scale, *[None] * ctx.wanted)


def _early(distances: Distances, pictures: Tensor, *wanted: Tensor) -> Tensor:
    values: Tensor = _EarlyGradient.apply(distances, pictures, *wanted)
    return values

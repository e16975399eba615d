"""Weighted sums of terms, and the sums that the paper and we compare.

Legend: C pictures, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift_trainer.perceptual.term import PictureTerm

EncodedTargets = dict[str, list[Tensor]]  # features of the true pictures by term


class PerceptualLoss(nn.Module):
    """Terms and their weights.

    Args:
        terms: By name, the weight and the term.

    Raises:
        InvalidInputError: No term, or a weight that is not over 0.
    """

    def __init__(self, terms: Mapping[str, tuple[float, PictureTerm]]) -> None:
        super().__init__()
        self.weights = {name: weight for name, (weight, _) in terms.items()}
        if not terms or not all(weight > 0 for weight in self.weights.values()):
            raise InvalidInputError(f"The weights of a loss are {self.weights}; one term is needed, and all over 0.")
        self.terms = nn.ModuleDict({name: term for name, (_, term) in terms.items()})

    def encode(self, targets: Tensor, background: Tensor | None = None) -> EncodedTargets:
        """What the terms keep of true pictures; give it in their place where they come again over this background.

        Args:
            targets: [C, 3 | 4, H, W]; see `composited`.
            background: See `composited`.
        """
        pictures = composited(targets, background)
        return {name: self._term(name).encode(pictures) for name in self.weights}

    def forward(
        self, pictures: Tensor, targets: Tensor | EncodedTargets, background: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each term by itself, without its weight and without gradients.

        Args:
            pictures: Rendered, [C, 3 | 4, H, W]; see `composited`. Gradients flow to them alone.
            targets: True pictures of that kind, or what `encode` made of them over the same background.
            background: See `composited`; None compares over black.
        """
        encoded = self.encode(targets, background) if isinstance(targets, Tensor) else targets
        rendered = composited(pictures, background)
        parts = {name: self._term(name)(rendered, encoded[name]) for name in self.weights}
        total = torch.stack([weight * parts[name] for name, weight in self.weights.items()]).sum()
        return total, {name: value.detach() for name, value in parts.items()}

    def _term(self, name: str) -> PictureTerm:
        term = self.terms[name]
        assert isinstance(term, PictureTerm)
        return term


def composited(pictures: Tensor, background: Tensor | None) -> Tensor:
    """Pictures over a background, [C, 3, H, W].

    Args:
        pictures: [C, 4, H, W], colours premultiplied (as a renderer gives them over black) and alpha; or
            [C, 3, H, W], which lie over black already.
        background: Anything that broadcasts to [C, 3, H, W], such as colours [C, 3, 1, 1] in 0..1; None is black.

    Raises:
        InvalidInputError: Pictures of other channels, or a background behind pictures without alpha.
    """
    channels = pictures.shape[1] if pictures.dim() == 4 else 0
    if channels not in {3, 4} or (channels == 3 and background is not None):
        raise InvalidInputError(
            f"Pictures are {tuple(pictures.shape)}; give [C, 3, H, W], or [C, 4, H, W] to lay over a background."
        )
    rgb = pictures[:, :3]
    return rgb if background is None else rgb + (1 - pictures[:, 3:]) * background.to(rgb)


def lpips_and_l1() -> dict[str, float]:
    """The paper's standard losses."""
    return {"lpips": 1.0, "l1": 1.0}


def dino_only() -> dict[str, float]:
    """DINOv2 alone."""
    return {"dino": 1.0}


def sam_only() -> dict[str, float]:
    """SAM 2.1 alone."""
    return {"sam": 1.0}


def dino_and_sam() -> dict[str, float]:
    """The paper's loss."""
    return {"dino": 1.0, "sam": 1.0}


def headnet_only() -> dict[str, float]:
    """Our own network in their place."""
    return {"headnet": 1.0}


def l1_and_ssim() -> dict[str, float]:
    """What needs no network; the other side of our ablation in small."""
    return {"l1": 1.0, "ssim": 1.0}


# Weights by variant: the four of the paper's ablation (section 4.5), then ours.
ABLATIONS: Mapping[str, Callable[[], dict[str, float]]] = {
    "lpips_l1": lpips_and_l1,
    "dino": dino_only,
    "sam": sam_only,
    "dino_sam": dino_and_sam,
    "headnet": headnet_only,
    "l1_ssim": l1_and_ssim,
}

"""Every number that shapes a PercHead.

Where the paper (sections 3.1, C.6, appendix E) is silent the field's comment says "guess".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from headlift.model.checks import check, check_choices, check_positive

Residual = Literal["paper", "standard"]
Stem = Literal["patchify", "conv"]
LayerConvention = Literal["hub", "hf"]

BACKBONE_PATCH = 14
_BACKBONE_SIZES = {"vits14": (384, 12), "vitb14": (768, 12), "vitl14": (1024, 24), "vitg14": (1536, 40)}
# name -> (embed_dim, depth) of the frozen networks that can be injected
BACKBONES: Mapping[str, tuple[int, int]] = {
    f"dinov2_{size}{suffix}": shape for size, shape in _BACKBONE_SIZES.items() for suffix in ("", "_reg")
}


@dataclass(frozen=True)
class VitConfig:
    """A small trained ViT over the patches of a picture."""

    image_size: int = 504  # side of what it looks at; larger portraits are area-averaged down
    patch_size: int = 14
    dim: int = 128
    depth: int = 2
    num_heads: int = 4  # guess
    mlp_ratio: float = 4.0  # guess
    stem: Stem = "patchify"  # "conv": strided 3x3 convolutions, which need fewer samples
    fusion_dim: int = 1024  # width of the fused tokens; guess: the decoder's
    foreground_threshold: float = 0.05  # a patch is foreground where its mean alpha exceeds this; guess

    def __post_init__(self) -> None:
        check_choices(self, stem=Stem)
        check_positive(self, "image_size", "patch_size", "dim", "depth", "num_heads", "mlp_ratio", "fusion_dim")
        fits = self.image_size % self.patch_size == 0
        check(fits, "image_size", self.image_size, f"a multiple of patch_size {self.patch_size}")
        check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads {self.num_heads}")
        check(self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, for the sine positions")
        check(0.0 <= self.foreground_threshold < 1.0, "foreground_threshold", self.foreground_threshold, "in 0..1")
        if self.stem == "conv":
            power = self.patch_size & (self.patch_size - 1) == 0 and self.patch_size >= 4
            check(power, "patch_size", self.patch_size, "a power of two from 4 on, for the conv stem")

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class EncoderConfig(VitConfig):
    """The dual-branch image encoder: that ViT beside layers of a frozen backbone."""

    backbone: str = "dinov2_vitg14"
    backbone_layers: tuple[int, ...] = (9, 19, 29, 39)
    # "hub": block index from 0, final norm; "hf": hidden_states index, no norm
    layer_convention: LayerConvention = "hub"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, layer_convention=LayerConvention)
        check(self.backbone in BACKBONES, "backbone", self.backbone, f"one of {', '.join(BACKBONES)}")
        check(len(self.backbone_layers) > 0, "backbone_layers", self.backbone_layers, "at least one layer")
        first = 0 if self.layer_convention == "hub" else 1
        last = BACKBONES[self.backbone][1] - 1 + first
        inside = all(first <= layer <= last for layer in self.backbone_layers)
        wanted = f"within {first}..{last} ({self.layer_convention} convention)"
        check(inside, "backbone_layers", self.backbone_layers, wanted)
        check(self.patch_size == BACKBONE_PATCH, "patch_size", self.patch_size, f"{BACKBONE_PATCH}, as the backbone's")

    @property
    def backbone_dim(self) -> int:
        """Width of the concatenated frozen features."""
        return BACKBONES[self.backbone][0] * len(self.backbone_layers)


@dataclass(frozen=True)
class DecoderConfig:
    """The template decoder and its Gaussian heads."""

    dim: int = 1024
    depth: int = 10
    num_heads: int = 16
    mlp_ratio: float = 4.0  # guess
    residual: Residual = "paper"
    num_patches: int = 4096
    gaussians_per_patch: int = 16
    gaussian_dim: int = 64  # channels of each Gaussian's latent; the paper's PixelShuffle gives dim / 16
    s_init: float = 0.1  # equation 3; guess
    s_max: float = 0.15  # m, equation 3; guess

    def __post_init__(self) -> None:
        check_choices(self, residual=Residual)
        check_positive(
            self, "dim", "depth", "num_heads", "mlp_ratio", "num_patches", "gaussians_per_patch", "gaussian_dim"
        )
        check_positive(self, "s_init", "s_max")
        check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads {self.num_heads}")

    @property
    def num_gaussians(self) -> int:
        """Gaussians of one head."""
        return self.num_patches * self.gaussians_per_patch


@dataclass(frozen=True)
class SharpenerConfig:
    """The sharpening CNN (SHP-CNN)."""

    channels: int = 64  # guess
    depth: int = 8  # 3x3 convolutions between the first and the last, in residual pairs; guess
    unshuffle: int = 1  # pixels folded into channels along each side; 1 is the paper
    blur_sigma: float = 2.0  # pixels; guess

    def __post_init__(self) -> None:
        check_positive(self, "channels", "depth", "unshuffle", "blur_sigma")
        check(self.depth % 2 == 0, "depth", self.depth, "even: blocks have two convolutions")


@dataclass(frozen=True)
class PercHeadConfig:
    """A whole model. Immutable; ``dataclasses.replace`` makes variants."""

    name: str = "base"
    portrait_size: int = 504  # side of the portrait crop that preprocessing hands over
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    sharpener: SharpenerConfig | None = field(default_factory=SharpenerConfig)

    def __post_init__(self) -> None:
        smallest = self.encoder.image_size
        check(self.portrait_size >= smallest, "portrait_size", self.portrait_size, f"at least image_size {smallest}")

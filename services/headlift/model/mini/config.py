"""Every number that shapes a ``mini``."""

from __future__ import annotations

from dataclasses import dataclass, field

from headlift.model.checks import check, check_positive
from headlift.model.perchead.config import DecoderConfig, SharpenerConfig, Stem, VitConfig


@dataclass(frozen=True)
class HeadNetConfig:
    """HeadNet, our own frozen network (headlift.model.mini.headnet)."""

    dim: int = 192
    depth: int = 6
    num_heads: int = 6
    mlp_ratio: float = 4.0
    landmarks: int = 160
    identity_dim: int = 64
    stem: tuple[int, int, int] = (24, 48, 96)  # channels at strides 2, 4 and 8
    neck: int = 64  # channels of the dense head

    def __post_init__(self) -> None:
        check_positive(self, "dim", "depth", "num_heads", "mlp_ratio", "landmarks", "identity_dim", "neck")
        check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads {self.num_heads}")
        check(self.dim % 4 == 0, "dim", self.dim, "a multiple of 4, for the sine positions")


@dataclass(frozen=True)
class MiniEncoderConfig(VitConfig):
    """A trained ViT with a convolutional stem over colours and matte, beside layers of HeadNet."""

    image_size: int = 192
    patch_size: int = 16  # HeadNet's
    dim: int = 192
    num_heads: int = 6
    stem: Stem = "conv"
    fusion_dim: int = 256
    headnet: HeadNetConfig = field(default_factory=HeadNetConfig)
    headnet_layers: tuple[int, ...] = (1, 3, 5)  # blocks of it whose tokens join the trained branch's
    thumbnail: int = 32  # side of the small picture that a first guess of camera and code is made from
    thumbnail_features: int = 1024  # random features of that guess
    gradient_cells: int = 8  # cells a side of its histograms of oriented gradients

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "thumbnail", "thumbnail_features", "gradient_cells")
        check(self.patch_size == 16, "patch_size", self.patch_size, "16, as HeadNet's")
        inside = all(0 <= layer < self.headnet.depth for layer in self.headnet_layers)
        check(inside, "headnet_layers", self.headnet_layers, f"within 0..{self.headnet.depth - 1}")


@dataclass(frozen=True)
class MiniConfig:
    """A whole model. Immutable; ``dataclasses.replace`` makes variants."""

    name: str = "mini"
    portrait_size: int = 512  # side of the portrait crop that preprocessing hands over
    encoder: MiniEncoderConfig = field(default_factory=MiniEncoderConfig)
    decoder: DecoderConfig = field(
        default_factory=lambda: DecoderConfig(
            dim=256, depth=4, num_heads=8, residual="standard", gaussian_dim=48, s_init=0.4, s_max=0.08
        )
    )
    sharpener: SharpenerConfig | None = field(
        default_factory=lambda: SharpenerConfig(channels=32, depth=4, unshuffle=2, blur_sigma=1.5)
    )
    geometry_rank: int = 40  # coefficients of the morphable head ...
    color_rank: int = 32
    color_ridge: float = 3.0  # prior of its colours against one looked-up Gaussian's colour
    outline_steps: int = 24  # gradient steps of each fit to the matte: camera and code, then the deformation
    deformation_cells: int = 12  # cells a side of the shifts that draw hair and clothes to the matte
    min_disc_overlap: float = 0.6  # least scale of a head's discs over the distance of their neighbours
    hair_grain: float = 0.8  # strength of the strands on hair that is not seen, over those seen

    def __post_init__(self) -> None:
        smallest = self.encoder.image_size
        check(self.portrait_size >= smallest, "portrait_size", self.portrait_size, f"at least image_size {smallest}")
        check_positive(
            self, "geometry_rank", "color_rank", "color_ridge", "outline_steps", "min_disc_overlap", "hair_grain"
        )
        check(self.deformation_cells >= 2, "deformation_cells", self.deformation_cells, ">= 2")

    @property
    def code_rank(self) -> int:
        """Numbers in the head code: geometry, then colour."""
        return self.geometry_rank + self.color_rank

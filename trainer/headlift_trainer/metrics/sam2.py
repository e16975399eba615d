"""SAM 2.1's image encoder (Ravi et al., 2024), frozen: a map of what lies where, from a weights file on disk.

The network is the one of the ``sam2`` package, built without its configuration files; the weights are the official
checkpoints, of which only the image encoder (and one learned vector) is kept. The map is the *image embedding* that
SAM's mask decoder reads: 256 numbers at a sixteenth of the picture's side, 64 x 64 at SAM's own 1024 pixels.

Legend: B batch, S picture side, D 256.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from headlift.errors import BackendUnavailableError, CorruptWeightsError, InvalidInputError, MissingWeightsError
from headlift.pretrained.tensors import fill, read_tensors

SIDE = 1024  # pixels of the pictures that SAM was trained on
STRIDE = 16  # pixels of a picture to one place of the embedding
MULTIPLE = 32  # of the last stage, and of the windows of the positions
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PREFIX, _NO_MEMORY = "image_encoder.", "no_mem_embed"
_PAGE = "https://github.com/facebookresearch/sam2"


@dataclass(frozen=True)
class Architecture:
    """The shape of one image encoder, as the package's ``configs/sam2.1`` have it."""

    dim: int = 96
    num_heads: int = 1
    stages: tuple[int, ...] = (1, 2, 11, 2)  # blocks of each
    global_blocks: tuple[int, ...] = (7, 10, 13)  # that attend over the whole picture
    grid: int = 7  # side of the coarse positions
    windows: tuple[int, ...] = (8, 4, 14, 7)  # sides of the attention windows, a stage each
    embedding: int = 256

    @property
    def widths(self) -> list[int]:
        """Channels after each stage, the last stage first."""
        return [self.dim << stage for stage in reversed(range(len(self.stages)))]


ARCHITECTURES: Mapping[str, Architecture] = {
    "sam2.1_hiera_tiny": Architecture(stages=(1, 2, 7, 2), global_blocks=(5, 7, 9)),
    "sam2.1_hiera_small": Architecture(),
    "sam2.1_hiera_base_plus": Architecture(112, 2, (2, 3, 16, 3), (12, 16, 20), grid=14),
    "sam2.1_hiera_large": Architecture(144, 2, (2, 6, 36, 4), (23, 33, 43), windows=(8, 4, 16, 8)),
}


class Sam2Encoder(nn.Module):
    """A frozen image encoder. Gradients still reach the pictures, which perceptual losses need."""

    def __init__(self, architecture: Architecture, *, no_memory: bool = False) -> None:
        """Random weights; ``load_sam2`` fills them.

        Args:
            architecture: Its shape.
            no_memory: Add the learned vector that SAM's predictor adds to the embedding of a still picture, in the
                place of a video's memory. The encoder's own output has none.

        Raises:
            BackendUnavailableError: The ``sam2`` package is not installed.
        """
        super().__init__()
        self.architecture, self.adds_no_memory = architecture, no_memory
        self.image_encoder = _image_encoder(architecture)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, architecture.embedding))
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] in 0..1 -> the image embedding [B, D, S / 16, S / 16].

        Raises:
            InvalidInputError: A side is no multiple of 32.
        """
        if images.shape[-1] % MULTIPLE or images.shape[-2] % MULTIPLE:
            raise InvalidInputError(
                f"A picture is {images.shape[-1]}x{images.shape[-2]}; SAM 2.1's sides must be multiples of {MULTIPLE}."
            )
        embedding: Tensor = self.image_encoder((images - self.mean) / self.std)["vision_features"]
        return embedding + self.no_mem_embed.view(1, -1, 1, 1) if self.adds_no_memory else embedding

    def train(self, mode: bool = True) -> Sam2Encoder:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)


def load_sam2(
    name: str,
    path: Path | str,
    *,
    no_memory: bool = False,
    sha256: str | None = None,
) -> Sam2Encoder:
    """A frozen SAM 2.1 image encoder with the weights of a local file.

    Args:
        name: ``sam2.1_hiera_tiny``, ``_small`` (the paper's), ``_base_plus`` or ``_large``.
        path: The official ``NAME.pt``, or its tensors under the same names as ``.safetensors``.
        no_memory: See `Sam2Encoder`.
        sha256: What the file's bytes must hash to, hexadecimal; None skips the check.

    Raises:
        InvalidInputError: No such network.
        MissingWeightsError: There is no such file; the message says which one is needed and where it is published.
        CorruptWeightsError: The hash is wrong, or the file does not hold this network.
        BackendUnavailableError: The ``sam2`` package is not installed.
    """
    if name not in ARCHITECTURES:
        raise InvalidInputError(f"There is no network {name!r}; choose one of {', '.join(ARCHITECTURES)}.")
    source = Path(path)
    if not source.is_file():
        raise MissingWeightsError(
            f"There is no weights file {source.name} for SAM 2.1. Download {name}.pt; the page {_PAGE} links it."
        )
    network = Sam2Encoder(ARCHITECTURES[name], no_memory=no_memory)
    fill_sam2(network, source, name, sha256=sha256)
    return network


def fill_sam2(network: Sam2Encoder, source: Path, name: str, *, sha256: str | None = None) -> None:
    """Load a file of the official layout into a network; errors as at ``load_sam2``."""
    weights = read_tensors(source, key="model", sha256=sha256)
    kept = {key: value for key, value in weights.items() if key.startswith(_PREFIX) or key == _NO_MEMORY}
    if not kept:
        raise CorruptWeightsError(
            f"{source.name} has no tensor image_encoder.*, as SAM 2.1's official checkpoints have; "
            f"take {name}.pt from {_PAGE} (not the transformers layout)."
        )
    fill(network, kept, source.name, name)


def _image_encoder(arch: Architecture) -> nn.Module:
    """The package's network of that shape. Imported here: the package is optional, and slow to import."""
    try:
        from sam2.modeling.backbones.hieradet import Hiera
        from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
        from sam2.modeling.position_encoding import PositionEmbeddingSine
    except ImportError as error:
        raise BackendUnavailableError(
            "SAM 2.1 needs the package sam2, which is not installed. After torch: "
            "SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2==1.1.0",
            reason="MISSING_PACKAGE",
            metadata={"package": "sam2"},
        ) from error
    trunk = Hiera(
        embed_dim=arch.dim,
        num_heads=arch.num_heads,
        stages=arch.stages,
        global_att_blocks=arch.global_blocks,
        window_pos_embed_bkg_spatial_size=(arch.grid, arch.grid),
        window_spec=arch.windows,
    )
    neck = FpnNeck(
        position_encoding=PositionEmbeddingSine(num_pos_feats=arch.embedding),
        d_model=arch.embedding,
        backbone_channel_list=arch.widths,
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    encoder: nn.Module = ImageEncoder(trunk, neck, scalp=1)
    return encoder

"""DINOv2 (Oquab et al., 2023), frozen: patch features of several layers, from weights files on disk.

The network is timm's VisionTransformer. The weights are the official ones, in either of the two layouts in which they
are published (``dinov2_layouts``): the project's own ``.pth`` files, and those of the Hugging Face models. Positions
are interpolated as the project's own code does, which differs a little from timm's.

Legend: B batch, P patches, D width, G patches a side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.layers.mlp import SwiGLUPacked
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.pretrained.dinov2_layouts import to_timm
from headlift.pretrained.tensors import fill as fill_network
from headlift.pretrained.tensors import read_tensors

PATCH = 14
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, which the network was trained with
LayerConvention = Literal["hub", "hf"]


@dataclass(frozen=True)
class Architecture:
    """The shape of one DINOv2 network."""

    dim: int
    depth: int
    num_heads: int
    registers: int = 0
    swiglu: bool = False
    grid: int = 37  # patches a side that positions are stored for: 518 pixels


_SIZES = {
    "vits14": ("small", Architecture(384, 12, 6)),
    "vitb14": ("base", Architecture(768, 12, 12)),
    "vitl14": ("large", Architecture(1024, 24, 16)),
    "vitg14": ("giant", Architecture(1536, 40, 24, swiglu=True)),
}
ARCHITECTURES: Mapping[str, Architecture] = {
    **{f"dinov2_{key}": arch for key, (_, arch) in _SIZES.items()},
    **{f"dinov2_{key}_reg": Architecture(a.dim, a.depth, a.num_heads, 4, a.swiglu) for key, (_, a) in _SIZES.items()},
}


class LayerFeatures(NamedTuple):
    """One layer's view of a batch of pictures."""

    class_token: Tensor  # [B, D]
    patches: Tensor  # [B, P, D], row by row


class Dinov2(nn.Module):
    """A frozen DINOv2. Gradients still reach the pictures, which perceptual losses need.

    Layers are counted in one of two ways, because the literature uses both:
    ``"hub"``: index of a block from 0, its output after the final norm (``get_intermediate_layers`` of the project);
    ``"hf"``: index into Hugging Face's ``hidden_states``, where k is the output of the k-th block, without norm.
    """

    def __init__(self, architecture: Architecture, layers: Sequence[int], convention: LayerConvention = "hub") -> None:
        """Random weights; ``load_dinov2`` fills them.

        Raises:
            InvalidInputError: A layer does not exist.
        """
        super().__init__()
        first = 0 if convention == "hub" else 1
        last = architecture.depth - 1 + first
        if not layers or not all(first <= layer <= last for layer in layers):
            raise InvalidInputError(
                f"layers is {tuple(layers)}; the {convention} convention counts {first}..{last} here."
            )
        self.architecture = architecture
        self.layers = tuple(layers)
        self.convention = convention
        self._blocks = tuple(layer - first for layer in layers)
        self.vit = _vision_transformer(architecture)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] in 0..1, sides multiples of 14 -> patch features [B, P, D] for each layer asked for."""
        return [layer.patches for layer in self.features(images)]

    def features(self, images: Tensor) -> list[LayerFeatures]:
        """Class token and patch features for each layer asked for.

        Raises:
            InvalidInputError: A side is no multiple of 14.
        """
        if images.shape[-1] % PATCH or images.shape[-2] % PATCH:
            raise InvalidInputError(
                f"A picture is {images.shape[-1]}x{images.shape[-2]}; sides must be multiples of {PATCH}."
            )
        x = self._tokens((images - self.mean) / self.std)
        layers: dict[int, LayerFeatures] = {}
        for i, block in enumerate(self.vit.blocks[: max(self._blocks) + 1]):
            x = block(x)
            if i in self._blocks:
                y = self.vit.norm(x) if self.convention == "hub" else x
                layers[i] = LayerFeatures(y[:, 0], y[:, 1 + self.architecture.registers :])
        return [layers[i] for i in self._blocks]

    def train(self, mode: bool = True) -> Dinov2:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)

    def _tokens(self, images: Tensor) -> Tensor:
        """Class token, registers and patches with their positions, [B, 1 + registers + P, D]."""
        patches = self.vit.patch_embed.proj(images)
        height, width = patches.shape[-2:]
        batch = len(images)
        stored, first = cast(Tensor, self.vit.pos_embed), cast(Tensor, self.vit.cls_token)
        special = []
        if self.vit.reg_token is not None:  # timm then folds the class token's position into the token
            special = [self.vit.reg_token]
        else:
            first, stored = first + stored[:, :1], stored[:, 1:]
        positions = _resized_positions(stored, self.architecture, height, width)
        parts = [token.expand(batch, -1, -1) for token in (first, *special)]
        return torch.cat([*parts, patches.flatten(2).mT + positions], 1)


def load_dinov2(
    name: str,
    path: Path | str,
    *,
    layers: Sequence[int],
    convention: LayerConvention = "hub",
    sha256: str | None = None,
) -> Dinov2:
    """A frozen DINOv2 with the weights of a local file.

    Args:
        name: ``dinov2_vits14``, ``_vitb14``, ``_vitl14`` or ``_vitg14``, with ``_reg`` for the variants with registers.
        path: The project's ``.pth``, or a Hugging Face ``model.safetensors`` or ``pytorch_model.bin``.
        layers: Which layers' features are wanted.
        convention: How ``layers`` are counted; see ``Dinov2``.
        sha256: What the file's bytes must hash to, hexadecimal; None skips the check.

    Raises:
        InvalidInputError: No such network or layer.
        MissingWeightsError: There is no such file; the message says which one is needed and where it is published.
        CorruptWeightsError: The hash is wrong, or the file does not hold this network.
    """
    if name not in ARCHITECTURES:
        raise InvalidInputError(f"There is no network {name!r}; choose one of {', '.join(ARCHITECTURES)}.")
    network = Dinov2(ARCHITECTURES[name], layers, convention)
    fill(network, Path(path), name=name, sha256=sha256)
    return network


def fill(network: Dinov2, path: Path, *, name: str, sha256: str | None = None) -> None:
    """Load a file of either layout into a network; errors as at ``load_dinov2``."""
    if not path.is_file():
        raise MissingWeightsError(f"There is no weights file {path.name} for {name}. {where_to_get(name)}")
    weights = to_timm(read_tensors(path, sha256=sha256), registers=network.architecture.registers)
    fill_network(network.vit, weights, path.name, name, hint=where_to_get(name))


def where_to_get(name: str) -> str:
    """Where the weights of a network are published, one sentence."""
    key = name.removeprefix("dinov2_").removesuffix("_reg")
    registers = name.endswith("_reg")
    model = (
        f"facebook/dinov2-{'with-registers-' if registers else ''}{_SIZES[key][0]}"
        if key in _SIZES
        else "a DINOv2 model"
    )
    official = f"dinov2_{key}_{'reg4_' if registers else ''}pretrain.pth"
    return (
        f"Download {official} from the project page "
        f"https://github.com/facebookresearch/dinov2, or model.safetensors of {model} on the Hugging Face Hub."
    )


def _vision_transformer(arch: Architecture) -> VisionTransformer:
    """timm's network of that shape, as its own dinov2 entries build it."""
    gated: dict[str, Any] = (
        {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 2.66667 * 2} if arch.swiglu else {}
    )
    return VisionTransformer(
        img_size=PATCH * arch.grid,
        patch_size=PATCH,
        embed_dim=arch.dim,
        depth=arch.depth,
        num_heads=arch.num_heads,
        init_values=1e-5,
        num_classes=0,
        reg_tokens=arch.registers,
        no_embed_class=arch.registers > 0,
        weight_init="skip",
        **gated,
    )


def _resized_positions(positions: Tensor, arch: Architecture, height: int, width: int) -> Tensor:
    """Stored positions [1, grid * grid, D] for a patch grid of another size: [1, height * width, D].

    As in the project's hub models: bicubic; without registers the scale is a tenth of a patch too large and not
    antialiased (their issue 8, kept because the published numbers have it), with registers it is exact and antialiased.
    """
    if height == width == arch.grid:
        return positions
    picture = positions.float().reshape(1, arch.grid, arch.grid, arch.dim).permute(0, 3, 1, 2)
    if arch.registers:
        resized = F.interpolate(picture, (height, width), mode="bicubic", antialias=True)
    else:
        scale = ((height + 0.1) / arch.grid, (width + 0.1) / arch.grid)
        resized = F.interpolate(picture, scale_factor=scale, mode="bicubic")
    return resized.flatten(2).transpose(1, 2).to(positions.dtype)

"""DreamSim (Fu et al., 2023), frozen: how alike two pictures look to people, from weights files on disk.

Three base-sized ViTs look at both pictures: DINO's class token after the last block, and the embeddings of CLIP and of
OpenCLIP (LAION-400M). Each has low-rank updates of its attention, trained on human judgements. The three vectors are
concatenated, normalised and centred; the distance is one minus their cosine. The files are those of the published
checkpoint folder (``dreamsim_checkpoint.zip`` of the project's release, unpacked), and DINO's own weights, which the
project fetches apart:

    dino_vitbase16_pretrain.pth (or checkpoints/dino_vitbase16_pretrain.pth)      DINO, as its project publishes it
    clip_vitb16_pretrain.pth.tar, open_clip_vitb16_pretrain.pth.tar                state_dict with "proj"
    {dino,clip,open_clip}_vitb16_lora/adapter_model.{safetensors,bin}, adapter_config.json

Neither the ``dreamsim`` package nor ``peft`` is needed: the updates are added into the weights on loading.

Legend: B batch, D width.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift.pretrained.tensors import fill, read_tensors

SIDE = 224  # pixels of the input picture
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_LORA = re.compile(r"blocks\.(\d+)\.attn\.qkv\.lora_([AB])(?:\.default)?\.weight$")
_RANK, _ALPHA = 16, 0.5  # of the published updates, where adapter_config.json is absent
_PAGE = "https://github.com/ssundaram21/dreamsim"


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x * torch.sigmoid(1.702 * x)


@dataclass(frozen=True)
class Shape:
    """How large the networks are; smaller ones only in tests."""

    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    projection: int = 512


@dataclass(frozen=True)
class Member:
    """One of the three networks."""

    name: str  # of its files
    base_files: tuple[str, ...]
    clip: bool  # CLIP's layout: a norm before the blocks, the final norm and a projection after them
    activation: type[nn.Module] = nn.GELU

    @property
    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the pictures it was trained on."""
        return _CLIP if self.clip else _IMAGENET


MEMBERS = (
    Member("dino_vitb16", ("dino_vitbase16_pretrain.pth", "checkpoints/dino_vitbase16_pretrain.pth"), clip=False),
    Member("clip_vitb16", ("clip_vitb16_pretrain.pth.tar",), clip=True, activation=QuickGELU),
    Member("open_clip_vitb16", ("open_clip_vitb16_pretrain.pth.tar",), clip=True),
)


class MemberNetwork(nn.Module):
    """One ViT/16 in DINO's layout of names, which the published files use for all three."""

    def __init__(self, member: Member, shape: Shape) -> None:
        super().__init__()
        self._clip = member.clip
        norm = partial(nn.LayerNorm, eps=1e-5 if member.clip else 1e-6)
        self.vit = VisionTransformer(
            img_size=SIDE,
            patch_size=16,
            embed_dim=shape.dim,
            depth=shape.depth,
            num_heads=shape.num_heads,
            num_classes=0,
            norm_layer=norm,
            act_layer=member.activation,
            weight_init="skip",
        )
        if member.clip:
            # CLIP's norm before the blocks, under the name that the files give it.
            self.vit.add_module("pos_drop", norm(shape.dim))
            self.projection = nn.Parameter(torch.eye(shape.dim, shape.projection))
        mean, std = member.normalisation
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        """[B, 3, 224, 224] in 0..1 -> [B, width]: the projected embedding, or the class token before the last norm."""
        x = self.vit._pos_embed(self.vit.patch_embed((pictures - self.mean) / self.std))
        x = self.vit.blocks(x)
        if not self._clip:
            token: Tensor = x[:, 0]
            return token
        embedding: Tensor = self.vit.norm(x)[:, 0] @ self.projection
        return embedding


class DreamSim(nn.Module):
    """The frozen ensemble. Gradients still reach the pictures."""

    def __init__(self, shape: Shape | None = None) -> None:
        """Random weights; ``load_dreamsim`` fills them."""
        super().__init__()
        self.shape = shape or Shape()
        self.members = nn.ModuleDict({member.name: MemberNetwork(member, self.shape) for member in MEMBERS})
        self.eval().requires_grad_(False)

    def forward(self, pictures: Tensor, others: Tensor) -> Tensor:
        """Distances [B], 0 for equal pictures, of pictures [B, 3, H, W] in 0..1."""
        return 1 - F.cosine_similarity(self.embed(pictures), self.embed(others), dim=-1)

    def embed(self, pictures: Tensor) -> Tensor:
        """Normalised and centred embeddings [B, sum of widths] of pictures [B, 3, H, W] in 0..1."""
        small = F.interpolate(pictures, size=(SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        small = small.clamp(0, 1)
        joined = F.normalize(torch.cat([network(small) for network in self.members.values()], -1), dim=-1)
        return joined - joined.mean(-1, keepdim=True)

    def train(self, mode: bool = True) -> DreamSim:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)


def load_dreamsim(folder: Path | str, *, shape: Shape | None = None) -> DreamSim:
    """The frozen ensemble with the weights of a local folder.

    Args:
        folder: The project's unpacked checkpoint folder, with DINO's own file in it.
        shape: Of the networks in the files; None is the published one.

    Raises:
        MissingWeightsError: A file is absent; the message says which, and where it is published.
        CorruptWeightsError: A file does not hold what its name says.
    """
    root = Path(folder)
    network = DreamSim(shape)
    for member in MEMBERS:
        base = _existing(root, member.base_files)
        weights = dict(read_tensors(base))
        projection = weights.pop("proj", None) if member.clip else None
        lora = root / f"{member.name}_lora"
        _add_updates(weights, _existing(lora, ("adapter_model.safetensors", "adapter_model.bin")), lora)
        part = network.members[member.name]
        assert isinstance(part, MemberNetwork)
        fill(part.vit, weights, base.name, member.name)
        if member.clip:
            if projection is None or projection.shape != part.projection.shape:
                raise CorruptWeightsError(f"{base.name} has no projection 'proj' of {tuple(part.projection.shape)}.")
            part.projection.data.copy_(projection)
    return network


def _existing(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    where = "https://github.com/facebookresearch/dino" if names[0].startswith("dino_") else _PAGE
    raise MissingWeightsError(
        f"There is no {names[0]} in {folder.name}/ for DreamSim. Unpack the release's dreamsim_checkpoint.zip there, "
        f"and for DINO take dino_vitbase16_pretrain.pth; this file is published at {where}."
    )


def _add_updates(weights: dict[str, Tensor], file: Path, folder: Path) -> None:
    """Add the low-rank updates B @ A, scaled, into the attention's stacked query, key and value weights."""
    scale = _scale(folder / "adapter_config.json")
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in read_tensors(file).items():
        if match := _LORA.search(key):
            found.setdefault(match[1], {})[match[2]] = value.float()
    targets = {key.split(".")[1] for key in weights if key.endswith("attn.qkv.weight")}
    if found.keys() != targets or any(parts.keys() != {"A", "B"} for parts in found.values()):
        raise CorruptWeightsError(
            f"{folder.name}/{file.name} has updates of {len(found)} blocks; all {len(targets)} of the network need one."
        )
    for block, parts in found.items():
        key = f"blocks.{block}.attn.qkv.weight"
        update = parts["B"] @ parts["A"] if parts["B"].shape[-1] == parts["A"].shape[0] else parts["A"].new_zeros(0)
        if update.shape != weights[key].shape:
            raise CorruptWeightsError(f"{folder.name}/{file.name}: the update of block {block} does not fit {key}.")
        weights[key] = weights[key].float() + scale * update


def _scale(config: Path) -> float:
    """alpha / rank of the updates."""
    if not config.is_file():
        return _ALPHA / _RANK
    try:
        values: Mapping[str, float] = json.loads(config.read_text())
        return float(values["lora_alpha"]) / float(values["r"])
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CorruptWeightsError(
            f"{config.parent.name}/{config.name} lacks r and lora_alpha; fetch it again."
        ) from error

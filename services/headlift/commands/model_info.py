"""How big a model is and what it computes: parameters and FLOPs per module, without building it in memory.

A FLOP is a multiplication or an addition; matrix products and convolutions are counted, norms, activations, attention's
softmax and sampling are not (under two per cent). The fraction of foreground patches matters: 0.7 is usual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from headlift.model.mini.config import MiniConfig, MiniEncoderConfig
from headlift.model.mini.guidance import ProjectedGuidance
from headlift.model.mini.headnet import HeadNet
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import (
    BACKBONE_PATCH,
    BACKBONES,
    DecoderConfig,
    EncoderConfig,
    SharpenerConfig,
    VitConfig,
)
from headlift.model.perchead.decoder import ATTRIBUTES, TemplateDecoder
from headlift.model.perchead.encoder import VitBranch
from headlift.model.sizes import HeadModel, HeadModelConfig, build_model
from headlift.model.template import Template

FOREGROUND = 0.7  # share of patches that show the person, in a usual crop
VIEW_SIDE = 512  # pixels; sharpening is counted per view of this side


@dataclass(frozen=True)
class ModuleInfo:
    """One row: a module, its parameters, and the FLOPs of one portrait (the sharpener: of one view)."""

    module: str
    params: int
    flops: float
    frozen: bool = False


@dataclass(frozen=True)
class ModelInfo:
    """All rows of one config."""

    config: HeadModelConfig
    rows: tuple[ModuleInfo, ...]

    @property
    def trained_params(self) -> int:
        """Parameters that training changes."""
        return sum(row.params for row in self.rows if not row.frozen)

    def row(self, module: str) -> ModuleInfo:
        """The row of that name."""
        return next(row for row in self.rows if row.module == module)

    def table(self) -> str:
        """The rows as text, for people."""
        lines = [
            f"{self.config.name}: {self.config.decoder.num_gaussians} Gaussians",
            f"{'module':<34}{'params':>12}{'GFLOP':>12}",
        ]
        for row in self.rows:
            name = row.module + (" (frozen)" if row.frozen else "")
            lines.append(f"{name:<34}{_millions(row.params):>12}{row.flops / 1e9:>12.2f}")
        total = sum(row.flops for row in self.rows)
        lines.append(f"{'trained, and all FLOPs':<34}{_millions(self.trained_params):>12}{total / 1e9:>12.2f}")
        return "\n".join(lines)


def describe(config: HeadModelConfig, *, foreground: float = FOREGROUND) -> ModelInfo:
    """Count a config's parameters (on torch's meta device) and FLOPs (by formula) for one portrait."""
    with torch.device("meta"):
        model = build_model(config, _meta_template(config.decoder.num_gaussians))
    encoder, decoder = config.encoder, config.decoder
    kept = round(foreground * encoder.grid**2)
    frozen, frozen_dim = _frozen(model.config, model)
    rows = [
        frozen,
        ModuleInfo("encoder.vit", _params(model.encoder.vit), _vit_flops(encoder, 4 if _is_mini(model) else 3)),
        ModuleInfo("encoder.fuse", _params(model.encoder.fuse), _fuse_flops(encoder, frozen_dim, kept)),
    ]
    queries = _params(model.decoder.embed_anchors) + model.decoder.patch_table.numel()
    rows += [
        ModuleInfo("decoder.queries", queries, 2.0 * model.decoder.embed_anchors.weight.numel() * decoder.num_patches),
        ModuleInfo("decoder.layers", _params(model.decoder.layers), _layers_flops(decoder, encoder.fusion_dim, kept)),
        ModuleInfo("decoder.heads", _heads_params(model.decoder), _heads_flops(decoder)),
    ]
    if isinstance(model, MiniHead):
        rows += _mini_rows(model)
    if model.sharpener is not None and config.sharpener is not None:
        rows.append(ModuleInfo("sharpener", _params(model.sharpener), _sharpener_flops(config.sharpener)))
    return ModelInfo(config, tuple(rows))


def _is_mini(model: HeadModel) -> bool:
    return isinstance(model, MiniHead)


def _frozen(config: HeadModelConfig, model: HeadModel) -> tuple[ModuleInfo, int]:
    """The row of the frozen branch, and the width of its features."""
    if isinstance(config, MiniConfig) and isinstance(model, MiniHead):
        encoder, net = config.encoder, model.encoder.headnet
        row = ModuleInfo("encoder.headnet", _params(net), _headnet_flops(net, encoder), frozen=True)
        return row, encoder.headnet.dim * len(encoder.headnet_layers)
    assert isinstance(config.encoder, EncoderConfig)
    name = config.encoder.backbone
    counts = _backbone_counts(name, config.encoder.grid)
    return ModuleInfo(f"encoder.{name}", *counts, frozen=True), config.encoder.backbone_dim


def _mini_rows(model: MiniHead) -> list[ModuleInfo]:
    """What mini has beside the paper's parts."""
    config, thumbnail = model.config, _params(model.encoder.thumbnail_head)
    decoder, tokens = config.decoder, config.encoder.grid**2
    guidance = model.guidance
    return [
        ModuleInfo("encoder.thumbnail_head", thumbnail, 2.0 * thumbnail),
        ModuleInfo("embed_code", _params(model.embed_code), 2.0 * model.embed_code.weight.numel()),
        ModuleInfo("guidance", _params(guidance), _guidance_flops(guidance, decoder, tokens)),
        ModuleInfo("morphable (basis)", 0, 6.0 * config.code_rank * decoder.num_gaussians),
    ]


def _meta_template(n: int) -> Template:
    """A template of the right shapes and no content."""
    points, indices = torch.empty(n, 3), torch.empty(n, dtype=torch.int64)
    neighbors, regions = torch.empty(n, 8, dtype=torch.int64), torch.empty(n, dtype=torch.uint8)
    return Template(points, points, torch.empty(n), neighbors, indices, regions, name="meta", sha256="")


def _backbone_counts(name: str, grid: int) -> tuple[int, float]:
    """Parameters and FLOPs of a DINOv2 ViT, whose positions are stored for 37 x 37 patches."""
    dim, depth = BACKBONES[name]
    registers = 4 if name.endswith("_reg") else 0
    giant = name.startswith("dinov2_vitg")
    hidden = 4096 if giant else 4 * dim  # the giant's MLP is a SwiGLU: two gates in, one product out
    mlp_in = dim * hidden * (2 if giant else 1)
    attention = 4 * dim * dim
    biases = 4 * dim + hidden * (2 if giant else 1) + dim
    norms = 2 * 2 * dim + 2 * dim  # two layer norms, two layer scales
    stem = 3 * BACKBONE_PATCH**2 * dim
    positions = (37 * 37 + (0 if registers else 1)) * dim  # with registers the class token's is folded into the token
    params = (
        depth * (attention + mlp_in + hidden * dim + biases + norms)
        + stem
        + dim
        + positions
        + (1 + registers) * dim
        + 2 * dim
    )
    tokens = grid**2 + 1 + registers
    per_token = 2 * (attention + mlp_in + hidden * dim)
    flops = depth * (per_token * tokens + _attention_flops(tokens, tokens, dim)) + 2 * stem * grid**2
    return params, float(flops)


def _headnet_flops(net: HeadNet, config: MiniEncoderConfig) -> float:
    """Blocks by formula, convolutions from their weights' shapes and the side at which each works."""
    tokens, size = config.grid**2, net.config
    per_token = 2 * size.dim**2 * (4 + 2 * size.mlp_ratio) + 18 * size.dim
    blocks = size.depth * (per_token * tokens + _attention_flops(tokens, tokens, size.dim))
    side, convolutions = config.image_size, 0.0
    for layer in net.stem.modules():
        if isinstance(layer, nn.Conv2d):
            side //= 2
            convolutions += 2.0 * layer.weight.numel() * side**2
    dense = net.dense
    for part, times in ((dense.from_tokens, 1), (dense.from_third, 4), (dense.mix_third, 4)):
        convolutions += 2.0 * _params(part) * tokens * times
    for part in (dense.from_second, dense.mix_second, dense.classes, dense.maps):
        convolutions += 2.0 * _params(part) * tokens * 16
    return blocks + convolutions


def _vit_flops(config: VitConfig, channels: int) -> float:
    tokens = config.grid**2
    per_token = 2 * config.dim**2 * (4 + 2 * config.mlp_ratio)
    blocks = config.depth * (per_token * tokens + _attention_flops(tokens, tokens, config.dim))
    return blocks + _stem_flops(config, channels)


def _stem_flops(config: VitConfig, channels: int) -> float:
    """Convolutions of either stem, from their own weights' shapes."""
    with torch.device("meta"):
        stem = VitBranch(config, channels).stem
    side, total = config.image_size, 0.0
    for layer in stem.modules():
        if isinstance(layer, nn.Conv2d):
            side //= layer.stride[0]
            total += 2.0 * layer.weight.numel() * side**2
    return total


def _fuse_flops(config: VitConfig, frozen_dim: int, kept: int) -> float:
    return 2.0 * kept * config.fusion_dim * (frozen_dim + config.dim + config.fusion_dim)


def _layers_flops(config: DecoderConfig, token_dim: int, kept: int) -> float:
    per_query = 2 * config.dim**2 * (2 + 2 * config.mlp_ratio)
    per_token = 4 * token_dim * config.dim
    attention = _attention_flops(config.num_patches, kept, config.dim)
    return config.depth * (per_query * config.num_patches + per_token * kept + attention)


def _attention_flops(queries: int, keys: int, dim: int) -> int:
    """Scores and weighted sums."""
    return 4 * queries * keys * dim


def _heads_flops(config: DecoderConfig) -> float:
    width = config.gaussians_per_patch * config.gaussian_dim
    widening = 0 if width == config.dim else 2 * config.dim * width * config.num_patches
    return widening + 2.0 * config.gaussian_dim * sum(ATTRIBUTES.values()) * config.num_gaussians


def _heads_params(decoder: TemplateDecoder) -> int:
    return sum(_params(part) for part in (decoder.norm, decoder.unfold, decoder.heads))


def _guidance_flops(guidance: ProjectedGuidance, config: DecoderConfig, tokens: int) -> float:
    per_gaussian = guidance.pixel_mlp.fc1.weight.numel() + guidance.pixel_mlp.fc2.weight.numel()
    per_query = guidance.embed_samples.weight.numel()
    return 2.0 * (
        guidance.token_maps.weight.numel() * tokens
        + per_query * config.num_patches
        + per_gaussian * config.num_gaussians
    )


def _sharpener_flops(config: SharpenerConfig) -> float:
    folded, c = config.unshuffle**2, config.channels
    weights = 9 * (6 * folded * c + config.depth * c * c + c * 3 * folded)
    return 2.0 * weights * VIEW_SIDE**2 / folded


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f} M"

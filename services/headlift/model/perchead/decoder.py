"""The template decoder: image tokens in, Gaussians out (paper, section 3.1, equations 2 and 3).

4096 patches of the head template cross-attend to the image's tokens, never to each other, so that any subset of them
may be decoded alone. Each patch unfolds into 16 Gaussians, whose five attributes come from five linear heads and are
activated once, here. Heads may start elsewhere than on the anchors; in the paper they start there, grey.

Legend: B batch, Q template patches, q chosen patches, N Gaussians, n chosen Gaussians, J Gaussians a patch, D width,
d latent width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.gaussians import multiply_quats, quats_from_normals
from headlift.model.layers import CrossAttentionBlock, fourier_features, full_precision, zero_init
from headlift.model.passes import count_pass
from headlift.model.perchead.config import DecoderConfig
from headlift.model.template import Template
from headlift.model.types import Gaussians, ImageTokens

ATTRIBUTES = {"means": 3, "scales": 3, "quats": 4, "opacities": 1, "colors": 3}
_DISC = (0.75, 0.75, 0.35)  # start scales over anchor spacing: discs along the normal that just close the surface
_OPACITY_LOGIT = 2.2  # start opacity 0.90
_CHUNK = 1024  # patches that are computed together: their hidden layers stay in the cache, and memory is saved
_MAX_STRETCH = 3.0  # of discs on patches that the start has pulled apart


class TemplateDecoder(nn.Module):
    """``ImageTokens`` to ``Gaussians``; untrained it gives the start: the grey template."""

    def __init__(self, config: DecoderConfig, template: Template, *, token_dim: int) -> None:
        super().__init__()
        self.config = config
        # Persistent: weights belong to these anchors, whatever a later version of the template's generator makes.
        self.anchors: Tensor
        self.normals: Tensor
        self.spacing: Tensor
        for name in ("anchors", "normals", "spacing"):
            self.register_buffer(name, getattr(template, name).float().clone())
        self._register_derived()
        self.register_load_state_dict_post_hook(_follow_anchors)  # type: ignore[no-untyped-call]
        self.embed_anchors = nn.Linear(self.anchor_features.shape[-1], config.dim)
        self.patch_table = nn.Parameter(0.02 * torch.randn(config.num_patches, config.dim))
        self.layers = nn.ModuleList(
            CrossAttentionBlock(config.dim, config.num_heads, config.mlp_ratio, token_dim, config.residual)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.unfold = _unfold(config)
        self.heads = nn.ModuleDict({name: nn.Linear(config.gaussian_dim, width) for name, width in ATTRIBUTES.items()})
        zero_init(self.heads)

    def forward(
        self, tokens: ImageTokens, *, active_layers: int | None = None, patches: Tensor | None = None
    ) -> Gaussians:
        """Gaussians of B heads, each field with a leading batch axis, as in the paper.

        Args:
            tokens: What the encoder said.
            active_layers: As ``attend``.
            patches: Numbers of the template patches to decode, [q] int64; None is all. Gaussian j of patch
                patches[i] is row 16 i + j of the answer.
        """
        rows, batch = self.rows_of(patches), len(tokens.tokens)
        queries = self.queries(patches).expand(batch, -1, -1)
        latents = self.attend(queries, tokens, active_layers=active_layers)
        anchors = self.anchors[rows].expand(batch, -1, -1)
        return self.activate(latents, anchors, torch.full_like(anchors, 0.5), rows)

    def queries(self, patches: Tensor | None = None) -> Tensor:
        """The first 3D representation F0 of the chosen patches, [q, D]."""
        chosen = slice(None) if patches is None else patches
        out: Tensor = self.embed_anchors(self.anchor_features[chosen]) + self.patch_table[chosen]
        return out

    def attend(
        self,
        queries: Tensor,  # [B, q, D]
        tokens: ImageTokens,
        *,
        active_layers: int | None = None,
    ) -> Tensor:
        """Latents [B, n, d] of each patch's Gaussians, after all layers.

        Cross-attention acts in ``active_layers`` first layers only (paper, appendix G); None is all.

        Raises:
            InvalidInputError: ``active_layers`` is negative.
        """
        if active_layers is not None and active_layers < 0:
            raise InvalidInputError(f"active_layers is {active_layers}; it must be >= 0.", field="active_layers")
        count_pass("decoder")
        context_mask = None if bool(tokens.mask.all()) else tokens.mask
        parts = []
        for chunk in torch.split(queries, _CHUNK, 1):
            x = chunk
            for i, layer in enumerate(self.layers):
                attends = active_layers is None or i < active_layers
                x = layer(x, tokens.tokens, context_mask, attends)
            parts.append(self.unfold(self.norm(x)).reshape(len(x), -1, self.config.gaussian_dim))
        return torch.cat(parts, 1)

    def activate(
        self,
        latents: Tensor,  # [B, n, d]
        start_means: Tensor,  # [B, n, 3] m
        start_colors: Tensor,  # [B, n, 3] 0..1
        rows: Tensor | slice,
    ) -> Gaussians:
        """Latents to attributes in their units; the only activation there is."""
        raw = {name: head(latents).float() for name, head in self.heads.items() if name != "colors"}
        with full_precision(latents.device):
            means = start_means + torch.tanh(raw["means"] * self.config.s_init) * self.config.s_max
            turn = F.normalize(raw["quats"] * 0.3 + raw["quats"].new_tensor([1.0, 0, 0, 0]), dim=-1)
            quats = F.normalize(multiply_quats(self.disc_quats[rows], turn), dim=-1)
            discs, stretch = self.disc_scales[rows], self._stretch(start_means, rows)
            scales = discs * stretch * torch.exp(1.2 * torch.tanh(0.4 * raw["scales"]))
            opacities = torch.sigmoid(raw["opacities"][..., 0] + _OPACITY_LOGIT)
        return Gaussians(means, quats, scales, opacities, self.color_logits(latents, start_colors).sigmoid())

    def color_logits(self, latents: Tensor, start_colors: Tensor) -> Tensor:
        """Colours before the sigmoid, [B, n, 3], of latents [B, n, d] that start from colours [B, n, 3] in 0..1."""
        raw: Tensor = self.heads["colors"](latents).float()
        with full_precision(latents.device):
            return torch.logit(start_colors.clamp(0.02, 0.98)) + raw

    def rows_of(self, patches: Tensor | None) -> Tensor | slice:
        """Rows of the chosen patches' Gaussians."""
        if patches is None:
            return slice(None)
        each = self.config.gaussians_per_patch
        rows: Tensor = patches[:, None] * each + torch.arange(each, device=patches.device)
        return rows.flatten()

    def by_patch(self, x: Tensor) -> Tensor:
        """[..., n, c] -> [..., q, J, c]."""
        return x.reshape(*x.shape[:-2], -1, self.config.gaussians_per_patch, x.shape[-1])

    @torch.no_grad()
    def _stretch(self, start_means: Tensor, rows: Tensor | slice) -> Tensor:
        """How much wider than on the template each patch starts, [B, n, 1]: long hair pulls anchors apart."""
        before, after = (_rms_radius(self.by_patch(x)) for x in (self.anchors[rows], start_means))
        stretch = (after / before).clamp(1.0, _MAX_STRETCH)
        return stretch.repeat_interleave(self.config.gaussians_per_patch, -1)[..., None]

    def _register_derived(self) -> None:
        """Everything that follows from the anchors; called again when other anchors are loaded."""
        self.derived_from = AnchorCopy(self)
        derived = {
            "anchor_features": fourier_features(self.by_patch(self.anchors)).flatten(1),
            "disc_quats": quats_from_normals(self.normals),
            "disc_scales": self.spacing[:, None] * self.spacing.new_tensor(_DISC),
        }
        self.anchor_features: Tensor
        self.disc_quats: Tensor
        self.disc_scales: Tensor
        for name, value in derived.items():
            self.register_buffer(name, value, persistent=False)


class AnchorCopy:
    """The anchors that something was derived from: deriving takes longer than loading, and they rarely change."""

    def __init__(self, decoder: TemplateDecoder) -> None:
        self._values = tuple(value.detach().clone() for value in _anchors(decoder))

    def is_of(self, decoder: TemplateDecoder) -> bool:
        """Whether ``decoder`` still has these anchors, bit for bit and on the same device."""
        pairs = zip(self._values, _anchors(decoder), strict=True)
        return all(before.device == now.device and torch.equal(before, now) for before, now in pairs)


def _anchors(decoder: TemplateDecoder) -> tuple[Tensor, Tensor, Tensor]:
    return decoder.anchors, decoder.normals, decoder.spacing


def _follow_anchors(module: TemplateDecoder, _: object) -> None:
    """Hook: a state was loaded, perhaps with other anchors."""
    if not module.derived_from.is_of(module):
        module._register_derived()


def _unfold(config: DecoderConfig) -> nn.Module:
    """PixelShuffle is a reshape where the width is J * d already; otherwise the width changes to that first."""
    width = config.gaussians_per_patch * config.gaussian_dim
    return nn.Identity() if width == config.dim else nn.Sequential(nn.Linear(config.dim, width), nn.GELU())


def _rms_radius(patches: Tensor) -> Tensor:
    """RMS radius of each patch: [..., q, J, 3] -> [..., q] m."""
    return (patches - patches.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt().clamp_min(1e-6)

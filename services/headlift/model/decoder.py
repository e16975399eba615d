"""The template decoder: image tokens in, Gaussians out (paper, section 3.1, equations 2 and 3).

4096 patches of the head template cross-attend to the image's tokens, never to each other, so that any subset of them
may be decoded alone. Each patch unfolds into 16 Gaussians, whose five attributes come from five linear heads and are
activated once, here. Ours, where the config says so: a low-rank head code moves and colours the anchors first, and
projected guidance tells the patches what the portrait shows at their place.

Legend: B batch, Q template patches, q chosen patches, N Gaussians, n chosen Gaussians, J Gaussians a patch, D width,
d latent width, K code numbers.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.config import DecoderConfig
from headlift.model.guidance import ProjectedGuidance, Viewer, hair_color, require_guidance
from headlift.model.hair_grain import hair_contrast, hair_grain
from headlift.model.head_code import HeadCode
from headlift.model.layers import CrossAttentionBlock, fourier_features, full_precision, zero_init
from headlift.model.outline_warp import freedom, middle_of, warped
from headlift.model.passes import count_pass
from headlift.model.surfaces import fits
from headlift.model.template import Region, Template
from headlift.model.types import Gaussians, ImageTokens

ATTRIBUTES = {"means": 3, "scales": 3, "quats": 4, "opacities": 1, "colors": 3}
_DISC = (0.75, 0.75, 0.35)  # start scales over anchor spacing: discs along the normal that just close the surface
_OPACITY_LOGIT = 2.2  # start opacity 0.90
_LARGEST_STRETCH = 3.0
_HAIR_DOUBT = 10.0  # looked-up Gaussians of hair that must agree before they speak for all of it
_HAIR_SHARE = 0.003  # of the picture that must be hair before its colour is half believed
_HAIR_TRUST = 0.7  # how far hidden hair follows seen hair; all the way costs .2 dB at the back, where light differs
_LARGEST_AREA = 4.0  # over the mean anchor's
_LOOKUP_STRIDE = 8  # every how many-th Gaussian is looked up in the picture to correct the head code


class TemplateDecoder(nn.Module):
    """``ImageTokens`` to ``Gaussians``; untrained it gives the grey template."""

    def __init__(
        self, config: DecoderConfig, template: Template, *, token_dim: int, token_side: int, parses: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        # Persistent: weights belong to these anchors, whatever a later version of the template's generator makes.
        self.anchors: Tensor
        self.normals: Tensor
        self.spacing: Tensor
        for name in ("anchors", "normals", "spacing"):
            self.register_buffer(name, getattr(template, name).float().clone())
        hair = (template.regions == Region.HAIR) | (template.regions == Region.SCALP)
        self.hairy: Tensor
        self.register_buffer("hairy", hair.float()[:, None], persistent=False)
        self.free: Tensor | None
        self.crown: Tensor | None
        self.regions: Tensor
        self.register_buffer("regions", torch.as_tensor(template.regions), persistent=False)
        self.fits: Tensor | None
        self.register_buffer("fits", fits(template.regions) if parses else None, persistent=False)
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
        self.head_code = HeadCode(config) if config.code_rank else None
        if self.head_code is not None and self.head_code.hair_mean is not None:
            self.head_code.hair_mean.copy_(self._by_patch(self.hairy).mean(1)[:, 0])  # until it is filled
        self.embed_code = nn.Linear(config.code_rank, config.dim) if config.code_rank else None
        self.guidance = (
            ProjectedGuidance(config.dim, token_dim, token_side, config.gaussian_dim, parses=parses)
            if config.guidance == "projected"
            else None
        )

    def forward(
        self,
        tokens: ImageTokens,
        *,
        active_layers: int | None = None,
        patches: Tensor | None = None,
    ) -> Gaussians:
        """Gaussians of B heads, each field with a leading batch axis.

        Args:
            tokens: What the encoder said.
            active_layers: Cross-attention acts in this many first layers only (paper, appendix G); None is all.
            patches: Numbers of the template patches to decode, [q] int64; None is all. Gaussian j of patch
                patches[i] is row 16 i + j of the answer.

        Raises:
            InvalidInputError: The tokens lack what this model needs, or ``active_layers`` is negative.
        """
        if active_layers is not None and active_layers < 0:
            raise InvalidInputError(f"active_layers is {active_layers}; it must be >= 0.", field="active_layers")
        count_pass("decoder")
        rows = self._rows_of(patches)
        coarse_means, coarse_colors = self.coarse(tokens)
        viewer = (
            Viewer(*require_guidance(tokens), coarse_means, tokens.parsing if self.fits is not None else None)
            if self.guidance is not None
            else None
        )
        if viewer is not None and tokens.code is not None and self.config.code_doubt:
            tokens, coarse_colors = self._corrected(tokens, viewer, coarse_means, coarse_colors)
        coarse_means, coarse_colors = coarse_means[:, rows], coarse_colors[:, rows]
        queries = self._queries(tokens, viewer, coarse_means, patches)
        context_mask = None if bool(tokens.mask.all()) else tokens.mask
        for i, layer in enumerate(self.layers):
            attends = active_layers is None or i < active_layers
            queries = layer(queries, tokens.tokens, context_mask, attends)
        latents = self.unfold(self.norm(queries)).reshape(len(queries), -1, self.config.gaussian_dim)
        return self._activate(latents, viewer, coarse_means, coarse_colors, rows)

    def coarse(self, tokens: ImageTokens) -> tuple[Tensor, Tensor]:
        """Where head code and outline put the Gaussians, [B, N, 3] m, and their colours, [B, N, 3] in 0..1.

        Without a code: the anchors, grey.
        """
        batch = len(tokens.tokens)
        if self.head_code is None:
            anchors = self.anchors.expand(batch, -1, -1)
            return anchors, torch.full_like(anchors, 0.5)
        if tokens.code is None:
            raise InvalidInputError("This model starts from a head code: its tokens must carry one.")
        with full_precision(self.anchors.device):
            offsets, colors = self.head_code(tokens.code.float())
            means = self.anchors + offsets
            if tokens.warp is not None and tokens.camera is not None and self.free is not None:
                viewmats = tokens.camera.viewmats.float()
                means = warped(means, tokens.warp.float(), self.free, viewmats, self.crown)
            return means, colors

    def _corrected(
        self, tokens: ImageTokens, viewer: Viewer, coarse_means: Tensor, coarse_colors: Tensor
    ) -> tuple[ImageTokens, Tensor]:
        """The head code moved so that it also explains the colours that the picture shows, and its colours [B, N, 3].

        What the code cannot explain of the hair as a whole goes to the hair that is hidden, and where the picture was
        not parsed to all of it: hair comes in more colours than a few components hold, and its back has the colour of
        its front. Its strands are as contrasty as those that are seen.
        """
        assert self.head_code is not None
        assert tokens.code is not None
        rows = torch.arange(0, coarse_means.shape[1], _LOOKUP_STRIDE, device=coarse_means.device)
        with full_precision(coarse_means.device):
            seen = viewer.look(coarse_means[:, rows], self.normals[rows], self._fits(rows))
            # By area: anchors are dense on the face, and the hair's few must not be outvoted about the hair.
            area = (self.spacing[rows] / self.spacing.mean()).square().clamp(max=_LARGEST_AREA)[:, None]
            weight = seen.weight * area
            change = self.head_code.color_correction(
                rows, seen.color - coarse_colors[:, rows], weight, self.config.code_doubt
            )
            tokens = replace(tokens, code=tokens.code.float() + F.pad(change, (self.config.geometry_rank, 0)))
            colors = self.coarse(tokens)[1]
            if viewer.shown is None:
                of_hair = weight * self.hairy[rows]
                left = (of_hair * (seen.color - colors[:, rows]).detach()).sum(1, keepdim=True)
                left = left / (of_hair.sum(1, keepdim=True) + _HAIR_DOUBT)
            else:
                covered = self._hair(tokens.code)
                hidden = (1 - seen.weight) * (self.hairy * covered)[:, rows] * area
                mean = ((hidden * colors[:, rows].detach()).sum(1) / hidden.sum(1).clamp_min(1e-6))[:, None]
                color, share = hair_color(viewer.pixels, viewer.shown)
                left = (_HAIR_TRUST * share / (share + _HAIR_SHARE))[:, None] * (color[:, None] - mean)
                # Where long hair hangs over neck and shoulders they have the hair's colour, whatever theirs would be.
                colors = torch.lerp(colors, mean, covered * (1 - self.hairy)) + left * covered
                if self.config.hair_grain:
                    strands = self.config.hair_grain * hair_contrast(viewer.pixels, viewer.shown)
                    colors = colors + strands[:, None] * self.grain * covered
                return tokens, colors.clamp(0, 1)
            return tokens, (colors + left * self.hairy).clamp(0, 1)

    def _hair(self, code: Tensor | None) -> Tensor:
        """How far hair covers each Gaussian, [B, N, 1] or, where the code does not tell, [1, N, 1] for every head."""
        assert self.head_code is not None
        assert code is not None
        covered = self.head_code.hair(code)
        if covered is None:
            return self.hairy[None]
        return covered.repeat_interleave(self.config.gaussians_per_patch, -1)[..., None]

    def _rows_of(self, patches: Tensor | None) -> Tensor | slice:
        """Rows of the chosen patches' Gaussians."""
        if patches is None:
            return slice(None)
        each = self.config.gaussians_per_patch
        rows: Tensor = patches[:, None] * each + torch.arange(each, device=patches.device)
        return rows.flatten()

    def _queries(
        self, tokens: ImageTokens, viewer: Viewer | None, coarse_means: Tensor, patches: Tensor | None
    ) -> Tensor:
        """The first 3D representation F0, [B, q, D]."""
        chosen = slice(None) if patches is None else patches
        places: Tensor = self.embed_anchors(self.anchor_features[chosen]) + self.patch_table[chosen]
        queries = places.expand(len(tokens.tokens), -1, -1)
        if self.embed_code is not None and tokens.code is not None:
            queries = queries + self.embed_code(tokens.code)[:, None]
        if self.guidance is not None and viewer is not None:
            centers = self._by_patch(coarse_means).mean(-2)
            fits_of_patches = None if self.fits is None else self._by_patch(self.fits).mean(1)[chosen]
            queries = queries + self.guidance.query_offsets(
                tokens, viewer, centers, self.patch_normals[chosen], fits_of_patches
            )
        return queries

    def _activate(
        self,
        latents: Tensor,  # [B, n, d]
        viewer: Viewer | None,
        coarse_means: Tensor,  # [B, n, 3]
        coarse_colors: Tensor,  # [B, n, 3]
        rows: Tensor | slice,
    ) -> Gaussians:
        """Latents to attributes in their units; the only activation there is."""
        raw = {name: head(latents).float() for name, head in self.heads.items()}
        with full_precision(latents.device):
            means = coarse_means + torch.tanh(raw["means"] * self.config.s_init) * self.config.s_max
            turn = F.normalize(raw["quats"] * 0.3 + raw["quats"].new_tensor([1.0, 0, 0, 0]), dim=-1)
            quats = F.normalize(multiply_quats(self.disc_quats[rows], turn), dim=-1)
            discs = self.disc_scales[rows]
            stretch = self._stretch(coarse_means, rows)
            scales = discs * stretch * torch.exp(1.2 * torch.tanh(0.4 * raw["scales"]))
            opacities = torch.sigmoid(raw["opacities"][..., 0] + _OPACITY_LOGIT)
            logits = torch.logit(coarse_colors.clamp(0.02, 0.98)) + raw["colors"]
        if self.guidance is None or viewer is None:
            colors = logits.sigmoid()
        else:
            colors = self.guidance.colors(
                latents, viewer, means, self.normals[rows], coarse_colors, logits, self._fits(rows)
            )
        return Gaussians(means, quats, scales, opacities, colors)

    @torch.no_grad()
    def _stretch(self, coarse_means: Tensor, rows: Tensor | slice) -> Tensor | float:
        """How much wider than on the template each patch is now, [B, n, 1]: long hair pulls anchors apart."""
        if self.head_code is None:
            return 1.0
        before, after = (_spread(self._by_patch(x)) for x in (self.anchors[rows], coarse_means))
        stretch = (after / before).clamp(1.0, _LARGEST_STRETCH)
        return stretch.repeat_interleave(self.config.gaussians_per_patch, -1)[..., None]

    def _by_patch(self, x: Tensor) -> Tensor:
        """[..., n, c] -> [..., q, J, c]."""
        return x.reshape(*x.shape[:-2], -1, self.config.gaussians_per_patch, x.shape[-1])

    def _fits(self, rows: Tensor | slice) -> Tensor | None:
        """What the chosen Gaussians may show, [n, 6], for models that parse."""
        return None if self.fits is None else self.fits[rows]

    def _register_derived(self) -> None:
        """Everything that follows from the anchors; called again when other anchors are loaded."""
        derived = {
            "anchor_features": fourier_features(self._by_patch(self.anchors)).flatten(1),
            "patch_normals": F.normalize(self._by_patch(self.normals).mean(1), dim=-1),
            "disc_quats": quats_from_normals(self.normals),
            "disc_scales": self.spacing[:, None] * self.spacing.new_tensor(_DISC),
            "free": freedom(self.anchors, self.regions) if self.config.warp_cells else None,
            "crown": middle_of(self.anchors, self.hairy) if self.config.warp_cells else None,
            "grain": hair_grain(self.anchors, self.hairy) if self.config.hair_grain else None,
        }
        self.anchor_features: Tensor
        self.patch_normals: Tensor
        self.disc_quats: Tensor
        self.disc_scales: Tensor
        self.grain: Tensor
        for name, value in derived.items():
            self.register_buffer(name, value, persistent=False)


def _follow_anchors(module: TemplateDecoder, _: object) -> None:
    """Hook: other anchors were loaded."""
    module._register_derived()


def quats_from_normals(normals: Tensor) -> Tensor:
    """The shortest turn that takes +Z to each normal [N, 3], as wxyz [N, 4]: discs lie in the surface."""
    x, y, z = F.normalize(normals, dim=-1).unbind(-1)
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(z)], -1)
    backwards = (z < -1 + 1e-6)[:, None]  # opposite to +Z every half turn is as short; take the one about X
    return F.normalize(torch.where(backwards, quats.new_tensor([0.0, 1, 0, 0]), quats), dim=-1)


def multiply_quats(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of wxyz quaternions [..., 4]: first turn by ``b``, then by ``a``."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.unbind(-1), b.unbind(-1)
    return torch.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        -1,
    )


def _unfold(config: DecoderConfig) -> nn.Module:
    """PixelShuffle is a reshape where the width is J * d already; otherwise the width changes to that first."""
    width = config.gaussians_per_patch * config.gaussian_dim
    return nn.Identity() if width == config.dim else nn.Sequential(nn.Linear(config.dim, width), nn.GELU())


def _spread(patches: Tensor) -> Tensor:
    """RMS radius of each patch: [..., q, J, 3] -> [..., q] m."""
    return (patches - patches.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt().clamp_min(1e-6)

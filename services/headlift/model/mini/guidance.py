"""Projected guidance: template patches and Gaussians look themselves up in the input picture.

Each template patch starts from the token and the colour at its own projection and at that of its mirror image (heads
are nearly symmetric, so the seen half says much about the hidden one); each Gaussian fetches its pixel the same way.

Legend: B batch, n points, Q patches, D width, d latent width, G tokens a side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headlift.model.layers import Mlp, zero_init
from headlift.model.mini.parsing_groups import ParsingGroup
from headlift.model.mini.projection import ProjectedImage, sample_maps
from headlift.model.perchead.encoder import token_grid
from headlift.model.types import ImageTokens

_NUMBERS = 7 + len(ParsingGroup)  # of ProjectedSample.numbers
_HIDDEN = 48


class ProjectedGuidance(nn.Module):
    """Turns what is seen at a point into additions to the queries and into the Gaussians' colours."""

    def __init__(self, dim: int, token_dim: int, token_side: int, gaussian_dim: int) -> None:
        super().__init__()
        self.token_side = token_side
        # Own and mirrored, each twice: always, and only as far as visible. Applied before sampling, which is linear
        # too, because there are far fewer tokens than queries.
        self.token_maps = nn.Linear(token_dim, 4 * dim)
        self.embed_samples = nn.Linear(2 * _NUMBERS + 2, dim)
        self.pixel_mlp = Mlp(gaussian_dim + 2 * _NUMBERS + 3, _HIDDEN, 5)
        zero_init(self.pixel_mlp.fc2)
        with torch.no_grad():
            self.pixel_mlp.fc2.bias[3] = 1.0  # the gate starts mostly open: a seen pixel is the best first guess

    def query_offsets(
        self,
        tokens: ImageTokens,
        image: ProjectedImage,
        centers: Tensor,  # [B, Q, 3] m, patch centres on the coarse head
        normals: Tensor,  # [Q, 3]
        compatibility: Tensor,  # [Q, 6]
    ) -> Tensor:
        """What to add to the patches' queries, [B, Q, D]."""
        own, mirrored = image.sample_mirrored(centers.detach(), normals, compatibility)
        grid = token_grid(tokens, self.token_side)
        maps = self.token_maps(grid.flatten(2).transpose(1, 2)).mT.reshape(len(grid), -1, *grid.shape[-2:])
        maps_own, maps_mirrored = maps.chunk(2, 1)
        always_own, seen_own = sample_maps(maps_own, own.uv).chunk(2, -1)
        always_mirrored, seen_mirrored = sample_maps(maps_mirrored, mirrored.uv).chunk(2, -1)
        fetched = always_own + own.visible * seen_own + always_mirrored + mirrored.visible * seen_mirrored
        out: Tensor = fetched + self.embed_samples(torch.cat([own.numbers, mirrored.numbers, 2 * own.uv - 1], -1))
        return out

    def colors(
        self,
        latents: Tensor,  # [B, n, d]
        image: ProjectedImage,
        means: Tensor,  # [B, n, 3] m
        normals: Tensor,  # [n, 3]
        start_colors: Tensor,  # [B, n, 3] 0..1
        logits: Tensor,  # [B, n, 3] the colour before guidance
        compatibility: Tensor,  # [n, 6]
    ) -> Tensor:
        """Colours in 0..1, [B, n, 3]: corrected, then blended towards the pixels that can be trusted."""
        own, mirrored = image.sample_mirrored(means.detach(), normals, compatibility)
        features = torch.cat([latents, own.numbers, mirrored.numbers, start_colors.detach()], -1)
        residual, gate, mirrored_gate = self.pixel_mlp(features).float().split([3, 1, 1], -1)
        # The mirror image stands in where the point itself is not seen.
        color = torch.lerp((logits + residual).sigmoid(), mirrored.color, mirrored_gate.sigmoid() * mirrored.weight)
        return torch.lerp(color, own.color, gate.sigmoid() * own.weight).clamp(0, 1)  # lerp may round past its ends

"""The morphable head: a few numbers that place and colour all Gaussians at once.

PCA of training heads, driven by the encoder's view of the whole picture. A linear code carries what can be seen to what
cannot: hair colour and volume reach the back of the head long before cross-attention learns to take them there.

Legend: B batch, N Gaussians, Q patches, K code numbers (Kg of geometry first, then Kc of colour).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError


class MorphableHead(nn.Module):
    """A mean head and a few directions in which heads differ. Until ``fill``: no offsets, grey."""

    def __init__(self, geometry_rank: int, color_rank: int, hair_mean: Tensor, num_gaussians: int) -> None:
        """Build; ``hair_mean`` [Q] is how far hair covers each patch until ``fill_hair``."""
        super().__init__()
        n, self.geometry_rank = num_gaussians, geometry_rank
        self.mean_offsets: Tensor
        self.geometry_basis: Tensor
        self.mean_colors: Tensor
        self.color_basis: Tensor
        self.hair_mean: Tensor
        self.hair_basis: Tensor
        self.register_buffer("mean_offsets", torch.zeros(n, 3))
        self.register_buffer("geometry_basis", torch.zeros(geometry_rank, n, 3))
        self.register_buffer("mean_colors", torch.full((n, 3), 0.5))
        self.register_buffer("color_basis", torch.zeros(color_rank, n, 3))
        self.register_buffer("hair_mean", hair_mean.clone())
        self.register_buffer("hair_basis", torch.zeros(geometry_rank, len(hair_mean)))

    def offsets(self, code: Tensor) -> Tensor:
        """[B, K] -> offsets from the anchors, [B, N, 3] m."""
        geometry = code[:, : self.geometry_rank]
        moved = torch.addmm(self.mean_offsets.flatten(), geometry, self.geometry_basis.flatten(1))
        return moved.reshape(len(code), -1, 3)

    def colors(self, code: Tensor) -> Tensor:
        """[B, K] -> colours, [B, N, 3] in 0..1."""
        color = code[:, self.geometry_rank :]
        colors = torch.addmm(self.mean_colors.flatten(), color, self.color_basis.flatten(1))
        return colors.reshape(len(code), -1, 3).clamp(0, 1)

    def hair_cover(self, code: Tensor) -> Tensor:
        """[B, K] -> how far hair covers each patch, [B, Q] in 0..1."""
        return torch.addmm(self.hair_mean, code[:, : self.geometry_rank], self.hair_basis).clamp(0, 1)

    @torch.no_grad()
    def color_correction(
        self,
        rows: Tensor,  # [m] int64, Gaussians that were looked up in the picture
        residual: Tensor,  # [B, m, 3] what the picture shows there, less what the code says
        weight: Tensor,  # [B, m, 1] 0..1, how far the picture may be believed
        ridge: float,
    ) -> Tensor:
        """What to add to the colour code so that it explains the seen colours: a ridge estimate, [B, Kc].

        This is the posterior mean of the code under its unit-variance prior, so the colours of what is hidden follow
        those of what is seen as they do in the training heads: the back of the head takes the visible hair's.
        """
        basis = self.color_basis[:, rows].flatten(1)  # [K, 3 m]
        weighted = basis * weight.expand(-1, -1, 3).flatten(1)[:, None]  # [B, K, 3 m]
        gram = weighted @ basis.T + ridge * torch.eye(len(basis), device=basis.device)
        change: Tensor = torch.linalg.solve(gram, (weighted @ residual.flatten(1)[..., None])[..., 0])
        return change

    @torch.no_grad()
    def fill(self, mean_offsets: Tensor, geometry_basis: Tensor, mean_colors: Tensor, color_basis: Tensor) -> None:
        """Set offsets [N, 3] m and colours [N, 3], and bases [K, N, 3] whose training heads have unit-variance codes.

        Raises:
            InvalidInputError: A tensor has the wrong shape or is not finite.
        """
        self._set(
            mean_offsets=mean_offsets, geometry_basis=geometry_basis, mean_colors=mean_colors, color_basis=color_basis
        )

    def fill_hair(self, mean: Tensor, basis: Tensor) -> None:
        """Set how far hair covers each patch: ``mean`` [Q] 0..1 and its change with each geometry number [Kg, Q].

        Raises:
            InvalidInputError: As ``fill``.
        """
        self._set(hair_mean=mean, hair_basis=basis)

    @torch.no_grad()
    def _set(self, **given: Tensor) -> None:
        buffers = dict(self.named_buffers())
        for name, value in given.items():
            if value.shape != buffers[name].shape or not bool(torch.isfinite(value).all()):
                raise InvalidInputError(
                    f"{name} {tuple(value.shape)} must be finite and {tuple(buffers[name].shape)}.", field=name
                )
            buffers[name].copy_(value)

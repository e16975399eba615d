"""The low-rank head code (ours): a few numbers that place and colour all Gaussians at once.

PCA of training heads, driven by the encoder's view of the whole picture. A linear code carries what can be seen to what
cannot: hair colour and volume reach the back of the head long before cross-attention learns to take them there.

Legend: B batch, N Gaussians, K code numbers (geometry first, then colour).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.config import DecoderConfig


class HeadCode(nn.Module):
    """A mean head and a few directions in which heads differ. Until ``fill``: no offsets, grey."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        n = config.num_gaussians
        self.geometry_rank = config.geometry_rank
        self.mean_offsets: Tensor
        self.geometry_basis: Tensor
        self.mean_colors: Tensor
        self.color_basis: Tensor
        self.register_buffer("mean_offsets", torch.zeros(n, 3))
        self.register_buffer("geometry_basis", torch.zeros(config.geometry_rank, n, 3))
        self.register_buffer("mean_colors", torch.full((n, 3), 0.5))
        self.register_buffer("color_basis", torch.zeros(config.color_rank, n, 3))

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """[B, K] -> offsets from the anchors [B, N, 3] m and colours [B, N, 3] in 0..1."""
        geometry, color = code[:, : self.geometry_rank], code[:, self.geometry_rank :]
        offsets = torch.addmm(self.mean_offsets.flatten(), geometry, self.geometry_basis.flatten(1))
        colors = torch.addmm(self.mean_colors.flatten(), color, self.color_basis.flatten(1))
        return offsets.reshape(len(code), -1, 3), colors.reshape(len(code), -1, 3).clamp(0, 1)

    @torch.no_grad()
    def color_correction(
        self,
        rows: Tensor,  # [m] int64, Gaussians that were looked up in the picture
        residual: Tensor,  # [B, m, 3] what the picture shows there, less what the code says
        weight: Tensor,  # [B, m, 1] 0..1, how far the picture may be believed
        doubt: float,
    ) -> Tensor:
        """What to add to the colour code so that it explains the seen colours: a ridge estimate, [B, Kc].

        This is the posterior mean of the code under its unit-variance prior, so the colours of what is hidden follow
        those of what is seen as they do in the training heads: the back of the head takes the visible hair's.
        """
        basis = self.color_basis[:, rows].flatten(1)  # [K, 3 m]
        weighted = basis * weight.expand(-1, -1, 3).flatten(1)[:, None]  # [B, K, 3 m]
        gram = weighted @ basis.T + doubt * torch.eye(len(basis), device=basis.device)
        change: Tensor = torch.linalg.solve(gram, (weighted @ residual.flatten(1)[..., None])[..., 0])
        return change

    @torch.no_grad()
    def fill(self, mean_offsets: Tensor, geometry_basis: Tensor, mean_colors: Tensor, color_basis: Tensor) -> None:
        """Set the code: offsets in metres, bases scaled so that training heads have codes of unit variance.

        Raises:
            InvalidInputError: A tensor has the wrong shape or is not finite.
        """
        given = {
            "mean_offsets": mean_offsets,
            "geometry_basis": geometry_basis,
            "mean_colors": mean_colors,
            "color_basis": color_basis,
        }
        buffers = dict(self.named_buffers())
        for name, value in given.items():
            if value.shape != buffers[name].shape or not bool(torch.isfinite(value).all()):
                raise InvalidInputError(
                    f"{name} {tuple(value.shape)} must be finite and {tuple(buffers[name].shape)}.", field=name
                )
            buffers[name].copy_(value)

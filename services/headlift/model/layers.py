"""The blocks that PercHead's encoder and decoder are made of.

Legend: B batch, T tokens, Q queries, P image patches, D width, h heads.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.perchead.config import Residual


class Mlp(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim_in, hidden)
        self.fc2 = nn.Linear(hidden, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim_in] -> [..., dim_out]."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Attention(nn.Module):
    """Multi-head attention from queries to a context; self-attention when both are the same."""

    def __init__(self, dim: int, num_heads: int, context_dim: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.to_q = nn.Linear(dim, dim)
        self.to_kv = nn.Linear(context_dim or dim, 2 * dim)
        self.to_out = nn.Linear(dim, dim)

    def forward(
        self,
        x: Tensor,  # [B, Q, D]
        context: Tensor,  # [B, P, D']
        mask: Tensor | None = None,  # [B, P] bool, True where the context may be attended to
    ) -> Tensor:
        """What every query gathers from the context, [B, Q, D]."""
        q = self._split(self.to_q(x))
        k, v = (self._split(part) for part in self.to_kv(context).chunk(2, -1))
        allowed = None if mask is None else mask[:, None, None, :]
        gathered = _attend(q, k, v, allowed)
        out: Tensor = self.to_out(gathered.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None) -> Tensor:
    """Scaled dot product attention of queries [B, h, Q, d] to [B, h, P, d]; ``allowed`` [B, 1, 1, P] bool.

    On a CPU, torch's own kernel takes three times as long for half-precision gradients as the plain matrix products.
    """
    learns = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    if q.device.type != "cpu" or q.dtype != torch.bfloat16 or not learns:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    with full_precision(q.device):
        gathered: Tensor = scores.softmax(-1) @ v
    return gathered


class SelfAttentionBlock(nn.Module):
    """Pre-norm transformer block of the trained ViT branch (MAE's)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm_attn = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D]; ``mask`` [B, T] bool, True where a token may be attended to."""
        y = self.norm_attn(x)
        x = x + self.attn(y, y, mask)
        out: Tensor = x + self.mlp(self.norm_mlp(x))
        return out


class CrossAttentionBlock(nn.Module):
    """One decoder layer: template patches look at the image, never at each other.

    ``residual="paper"`` is equation 2 to the letter, F <- F + MLP(F + ATTN(F, F2D)): the outer residual bypasses
    the attention. ``"standard"`` adds the attention to F first, as most transformers do.
    """

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, context_dim: int, residual: Residual) -> None:
        super().__init__()
        self.residual = residual
        self.norm_attn = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads, context_dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, round(dim * mlp_ratio), dim)

    def forward(
        self,
        x: Tensor,  # [B, Q, D]
        context: Tensor,  # [B, P, D']
        mask: Tensor | None = None,  # [B, P] bool
        attends: bool = True,
    ) -> Tensor:
        """[B, Q, D] -> [B, Q, D]; without ``attends`` only the MLP and the residuals act (paper, appendix G)."""
        attended = x + self.attn(self.norm_attn(x), context, mask) if attends else x
        kept = x if self.residual == "paper" else attended
        out: Tensor = kept + self.mlp(self.norm_mlp(attended))
        return out


def sine_positions(grid: int, dim: int) -> Tensor:
    """Fixed 2D sine and cosine positions of a square patch grid, row by row: [grid * grid, dim] (MAE's)."""
    frequencies = 10000.0 ** (-torch.arange(dim // 4) / (dim // 4))
    angles = torch.arange(grid)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], -1)  # [grid, dim / 2]
    rows = axis[:, None].expand(grid, grid, -1)
    columns = axis[None].expand(grid, grid, -1)
    return torch.cat([columns, rows], -1).flatten(0, 1)


def fourier_features(
    xyz: Tensor,  # [..., 3] m
    bands: int = 6,
    longest_m: float = 0.5,
) -> Tensor:
    """Positions as sines and cosines of ``bands`` octaves below ``longest_m``, and themselves: [..., 3 + 6 * bands]."""
    frequencies = 2 * math.pi / longest_m * 2.0 ** torch.arange(bands, device=xyz.device)
    angles = (xyz[..., None] * frequencies).flatten(-2)
    return torch.cat([xyz / longest_m, angles.sin(), angles.cos()], -1)


def area_resized(pictures: Tensor, side: int) -> Tensor:
    """Square pictures [B, c, S, S] averaged to ``side`` pixels; themselves where they have that side."""
    return pictures if pictures.shape[-1] == side else F.interpolate(pictures, (side, side), mode="area")


def ramp(x: Tensor, low: float, high: float) -> Tensor:
    """0 up to ``low``, 1 from ``high``, straight between."""
    return ((x - low) / (high - low)).clamp(0, 1)


def zero_init(layer: nn.Module) -> None:
    """Make the layer give 0 until it has learned something."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def full_precision(device: torch.device) -> torch.autocast:
    """Context in which autocast is off: millimetres do not survive bfloat16."""
    return torch.autocast(device.type, enabled=False)


def resized(images: Tensor, side: int) -> Tensor:
    """Square images or soft maps [B, C, S, S] averaged down, or interpolated up, to ``side`` pixels."""
    if images.shape[-1] == side:
        return images
    return F.interpolate(images, (side, side), mode="area" if images.shape[-1] > side else "bilinear")

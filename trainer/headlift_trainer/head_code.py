"""The low-rank head code: principal components of whole heads, positions and colours apart.

A few dozen numbers carry what a picture shows (long red hair, a round face) to what it does not (the back).
Legend: M heads, N anchors, K components.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LinearCode:
    """mean + code @ basis, with a basis scaled so that the codes of the training heads have unit variance."""

    mean: Tensor  # [N, 3]
    basis: Tensor  # [K, N, 3]
    weight: Tensor | None = None  # [N] how much an anchor's error counts, relative to others; all alike if None

    def project(self, values: Tensor) -> Tensor:
        """Codes [B, K] of fields [B, N, 3]; least squares, the basis being orthogonal under the weights."""
        weighted = self.basis if self.weight is None else self.basis * self.weight[:, None].square()
        energy = (weighted * self.basis).flatten(1).sum(1, keepdim=True)
        return (values - self.mean).flatten(1) @ (weighted.flatten(1) / energy).T

    def expand(self, code: Tensor) -> Tensor:
        """Fields [B, N, 3] of codes [B, K]."""
        return self.mean + (code @ self.basis.flatten(1)).view(len(code), *self.mean.shape)


def fit_linear_code(values: Tensor, rank: int, *, weight: Tensor | None = None, block: int = 16384) -> LinearCode:
    """Principal components of fields of any float or integer type.

    Goes through the M x M Gram matrix in blocks of columns, so the float copy of `values` is never whole in memory.

    Args:
        values: [M, N, 3].
        rank: K, at most M - 1.
        weight: [N] how much an anchor's error counts.
        block: Columns at a time.
    """
    flat = values.flatten(1)
    count, width = flat.shape
    mean = torch.empty(width)
    scale = torch.ones(width) if weight is None else weight.float().repeat_interleave(3)
    gram = torch.zeros(count, count, dtype=torch.float64)
    for start in range(0, width, block):
        part = flat[:, start : start + block].float()
        mean[start : start + block] = part.mean(0)
        part = (part - part.mean(0)) * scale[start : start + block]
        gram += (part @ part.T).double()
    eigenvectors = torch.linalg.eigh(gram)[1][:, -rank:].flip(1).float()
    basis = torch.empty(rank, width)
    for start in range(0, width, block):
        part = flat[:, start : start + block].float() - mean[start : start + block]
        basis[:, start : start + block] = eigenvectors.T @ part / count**0.5
    return LinearCode(mean.view(-1, 3), basis.view(rank, -1, 3), weight)

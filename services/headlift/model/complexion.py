"""What age, sex and make-up leave on a face, anchor by anchor (ours).

All heads have the same anchors: a wrinkle, an eyelid and a lip are the same rows in every head. So what a trait changes
is a table of colours, fitted on generated heads (headlift_trainer.editing.complexion), where a painter that sees a look
as one vector smooths it away. How far a head has a trait is read from its look.

Legend: T traits, N anchors, D look.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headlift.model.types import Gaussians

_EDGE = 0.03  # colours are read as if they lay this far inside 0..1: logits of black and white have no end
_LEAST = 1e-6


class Complexion(nn.Module):
    """Colours of traits; untrained it changes nothing."""

    def __init__(self, groups: tuple[int, ...], anchors: int, dim: int) -> None:
        """Empty tables.

        Args:
            groups: For each trait, the number of its group; traits of a group exclude each other.
            anchors: N. dim: D.
        """
        super().__init__()
        self.look: Tensor  # [D] the mean look
        self.places: Tensor  # [T, D] where looks with each trait lie from there
        self.groups: Tensor  # [T]
        self.colors: Tensor  # [T, N, 3] logits, from the mean of the group
        self.register_buffer("look", torch.zeros(dim))
        self.register_buffer("places", torch.zeros(len(groups), dim))
        self.register_buffer("groups", torch.tensor(groups, dtype=torch.int64))
        self.register_buffer("colors", torch.zeros(len(groups), anchors, 3))

    def shares(self, look: Tensor) -> Tensor:
        """How far a look [D] has each trait: [T] in 0..1, 1 over each group."""
        moved = look.to(self.places) - self.look
        shares = torch.zeros(len(self.places))
        for group in sorted(set(self.groups.tolist())):
            rows = (self.groups == group).nonzero()[:, 0].tolist()
            # 1 from the trait's own place on, 0 from any rival's on, straight between.
            ahead = [min(self._ahead(moved, row, rival) for rival in rows if rival != row) for row in rows]
            total = sum(ahead)
            shares[rows] = torch.tensor([x / total for x in ahead] if total > _LEAST else [1 / len(rows)] * len(rows))
        return shares

    def change(self, before: Tensor | None, after: Tensor) -> Tensor:
        """What a look [D] changes on the anchors' colours beside another's, or beside nobody's: [N, 3] logits."""
        difference = self.shares(after) - (0 if before is None else self.shares(before))
        return torch.einsum("t,tnc->nc", difference.to(self.colors), self.colors)

    def _ahead(self, moved: Tensor, row: int, rival: int) -> float:
        apart = self.places[row] - self.places[rival]
        reach = apart.square().sum().clamp_min(_LEAST)
        return float((((moved - self.places[rival]) * apart).sum() / reach).clamp(0, 1))


def recolored(head: Gaussians, change: Tensor) -> Gaussians:
    """The head with its colours changed by [N, 3] logits; untouched rows stay bit for bit."""
    still = (change == 0).all(-1, keepdim=True)
    colors = (head.colors.clamp(_EDGE, 1 - _EDGE).logit() + change.to(head.colors)).sigmoid()
    return Gaussians(head.means, head.quats, head.scales, head.opacities, torch.where(still, head.colors, colors))

"""What age, sex and make-up leave on a face, anchor by anchor (ours).

All heads have the same anchors: a wrinkle, an eyelid and a lip are the same rows in every head. So what a trait changes
is a table of colours, fitted on generated heads (headlift_trainer.editing.complexion), where a painter that gets a
style as one vector smooths it away. How much of each trait lies between two styles is read by regression on all
traits at once: darker skin is not taken for make-up, though the two go together in styles.

Legend: T traits, N anchors, D style.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from headlift.model.types import Gaussians

COLOR_EDGE = 0.03  # colours are read as if they lay this far inside 0..1: logits of black and white have no end


class Complexion(nn.Module):
    """Colours of traits; untrained it changes nothing."""

    def __init__(self, traits: int, anchors: int, dim: int) -> None:
        """Empty tables of T traits on N anchors, for styles of width D."""
        super().__init__()
        self.readout: Tensor  # [T, D] how much of each trait a step between styles holds
        self.colors: Tensor  # [T, N, 3] logits, from the mean of the traits that exclude it
        self.register_buffer("readout", torch.zeros(traits, dim))
        self.register_buffer("colors", torch.zeros(traits, anchors, 3))

    def change(self, before: Tensor, after: Tensor) -> Tensor:
        """What a style [D] changes on the anchors' colours where there was another: [N, 3] logits."""
        amount = (self.readout @ (after - before).to(self.readout)).clamp(-1, 1)
        return torch.einsum("t,tnc->nc", amount, self.colors)


def recolored(head: Gaussians, change: Tensor) -> Gaussians:
    """The head with its colours changed by [N, 3] logits; where these are 0 they stay bit for bit."""
    logits = head.colors.clamp(COLOR_EDGE, 1 - COLOR_EDGE).logit()
    # The difference is added, so that black and white, which lie past the edge, do not jump to it.
    step = (logits + change.to(logits)).sigmoid() - logits.sigmoid()
    return Gaussians(head.means, head.quats, head.scales, head.opacities, (head.colors + step).clamp(0, 1))

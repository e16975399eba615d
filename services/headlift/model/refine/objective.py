"""What refinement minimises: the picture's error, and roughness on the template's neighbour graph.

Legend: N Gaussians, J neighbours, D channels of change, H W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from headlift.model.refine.neighborhood import Neighborhood
from headlift.model.types import RenderedViews


def picture_error(
    views: RenderedViews,
    image: Tensor,
    alpha: Tensor,
    source_mask: Tensor,
    color_weight: Tensor,
    background: Tensor,
    weights: tuple[float, ...],
    alpha_weight: float,
) -> Tensor:
    """Mean absolute error over several scales, colours over one background, plus that of alpha.

    A random background a step makes holes and halos visible whatever the hair's colour.

    Args:
        views: One rendered view.
        image: [3,H,W] premultiplied target.
        alpha: [1,H,W] target.
        source_mask: [1,H,W] 1 where the target counts, 0 past the photograph's border.
        color_weight: [1,H,W] 0..1, how far its colours count.
        background: [3] colour in 0..1.
        weights: Of the error at full, half, quarter size and so on.
        alpha_weight: Of the error of alpha.
    """
    alpha_error = (views.alpha - alpha) * source_mask
    error = ((views.rgb - image) * source_mask - alpha_error * background[:, None, None]) * color_weight
    total = alpha_weight * alpha_error.abs().mean()
    for level, weight in enumerate(weights):
        if level:
            error = F.avg_pool2d(error, 2, ceil_mode=True)
        total = total + weight * error.abs().mean()
    return total


class Roughness:
    """The energy |x - mean of x over the neighbours|^2 of fields on the anchors, with its gradient in closed form.

    Smooth deformations and colour changes cost nothing, single Gaussians that run away do. Autograd through a gather
    would take most of a step's time; two embedding bags take little.
    """

    def __init__(self, graph: Neighborhood) -> None:
        self._neighbors = graph.neighbors
        self._sources, self._offsets = graph.sources

    def __call__(self, x: Tensor, weights: Tensor) -> tuple[float, Tensor]:
        """Energy, averaged over the anchors, and its gradient [N,D] for fields x [N,D] with a weight [D] each."""
        n, j = self._neighbors.shape
        residual = x - F.embedding_bag(self._neighbors, x / j, mode="sum")
        weighted = residual * (weights / n)
        energy = float((weighted * residual).sum())
        back = F.embedding_bag(self._sources, weighted / j, self._offsets[:-1], mode="sum")
        return energy, 2.0 * (weighted - back)

"""What refinement optimises: a change of the Gaussians and of the camera, its priors and its bounds.

Legend: N Gaussians.
"""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from torch import Tensor

from headlift.model.adam import Adam
from headlift.model.refine.neighborhood import Neighborhood
from headlift.model.refine.objective import Roughness
from headlift.model.refine.settings import RefineSettings
from headlift.model.splat.reference import rotation_matrices
from headlift.model.types import HEAD_CENTER, Cameras, Gaussians

_CM = 0.01  # m
_LOGIT_MARGIN = 0.01  # activated values are kept this far from 0 and 1 before the logit


class GaussianChange:
    """What is optimised of the Gaussians: differences to the start, so that zero is the network's answer."""

    def __init__(
        self,
        start: Gaussians,
        graph: Neighborhood,
        seen: Tensor,
        hidden: Tensor,
        trust: Tensor | None,
        settings: RefineSettings,
    ) -> None:
        """Begin at the start.

        Args:
            start: N Gaussians.
            graph: On them.
            seen: [n] int64, those that are drawn; the others follow their neighbours.
            hidden: [N], 1 where the camera sees the mirrored Gaussian and not this one, 0 elsewhere or in between.
            trust: [N] 0..1, how far the picture may recolour each; None is wholly.
            settings: Rates, weights and bounds.
        """
        self.start, self.graph, self.seen, self.hidden = start, graph, seen, hidden
        self.trust, self.settings = trust, settings
        self.color_logits = torch.logit(start.colors.clamp(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN))
        self.opacity_logits = torch.logit(start.opacities.clamp(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN))
        spacing = (start.means[graph.neighbors] - start.means[:, None]).norm(dim=-1).mean(-1, keepdim=True)
        room = torch.log(settings.max_scale_ratio * spacing / start.scales.clamp(min=1e-9))
        self.scale_limit = room.clamp(0.0, math.log(settings.max_growth))
        self._means, self._colors, self._scales, self._opacities = self._parameters = [
            torch.zeros_like(t).requires_grad_() for t in (start.means, start.colors, start.scales, start.opacities)
        ]
        s = settings
        rates = [s.means_rate, s.colors_rate, s.scales_rate, s.opacities_rate]
        self._adam = Adam(self._parameters, rates, floor=s.gradient_floor)
        self._roughness = Roughness(graph)

    def activated(self, means: Tensor, colors: Tensor, scales: Tensor, opacities: Tensor) -> Gaussians:
        """The Gaussians after a change in metres (means), logits (colours, opacities) and logarithms (scales)."""
        return Gaussians(
            means=self.start.means + means,
            quats=self.start.quats,
            scales=self.start.scales * torch.exp(scales),
            opacities=torch.sigmoid(self.opacity_logits + opacities),
            colors=torch.sigmoid(self.color_logits + colors),
        )

    def gaussians(self) -> Gaussians:
        """All changed Gaussians."""
        return self.activated(self._means, self._colors, self._scales, self._opacities)

    def drawn(self) -> Gaussians:
        """The changed Gaussians that take part in the picture."""
        changed = self.gaussians()
        return Gaussians(*(getattr(changed, f.name)[self.seen] for f in fields(Gaussians)))

    @torch.no_grad()
    def step(self, share: float) -> float:
        """One step of Adam at ``share`` of the rates, within the bounds; the regularisers' energy before it."""
        if self.trust is not None and self._colors.grad is not None:
            self._colors.grad.mul_(self.trust[:, None])
        energy = self._add_priors()
        self._adam.step(share)
        self._bound()
        self._adam.clear()
        return energy

    def _add_priors(self) -> float:
        """Add the regularisers' gradients in closed form; their energy."""
        s, n = self.settings, len(self.start)
        x = torch.cat([self._means / _CM, self._colors, self._scales, self._opacities[:, None]], dim=1)
        smooth = [s.smooth_means] * 3 + [s.smooth_colors] * 3 + [s.smooth_scales] * 3 + [s.smooth_opacities]
        pull = x.new_tensor([s.pull_means] * 3 + [s.pull_others] * 7) / n
        energy, gradient = self._roughness(x, x.new_tensor(smooth))
        gradient.addcmul_(x, pull, value=2.0)
        logits = self.color_logits + self._colors
        apart = (logits - logits[self.graph.mirror]) * self.hidden[:, None]
        gradient[:, 3:6] += (2.0 * s.mirror_colors / n) * apart
        energy += float((x.square() * pull).sum()) + s.mirror_colors / n * float(apart.square().sum())
        parts = (gradient[:, :3] / _CM, gradient[:, 3:6], gradient[:, 6:9], gradient[:, 9])
        for parameter, part in zip(self._parameters, parts, strict=True):
            parameter.grad = part.clone() if parameter.grad is None else parameter.grad.add_(part)
        return energy

    def _bound(self) -> None:
        """Bring everything back within its limits."""
        s = self.settings
        length = self._means.norm(dim=1, keepdim=True)
        self._means.mul_((s.max_offset / length.clamp(min=1e-12)).clamp(max=1.0))
        self._colors.clamp_(-s.max_logit, s.max_logit)
        self._opacities.clamp_(-s.max_logit, s.max_logit)
        self._scales.clamp_(min=-math.log(s.max_growth)).copy_(torch.minimum(self._scales, self.scale_limit))


class CameraChange:
    """What is optimised of the input camera: a turn about the head's centre, then a shift, in camera axes."""

    def __init__(self, start: Cameras, settings: RefineSettings) -> None:
        self._start, self._settings = start, settings
        self._turn, self._shift = (start.viewmats.new_zeros(3).requires_grad_() for _ in range(2))
        rates = [settings.camera_turn_rate, settings.camera_shift_rate]
        self._adam = Adam([self._turn, self._shift], rates, floor=settings.gradient_floor)

    def camera(self) -> Cameras:
        """The changed camera."""
        viewmat = self._start.viewmats[0]
        rotation = rotation_matrices(torch.cat([self._turn.new_ones(1), 0.5 * self._turn])[None])[0]
        center = viewmat[:3, :3] @ viewmat.new_tensor(HEAD_CENTER) + viewmat[:3, 3]
        top = torch.cat(
            [rotation @ viewmat[:3, :3], (rotation @ (viewmat[:3, 3] - center) + center + self._shift)[:, None]], dim=1
        )
        return replace(self._start, viewmats=torch.cat([top, viewmat[3:]])[None])

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step of Adam at ``share`` of the rates, within the bounds."""
        self._adam.step(share)
        self._turn.clamp_(-self._settings.max_camera_turn, self._settings.max_camera_turn)
        self._shift.clamp_(-self._settings.max_camera_shift, self._settings.max_camera_shift)
        self._adam.clear()

"""What refinement optimises: a change of the Gaussians and of the camera, its priors and its bounds.

Legend: N Gaussians, J neighbours.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from headlift.model.refine.objective import Roughness
from headlift.model.refine.settings import RefineSettings
from headlift.model.splat.reference import rotation_matrices
from headlift.model.types import HEAD_CENTER, Cameras, Gaussians

_CM = 0.01  # m
_LOGIT_MARGIN = 0.01  # activated values are kept this far from 0 and 1 before the logit


class Change:
    """What is optimised: differences to the start, so that zero is the network's answer."""

    def __init__(self, start: Gaussians, camera: Cameras, neighbors: Tensor, settings: RefineSettings) -> None:
        self._start, self._camera = start, camera
        self._color_logits = torch.logit(start.colors.clamp(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN))
        self._opacity_logits = torch.logit(start.opacities.clamp(_LOGIT_MARGIN, 1 - _LOGIT_MARGIN))
        self.means, self.colors, self.scales = (
            torch.zeros_like(t).requires_grad_() for t in (start.means, start.colors, start.scales)
        )
        self.opacities = torch.zeros_like(start.opacities).requires_grad_()
        self.turn, self.shift = (start.means.new_zeros(3).requires_grad_() for _ in range(2))
        spacing = (start.means[neighbors] - start.means[:, None]).norm(dim=-1).mean(-1, keepdim=True)
        room = torch.log(settings.max_scale_ratio * spacing / start.scales.clamp(min=1e-9))
        self._scale_limit = room.clamp(0.0, math.log(settings.max_growth))
        self._settings = settings

    def parameters(self) -> tuple[list[Tensor], list[float]]:
        """What is optimised, and how fast."""
        s = self._settings
        parameters = [self.means, self.colors, self.scales, self.opacities, self.turn, self.shift]
        rates = [s.means_rate, s.colors_rate, s.scales_rate, s.opacities_rate, s.camera_turn_rate, s.camera_shift_rate]
        return parameters, rates

    def gaussians(self) -> Gaussians:
        """The changed Gaussians, activated."""
        return Gaussians(
            means=self._start.means + self.means,
            quats=self._start.quats,
            scales=self._start.scales * torch.exp(self.scales),
            opacities=torch.sigmoid(self._opacity_logits + self.opacities),
            colors=torch.sigmoid(self._color_logits + self.colors),
        )

    def camera(self) -> Cameras:
        """The changed camera: turned about the head's centre, then shifted, in camera axes."""
        viewmat = self._camera.viewmats[0]
        rotation = rotation_matrices(torch.cat([self.turn.new_ones(1), 0.5 * self.turn])[None])[0]
        center = viewmat[:3, :3] @ viewmat.new_tensor(HEAD_CENTER) + viewmat[:3, 3]
        top = torch.cat(
            [rotation @ viewmat[:3, :3], (rotation @ (viewmat[:3, 3] - center) + center + self.shift)[:, None]], dim=1
        )
        return replace(self._camera, viewmats=torch.cat([top, viewmat[3:]])[None])

    @torch.no_grad()
    def add_priors(self, roughness: Roughness, hidden: Tensor, mirror: Tensor) -> float:
        """Add the regularisers' gradients in closed form.

        Args:
            roughness: On the template's graph.
            hidden: [N], 1 where the camera sees the mirrored Gaussian and not this one, 0 elsewhere or in between.
            mirror: [N] int64, the mirrored Gaussian.

        Returns:
            The regularisers' energy.
        """
        s, n = self._settings, len(self._start)
        fields = torch.cat([self.means / _CM, self.colors, self.scales, self.opacities[:, None]], dim=1)
        smooth = [s.smooth_means] * 3 + [s.smooth_colors] * 3 + [s.smooth_scales] * 3 + [s.smooth_opacities]
        pull = fields.new_tensor([s.pull_means] * 3 + [s.pull_others] * 7) / n
        energy, gradient = roughness(fields, fields.new_tensor(smooth))
        gradient.addcmul_(fields, pull, value=2.0)
        logits = self._color_logits + self.colors
        apart = (logits - logits[mirror]) * hidden[:, None]
        gradient[:, 3:6] += (2.0 * s.mirror_colors / n) * apart
        energy += float((fields.square() * pull).sum()) + s.mirror_colors / n * float(apart.square().sum())
        parts = (gradient[:, :3] / _CM, gradient[:, 3:6], gradient[:, 6:9], gradient[:, 9])
        for parameter, part in zip((self.means, self.colors, self.scales, self.opacities), parts, strict=True):
            parameter.grad = part.clone() if parameter.grad is None else parameter.grad.add_(part)
        return energy

    @torch.no_grad()
    def bound(self) -> None:
        """Bring everything back within its limits."""
        s = self._settings
        length = self.means.norm(dim=1, keepdim=True)
        self.means.mul_((s.max_offset / length.clamp(min=1e-12)).clamp(max=1.0))
        self.colors.clamp_(-s.max_logit, s.max_logit)
        self.opacities.clamp_(-s.max_logit, s.max_logit)
        self.scales.clamp_(min=-math.log(s.max_growth)).copy_(torch.minimum(self.scales, self._scale_limit))
        self.turn.clamp_(-s.max_camera_turn, s.max_camera_turn)
        self.shift.clamp_(-s.max_camera_shift, s.max_camera_shift)

"""Refine: gradient steps on the decoded Gaussians against the one input picture.

The network gives the whole head; the picture knows the visible side better. Adam moves means, colours, scales and
opacities, and the input camera with them, to lower the error of the input view. What the camera does not see follows
its neighbours on the template and, in colour, its mirror image, and nothing leaves bounds. This is not in the paper.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.errors import InvalidCameraError, InvalidGaussiansError, InvalidInputError
from headlift.model.refine.change import CameraChange, GaussianChange
from headlift.model.refine.native import NativeGaussianChange, native_picture_error
from headlift.model.refine.neighborhood import Neighborhood
from headlift.model.refine.objective import picture_error
from headlift.model.refine.settings import RefineSettings
from headlift.model.splat import drawing_threads, rasterize
from headlift.model.splat.native import unavailable_because
from headlift.model.types import Cameras, Gaussians, Portrait

_FIELDS = ("means", "quats", "scales", "opacities", "colors")
_HALF_SHARE = 0.25  # of a typical visible Gaussian's part of the picture: half visible
_SEEN_SHARE = 0.01  # those below are not drawn: half of all, and a two thousandth of the picture

Progress = Callable[[int, int, float], object]


@dataclass(frozen=True)
class RefineResult:
    """The refined head and how it went."""

    gaussians: Gaussians
    camera: Cameras  # C = 1, the input view as refined
    losses: tuple[float, ...]  # one a step, before the step
    steps: int


def _shares(gaussians: Gaussians, camera: Cameras) -> Tensor:
    """Each Gaussian's share of the rendered view [N], over that of a typical visible one."""
    colors = gaussians.colors.clone().requires_grad_()
    views = rasterize(replace(gaussians, colors=colors), camera)
    (weight,) = torch.autograd.grad(views.rgb[:, 0].sum(), colors)
    share = weight[:, 0]
    typical = share.sum() / (share > 0).sum().clamp(min=1)
    return share / typical.clamp(min=1e-12)


@contextlib.contextmanager
def _torch_on_one_thread() -> Iterator[None]:
    """Torch's own operations on one thread within this context and this thread, drawing on as many as before.

    They are many and small: OpenMP's threads would mostly wait for each other, by spinning, and where another process
    holds a core that took minutes instead of seconds. It also makes the sums' order the same everywhere.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # The call changed this thread and the default of threads to come; the second must stay what it was.
    restorer = threading.Thread(target=torch.set_num_threads, args=(before,))
    restorer.start()
    restorer.join()
    try:
        with drawing_threads(before):
            yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
def _color_weights(gaussians: Gaussians, trust: Tensor, camera: Cameras, least: float) -> Tensor:
    """Weight of the picture's colours where it shows Gaussians with this trust [N]: [1, H, W] in least..1.

    Neighbours that may be recoloured would overshoot to make up for those that may not.
    """
    views = rasterize(replace(gaussians, colors=trust[:, None].expand(-1, 3).contiguous()), camera)
    return torch.lerp((views.rgb[0, :1] / views.alpha[0].clamp_min(0.05)).clamp(0, 1), views.alpha.new_ones(()), least)


class _Target:
    """The portrait at a working size."""

    def __init__(self, portrait: Portrait, size: int) -> None:
        self.size = min(size, portrait.size)
        # Only pixels wholly inside the photograph count: what its border cuts off is not background.
        self.image, self.alpha, source_mask = (
            F.interpolate(t[None], size=(self.size, self.size), mode="area")[0]
            for t in (portrait.image, portrait.alpha, portrait.source_mask())
        )
        self.source_mask = (source_mask > 0.999).to(source_mask)
        self.color_weight = torch.ones_like(self.source_mask)


class Refine:
    """The stage: Gaussians, portrait and camera in, better ones out. Safe to call from several threads."""

    def __init__(self, settings: RefineSettings | None = None) -> None:
        self.settings = settings or RefineSettings()

    def __call__(
        self,
        gaussians: Gaussians,
        portrait: Portrait,
        camera: Cameras,
        *,
        topology: Neighborhood,
        trust: Tensor | None = None,
        progress: Progress | None = None,
    ) -> RefineResult:
        """Refine one head. The same input gives the same output, bit for bit, on the same machine, whatever the number
        of threads.

        Args:
            gaussians: N Gaussians in the template's order, float32.
            portrait: The picture to match; square.
            camera: C = 1, the input view as estimated, at any size.
            topology: The template's graph on the N anchors.
            trust: [N] 0..1, how far the picture may recolour each Gaussian where it shows: a jaw must not take on the
                collar that a slightly wrong camera puts before it. Outlines follow the picture all the same.
            progress: Called before every step with (step, steps, loss); what it raises ends the refinement.

        Returns:
            New Gaussians, the refined camera at the input camera's size, the loss of every step.

        Raises:
            InvalidGaussiansError, InvalidCameraError, InvalidInputError: What does not fit together.
        """
        steps = self.settings.steps
        _check(gaussians, portrait, camera, topology)
        if trust is not None and trust.shape != (len(gaussians),):
            raise InvalidInputError(f"trust is {tuple(trust.shape)}; one number for each Gaussian is needed.")
        if not steps:
            return RefineResult(gaussians, camera, (), 0)
        # A caller may be in inference mode, whose tensors cannot take part in a gradient.
        with torch.inference_mode(False), torch.enable_grad(), _torch_on_one_thread():
            start = Gaussians(*(getattr(gaussians, n).detach().clone() for n in _FIELDS))
            device = start.means.device
            own_camera = replace(camera, viewmats=camera.viewmats.detach().clone(), Ks=camera.Ks.detach().clone()).to(
                device
            )
            own_portrait = replace(
                portrait, image=portrait.image.detach().clone(), alpha=portrait.alpha.detach().clone()
            ).to(device)
            graph = topology.to(device)
            color_trust = None if trust is None else trust.detach().clone().to(start.means)
            return self._optimise(start, own_portrait, own_camera, graph, color_trust, progress)

    def _optimise(
        self,
        start: Gaussians,
        portrait: Portrait,
        camera: Cameras,
        graph: Neighborhood,
        trust: Tensor | None,
        progress: Progress | None,
    ) -> RefineResult:
        s = self.settings
        targets = _Target(portrait, s.size), _Target(portrait, s.final_size)
        first_final = s.steps - round(s.final_share * s.steps)
        shares = _shares(start, camera.resized(targets[0].size, targets[0].size))
        visibility, seen = shares / (shares + _HALF_SHARE), torch.nonzero(shares > _SEEN_SHARE)[:, 0]
        if trust is not None:
            visibility = visibility * trust
            for target in targets:
                view = camera.resized(target.size, target.size)
                target.color_weight = _color_weights(start, trust, view, s.distrusted_weight)
        hidden = (1 - visibility) * visibility[graph.mirror]
        plain = GaussianChange(start, graph, seen, hidden, trust, s)
        is_native = start.means.is_cpu and unavailable_because() is None
        change: GaussianChange | NativeGaussianChange = NativeGaussianChange(plain) if is_native else plain
        error_of = native_picture_error if is_native else picture_error
        camera_change = CameraChange(camera, s)
        generator = torch.Generator().manual_seed(s.seed)
        losses: list[float] = []
        for step in range(s.steps):
            target = targets[step >= first_final]
            views = rasterize(change.drawn(), camera_change.camera().resized(target.size, target.size))
            background = torch.rand(3, generator=generator).to(target.image)
            error = error_of(
                views, target.image, target.alpha, target.source_mask, target.color_weight, background, s.scale_weights,
                s.alpha_weight,
            )  # fmt: skip
            error.backward()  # type: ignore[no-untyped-call]
            share = 0.55 + 0.45 * math.cos(math.pi * step / s.steps)  # falls to a tenth
            losses.append(float(error.detach()) + change.step(share))
            if progress is not None:
                progress(step, s.steps, losses[-1])
            camera_change.step(share)
        refined = Gaussians(*(getattr(change.gaussians(), n).detach() for n in _FIELDS))
        return RefineResult(refined, camera_change.camera().detach(), tuple(losses), s.steps)


def _check(gaussians: Gaussians, portrait: Portrait, camera: Cameras, topology: Neighborhood) -> None:
    gaussians.validate()
    camera.validate()
    if not len(gaussians):
        raise InvalidGaussiansError("There are no Gaussians to refine.")
    if gaussians.means.dtype != torch.float32:
        raise InvalidGaussiansError(
            f"Refinement works in float32, these Gaussians are {gaussians.means.dtype}; cast them first."
        )
    if len(camera) != 1:
        raise InvalidCameraError(f"{len(camera)} cameras were given; a portrait has exactly one.")
    side = portrait.size
    if tuple(portrait.image.shape) != (3, side, side) or tuple(portrait.alpha.shape) != (1, side, side):
        raise InvalidInputError(
            f"The portrait's image {tuple(portrait.image.shape)} and alpha {tuple(portrait.alpha.shape)} "
            "must be [3,S,S] and [1,S,S]."
        )
    topology.check(len(gaussians))

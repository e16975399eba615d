"""Metrics on generated heads that nothing was trained on, always beside the baselines.

From one picture (the front view, and for some metrics the left profile) each head is rebuilt with the model's own
estimate of the camera, and asked for the generator's rig views: the input itself, novel views (45 and 90 degrees to
both sides), and extreme ones, opposite the input (behind the head; for a profile, the other profile).

Legend: V rig views, S picture side.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.refine.settings import RefineSettings
from headlift.model.sizes import HeadModel
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians, ImageTokens, Portrait, RenderedViews
from headlift.stages.clock import PlainClock
from headlift.stages.reconstruct import Reconstruct, Reconstruction
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.evaluation.baselines import Baselines
from headlift_trainer.evaluation.held_out import HeldOutHead, HeldOutHeads
from headlift_trainer.evaluation.records import Records
from headlift_trainer.evaluation.summary import summarize
from headlift_trainer.metrics import MetricNetworks, measure
from headlift_trainer.synthetic.render.views import RIG_DEG

FRONT, PROFILE = 0, 3  # rig views that are given to the model
VIEW_NAMES = tuple(f"{yaw:+d}°" if yaw % 180 else f"{yaw}°" for yaw, _ in RIG_DEG)
GROUPS = {
    FRONT: ("input", "novel", "novel", "novel", "novel", "extreme", "extreme", "extreme"),
    PROFILE: ("novel", "novel", "novel", "input", "extreme", "back", "back", "back"),
}
T = TypeVar("T")
Observer = Callable[["EvaluatedHead"], object]


@dataclass(frozen=True)
class Settings:
    """What is measured."""

    profile: bool = True  # also from the left profile
    refine_heads: int = 0  # how many heads are also measured refined: the slowest part by far
    refine: RefineSettings = field(default_factory=RefineSettings)


@dataclass(frozen=True)
class EvaluatedHead:
    """One head's renders by every method, for contact sheets."""

    head: HeldOutHead
    input_view: int
    pictures: dict[str, Tensor]  # method -> [V, 3, S, S]; "truth" among them


@dataclass
class _Clock:
    """Shortest time of each stage, seconds."""

    best: dict[str, float] = field(default_factory=dict)

    def time(self, stage: str, run: Callable[[], T]) -> T:
        """What ``run`` gives."""
        start = time.perf_counter()
        result = run()
        self.note(stage, time.perf_counter() - start)
        return result

    def note(self, stage: str, spent: float) -> None:
        """A run of ``stage`` took ``spent`` seconds."""
        self.best[stage] = min(spent, self.best.get(stage, spent))


class SyntheticEvaluation:
    """Measures a model on held-out heads, one at a time, and keeps nothing but numbers.

    Args:
        model: In evaluation mode.
        baselines: What it has to beat.
        settings: What is measured.
        networks: Learned metrics, where there are any.
        variants: Other weights by name, measured on the same heads: an ablation.
    """

    def __init__(
        self,
        model: HeadModel,
        baselines: Baselines,
        settings: Settings | None = None,
        networks: MetricNetworks | None = None,
        variants: Mapping[str, HeadModel] | None = None,
    ) -> None:
        self.model, self.baselines = model, baselines
        self._stage = Reconstruct(model, (settings or Settings()).refine)
        self.settings = settings or Settings()
        self.networks = networks or MetricNetworks()
        self.variants = dict(variants or {})
        self.records = Records()
        self.camera_errors: dict[int, list[float]] = {}
        self.clock = _Clock()
        self.picture_size = 0  # pixels a side, of the last head
        self._mean = baselines.mean()
        self._mean_views: tuple[Tensor, RenderedViews] | None = None

    @torch.no_grad()
    def __call__(self, heads: HeldOutHeads, observe: Observer | None = None) -> Iterator[HeldOutHead]:
        """Measure the heads one by one; yields each when it is done."""
        refined = set(heads.entries[:: max(1, len(heads) // max(1, self.settings.refine_heads))])
        refined = set(sorted(refined)[: self.settings.refine_heads])
        for head in heads:
            if len(head.pictures) < len(RIG_DEG):
                raise InvalidInputError(
                    f"Head {head.name} has {len(head.pictures)} views; the rig has {len(RIG_DEG)}. Generate it again."
                )
            refine = (head.seed, head.appearance) in refined
            for view in (FRONT, PROFILE) if self.settings.profile else (FRONT,):
                evaluated = self._measure(head, view, refine=refine and view == FRONT)
                if observe is not None:
                    observe(evaluated)
            yield head

    def metrics(self) -> dict[str, Any]:
        """All metrics so far, as JSON values."""
        cameras = {VIEW_NAMES[view]: sum(errors) / len(errors) for view, errors in self.camera_errors.items()}
        return summarize(self.records, cameras, VIEW_NAMES) | {
            "timings_s": {stage: round(value, 4) for stage, value in self.clock.best.items()},
            "memory_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,  # of the whole process
            "absent_metrics": list(self.networks.absent),
        }

    def _measure(self, head: HeldOutHead, view: int, *, refine: bool) -> EvaluatedHead:
        size = self.picture_size = head.pictures.shape[-1]
        cameras, truth = crop_cameras(head.viewmats[: len(RIG_DEG)], size), head.pictures[: len(RIG_DEG)]
        picture = truth[view : view + 1]
        portrait = Portrait(picture[0, :3], picture[0, 3:], torch.eye(2, 3, dtype=torch.float64))
        made = self._reconstruct(portrait)
        camera = made.camera if made.camera is not None else crop_cameras(frontal(), size)
        self.camera_errors.setdefault(view, []).append(float(camera_error(camera.viewmats, cameras[view].viewmats)))
        clouds = {"ours": made.gaussians, "mean": self._mean, "nearest": self.baselines.nearest(picture[0], view)}
        clouds |= {name: Reconstruct(other)(portrait).gaussians for name, other in self.variants.items()}
        if refine:
            clouds |= {
                f"{name}_refined": self._refined(clouds[name], portrait, camera, made.tokens)
                for name in ("ours", "mean")
            }
        pictures = {"truth": truth[:, :3]}
        for method, cloud in clouds.items():
            views = self._rendered(cloud, cameras)
            self._record(method, head, view, torch.cat([views.rgb, views.alpha], 1), truth)
            pictures[method] = views.rgb
            if method in ("ours", "ours_refined") and self.model.sharpener is not None:
                sharp = self.clock.time("sharpen", partial(self.model.sharpen, views.rgb))
                self._record(f"{method}_sharpened", head, view, torch.cat([sharp, views.alpha], 1), truth)
                pictures[f"{method}_sharpened"] = sharp
        return EvaluatedHead(head, view, pictures)

    def _rendered(self, cloud: Gaussians, cameras: Cameras) -> RenderedViews:
        """The views of a head; those of the mean head are kept, as the rig is the same for every head."""
        if cloud is not self._mean:
            return self.clock.time("render", partial(rasterize, cloud, cameras))
        kept = self._mean_views
        if kept is None or not torch.equal(kept[0], cameras.viewmats) or kept[1].rgb.shape[-1] != cameras.width:
            kept = self._mean_views = cameras.viewmats, rasterize(cloud, cameras)
        return kept[1]

    def _reconstruct(self, portrait: Portrait) -> Reconstruction:
        """The head of one portrait, with the model's own estimate of the camera, as it is served."""
        clock = PlainClock()
        made = self._stage(portrait, clock=clock)
        for stage, spent_ms in clock.spent_ms.items():
            self.clock.note(stage, spent_ms / 1e3)
        return made

    def _refined(self, head: Gaussians, portrait: Portrait, camera: Cameras, tokens: ImageTokens) -> Gaussians:
        """The head after refinement against the one input picture, recoloured as far as when it is served."""
        safe = replace(head, colors=head.colors.clamp(0, 1))
        run = partial(
            self._stage.refined, safe, portrait, camera.resized(portrait.size, portrait.size), tokens,
            self.settings.refine.steps,
        )  # fmt: skip
        return self.clock.time("refine", run)[0]

    def _record(self, method: str, head: HeldOutHead, view: int, picture: Tensor, truth: Tensor) -> None:
        values = measure(picture, truth, self.networks)
        views = list(zip(VIEW_NAMES, GROUPS[view], strict=True))
        self.records.add(method, head.name, VIEW_NAMES[view], views, values, head.traits)


def camera_error(viewmats: Tensor, truth: Tensor) -> Tensor:
    """Angle between the rotations of cameras [C, 4, 4], degrees [C]."""
    turn = viewmats[:, :3, :3] @ truth[:, :3, :3].mT
    cosine = (turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return cosine.clamp(-1, 1).acos().rad2deg()


def frontal() -> Tensor:
    """View matrix [1, 4, 4] of the portrait crop's front camera."""
    from headlift.model.cameras import orbit_cameras

    return orbit_cameras([0.0]).viewmats

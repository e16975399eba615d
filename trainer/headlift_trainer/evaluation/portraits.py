"""How good heads of photographs are, without knowing the truth: the likeness and detail of what they show.

Every picture goes the served way (preprocess, reconstruct, refine, render, sharpen). Networks that were trained on
photographs compare the views with the photograph: they were not used to make the head, but for the face mesh.

Legend: V views, P points of the face mesh, S picture side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from torch import Tensor

from headlift.backend.local import LocalBackend, local_backend, models_of
from headlift.errors import BackendUnavailableError, HeadliftError, IncompatibleWeightsError, InvalidInputError
from headlift.model.cameras import orbit_cameras, project
from headlift.model.mini.mesh_landmarks import MeshLandmarks
from headlift.model.mini.model import MiniHead
from headlift.model.template import Region
from headlift.model.types import Cameras, Gaussians
from headlift.pretrained.dlib_face import face_chips
from headlift.pretrained.installed import load_dlib_face
from headlift.settings import Settings
from headlift_trainer.evaluation.sheets import Sheet, strip
from headlift_trainer.metrics.lite0 import load_lite0

YAWS = (0.0, 20.0, -20.0, 40.0, -40.0, 60.0, -60.0, 90.0, -90.0, 180.0)
LIKENESS_YAWS = (0, 20, 40, 60)  # degrees to either side
_FACES = 7  # views of YAWS that show a face: the first ones
BANDS = 5  # of height, for the colour of hair
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".heic"}
_LEFT_IRIS, _RIGHT_IRIS = 468, 473
_FINE_PX = 2.0  # standard deviation of the blur that takes detail away, in pixels of a view of SIDE
SIDE = 512
_MIN_ROWS = 40  # Gaussians of hair in a band below which it has no colour


@dataclass(frozen=True)
class PortraitMetrics:
    """What was measured of one photograph's head.

    Attributes:
        name: Its file.
        quality: The quality report's score, 0..1.
        likeness: 1 - distance of dlib's descriptors of photograph and view; the same person scores above .4. "input" is
            the view that the photograph shows, the others are degrees to either side, their mean.
        mesh_error_percent: Mean distance of the mesh's points in the input view from the photograph's, of the eyes'.
        lite0: EfficientNet-Lite0's distance of the input view from the photograph, both without background.
        detail: Energy of fine detail in the face of a view, over the photograph's, by degrees.
        hair_delta_e: Mean CIEDE2000 between hair that the photograph shows and hair that it does not, over bands of
            height that have both; None where none has.
    """

    name: str
    quality: float
    likeness: Mapping[str, float]
    mesh_error_percent: float
    lite0: float
    detail: Mapping[str, float]
    hair_delta_e: float | None


@dataclass(frozen=True)
class PortraitResult:
    """A photograph's measurements and its row of pictures, or why it gave no head."""

    name: str
    metrics: PortraitMetrics | None
    sheet: Sheet | None = None
    refused: str = ""


def portrait_files(folder: Path) -> list[Path]:
    """Pictures in a folder, by name.

    Raises:
        InvalidInputError: There are none.
    """
    files = sorted(p for p in folder.glob("*") if p.suffix.lower() in _SUFFIXES) if folder.is_dir() else []
    if not files:
        raise InvalidInputError(
            f"{folder} holds no pictures ({', '.join(sorted(_SUFFIXES))}); name a folder that does.", field="DIR"
        )
    return files


class PortraitEvaluation:
    """Measures heads of photographs. It needs a `mini` network and the pretrained models of evaluation."""

    def __init__(self, settings: Settings, refine_steps: int = 100) -> None:
        """Load everything that ``settings`` name.

        Raises:
            WeightsError: A network cannot be loaded.
            BackendUnavailableError: The settings turn pretrained models off.
            IncompatibleWeightsError: The network has no face mesh.
        """
        folder = models_of(settings)
        if folder is None:
            raise BackendUnavailableError("Portraits are judged by pretrained models; HEADLIFT_MODELS must not be off.")
        self.refine_steps = refine_steps
        self.stages: LocalBackend = local_backend(settings)
        model = self.stages.stage_reconstruct.model
        if not isinstance(model, MiniHead) or model.mesh is None:
            raise IncompatibleWeightsError(
                f"The network {model.config.name!r} reads no face mesh; take mini, and run "
                "`headlift models install` if that was not done."
            )
        self.model, self.mesh = model, model.mesh
        self.face, self.lite0 = load_dlib_face(folder, self.stages.device), load_lite0(folder, self.stages.device)

    @torch.no_grad()
    def __call__(self, file: Path) -> PortraitResult:
        """Measure one photograph."""
        try:
            found = self.stages.stage_preprocess(file.read_bytes())
            made = self.stages.stage_reconstruct(found.portrait, refine_steps=self.refine_steps)
        except HeadliftError as error:
            return PortraitResult(file.name, None, refused=error.reason)
        if made.camera is None:
            return PortraitResult(file.name, None, refused="NO_CAMERA")
        head, cameras = made.gaussians, _joined(made.camera.resized(SIDE, SIDE), orbit_cameras(YAWS))
        views = self._views(head, cameras)
        portrait = found.portrait.to(self.stages.device)
        photo = F.interpolate(portrait.image[None], size=(SIDE, SIDE), mode="bilinear", antialias=True)
        faces = torch.cat([photo, views[: 1 + _FACES]])
        points = _mesh_points(self.mesh, self.model, faces, _joined(cameras[0], cameras[: 1 + _FACES]))
        descriptors = self.face(face_chips(faces, points))
        alike = (1 - (descriptors[1:] - descriptors[0]).norm(dim=1)).tolist()
        detail = [_detail(picture, at) for picture, at in zip(faces, points, strict=True)]
        metrics = PortraitMetrics(
            file.name,
            found.quality.score,
            {"input": alike[0]} | _by_yaw(alike[1:]),
            100 * float((points[1] - points[0]).norm(dim=1).mean() / _eye_distance(points[0])),
            float(self.lite0(views[:1], photo)[0]),
            {"input": detail[1] / detail[0]} | _by_yaw([value / detail[0] for value in detail[2:]]),
            hair_delta_e(head, self.model.template.regions, cameras[0]),
        )
        return PortraitResult(file.name, metrics, _sheet(metrics, photo, views))

    def _views(self, head: Gaussians, cameras: Cameras) -> Tensor:
        """[V, 3, SIDE, SIDE] on black, as served."""
        rgb = self.stages.stage_render(head, cameras).rgb
        return self.stages.stage_sharpen(rgb) if self.stages.stage_sharpen.available else rgb


def summary(results: Sequence[PortraitResult]) -> dict[str, Any]:
    """Means over the photographs that gave heads; ``quality_rank_correlation`` is Spearman's, of the quality score with
    the likeness of the input view, None below three heads or where all scores are the same."""
    found = [r.metrics for r in results if r.metrics is not None]
    refused = {r.name: r.refused for r in results if r.metrics is None}
    colors = [m.hair_delta_e for m in found if m.hair_delta_e is not None]
    scores, alike = [m.quality for m in found], [m.likeness["input"] for m in found]
    varied = len(found) > 2 and len(set(scores)) > 1 and len(set(alike)) > 1
    return {
        "count": len(found),
        "refused": len(refused),
        "refusals": refused,
        "likeness": _mean_of([m.likeness for m in found]),
        "mesh_error_percent": _mean([m.mesh_error_percent for m in found]),
        "lite0": _mean([m.lite0 for m in found]),
        "hair_delta_e": _mean(colors),
        "detail": _mean_of([m.detail for m in found]),
        "quality_rank_correlation": float(spearmanr(scores, alike)[0]) if varied else None,
    }


def hair_delta_e(head: Gaussians, regions: Tensor, camera: Cameras) -> float | None:
    """See `PortraitMetrics`: mean colours of opaque Gaussians on scalp and hair, on both sides of the head's axis."""
    from skimage.color import deltaE_ciede2000, rgb2lab

    hair = ((regions == Region.SCALP) | (regions == Region.HAIR)) & (head.opacities > 0.3)
    points, shades = head.means[hair], head.colors[hair]
    if not len(points):
        return None
    eye = torch.linalg.inv(camera.viewmats[0])[:3, 3]
    # Hair stands about the head's vertical axis: whether it is seen is told by which side of the axis it is on.
    outward = F.normalize((points - points.mean(0))[:, [0, 2]], dim=1)
    facing = outward @ F.normalize((eye - points.mean(0))[[0, 2]], dim=0)
    edges = torch.linspace(float(points[:, 1].min()), float(points[:, 1].max()), BANDS + 1)
    found = []
    for low, high in pairwise(edges):
        band = (points[:, 1] >= low) & (points[:, 1] <= high)
        seen, hidden = shades[band & (facing > 0.3)], shades[band & (facing < -0.3)]
        if min(len(seen), len(hidden)) >= _MIN_ROWS:
            a, b = (rgb2lab(rows.mean(0).cpu().numpy()) for rows in (seen, hidden))
            found.append(float(deltaE_ciede2000(a, b)))  # type: ignore[no-untyped-call]
    return float(np.mean(found)) if found else None


def _mesh_points(mesh: MeshLandmarks, model: MiniHead, pictures: Tensor, cameras: Cameras) -> Tensor:
    """Points [V, P, 2] 0..1 of each picture; the mean head says where its face is."""
    anchors = model.decoder.anchors + model.morphable.mean_offsets
    mean = mesh.statistics.shape(anchors, model.morphable.geometry_basis).mean
    guess, _ = project(cameras, mean.expand(len(pictures), -1, -1))
    points: Tensor = mesh.detector(pictures, guess)[0]
    return points


def _detail(picture: Tensor, points: Tensor) -> float:
    """Mean square of what a small blur takes away, of a picture's brightness within the box of its face."""
    low, high = (points.amin(0) * SIDE).long().clamp(0, SIDE - 1), (points.amax(0) * SIDE).long().clamp(1, SIDE)
    luma = (picture * picture.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    reach = torch.arange(-6, 7, dtype=luma.dtype, device=luma.device)
    kernel = torch.exp(-reach.square() / (2 * _FINE_PX**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(luma[None, None], (6, 6, 6, 6), mode="replicate")
    smooth = F.conv2d(F.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])[0, 0]
    (left, top), (right, bottom) = low.tolist(), torch.maximum(high, low + 1).tolist()
    fine = (luma - smooth)[top:bottom, left:right]
    return max(float(fine.square().mean()), 1e-12)


def _by_yaw(values: Sequence[float]) -> dict[str, float]:
    """Values of the views of YAWS -> means of either side."""
    return {
        str(yaw or "front"): float(np.mean([v for v, at in zip(values, YAWS[:_FACES], strict=True) if abs(at) == yaw]))
        for yaw in LIKENESS_YAWS
    }


def _eye_distance(points: Tensor) -> Tensor:
    distance: Tensor = (points[_LEFT_IRIS] - points[_RIGHT_IRIS]).norm()
    return distance


def _joined(first: Cameras, others: Cameras) -> Cameras:
    first = first.resized(others.width, others.height)
    return replace(others, viewmats=torch.cat([first.viewmats, others.viewmats]), Ks=torch.cat([first.Ks, others.Ks]))


def _sheet(metrics: PortraitMetrics, photo: Tensor, views: Tensor) -> Sheet:
    labels = ("photograph", "input view", *(f"{yaw:+.0f}" if yaw else "front" for yaw in YAWS))
    likeness = ", ".join(f"{name} {value:.2f}" for name, value in metrics.likeness.items())
    color = "" if metrics.hair_delta_e is None else f"; hair seen and hidden {metrics.hair_delta_e:.1f} apart"
    about = f"likeness {likeness}; mesh {metrics.mesh_error_percent:.1f} %; quality {metrics.quality:.2f}{color}"
    return Sheet(metrics.name, metrics.name, about, labels, (strip("ours", torch.cat([photo, views])),))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _mean_of(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}

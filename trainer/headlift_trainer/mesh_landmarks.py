"""Where a face mesh's points lie on heads, and how they err: learned from generated heads.

    headlift synth --views face --out SHARDS ... ; headlift models install
    python -m headlift_trainer.mesh_landmarks --shards SHARDS --assets ASSETS --out FILE

Each point is triangulated on each head from views with known cameras and tied to the template's anchors about it; what
is left in the pictures are the errors that ``fit_with_mesh`` weighs landmarks by. Sightings are kept beside the shards,
so that a run can be stopped and started again.

Legend: V views, P mesh points, M used points, A anchors, K code numbers, n sightings.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

import headlift.weights
from headlift.model.mini.landmark_fit import LandmarkErrors
from headlift.model.mini.mesh_landmarks import FORMAT, MIN_SCORE, MeshDetector
from headlift.model.mini.model import MiniHead
from headlift.model.template import Region
from headlift.model.types import FOCAL
from headlift_trainer.cameras import project_to_crop
from headlift_trainer.datasets.generated import load_views
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.synthetic.prepare import TargetMakers
from headlift_trainer.synthetic.source.seeds import HELD_OUT
from headlift_trainer.tasks.mini import load_mini

_USED = 300  # the points that are placed best
_ANCHORS = 12  # that a point follows
_FURTHEST_DEG = 61.0  # of yaw, of sightings
_TRIANGULATED_DEG = 46.0  # beyond it the hidden half of a mesh is invented
_ERRORS_DEG = 40.0  # errors are measured on views like portraits
_MIN_SPREAD = 0.003  # share of the side; nobody sees better than that
_CODE_RIDGE = 1e-5  # of a head's own code
# A face of the mean head about which the first look is taken, m: left, right and lower bound, in the plane of the eyes.
_FACE_BOX = torch.tensor([[-0.07, 0.09, 0.05], [0.07, 0.09, 0.05], [0.0, -0.07, 0.05]])
_EYES = torch.tensor([[-0.045, 0.028, 0.045], [0.045, 0.028, 0.045]])


@dataclass(frozen=True)
class Sightings:
    """The mesh in the views of one head."""

    points: Tensor  # [n, P, 2] 0..1
    viewmats: Tensor  # [n, 4, 4]
    anchors: Tensor  # [A, 3] m, the head's own

    @property
    def yaw_deg(self) -> Tensor:
        """[n], without sign."""
        return yaw_deg(self.viewmats)


def yaw_deg(viewmats: Tensor) -> Tensor:
    """How far cameras [n, 4, 4] stand to the side of a face, degrees, without sign."""
    return torch.atan2(viewmats[:, 2, 0], -viewmats[:, 2, 2]).abs().rad2deg()


@torch.no_grad()
def sight(detector: MeshDetector, rgba: Tensor, viewmats: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Points [n, P, 2] and cameras [n, 4, 4] of the views [V, 4, S, S] in which a face was found."""
    box = project_to_crop(_FACE_BOX.expand(len(viewmats), -1, -1), viewmats)
    eyes = project_to_crop(_EYES.expand(len(viewmats), -1, -1), viewmats)
    guess = box[:, :1].repeat(1, points, 1)
    guess[:, : len(_FACE_BOX)] = box
    guess[:, [33, 263]] = eyes
    found, score = detector(rgba[:, :3] + 0.5 * (1 - rgba[:, 3:]), guess)
    good = score >= MIN_SCORE
    return found[good], viewmats[good]


def sightings_of(
    model: MiniHead, detector: MeshDetector, shards: Path, assets: Path | None, points: int, *, held_out: bool = False
) -> Iterator[Sightings]:
    """The sightings of every head of a folder, of heads that are never trained on where ``held_out``."""
    makers = TargetMakers(model.template, shards, assets)
    seeds = sorted(int(path.stem.split("_")[1]) for path in shards.glob("head_*_0.npz"))
    for seed in tqdm([s for s in seeds if (s in HELD_OUT) == held_out], desc="sightings", unit="head"):
        kept = shards / f"mesh_{seed:05d}.npz"
        if not kept.exists():
            views = load_views(shards, seed, 0)
            viewmats = torch.from_numpy(views.viewmats)
            chosen = yaw_deg(viewmats) < _FURTHEST_DEG
            rgba = torch.from_numpy(views.rgba).permute(0, 3, 1, 2)[chosen].float() / 255
            found, cameras = sight(detector, rgba, viewmats[chosen], points)
            with np.load(path_of(shards, seed, 0)) as shard:
                anchors = makers[seed].positions(shard["vertices"], shard["hair_points"])
            partial = kept.with_suffix(".part.npz")
            np.savez(partial, points=found.numpy(), viewmats=cameras.numpy(), anchors=anchors.astype(np.float32))
            partial.replace(kept)
        with np.load(kept) as file:
            yield Sightings(*(torch.from_numpy(file[name]) for name in ("points", "viewmats", "anchors")))


def triangulate(points: Tensor, viewmats: Tensor) -> Tensor:
    """Points [P, 3] m that cameras [n, 4, 4] of the portrait crop see at [n, P, 2]; least squares."""
    off = points.double()[..., None] - 0.5  # [n, P, 2, 1]
    rows = viewmats.double()
    # (uv - .5) z = FOCAL x  ->  (FOCAL r_xy - off r_z) . p = off t_z - FOCAL t_xy
    left = FOCAL * rows[:, None, :2, :3] - off * rows[:, None, 2:3, :3]
    right = off[..., 0] * rows[:, None, 2:3, 3] - FOCAL * rows[:, None, :2, 3]
    gram = torch.einsum("npki,npkj->pij", left, left)
    points_3d: Tensor = torch.linalg.solve(gram, torch.einsum("npki,npk->pi", left, right)).float()
    return points_3d


def head_code(model: MiniHead, anchors: Tensor, face: Tensor) -> Tensor:
    """The geometry code [K] that describes a head's face best."""
    flat = model.morphable.geometry_basis[:, face].flatten(1)
    off = (anchors - model.decoder.anchors - model.morphable.mean_offsets)[face].flatten()
    ridge = _CODE_RIDGE * flat.shape[1] * flat.square().mean() * torch.eye(len(flat))
    code: Tensor = torch.linalg.solve(flat @ flat.T + ridge, flat @ off)
    return code


@torch.no_grad()
def fit_statistics(model: MiniHead, heads: list[Sightings]) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The tensors of ``MeshStatistics``, and how well they describe the heads (mm, and shares of the side)."""
    regions = torch.as_tensor(model.template.regions)
    face = torch.isin(regions, torch.tensor([int(Region.FACE), int(Region.EYE), int(Region.MOUTH)]))
    heads = [head for head in heads if int((head.yaw_deg < _TRIANGULATED_DEG).sum()) >= 3]
    near = [head.yaw_deg < _TRIANGULATED_DEG for head in heads]
    points = torch.stack([triangulate(h.points[n], h.viewmats[n]) for h, n in zip(heads, near, strict=True)])
    codes = torch.stack([head_code(model, head.anchors, face) for head in heads])
    rows, weights = _anchors_about(points.median(0).values, model, face)
    mean = model.decoder.anchors + model.morphable.mean_offsets
    basis = torch.einsum("pa,kpad->kpd", weights, model.morphable.geometry_basis[:, rows])
    expected = torch.einsum("pa,pad->pd", weights, mean[rows]) + torch.einsum("bk,kpd->bpd", codes, basis)
    offsets = (points - expected).median(0).values
    errors = []
    for head, shape in zip(heads, expected + offsets, strict=True):
        chosen = head.yaw_deg < _ERRORS_DEG
        seen = project_to_crop(shape.expand(int(chosen.sum()), -1, -1), head.viewmats[chosen])
        errors.append(head.points[chosen] - seen)
    error = torch.cat(errors)
    spread = error.square().mean((0, 2)).sqrt()
    used = spread.argsort()[:_USED].sort().values
    spreads = spread[used].clamp_min(_MIN_SPREAD)
    whitening = LandmarkErrors(len(used))
    whitening.fill(error[:, used] / spreads[:, None])
    tensors = {
        "rows": rows, "weights": weights, "offsets": offsets, "used": used, "spread": spreads,
        "whitening": whitening.whitening.half(),
    }  # fmt: skip
    scatter = (points - expected - offsets).norm(dim=-1).median()
    figures = {
        "heads": float(len(heads)), "views": float(len(error)), "scatter_mm": 1e3 * float(scatter),
        "spread": float(spread.median()),
    }  # fmt: skip
    return {name: value.contiguous() for name, value in tensors.items()}, figures


def _anchors_about(points: Tensor, model: MiniHead, face: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest anchors of the face about points [P, 3], and their weights, each [P, 12]."""
    mean = model.decoder.anchors + model.morphable.mean_offsets
    among = face.nonzero()[:, 0]
    distance, nearest = torch.cdist(points, mean[among]).topk(_ANCHORS, largest=False)
    weights = torch.exp(-((distance / distance[:, 3:4].clamp_min(1e-6)) ** 2))
    return among[nearest], weights / weights.sum(1, keepdim=True)


def main() -> None:
    """Command line."""
    from headlift.pretrained.installed import load_face_mesh, models_folder
    from headlift.settings import Settings

    parser = argparse.ArgumentParser(description="Where a face mesh's points lie on heads, from generated heads.")
    parser.add_argument("--shards", type=Path, required=True, help="folder of `headlift synth --views face`")
    parser.add_argument("--assets", type=Path, help="its asset folder; not needed for procedural heads")
    parser.add_argument("--weights", type=Path, help="checkpoint of mini; default: the shipped one")
    parser.add_argument("--out", type=Path, required=True, help="file to write (.safetensors)")
    args = parser.parse_args()
    folder = models_folder(Settings.from_env().models_dir)
    detector = load_face_mesh(folder)
    model = load_mini(args.weights or Path(str(headlift.weights.__file__)).with_name("mini.safetensors"))
    heads = list(sightings_of(model, detector, args.shards, args.assets, 478))
    tensors, figures = fit_statistics(model, heads)
    partial = args.out.with_suffix(".part")
    save_file(tensors, partial, metadata={"format": FORMAT, "template": model.template.sha256})
    partial.replace(args.out)
    print({name: round(value, 5) for name, value in figures.items() if math.isfinite(value)})


if __name__ == "__main__":
    main()

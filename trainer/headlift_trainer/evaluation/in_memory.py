"""The metrics that training prints between its stages: held-out heads that are in memory already, and no files."""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.model.sizes import HeadModel
from headlift.model.splat import rasterize
from headlift.model.types import Cameras, Gaussians
from headlift.stages.reconstruct import Reconstruct
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.synthetic import SyntheticHeads
from headlift_trainer.evaluation.baselines import anchor_head, thumbnail
from headlift_trainer.evaluation.synthetic import FRONT, camera_error
from headlift_trainer.metrics import psnr
from headlift_trainer.portraits import portrait_of
from headlift_trainer.synthetic.render.views import RIG_DEG

HEADS = 24  # are measured; `SyntheticEvaluation` measures all
_ASKED = {"self": (0,), "novel": (1, 2, 3, 4), "back": (5,)}


@torch.no_grad()
def evaluate(model: HeadModel, held_out: SyntheticHeads, train: SyntheticHeads) -> dict[str, float]:
    """PSNR of held-out heads that are in memory already, from their front view, beside both baselines.

    Quick and without files: what a training run prints between its stages. ``SyntheticEvaluation`` measures the rest.
    """
    was_training = model.training
    model.eval()
    stage = Reconstruct(model)
    nearest = _nearest_rows(held_out, train)
    device = model.device
    mean = anchor_head(model, train.means.float().mean(0).to(device), _mean_colors(train).to(device))
    sums: dict[str, list[float]] = {}
    for row in range(0, len(held_out), max(1, len(held_out) // HEADS)):
        pictures = (held_out.pictures[row].permute(0, 3, 1, 2).float() / 255).to(device)
        cameras = crop_cameras(held_out.viewmats[row, : len(RIG_DEG)], held_out.size).to(device)

        def add(prefix: str, head: Gaussians, cameras: Cameras = cameras, pictures: Tensor = pictures) -> None:
            scores = psnr(rasterize(head, cameras).rgb, pictures[: len(RIG_DEG), :3])
            for name, chosen in _ASKED.items():
                sums.setdefault(f"{prefix}{name}_psnr", []).append(float(scores[list(chosen)].mean()))

        front = stage(portrait_of(pictures[0]))
        add("", front.gaussians)
        add("mean_", mean)
        match = int(nearest[row])
        anchors = train.means[train.geometry[match]].float(), train.colors[match].float() / 255
        add("nearest_", anchor_head(model, *(values.to(device) for values in anchors)))
        if front.camera is not None:
            error = camera_error(front.camera.viewmats, cameras[0].viewmats)
            sums.setdefault("camera_error_deg", []).append(float(error))
        side = stage(portrait_of(pictures[1])).gaussians
        sums.setdefault("from_45_front_psnr", []).append(float(psnr(rasterize(side, cameras[0]).rgb, pictures[:1, :3])))
    model.train(was_training)
    return {name: round(sum(values) / len(values), 2) for name, values in sums.items()}


def _mean_colors(data: SyntheticHeads) -> Tensor:
    total = torch.zeros(data.colors.shape[1:])
    for part in torch.split(data.colors, 64):
        total += part.float().sum(0)
    return total / (255 * len(data))


def _nearest_rows(held_out: SyntheticHeads, train: SyntheticHeads) -> Tensor:
    """Row of the training head whose front picture is nearest, for each held-out head."""

    def small(data: SyntheticHeads) -> Tensor:
        pictures = data.pictures[:, FRONT].permute(0, 3, 1, 2)
        parts = [thumbnail(part.float()) for part in torch.split(pictures, 64)]
        return torch.cat(parts).flatten(1)

    return torch.cdist(small(held_out), small(train)).argmin(1)

"""Held-out figures on generated heads, always beside two baselines.

Legend: B heads, C views.
"""

from __future__ import annotations

import torch
from torch import Tensor

from headlift.model.perchead import PercHead
from headlift.model.splat import rasterize
from headlift.model.types import Gaussians
from headlift_trainer.datasets.synthetic import HeadBatch, SyntheticHeads
from headlift_trainer.losses import psnr
from headlift_trainer.step import crop_cameras, reconstruct

# View numbers of the generator's fixed rig: inputs, and what is asked of each.
FRONT, THREE_QUARTER = 0, 1
ASKED = {"self": (0,), "novel": (1, 2, 3, 4), "back": (5,)}


@torch.no_grad()
def evaluate(model: PercHead, held_out: SyntheticHeads, train: SyntheticHeads) -> dict[str, float]:
    """PSNR at the pictures' own size of held-out heads from their front view, with the model's own camera estimate.

    The baselines are the mean training head and the training head whose front picture is nearest.
    """
    was_training = model.training
    model.eval()
    rows = torch.arange(len(held_out))
    nearest = _nearest(held_out, train)
    mean = _anchor_head(model, train.means.float().mean(0), _mean_colors(train))
    sums: dict[str, list[Tensor]] = {}
    for row in rows:
        batch = held_out.batch(row[None], torch.tensor([FRONT]), torch.arange(8)[None])
        heads = {
            "": reconstruct(model, batch.picture)[0],
            "mean_": mean,
            "nearest_": _anchor_head(
                model, train.means[train.geometry[nearest[row]]].float(), train.colors[nearest[row]].float() / 255
            ),
        }
        side = held_out.batch(row[None], torch.tensor([THREE_QUARTER]), torch.arange(8)[None])
        for name, head in heads.items():
            for asked, scores in _scores(head, batch).items():
                sums.setdefault(f"{name}{asked}_psnr", []).append(scores)
        sums.setdefault("from_45_front_psnr", []).append(_scores(reconstruct(model, side.picture)[0], side)["self"])
        sums.setdefault("camera_error_deg", []).append(_camera_error(model, batch))
    model.train(was_training)
    return {name: round(float(torch.cat(values).mean()), 2) for name, values in sums.items()}


def _scores(head: Gaussians, batch: HeadBatch) -> dict[str, Tensor]:
    assert batch.target is not None
    assert batch.target_viewmats is not None
    size = batch.target.shape[-1]
    views = rasterize(head, crop_cameras(batch.target_viewmats[0], size))
    values = psnr(views.rgb, batch.target[0, :, :3])
    return {name: values[list(chosen)] for name, chosen in ASKED.items()}


def _camera_error(model: PercHead, batch: HeadBatch) -> Tensor:
    """Angle between the estimated and the true camera, degrees [1]."""
    camera = model.encode(batch.picture[:, :3], batch.picture[:, 3:]).camera
    assert camera is not None
    turn = camera.viewmats[:, :3, :3] @ batch.viewmats[:, :3, :3].mT
    cosine = (turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return cosine.clamp(-1, 1).acos().rad2deg()


def _anchor_head(model: PercHead, means: Tensor, colors: Tensor) -> Gaussians:
    """Anchors as Gaussians of the decoder's start shape."""
    decoder = model.decoder
    scales = decoder.spacing[:, None] * means.new_tensor([0.75, 0.75, 0.35])
    return Gaussians(means, decoder.disc_quats, scales, torch.full_like(decoder.spacing, 0.9), colors.clamp(0, 1))


def _mean_colors(data: SyntheticHeads) -> Tensor:
    total = torch.zeros(data.colors.shape[1:])
    for part in torch.split(data.colors, 64):
        total += part.float().sum(0)
    return total / (255 * len(data))


def _nearest(held_out: SyntheticHeads, train: SyntheticHeads) -> Tensor:
    """Row of the training head whose front picture is nearest, for each held-out head."""

    def small(data: SyntheticHeads) -> Tensor:
        pictures = data.pictures[:, FRONT].permute(0, 3, 1, 2)
        return torch.cat(
            [torch.nn.functional.adaptive_avg_pool2d(part.float(), 32).flatten(1) for part in torch.split(pictures, 64)]
        )

    return torch.cdist(small(held_out), small(train)).argmin(1)

"""The encoder's first guess, fitted without gradients: ridge regression on random features of thumbnails.

Kernel regression from small pictures to the head code beats a network that has seen a few thousand samples; random
ReLU features approximate it (Rahimi and Recht 2007; Cho and Saul 2009) at a fixed size.

Legend: n samples, f features, K code numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm import tqdm

from headlift.model.cameras import FRONTAL_POSE, pose_from_cameras
from headlift.model.perchead import PercHead
from headlift_trainer.datasets.synthetic import HeadBatch, SyntheticHeads
from headlift_trainer.step import HeadCodes, crop_cameras

_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # in variances of a feature
_BATCH = 32


@torch.no_grad()
def fit_thumbnail_head(
    model: PercHead, codes: HeadCodes, data: SyntheticHeads, views: Tensor, *, samples: int, seed: int
) -> float:
    """Fill the model's thumbnail head from augmented samples.

    A tenth of the samples is held back to choose the ridge.

    Args:
        model: Its encoder must have a thumbnail head.
        views: Weight of each view as an input [V].
        samples: n.
        seed: Of the samples and of the random features.

    Returns:
        Share of the variance of code and pose that the guess explains on what was held back.
    """
    head = model.encoder.thumbnail_head
    if head is None:
        raise ValueError(f"The model {model.config.name!r} has no thumbnail head; set encoder.thumbnail.")
    generator = torch.Generator().manual_seed(seed)
    thumbnail, gradient, answer_parts = [], [], []
    for _ in tqdm(range(0, samples, _BATCH), desc="thumbnails", unit="batch"):
        batch = data.sample(_BATCH, generator, views=views)
        thumbnail.append(torch.nn.functional.adaptive_avg_pool2d(batch.picture, head.side))
        gradient.append(head.gradients(batch.picture))
        answer_parts.append(true_answers(batch, codes))
    thumbnails, gradients, answer = torch.cat(thumbnail), torch.cat(gradient), torch.cat(answer_parts)

    flat = thumbnails.flatten(1)
    mean = flat.mean(0)
    _, scale, components = torch.pca_lowrank(flat - mean, q=head.reduce.out_features, niter=3)
    spread = scale[0] / len(flat) ** 0.5
    head.reduce.weight.copy_(components.T / spread)
    head.reduce.bias.copy_(-(components.T / spread) @ mean)
    # Random directions in units of the components' spread; small shifts keep every feature alive somewhere.
    head.expand.weight.normal_(generator=generator).mul_(1.5)
    head.expand.bias.normal_(generator=generator).mul_(0.5)

    reduced = head.reduce(flat)
    features = torch.cat([reduced, head.expand(reduced).relu(), gradients], 1).double()
    kept = len(features) * 9 // 10
    weight, offset = _best_ridge(features[:kept], answer[:kept].double(), features[kept:], answer[kept:].double())
    head.out.weight.copy_(weight.T)
    head.out.bias.copy_(offset)
    error = features[kept:] @ weight + offset - answer[kept:]
    return float(1 - error.square().mean() / (answer[kept:] - answer[kept:].mean(0)).square().mean())


def true_answers(batch: HeadBatch, codes: HeadCodes) -> Tensor:
    """Best code and true pose of each sample, the pose relative to the front camera: [B, K + 9]."""
    pose = pose_from_cameras(crop_cameras(batch.viewmats, batch.picture.shape[-1])) - torch.tensor(FRONTAL_POSE)
    return torch.cat([codes.geometry.project(batch.means), codes.color.project(batch.colors), pose], 1)


def _best_ridge(features: Tensor, answers: Tensor, held: Tensor, held_answers: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [f, a] and offsets [a] of ridge regression on standardised features.

    Each answer takes the ridge that does best for it on what was held back.
    """
    feature_mean, spread = features.mean(0), features.std(0).clamp_min(1e-6)
    answer_mean = answers.mean(0)
    standard = (features - feature_mean) / spread
    values, vectors = torch.linalg.eigh(standard.T @ standard / len(standard))
    moment = vectors.T @ (standard.T @ (answers - answer_mean) / len(standard))
    probe = ((held - feature_mean) / spread) @ vectors
    errors, weights = [], []
    for ridge in _RIDGES:
        weights.append(moment / (values + ridge)[:, None])
        errors.append((probe @ weights[-1] + answer_mean - held_answers).square().mean(0))
    best = torch.stack(errors).argmin(0)
    chosen = torch.stack(weights)[best, :, torch.arange(len(best))].T
    weight = (vectors @ chosen) / spread[:, None]
    return weight, answer_mean - feature_mean @ weight

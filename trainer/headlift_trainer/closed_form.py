"""What is filled without gradients: the linear codes of whole heads, the encoder's first guess of them, and how far
HeadNet's landmarks are to be believed.

The guess is ridge regression on random features of thumbnails, and on what HeadNet says where the model has one.

Kernel regression from small pictures to the head code beats a network that has seen a few thousand samples; random
ReLU features approximate it (Rahimi and Recht 2007; Cho and Saul 2009) at a fixed size.

Legend: n samples, f features, K code numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from headlift.model.cameras import FRONTAL_POSE, pose_from_cameras
from headlift.model.layers import resized
from headlift.model.mini.headnet import load_headnet
from headlift.model.mini.landmark_fit import landmark_errors
from headlift.model.mini.model import MiniHead
from headlift.model.template import Region
from headlift_trainer.cameras import crop_cameras, project_to_crop
from headlift_trainer.datasets.synthetic import MIRROR, HeadBatch, SyntheticHeads, input_weights
from headlift_trainer.head_code import LinearCode, fit_linear_code
from headlift_trainer.recipes.mini import MiniRecipe
from headlift_trainer.synthetic.render.views import INPUT_VIEWS, RIG_DEG

_RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # in variances of a feature
_BATCH = 32
_FRONT = 0  # view of the rig
_LANDMARK_SAMPLES = 4096  # of HeadNet's errors: a dozen for each of their numbers
_FACE_WEIGHT = 2.0  # of the face's shape against the hair's in the geometry code: hair moves by centimetres


@dataclass(frozen=True)
class HeadCodes:
    """The linear codes that a model's head code was filled with."""

    geometry: LinearCode
    color: LinearCode


def fit_closed_forms(config: MiniRecipe, train: SyntheticHeads, headnet: Path) -> tuple[MiniHead, dict[str, float]]:
    """A fresh model, on the CPU, with everything that needs no gradients.

    Args:
        config: Of the run.
        train: Training heads.
        headnet: HeadNet's weights.

    Returns:
        The model, and how much of code and pose the first guess explains, 0..1.
    """
    torch.manual_seed(config.seed)
    model = MiniHead(config.model, train.template)
    codes = fill_head_code(model, train)
    model.encoder.headnet.load_state_dict(load_headnet(headnet).state_dict())
    fit_landmark_errors(model, train, samples=min(config.thumbnails, _LANDMARK_SAMPLES))
    views = input_weights(train.pictures.shape[1])
    explained = fit_thumbnail_head(model, codes, train, views, samples=config.thumbnails, seed=config.seed)
    return model, {"explained": round(explained, 3)}


def fill_head_code(model: MiniHead, data: SyntheticHeads) -> HeadCodes:
    """Fit the linear codes to the training heads and their mirror images, and put them into the model."""
    config, mirror = model.config, data.template.mirror
    flip = MIRROR.to(data.means.dtype)
    weight = face_weight(data.template.regions)
    positions = torch.cat([data.means, data.means[:, mirror] * flip])
    geometry = fit_linear_code(positions, config.geometry_rank, weight=weight)
    color = fit_linear_code(torch.cat([data.colors, data.colors[:, mirror]]), config.color_rank)
    color = LinearCode(color.mean / 255, color.basis / 255)
    model.morphable.fill(geometry.mean - model.decoder.anchors, geometry.basis, color.mean, color.basis)
    codes = HeadCodes(geometry, color)
    model.morphable.fill_hair(*fit_hair(codes.geometry, data))
    return codes


def fit_hair(geometry: LinearCode, data: SyntheticHeads, ridge: float = 0.02) -> tuple[Tensor, Tensor]:
    """How far hair covers each patch as a linear function of the geometry code: the mean [Q] and the slopes [K, Q].

    Heads and their mirror images; `ridge` is in variances of a code number.
    """
    patches = data.hair.shape[1]
    mirror = data.template.mirror.reshape(patches, -1)[:, 0] // (len(data.template.mirror) // patches)
    flip = MIRROR.to(torch.float32)
    codes, covers = [], []
    for part in torch.split(torch.arange(len(data)), 32):
        means, hair = data.means[data.geometry[part]].float(), data.hair[part].float() / 255
        codes += [geometry.project(means), geometry.project(means[:, data.template.mirror] * flip)]
        covers += [hair, hair[:, mirror]]
    code, cover = torch.cat(codes), torch.cat(covers)
    mean = cover.mean(0)
    gram = code.T @ code / len(code) + ridge * torch.eye(code.shape[1])
    return mean, torch.linalg.solve(gram, code.T @ (cover - mean) / len(code))


def face_weight(regions: Tensor) -> Tensor:
    """How much an anchor's place counts in the geometry code, [N]."""
    is_face = (regions == int(Region.FACE)) | (regions == int(Region.EYE)) | (regions == int(Region.MOUTH))
    return torch.where(is_face, _FACE_WEIGHT, 1.0)


@torch.no_grad()
def fit_thumbnail_head(
    model: MiniHead, codes: HeadCodes, data: SyntheticHeads, views: Tensor, *, samples: int, seed: int
) -> float:
    """Fill the model's thumbnail head from augmented samples.

    A tenth of the heads is held back to choose the ridge, and to tell how far off the guess is on people it has not
    seen: samples of people it has seen would flatter it, and the fits that start from it would trust it too much.

    Args:
        model: Its HeadNet must be in place.
        views: Weight of each view as an input [V].
        samples: n.
        seed: Of the samples and of the random features.

    Returns:
        Share of the variance of code and pose that the guess explains on what was held back.
    """
    head = model.encoder.thumbnail_head
    generator = torch.Generator().manual_seed(seed)
    thumbnail, gradient, answer_parts, summary = [], [], [], []
    learned, held_back = split(data)
    batches = max(2, -(-samples // _BATCH))
    first_held_back = max(1, batches * 9 // 10)
    for number in tqdm(range(batches), desc="thumbnails", unit="batch"):
        among = learned if number < first_held_back else held_back
        batch = data.sample(_BATCH, generator, views=views, among=among)
        thumbnail.append(torch.nn.functional.adaptive_avg_pool2d(batch.picture, head.side))
        gradient.append(head.gradients(batch.picture))
        answer_parts.append(true_answers(batch, codes))
        with torch.autocast(batch.picture.device.type, dtype=torch.bfloat16):
            features = model.encoder.read(resized(batch.picture[:, :3], model.config.encoder.image_size))
        summary.append(features.summary.float())
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
    inputs = torch.cat([reduced, head.expand(reduced).relu(), gradients, torch.cat(summary)], 1).double()
    kept = _BATCH * first_held_back
    weight, offset = _best_ridge(inputs[:kept], answer[:kept].double(), inputs[kept:], answer[kept:].double())
    head.out.weight.copy_(weight.T)
    head.out.bias.copy_(offset)
    error = inputs[kept:] @ weight + offset - answer[kept:]
    head.error.copy_(error.square().mean(0).sqrt())
    return float(1 - error.square().mean() / (answer[kept:] - answer[kept:].mean(0)).square().mean())


@torch.no_grad()
def fit_landmark_errors(model: MiniHead, data: SyntheticHeads, *, samples: int) -> None:
    """Fill the model's landmark errors from the pictures that are like portraits; its HeadNet must be in place.

    Pictures as they are, of fits that preprocessing hands on: with crops that are off and occluders among them the fit
    trusts landmarks too little (measured; see docs/history.md).

    Args:
        samples: n, at most; heads and views are taken evenly.
    """
    net, errors = model.encoder.headnet, model.encoder.landmark_errors
    portraits = torch.tensor([_FRONT, *range(len(RIG_DEG), len(RIG_DEG) + INPUT_VIEWS)])
    portraits = portraits[portraits < data.pictures.shape[1]]
    every = torch.cartesian_prod(portraits, torch.arange(len(data)))
    every = every[:: -(-len(every) // samples)]
    found = []
    for part in tqdm(torch.split(every, _BATCH), desc="landmark errors", unit="batch"):
        batch = data.batch(part[:, 1], part[:, 0])
        output, _ = net.read(resized(batch.picture[:, :3], model.config.encoder.image_size))
        truth = project_to_crop(batch.means[:, net.landmark_rows].float(), batch.viewmats)
        found.append(landmark_errors(output.landmarks, output.spread, truth))
    errors.fill(torch.cat(found))


def split(data: SyntheticHeads) -> tuple[Tensor, Tensor]:
    """Rows of most heads, and of every tenth; the rows of a single head are in both."""
    apart = data.geometry % 10 == 9
    if not apart.any():
        apart = data.geometry == data.geometry.max()
    learned = torch.nonzero(~apart)[:, 0]
    held_back = torch.nonzero(apart)[:, 0]
    return (learned if len(learned) else held_back), held_back


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

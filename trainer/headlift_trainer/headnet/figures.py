"""HeadNet's own figures on held-out heads, and pictures of its output.

Legend: B batch, L landmarks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from headlift.model.cameras import cameras_from_pose
from headlift.model.mini.headnet import NUM_CLASSES, HeadNet
from headlift.model.types import FOCAL
from headlift_trainer.cameras import project_to_crop
from headlift_trainer.headnet.augment import IGNORED, HeadNetBatch, training_sample
from headlift_trainer.headnet.data import PackedHeads

EYES_M = 0.063  # between the eyeballs of a head in the canonical frame; landmark errors are given as shares of it
_BATCH = 16
# facer's order; the colours are ours
_PALETTE = torch.tensor(
    [
        (0, 0, 0), (235, 150, 110), (255, 200, 160), (70, 110, 200), (200, 60, 60), (230, 90, 90), (120, 70, 30),
        (150, 95, 50), (40, 160, 220), (80, 200, 250), (255, 225, 120), (130, 20, 60), (220, 60, 120), (240, 110, 160),
        (100, 60, 140), (60, 220, 160), (160, 220, 60), (255, 255, 0), (200, 200, 255),
    ]
) / 255  # fmt: skip


def project(points: Tensor, viewmats: Tensor) -> tuple[Tensor, Tensor]:
    """Where points [B, L, 3] m lie in pictures of the portrait crop: [B, L, 2] in 0..1, and 1 where inside [B, L]."""
    uv = project_to_crop(points, viewmats)
    return uv, ((uv > -0.05) & (uv < 1.05)).all(-1).float()


def _held_out_batches(held_out: PackedHeads, size: int, count: int) -> list[HeadNetBatch]:
    """The same augmented pictures every time, of all heads and views."""
    generator = torch.Generator().manual_seed(1)
    batches = []
    for start in range(0, count, _BATCH):
        numbers = torch.arange(start, min(start + _BATCH, count))
        pictures = held_out.pictures(numbers % len(held_out), (numbers * 5) % held_out.views)
        batches.append(training_sample(pictures, size, generator))
    return batches


@torch.no_grad()
def figures_of(net: HeadNet, held_out: PackedHeads, size: int, count: int = 320) -> dict[str, float]:
    """mIoU of the classes that occur, landmark error, pose error, error of the matte, and how identities part.

    `landmark_nme` is in eye distances as the picture's scale shows them, over landmarks within the picture; `_front`
    counts views within 60 degrees of the front.
    """
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    hits, unions = torch.zeros(NUM_CLASSES, device=device), torch.zeros(NUM_CLASSES, device=device)
    nme, front, turns, matte, identities, people = [], [], [], [], [], []
    for batch in _held_out_batches(held_out, size, count):
        given = batch.to(device)
        output = net(given.pictures)
        kept = given.classes != IGNORED
        predicted = output.parsing.argmax(1)
        for c in range(NUM_CLASSES):
            mine, true = (predicted == c) & kept, (given.classes == c) & kept
            hits[c] += (mine & true).sum()
            unions[c] += (mine | true).sum()
        true_uv, inside = project(given.landmarks, given.viewmats)
        depth = given.viewmats[:, 2, 3:]
        eye_distance = FOCAL * EYES_M / depth
        off = torch.linalg.vector_norm(output.landmarks - true_uv, dim=-1) / eye_distance
        error = (off * inside).sum(1) / inside.sum(1).clamp_min(1)
        turn = cameras_from_pose(output.pose.float(), size).viewmats[:, :3, :3] @ given.viewmats[:, :3, :3].mT
        cosine = (turn.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
        nme.append(error)
        front.append(given.viewmats[:, 2, 2] < -0.5)
        turns.append(cosine.clamp(-1, 1).acos().rad2deg())
        matte.append((output.alpha.sigmoid() - given.alpha).abs().mean((1, 2, 3)))
        identities.append(output.identity.float())
        people.append(given.people)
    net.train(was_training)
    occurs, is_front, turned = unions > 0, torch.cat(front), torch.cat(turns)
    return {
        "miou": float((hits / unions.clamp_min(1))[occurs].mean()),
        "landmark_nme": float(torch.cat(nme).mean()),
        "landmark_nme_front": float(torch.cat(nme)[is_front].mean()),
        "pose_deg": float(turned.mean()),
        "pose_deg_front": float(turned[is_front].mean()),
        "pose_deg_front_median": float(turned[is_front].median()),
        "alpha_mae": float(torch.cat(matte).mean()),
        "identity_recall": _recall(torch.cat(identities), torch.cat(people)),
    }


def _recall(identity: Tensor, people: Tensor) -> float:
    """Share of pictures whose nearest other picture shows the same person."""
    likeness = (identity @ identity.T).fill_diagonal_(-2)
    return float((people[likeness.argmax(1)] == people).float().mean())


@torch.no_grad()
def pictures_of(net: HeadNet, held_out: PackedHeads, size: int, count: int = 8) -> Tensor:
    """[3, 3 S, count S]: pictures with landmarks, classes, mattes."""
    was_training = net.training
    net.eval()
    device = next(net.parameters()).device
    given = _held_out_batches(held_out, size, count)[0]
    output = net(given.pictures[:count].to(device))
    net.train(was_training)
    marked = given.pictures[:count].clone()
    for i, places in enumerate((output.landmarks * size).long()):
        for x, y in places.clamp(0, size - 1).tolist():
            marked[i, :, y, x] = torch.tensor([0.0, 1.0, 0.0])
    colors = _PALETTE[output.parsing.argmax(1).cpu()].permute(0, 3, 1, 2)
    mattes = output.alpha.sigmoid().expand(-1, 3, -1, -1).cpu()
    rows = [marked, F.interpolate(colors, (size, size)), F.interpolate(mattes, (size, size))]
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1).clamp(0, 1)

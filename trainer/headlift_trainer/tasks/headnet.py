"""HeadNet's training task: parsing, matting, landmarks, pose and identity from one picture.

Legend: B batch, L landmarks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.cameras import cameras_from_pose, pose_from_cameras
from headlift.model.mini.headnet import HeadNet, HeadNetOutput, save_headnet
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.headnet.augment import IGNORED, HeadNetBatch, training_sample
from headlift_trainer.headnet.data import PackedHeads
from headlift_trainer.headnet.figures import figures_of, pictures_of, project
from headlift_trainer.losses import reprojection_loss

WEIGHTS = {"parsing": 1.0, "alpha": 1.0, "landmarks": 12.0, "spread": 0.05, "pose": 1.0, "identity": 0.1}
_TEMPERATURE = 0.1
_RARE = 3.0  # weight of small classes: eyes, brows, lips


class HeadNetTask:
    """What is learned from generated heads; see `headlift_trainer.tasks.interface.Task`.

    Args:
        net: The network.
        heads: Training heads. held_out: Others, for the figures.
        size: Side of the training pictures, pixels.
        people: Persons in a batch; each is seen twice.
    """

    name = "headnet"

    def __init__(self, net: HeadNet, heads: PackedHeads, held_out: PackedHeads, size: int, people: int) -> None:
        self.net, self.heads, self.held_out, self.size, self.people = net, heads, held_out, size, people
        weights = torch.ones(19)
        weights[[4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17]] = _RARE
        self._class_weights = weights
        # People show their faces: views within 60 degrees of the front come twice as often.
        self._views = 1 + (heads.viewmats[:, :, 2, 2] < -0.5).float().mean(0)

    @property
    def module(self) -> nn.Module:
        """What a checkpoint holds."""
        return self.net

    def parameters(self) -> list[nn.Parameter]:
        """Everything is trained."""
        return list(self.net.parameters())

    def draw(self, generator: torch.Generator) -> HeadNetBatch:
        """Pairs of pictures of the same people."""
        heads = torch.randint(len(self.heads), (self.people,), generator=generator).repeat(2)
        views = torch.multinomial(self._views, 2 * self.people, replacement=True, generator=generator)
        return training_sample(self.heads.pictures(heads, views), self.size, generator)

    def loss(self, batch: HeadNetBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of all parts."""
        output = self.net(batch.pictures)
        # Cameras and landmarks are wrong by pixels in half precision.
        with torch.autocast(batch.pictures.device.type, enabled=False):
            parts = headnet_losses(output, batch, self._class_weights.to(batch.pictures.device))
        return torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum(), parts

    def figures(self) -> dict[str, float]:
        """Of held-out heads; see `figures_of`."""
        return figures_of(self.net, self.held_out, self.size)

    def release(self, folder: Path, steps: int, figures: Mapping[str, float]) -> None:
        """Write the weights as `load_headnet` reads them."""
        save_headnet(folder / "headnet.safetensors", self.net, {"steps": str(steps), "figures": json.dumps(figures)})

    def pictures(self) -> dict[str, Tensor]:
        """Held-out pictures with HeadNet's landmarks, classes and mattes."""
        return {"held_out": pictures_of(self.net, self.held_out, self.size)}


def headnet_losses(output: HeadNetOutput, given: HeadNetBatch, class_weights: Tensor) -> dict[str, Tensor]:
    """Each part of the loss."""
    size = given.pictures.shape[-1]
    parsing = F.cross_entropy(output.parsing.float(), given.classes, class_weights, ignore_index=IGNORED)
    valid = (given.classes != IGNORED)[:, None].float()
    matte = F.binary_cross_entropy_with_logits(output.alpha.float(), given.alpha, reduction="none")
    matte = (matte * valid).sum() / valid.sum()
    true, inside = project(given.landmarks, given.viewmats)
    off = torch.linalg.vector_norm(output.landmarks.float() - true, dim=-1).clamp(max=0.5)
    spread = output.spread.float()
    likelihood = (off.detach() / spread + 2 * spread.log()) * inside  # negative log, of a Laplace
    pose = output.pose.float()
    estimate = cameras_from_pose(pose, size)
    true_pose = pose_from_cameras(crop_cameras(given.viewmats, size))
    reprojection = reprojection_loss(given.landmarks, estimate.viewmats, given.viewmats)
    return {
        "parsing": parsing,
        "alpha": matte,
        "landmarks": (off * inside).sum() / inside.sum(),
        "spread": likelihood.sum() / inside.sum(),
        "pose": (pose - true_pose).abs().mean() + 5 * reprojection,
        "identity": contrast(output.identity.float(), given.people),
    }


def contrast(identity: Tensor, people: Tensor) -> Tensor:
    """InfoNCE over unit vectors [B, D] whose second half shows the people [B] of the first half again."""
    logits = identity @ identity.T / _TEMPERATURE
    same = people[:, None] == people[None]
    own = torch.eye(len(people), dtype=torch.bool, device=people.device)
    logits = logits.masked_fill(own, -torch.inf)
    log_share = logits.log_softmax(1)
    wanted = same & ~own
    loss: Tensor = -(log_share.masked_fill(~wanted, 0).sum(1) / wanted.sum(1)).mean()
    return loss

"""One training step: a batch in, a loss and its parts out. Pure torch.

Legend: B batch, C cameras, N anchors, n chosen anchors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headlift.model.cameras import cameras_from_pose, pose_from_cameras
from headlift.model.perchead.model import PercHead
from headlift.model.splat import rasterize
from headlift.model.types import FOCAL, HEAD_CENTER, Cameras, Gaussians, ImageTokens
from headlift_trainer.datasets.synthetic import HeadBatch
from headlift_trainer.head_code import LinearCode
from headlift_trainer.losses import anchor_loss, dissimilarity, l1, picture_loss, reprojection_loss, token_loss
from headlift_trainer.recipes import Stage

LANDMARKS = 97  # every how many-th anchor stands for the head in the reprojection loss


@dataclass(frozen=True)
class HeadCodes:
    """The linear codes that the model's head code was filled with, to supervise its estimate."""

    geometry: LinearCode
    color: LinearCode

    def loss(self, code: Tensor, means: Tensor, colors: Tensor) -> Tensor:
        """How far the estimated code [B, K] is from the best code of the targets, in the units of `anchor_loss`."""
        rank = len(self.geometry.basis)
        parts = ((self.geometry, code[:, :rank], means, 25.0), (self.color, code[:, rank:], colors, 1.0))
        total = code.new_zeros(())
        for linear, estimate, values, weight in parts:
            error = (estimate - linear.project(values)).square()
            energy = linear.basis.square().mean((1, 2))
            total = total + weight * (error * energy).sum(1).sqrt().mean() + 0.01 * error.mean()
        return total


def crop_cameras(viewmats: Tensor, size: int) -> Cameras:
    """Cameras of the portrait crop's focal length at these view matrices [B, 4, 4]."""
    focal = FOCAL * size
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Cameras(viewmats, K.expand(len(viewmats), 3, 3), size, size)


def noisy_cameras(viewmats: Tensor, size: int, noise: float, generator: torch.Generator) -> Cameras:
    """The true cameras, off by about as much as an estimate is."""
    pose = pose_from_cameras(crop_cameras(viewmats, size))
    return cameras_from_pose(pose + noise * torch.randn(pose.shape, generator=generator), size)


def camera_loss(tokens: ImageTokens, batch: HeadBatch) -> Tensor:
    """Pose error and the reprojection error that it causes on the true head."""
    assert tokens.pose is not None
    size = batch.picture.shape[-1]
    true_pose = pose_from_cameras(crop_cameras(batch.viewmats, size))
    estimate = cameras_from_pose(tokens.pose.float(), size)
    points = batch.means[:, ::LANDMARKS]
    return (tokens.pose.float() - true_pose).abs().mean() + 5.0 * reprojection_loss(
        points, estimate.viewmats, batch.viewmats
    )


def turned(batch: HeadBatch, viewmats: Tensor) -> HeadBatch:
    """The batch with its heads turned about HEAD_CENTER so that cameras estimated at ``viewmats`` [B, 4, 4] look right.

    Nobody minds a head that is turned by two degrees as a whole, but a network that is judged by it learns to blur the
    face. Only the turn is made good: a wrong distance would show as a shift from the side.
    """
    turn = batch.viewmats[:, :3, :3].mT @ viewmats[:, :3, :3]  # from the estimate's frame to the true one
    center = turn.new_tensor(HEAD_CENTER)
    matrix = torch.eye(4).repeat(len(turn), 1, 1)
    matrix[:, :3, :3] = turn
    matrix[:, :3, 3] = center - turn @ center
    return replace(
        batch,
        viewmats=batch.viewmats @ matrix,
        means=(batch.means - center) @ turn + center,
        target_viewmats=None if batch.target_viewmats is None else batch.target_viewmats @ matrix[:, None],
    )


def training_loss(
    model: PercHead, codes: HeadCodes, batch: HeadBatch, stage: Stage, camera_noise: float, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch and its parts by name."""
    own = float(torch.rand(1, generator=generator)) < stage.own_cameras
    given = None if own else noisy_cameras(batch.viewmats, batch.picture.shape[-1], camera_noise, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = model.encode(batch.picture[:, :3], batch.picture[:, 3:], given)
    assert tokens.code is not None
    parts = {}
    if model.encoder.head is not None:  # otherwise camera and code come from what is frozen
        parts["camera"] = camera_loss(tokens, batch)
        parts["code"] = codes.loss(tokens.code.float(), batch.means, batch.colors)
    # Only the decoder is forgiven a turn: a camera that were judged in its own frame would always be right.
    if own and tokens.camera is not None and float(torch.rand(1, generator=generator)) < stage.own_frames:
        batch = turned(batch, tokens.camera.viewmats.detach().float())
    parts |= decoder_losses(model, tokens, batch, stage, generator)
    total = torch.stack(list(parts.values())).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}


def decoder_losses(
    model: PercHead, tokens: ImageTokens, batch: HeadBatch, stage: Stage, generator: torch.Generator
) -> dict[str, Tensor]:
    """What the decoder is told: anchors directly, and pictures where the stage splats."""
    config = model.config.decoder
    patches = (
        None if stage.patches is None else torch.randperm(config.num_patches, generator=generator)[: stage.patches]
    )
    rows = slice(None) if patches is None else anchor_rows(patches, config.gaussians_per_patch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        heads = model.decoder(tokens, patches=patches)
    direct = anchor_loss(heads.means, heads.colors, batch.means[:, rows], batch.colors[:, rows], batch.seen[:, rows])
    losses = {"anchors": stage.anchor_weight * direct}
    if stage.views:
        losses |= splatted_loss(model, heads, batch, generator, stage)
    return losses


def splatted_loss(
    model: PercHead, heads: Gaussians, batch: HeadBatch, generator: torch.Generator, stage: Stage
) -> dict[str, Tensor]:
    """Mean picture loss of B heads against their further pictures, and how differently HeadNet sees them."""
    assert batch.target is not None
    assert batch.target_viewmats is not None
    size = batch.target.shape[-1]
    pixels, seen = [], []
    for i in range(len(batch.target)):
        fields = (heads.means, heads.quats, heads.scales, heads.opacities, heads.colors)
        head = Gaussians(*(field[i].float() for field in fields))
        views = rasterize(head, crop_cameras(batch.target_viewmats[i], size))
        background = torch.rand(len(views.rgb), 3, 1, 1, generator=generator)
        target = batch.target[i]
        if stage.pixel_weight:
            pixels.append(stage.pixel_weight * picture_loss(views.rgb, views.alpha, target, background))
        if stage.l1_weight or stage.ssim_weight:
            pixels.append(plain_loss(views.rgb, target[:, :3], stage))
        if stage.perceptual_weight and model.encoder.headnet is not None:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                difference = token_loss(model.encoder.headnet, views.rgb, target[:, :3], stage.perceptual_size)
            seen.append(stage.perceptual_weight * difference)
    losses = {}
    if pixels:
        losses["pictures"] = torch.stack(pixels).mean()
    if seen:
        losses["perceptual"] = torch.stack(seen).mean()
    return losses


def plain_loss(rgb: Tensor, target: Tensor, stage: Stage) -> Tensor:
    """L1 and 1 - SSIM of pictures [C, 3, H, W] over black: what the perceptual loss is held against."""
    total = rgb.new_zeros(())
    if stage.l1_weight:
        total = total + stage.l1_weight * l1(rgb, target).mean()
    if stage.ssim_weight:
        total = total + stage.ssim_weight * dissimilarity(rgb, target).mean()
    return total


def anchor_rows(patches: Tensor, each: int) -> Tensor:
    """Rows of the anchors of these patches."""
    return (patches[:, None] * each + torch.arange(each)).flatten()


@torch.no_grad()
def reconstruct(model: PercHead, picture: Tensor, camera: Cameras | None = None) -> list[Gaussians]:
    """Heads of pictures [B, 4, S, S], as served: with the model's own camera estimate unless one is given."""
    tokens = model.encode(picture[:, :3], picture[:, 3:], camera)
    return model.decode(tokens)

"""What `mini`'s decoder is trained by: anchors directly, and pictures of heads from further sides.

Legend: B batch, C cameras, N anchors, S picture side.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from headlift.model.cameras import cameras_from_pose, pose_from_cameras
from headlift.model.mini.model import MiniHead
from headlift.model.types import HEAD_CENTER, Cameras, Gaussians, ImageTokens, RenderedViews
from headlift_trainer.cameras import crop_cameras
from headlift_trainer.datasets.synthetic import HeadBatch
from headlift_trainer.losses import anchor_loss, dissimilarity, l1, picture_loss, token_loss
from headlift_trainer.recipes.mini import DecoderStage
from headlift_trainer.splatting import splat


def forward_training_batch(model: MiniHead, batch: HeadBatch, camera: Cameras | None) -> tuple[ImageTokens, Gaussians]:
    """The training step's own way from pictures to heads: encoder and decoder, B heads together.

    `stages.reconstruct`, the served way, makes the same two calls; what it does beyond them (holes filled, monochrome
    pictures matched, refinement) has no weights to train, and is left out here.
    """
    tokens = model.encode(batch.picture[:, :3], batch.picture[:, 3:], camera)
    return tokens, model.decode_batch(tokens)


def noisy_cameras(viewmats: Tensor, size: int, noise: float, generator: torch.Generator) -> Cameras:
    """The true cameras, off by about as much as an estimate is."""
    pose = pose_from_cameras(crop_cameras(viewmats, size))
    return cameras_from_pose(pose + noise * torch.randn(pose.shape, generator=generator), size)


def turned(batch: HeadBatch, viewmats: Tensor) -> HeadBatch:
    """The batch with its heads turned about HEAD_CENTER so that cameras estimated at ``viewmats`` [B, 4, 4] look right.

    Nobody minds a head that is turned by two degrees as a whole, but a network that is judged by it learns to blur the
    face. Only the turn is made good: a wrong distance would show as a shift from the side.
    """
    turn = batch.viewmats[:, :3, :3].mT @ viewmats[:, :3, :3]  # from the estimate's frame to the true one
    center = turn.new_tensor(HEAD_CENTER)
    matrix = torch.eye(4, device=turn.device).repeat(len(turn), 1, 1)
    matrix[:, :3, :3] = turn
    matrix[:, :3, 3] = center - turn @ center
    return replace(
        batch,
        viewmats=batch.viewmats @ matrix,
        means=(batch.means - center) @ turn + center,
        target_viewmats=None if batch.target_viewmats is None else batch.target_viewmats @ matrix[:, None],
    )


def decoder_losses(
    model: MiniHead, batch: HeadBatch, camera: Cameras | None, stage: DecoderStage, generator: torch.Generator
) -> dict[str, Tensor]:
    """The parts of the loss, weighted; they add up to it.

    Args:
        model: On the batch's device. Under autocast its networks, and HeadNet's tokens, run in that precision; geometry
            and pixels stay in single precision.
        batch: On that device too.
        camera: What the encoder is given of each picture; None: its own estimate.
        stage: Weights.
        generator: Of the backgrounds, and of whose frame is judged in.
    """
    tokens, heads = forward_training_batch(model, batch, camera)
    with torch.autocast(batch.picture.device.type, enabled=False):
        # A camera that were judged in its own frame would always be right, so only where it is not trained.
        if camera is None and tokens.camera is not None and _chance(generator) < stage.own_frames:
            batch = turned(batch, tokens.camera.viewmats.detach().float())
        direct = anchor_loss(heads.means, heads.colors, batch.means, batch.colors, batch.visibility)
    losses = {"anchors": stage.anchor_weight * direct}
    return losses | (view_losses(model, heads, batch, stage, generator) if stage.views else {})


def view_losses(
    model: MiniHead, heads: Gaussians, batch: HeadBatch, stage: DecoderStage, generator: torch.Generator
) -> dict[str, Tensor]:
    """Mean picture loss of B heads against their further pictures, and how differently HeadNet sees them."""
    assert batch.target is not None
    assert batch.target_viewmats is not None
    size = batch.target.shape[-1]
    rendered = splat(heads, [crop_cameras(viewmats, size) for viewmats in batch.target_viewmats])
    parts: dict[str, list[Tensor]] = {"pictures": [], "perceptual": []}
    for views, target in zip(rendered, batch.target, strict=True):
        with torch.autocast(target.device.type, enabled=False):
            parts["pictures"] += pixel_losses(views, target, stage, generator)
        if stage.perceptual_weight:
            difference = token_loss(model.encoder.headnet, views.rgb, target[:, :3], stage.perceptual_size)
            parts["perceptual"].append(stage.perceptual_weight * difference)
    return {name: torch.stack(values).mean() for name, values in parts.items() if values}


def pixel_losses(views: RenderedViews, target: Tensor, stage: DecoderStage, generator: torch.Generator) -> list[Tensor]:
    """Weighted losses of one head's views against their pictures [C, 4, S, S]; those without a weight are left out."""
    found = []
    background = torch.rand(len(target), 3, 1, 1, generator=generator).to(target.device)
    if stage.pixel_weight:
        found.append(stage.pixel_weight * picture_loss(views.rgb, views.alpha, target, background))
    if stage.l1_weight or stage.ssim_weight:  # over black: what the perceptual loss is held against
        plain = stage.l1_weight * l1(views.rgb, target[:, :3]).mean()
        found.append(plain + stage.ssim_weight * dissimilarity(views.rgb, target[:, :3]).mean())
    return found


def _chance(generator: torch.Generator) -> float:
    return float(torch.rand(1, generator=generator))

"""Perceptual losses: pictures compared in the feature spaces of frozen networks (paper, section 3.3).

`dino_loss`, `sam_loss`, `shp_loss`, `lpips_loss` and `headnet_loss` make one term each, `PerceptualLoss` adds terms up,
`load_perceptual` and `load_objective` build it from local files; `ABLATIONS` names the paper's variants and ours.
"""

from headlift_trainer.perceptual.combined import ABLATIONS, EncodedTargets, PerceptualLoss, composited
from headlift_trainer.perceptual.loading import load_objective, load_perceptual
from headlift_trainer.perceptual.maps import LpipsLoss, PixelLoss, SamLoss, l1_loss, lpips_loss, sam_loss, ssim_loss
from headlift_trainer.perceptual.term import Framing, Memory, PictureTerm
from headlift_trainer.perceptual.tokens import (
    PEER_FRAMING,
    DinoTokens,
    TokenLoss,
    TokenNetwork,
    dino_loss,
    headnet_loss,
    shp_loss,
)

__all__ = [
    "ABLATIONS",
    "PEER_FRAMING",
    "DinoTokens",
    "EncodedTargets",
    "Framing",
    "LpipsLoss",
    "Memory",
    "PerceptualLoss",
    "PictureTerm",
    "PixelLoss",
    "SamLoss",
    "TokenLoss",
    "TokenNetwork",
    "composited",
    "dino_loss",
    "headnet_loss",
    "l1_loss",
    "load_objective",
    "load_perceptual",
    "lpips_loss",
    "sam_loss",
    "shp_loss",
    "ssim_loss",
]

"""The encoder of `mini`: the paper's trained branch over colours and matte, beside layers of HeadNet.

Legend: B batch, S portrait side, I encoder input side, G patches a side, P kept patches, D width, L landmarks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.model.cameras import POSE_DIM
from headlift.model.layers import Mlp, area_resized
from headlift.model.mini.config import HeadNetConfig, MiniEncoderConfig
from headlift.model.mini.headnet import HeadNet, HeadNetOutput
from headlift.model.mini.landmark_fit import LandmarkErrors
from headlift.model.mini.parsing_groups import group_probabilities
from headlift.model.mini.thumbnail import ThumbnailHead
from headlift.model.perchead.encoder import VitBranch, fused_tokens
from headlift.model.types import ImageTokens

_POOL = 4  # cells a side that HeadNet's tokens are pooled to for its summary


@dataclass(frozen=True)
class HeadNetFeatures:
    """What HeadNet says of portraits, for the encoder and for the fit of camera and shape."""

    tokens: list[Tensor]  # of the chosen layers, [B, G * G, D] each
    summary: Tensor  # [B, m]
    landmarks: Tensor  # [B, L, 2]
    spread: Tensor  # [B, L]
    parsing: Tensor  # [B, 6, h, h] 0..1 of the groups


class MiniEncoder(nn.Module):
    """Portraits to ``ImageTokens``, and HeadNet's features on the way."""

    def __init__(self, config: MiniEncoderConfig, code_rank: int) -> None:
        super().__init__()
        self.config = config
        self.vit = VitBranch(config, channels=4)
        self.headnet = HeadNet(config.headnet).requires_grad_(False)
        self.landmark_errors = LandmarkErrors(config.headnet.landmarks)
        frozen_dim = config.headnet.dim * len(config.headnet_layers)
        self.fuse = Mlp(frozen_dim + config.dim, config.fusion_dim, config.fusion_dim)
        self.thumbnail_head = ThumbnailHead(config, code_rank, summary_dim(config.headnet))

    def forward(self, pixels: Tensor) -> tuple[ImageTokens, HeadNetFeatures]:
        """Pixels [B, 4, S, S], RGB multiplied by alpha and alpha -> tokens of the foreground patches, and features."""
        small = area_resized(pixels, self.config.image_size)
        trained, features = self.vit(small), self.read(small[:, :3])
        tokens = fused_tokens(self.fuse, torch.cat([trained, *features.tokens], -1), small[:, 3:], self.config)
        return tokens, features

    @torch.no_grad()
    def read(self, pictures: Tensor) -> HeadNetFeatures:
        """HeadNet's features of pictures [B, 3, I, I]."""
        output, layers = self.headnet.read(pictures)
        tokens = [layers[i][:, 1:] for i in self.config.headnet_layers]
        parsing = group_probabilities(output.parsing.float().softmax(1))
        return HeadNetFeatures(tokens, summarise(output, layers[-1]), output.landmarks, output.spread, parsing)


def summary_dim(config: HeadNetConfig) -> int:
    """Numbers in ``summarise``."""
    return (_POOL * _POOL + 1) * config.dim + 2 * config.landmarks + POSE_DIM


def summarise(output: HeadNetOutput, last: Tensor) -> Tensor:
    """HeadNet's answer as plain numbers [B, m]: its last tokens [B, 1 + G * G, D] pooled, landmarks, pose."""
    side = math.isqrt(last.shape[1] - 1)
    grid = last[:, 1:].transpose(1, 2).reshape(len(last), -1, side, side)
    cells = F.adaptive_avg_pool2d(grid, _POOL).flatten(1)
    return torch.cat([cells, last[:, 0], output.landmarks.flatten(1), output.pose], -1).float()

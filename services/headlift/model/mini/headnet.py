"""HeadNet: our own small foundation network for pictures of heads. One ViT, read in many ways.

    picture --convolutions--> tokens --ViT blocks--> tokens --up--> parsing, matte, landmark maps
                                          |-- class token --> pose, identity
                                          '-- every layer --> a feature space (the encoder's frozen branch, a loss)

Trained from nothing on generated heads (headlift_trainer.headnet), it takes the places that DINOv2, a face parser, a
matting network and a landmark detector take in larger set-ups. Landmarks are anchors of the head template, so that a
picture's landmarks and a head's Gaussians correspond by row.

Legend: B batch, S picture side, G = S / 16 tokens a side, D width, L landmarks, h = S / 2.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.cameras import FRONTAL_POSE, POSE_DIM
from headlift.model.layers import SelfAttentionBlock, full_precision, sine_positions, zero_init
from headlift.model.mini.config import HeadNetConfig
from headlift.model.passes import count_pass

NUM_CLASSES = 19
STRIDE = 16
FORMAT = "headlift-headnet-1"

__all__ = [
    "FORMAT",
    "NUM_CLASSES",
    "STRIDE",
    "HeadNet",
    "HeadNetConfig",
    "HeadNetOutput",
    "load_headnet",
    "save_headnet",
]


@dataclass(frozen=True)
class HeadNetOutput:
    """All that HeadNet says of B pictures."""

    parsing: Tensor  # [B, 19, h, h] logits, classes of facer's `celebm` order
    alpha: Tensor  # [B, 1, h, h] logits
    landmarks: Tensor  # [B, L, 2] x, y in 0..1 of the picture; may lie outside where the head does
    spread: Tensor  # [B, L] expected error of each landmark, share of the picture's side
    pose: Tensor  # [B, 9] as cameras.cameras_from_pose reads it
    identity: Tensor  # [B, identity_dim] unit vectors; near each other for pictures of one person


class HeadNet(nn.Module):
    """The network. Pictures are [B, 3, S, S] in 0..1, S a multiple of 16; trained for the portrait crop."""

    def __init__(self, config: HeadNetConfig, landmark_rows: Tensor | None = None) -> None:
        """Build with random weights.

        Args:
            config: Every number.
            landmark_rows: [L] int64, which template anchor each landmark is; zeros until weights are loaded.
        """
        super().__init__()
        self.config = config
        first, second, third = config.stem
        widths = (3, first, second, third, config.dim)
        self.stem = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(1, b), nn.GELU()) for a, b in pairwise(widths)
        )
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, config.dim))
        self.blocks = nn.ModuleList(
            SelfAttentionBlock(config.dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        # A depthwise convolution before each block: nearness is what a ViT learns slowest.
        self.local = nn.ModuleList(
            nn.Conv2d(config.dim, config.dim, 3, 1, 1, groups=config.dim) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.dim)
        self.dense = DenseHead(config)
        self.pose = nn.Linear(config.dim, POSE_DIM)
        zero_init(self.pose)
        with torch.no_grad():
            self.pose.bias.copy_(torch.tensor(FRONTAL_POSE))
        self.identity = nn.Linear(config.dim, config.identity_dim)
        self.landmark_rows: Tensor
        rows = torch.zeros(config.landmarks, dtype=torch.int64) if landmark_rows is None else landmark_rows
        self.register_buffer("landmark_rows", rows.clone())

    def forward(self, pictures: Tensor) -> HeadNetOutput:
        """[B, 3, S, S] -> everything.

        Raises:
            InvalidInputError: Not three channels, not square, or a side that is no multiple of 16.
        """
        return self.read(pictures)[0]

    def read(self, pictures: Tensor) -> tuple[HeadNetOutput, list[Tensor]]:
        """[B, 3, S, S] -> everything, and the tokens of every layer as ``layers`` gives them, in one pass."""
        count_pass("headnet")
        maps = self._stem(pictures)
        layers = self._tokens(maps[-1])
        tokens = self.norm(layers[-1])
        side = maps[-1].shape[-1]
        grid = tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)
        parsing, alpha, landmarks, spread = self.dense(grid, maps)
        identity = F.normalize(self.identity(tokens[:, 0]), dim=-1)
        return HeadNetOutput(parsing, alpha, landmarks, spread, self.pose(tokens[:, 0]), identity), layers

    def layers(self, pictures: Tensor, chosen: Sequence[int] | None = None) -> list[Tensor]:
        """Tokens after each block, or after the ``chosen`` ones: [B, 1 + G * G, D] each, class token first."""
        count_pass("headnet")
        layers = self._tokens(self._stem(pictures)[-1])
        return layers if chosen is None else [layers[i] for i in chosen]

    def _stem(self, pictures: Tensor) -> list[Tensor]:
        """Maps at strides 2, 4, 8 and 16."""
        _, channels, height, width = pictures.shape
        if channels != 3 or height != width or height % STRIDE:
            raise InvalidInputError(
                f"HeadNet was given {tuple(pictures.shape)}; it needs [B, 3, S, S] with S a multiple of {STRIDE}."
            )
        maps, x = [], 2 * pictures - 1
        for step in self.stem:
            x = step(x)
            maps.append(x)
        return maps

    def _tokens(self, grid: Tensor) -> list[Tensor]:
        batch, dim, side, _ = grid.shape
        x = grid.flatten(2).transpose(1, 2) + sine_positions(side, dim).to(grid)
        x = torch.cat([self.class_token.expand(batch, -1, -1).to(x.dtype), x], 1)
        layers = []
        for block, local in zip(self.blocks, self.local, strict=True):
            near = x[:, 1:].transpose(1, 2).reshape(batch, dim, side, side)
            x = torch.cat([x[:, :1], x[:, 1:] + local(near).flatten(2).transpose(1, 2)], 1)
            x = block(x)
            layers.append(x)
        return layers


class DenseHead(nn.Module):
    """Tokens back to a picture: parsing and matte at half the side, landmarks as soft maxima of maps at a quarter."""

    def __init__(self, config: HeadNetConfig) -> None:
        super().__init__()
        _, second, third = config.stem
        neck = config.neck
        self.from_tokens = nn.Conv2d(config.dim, 2 * neck, 1)
        self.from_third = nn.Conv2d(third, 2 * neck, 1)
        self.mix_third = nn.Sequential(nn.Conv2d(2 * neck, neck, 3, 1, 1), nn.GroupNorm(1, neck), nn.GELU())
        self.from_second = nn.Conv2d(second, neck, 1)
        self.mix_second = nn.Sequential(nn.Conv2d(neck, neck, 3, 1, 1), nn.GroupNorm(1, neck), nn.GELU())
        self.classes = nn.Conv2d(neck, 4 * (NUM_CLASSES + 1), 3, 1, 1)
        self.maps = nn.Conv2d(neck, config.landmarks, 1)
        self.doubt = nn.Parameter(torch.zeros(config.landmarks, neck))
        self.doubt_bias = nn.Parameter(torch.full((config.landmarks,), -4.0))

    def forward(self, grid: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """[B, D, G, G] and the stem's maps -> parsing, alpha, landmarks, spread."""
        x = _doubled(self.from_tokens(grid)) + self.from_third(maps[2])
        x = _doubled(self.mix_third(F.gelu(x))) + self.from_second(maps[1])
        x = self.mix_second(x)
        dense, maps_of_landmarks = F.pixel_shuffle(self.classes(x), 2), self.maps(x)
        with full_precision(x.device):
            heat = maps_of_landmarks.float().flatten(2).softmax(-1)  # [B, L, n]
            features = x.float().flatten(2).transpose(1, 2)  # [B, n, C]
            side = x.shape[-1]
            line = (torch.arange(side, device=x.device) + 0.5) / side
            places = torch.stack([line.repeat(side), line.repeat_interleave(side)], -1)
            # Maps end at the border; a stretch about the middle lets landmarks lie a little outside.
            landmarks = 0.5 + 1.15 * (heat @ places - 0.5)
            about = heat @ features  # [B, L, C]
            spread = ((about * self.doubt).sum(-1) + self.doubt_bias).clamp(-7, 1).exp()
        return dense[:, :NUM_CLASSES], dense[:, NUM_CLASSES:], landmarks, spread


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def save_headnet(path: Path, net: HeadNet, metadata: dict[str, str] | None = None) -> None:
    """Write weights in half precision with the config in the header; atomic."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous()
        for name, value in net.state_dict().items()
    }
    header = {"format": FORMAT, "config": json.dumps(asdict(net.config), sort_keys=True)} | (metadata or {})
    partial = path.with_suffix(".part")
    save_file(tensors, partial, metadata=header)
    partial.replace(path)


def load_headnet(path: Path) -> HeadNet:
    """Read what ``save_headnet`` wrote: float32, frozen, in evaluation mode.

    Raises:
        MissingWeightsError: There is no such file.
        InvalidInputError: The file is no HeadNet, or is damaged.
    """
    if not path.is_file():
        raise MissingWeightsError(f"There are no HeadNet weights {path.name}; train them or reinstall the package.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no dict)
    except (SafetensorError, OSError) as error:
        raise InvalidInputError(f"{path.name} is no readable safetensors file.") from error
    if header.get("format") != FORMAT:
        raise InvalidInputError(
            f"{path.name} holds no HeadNet: its format is {header.get('format')!r}, not {FORMAT!r}."
        )
    return headnet_of(header["config"], tensors)


def headnet_of(config: str, tensors: dict[str, Tensor]) -> HeadNet:
    """A frozen HeadNet from its config as JSON and its tensors.

    Raises:
        InvalidInputError: They do not belong together.
    """
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(config).items()}
        net = HeadNet(HeadNetConfig(**values))
        net.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in tensors.items()})
    except (ValueError, TypeError, RuntimeError) as error:
        raise InvalidInputError("The weights do not fit the HeadNet config that comes with them.") from error
    return net.eval().requires_grad_(False)

"""Editing: a painted map says where everything is, a style says how it appears (paper, section 3.4).

    labels --one-hot--> ViT-Geom --+--> MLP --> ImageTokens --TemplateDecoder--> Gaussians
    style (one CLIP vector) --------'  on every patch

Only the encoder is new; the decoder is the reconstruction's. Models whose decoder also wants pixels, camera and head
code (`mini`) paint a portrait from map and style, and give that to the reconstruction encoder: the decoder then gets
what it was trained on, and stays as it is. Geometry follows from the map alone there.

Legend: B batch, H side of a map, I side of ViT-Geom's input, G patches a side, P foreground patches, D style.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift.model.edit.painter import Painter, PainterConfig
from headlift.model.edit.style import StyleConfig
from headlift.model.layers import Mlp, resized
from headlift.model.mini.encoder import HeadNetFeatures
from headlift.model.mini.headnet import NUM_CLASSES
from headlift.model.mini.model import MiniHead
from headlift.model.mini.parsing_groups import group_probabilities
from headlift.model.perchead.config import VitConfig
from headlift.model.perchead.encoder import VitBranch, foreground_patches, patch_centers
from headlift.model.sizes import HeadModel
from headlift.model.types import Cameras, Gaussians, ImageTokens

CLIP_DIMS: Mapping[str, int] = {"ViT-L-14": 768, "ViT-B-32": 512}  # open_clip's names -> width of the embedding
_OUTLINE_STEPS = 24  # an outline that was painted is meant
_PARSING_SIDE = 128  # side of the parsing that the decoder reads, pixels


@dataclass(frozen=True)
class EditConfig:
    """Every number of an editing encoder."""

    name: str = "base"
    reconstruction: str = "base"  # size of the model whose decoder it speaks to
    # ViT-Geom: the trained branch of the reconstruction encoder over 19 channels; guess: of its size
    geometry: VitConfig = field(default_factory=VitConfig)
    clip: str | None = "ViT-L-14"  # open_clip's name; None: the small CLIP of our own
    style: StyleConfig | None = None  # that one
    painter: PainterConfig | None = None  # for models that read pixels; None is the paper
    map_size: int = 256  # side of maps that people paint, pixels

    def __post_init__(self) -> None:
        if (self.clip is None) == (self.style is None):
            raise InvalidInputError("Give clip or style, one of them.", field="clip")
        if self.clip is not None and self.clip not in CLIP_DIMS:
            raise InvalidInputError(f"clip is {self.clip!r}; choose one of {', '.join(CLIP_DIMS)}.", field="clip")

    @property
    def style_dim(self) -> int:
        """Width of a style."""
        return self.style.dim if self.style is not None else CLIP_DIMS[self.clip or ""]

    def to_json(self) -> str:
        """Text that ``from_json`` reads back to an equal config."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> EditConfig:
        """Read what ``to_json`` wrote. InvalidInputError: it is something else."""
        parts = {"geometry": VitConfig, "style": StyleConfig, "painter": PainterConfig}
        try:
            values: dict[str, Any] = json.loads(text)
            # Files of the first format describe ViT-Geom by a whole encoder's config.
            values["geometry"] = {f.name: values["geometry"][f.name] for f in fields(VitConfig)}
            for key, part in parts.items():
                if values[key] is not None:
                    values[key] = part(**{k: tuple(v) if isinstance(v, list) else v for k, v in values[key].items()})
            return cls(**{f.name: values[f.name] for f in fields(cls)})
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInputError("This is no config of an editing model.") from error


class EditEncoder(nn.Module):
    """ViT-Geom over the map, the style on every patch, an MLP (paper, figure 4)."""

    def __init__(self, config: EditConfig) -> None:
        super().__init__()
        self.config = config
        geometry = config.geometry
        self.vit = VitBranch(geometry, NUM_CLASSES)
        self.fuse = Mlp(geometry.dim + config.style_dim, geometry.fusion_dim, geometry.fusion_dim)
        self.painter = (
            Painter(config.painter, geometry.fusion_dim, config.style_dim) if config.painter is not None else None
        )
        self.neutral: Tensor  # the mean style, which geometry is read with
        self.register_buffer("neutral", F.normalize(torch.ones(config.style_dim), dim=-1))

    def forward(
        self,
        labels: Tensor,  # [B, H, H] 0..18
        style: Tensor,  # [B, D] unit
    ) -> ImageTokens:
        """Tokens of the foreground patches: those that show anything but background.

        Raises:
            InvalidInputError: The shapes do not belong together, or a label is unknown.
        """
        maps = one_hot(labels)
        _check_style(style, len(labels), self.config.style_dim)
        geometry = self.config.geometry
        features = self._features(maps, style)
        foreground = resized(1 - maps[:, :1], geometry.image_size)
        index, mask = foreground_patches(foreground, geometry.patch_size, geometry.foreground_threshold)
        tokens = torch.take_along_dim(features, index[..., None], 1) * mask[..., None]
        return ImageTokens(tokens, mask, patch_centers(index, geometry.grid))

    def paint(self, labels: Tensor, style: Tensor, size: int | None = None) -> Tensor:
        """A portrait of the map [B, H, H] with the style [B, D]: [B, 4, size, size] RGB times alpha, and alpha.

        Raises:
            InvalidInputError: As ``forward``, or the model does not paint.
        """
        if self.painter is None:
            raise InvalidInputError(f"The editing model {self.config.name!r} does not paint; it gives tokens.")
        _check_style(style, len(labels), self.config.style_dim)
        return self.paint_soft(one_hot(labels), style, size)

    def paint_soft(self, maps: Tensor, style: Tensor, size: int | None = None) -> Tensor:
        """As ``paint``, of soft one-hot maps [B, 19, H, H]."""
        assert self.painter is not None
        grid = self.config.geometry.grid
        tokens = self._features(maps, style).transpose(1, 2).reshape(len(maps), -1, grid, grid)
        colors = self.painter(maps, style, tokens, size)
        alpha = 1 - resized(maps[:, :1], colors.shape[-1])
        return torch.cat([colors * alpha, alpha], 1)

    def _features(self, maps: Tensor, style: Tensor) -> Tensor:
        """Fused tokens of every patch, [B, G * G, fusion_dim]."""
        tokens = self.vit(resized(maps, self.config.geometry.image_size))
        styles = style[:, None].expand(-1, tokens.shape[1], -1).to(tokens.dtype)
        out: Tensor = self.fuse(torch.cat([tokens, styles], -1))
        return out


@dataclass(frozen=True)
class MapShape:
    """The shape that maps give."""

    code: Tensor  # [B, Kg] the geometry half of the head code
    deformation: Tensor  # [B, 2, G, G]


class EditModel(nn.Module):
    """An editing encoder with the reconstruction model whose decoder it speaks to."""

    def __init__(self, config: EditConfig, reconstruction: HeadModel) -> None:
        """Build with random weights.

        Args:
            config: Every number.
            reconstruction: Trained; becomes part of this module, and may be frozen by the caller.

        Raises:
            InvalidInputError: They do not fit together.
        """
        super().__init__()
        needs_pixels = isinstance(reconstruction, MiniHead)
        if needs_pixels != (config.painter is not None):
            raise InvalidInputError(
                f"The model {reconstruction.config.name!r} {'reads' if needs_pixels else 'does not read'} pixels, "
                f"and the editing model {config.name!r} {'paints' if config.painter else 'does not paint'} them.",
                field="painter",
            )
        if config.painter is None and config.geometry.fusion_dim != reconstruction.config.encoder.fusion_dim:
            raise InvalidInputError(
                f"fusion_dim is {config.geometry.fusion_dim}; the decoder of {reconstruction.config.name!r} reads "
                f"tokens of {reconstruction.config.encoder.fusion_dim}.",
                field="fusion_dim",
            )
        self.config = config
        self.encoder = EditEncoder(config)
        self.reconstruction = reconstruction

    def forward(self, labels: Tensor, style: Tensor, camera: Cameras) -> list[Gaussians]:
        """Heads of maps [B, H, H] with styles [B, D], the maps from cameras (C = B)."""
        return self.decode(self.encode(labels, style, camera))

    def encode(self, labels: Tensor, style: Tensor, camera: Cameras, geometry: MapShape | None = None) -> ImageTokens:
        """What the decoder needs.

        Args:
            labels: [B, H, H] 0..18.
            style: [B, D] unit.
            camera: Of the maps, C = B; the paper's form has no use for it.
            geometry: What ``geometry`` answered for these maps, where it is known already.
        """
        if self.encoder.painter is None:
            straight: ImageTokens = self.encoder(labels, style)
            return straight
        tokens, _ = self._observed(labels, style, camera)
        shape = self.geometry(labels, camera) if geometry is None else geometry
        assert tokens.observation is not None
        assert shape is not None
        code = torch.cat([shape.code, tokens.observation.code[:, shape.code.shape[1] :]], -1)
        return replace(tokens, observation=replace(tokens.observation, code=code, deformation=shape.deformation))

    def geometry(self, labels: Tensor, camera: Cameras) -> MapShape | None:
        """The shape that maps give; None for the paper's models, which read it from tokens.

        It is read from the map painted with the mean style, so that no style moves it: landmarks first, then the
        outline.
        """
        model = self.reconstruction
        if not isinstance(model, MiniHead):
            return None
        tokens, features = self._observed(labels, self.encoder.neutral.expand(len(labels), -1), camera)
        tokens = model.fit_camera_and_shape(tokens, features, fixed_camera=True, outline_steps=_OUTLINE_STEPS)
        assert tokens.observation is not None
        return MapShape(tokens.observation.code[:, : model.config.geometry_rank], tokens.observation.deformation)

    def decode(self, tokens: ImageTokens) -> list[Gaussians]:
        """One head per row of ``tokens``."""
        return self.reconstruction.decode(tokens)

    def _observed(self, labels: Tensor, style: Tensor, camera: Cameras) -> tuple[ImageTokens, HeadNetFeatures]:
        """The painted portrait as `mini` observes it, its parsing replaced by what was painted."""
        model = self.reconstruction
        assert isinstance(model, MiniHead)
        size = max(labels.shape[-1], model.config.encoder.image_size)
        rgba = self.encoder.paint(labels, style, size)
        tokens, features = model.observe(rgba[:, :3], rgba[:, 3:], camera.resized(size, size))
        assert tokens.observation is not None
        parsing = group_probabilities(resized(one_hot(labels), min(_PARSING_SIDE, labels.shape[-1])))
        return replace(tokens, observation=replace(tokens.observation, parsing=parsing)), features


def one_hot(labels: Tensor) -> Tensor:
    """Labels [B, H, H] of any integer type to [B, 19, H, H] float.

    Raises:
        InvalidInputError: Another shape, or a label outside 0..18.
    """
    if labels.dim() != 3 or labels.shape[1] != labels.shape[2] or not labels.numel():
        raise InvalidInputError(f"Maps are {tuple(labels.shape)}; they must be [B, H, H], B and H >= 1.", field="map")
    highest = int(labels.max())
    if highest >= NUM_CLASSES or int(labels.min()) < 0:
        raise InvalidInputError(f"A map holds the label {highest}; labels are 0..{NUM_CLASSES - 1}.", field="map")
    return F.one_hot(labels.long(), NUM_CLASSES).permute(0, 3, 1, 2).float()


def _check_style(style: Tensor, batch: int, dim: int) -> None:
    if tuple(style.shape) != (batch, dim):
        raise InvalidInputError(f"Styles are {tuple(style.shape)}; {(batch, dim)} is needed.", field="style")


def named_edit_config(name: str) -> EditConfig:
    """The named size; InvalidInputError lists the names that exist."""
    if name not in EDIT_CONFIGS:
        raise InvalidInputError(f"There is no editing model {name!r}; choose one of {', '.join(EDIT_CONFIGS)}.")
    return EDIT_CONFIGS[name]


def _mini() -> EditConfig:
    geometry = VitConfig(
        image_size=128, patch_size=16, dim=192, num_heads=6, mlp_ratio=3.0, stem="conv", fusion_dim=256
    )
    return EditConfig("mini", "mini", geometry, None, StyleConfig(), PainterConfig())


def _tiny() -> EditConfig:
    geometry = VitConfig(image_size=32, patch_size=16, dim=32, depth=1, num_heads=2, stem="conv", fusion_dim=32)
    return EditConfig(
        "tiny", "tiny", geometry, None, StyleConfig(16, 32, 16, 1, 2), PainterConfig(32, (8, 8, 16), (16, 8, 8), 16), 64
    )


EDIT_CONFIGS: Mapping[str, EditConfig] = {
    "base": EditConfig(),
    "light": EditConfig("light", "light", clip="ViT-B-32"),
    "mini": _mini(),
    "tiny": _tiny(),
}

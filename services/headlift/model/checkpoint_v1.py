"""Checkpoints of the first format, in which ``mini`` was a PercHead with switches; the shipped weights are such a file.

Goes with the last file of that format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.model.checks import build_config
from headlift.model.mini.config import MiniConfig
from headlift.model.perchead.config import PercHeadConfig

FORMAT_V1 = "headlift.perchead.v1"
_PREFIXES = {  # of tensors: then -> now
    "decoder.head_code.": "morphable.",
    "decoder.embed_code.": "embed_code.",
    "decoder.guidance.sightings.": "guidance.embed_samples.",
    "decoder.guidance.": "guidance.",
}
_MINI_FIELDS = {  # of the decoder's config, now the model's: then -> now
    "geometry_rank": "geometry_rank",
    "color_rank": "color_rank",
    "code_doubt": "color_ridge",
    "silhouette_steps": "outline_steps",
    "warp_cells": "deformation_cells",
    "closed": "min_disc_overlap",
    "hair_grain": "hair_grain",
}
_GONE_ENCODER = ("sees_alpha", "estimates_camera", "head_dim")
_BACKBONE = ("backbone", "backbone_layers", "layer_convention")
_OURS = ("headnet", "headnet_layers", "thumbnail", "thumbnail_features", "gradient_cells")


def tensors_of_v1(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under their names of now."""
    return {_renamed(name): value for name, value in tensors.items()}


def _renamed(name: str) -> str:
    for before, after in _PREFIXES.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


def config_of_v1(text: str) -> MiniConfig | PercHeadConfig:
    """The config of a file of the first format.

    Raises:
        InvalidInputError: Not JSON, or a model with some of mini's switches only, which no release had.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        encoder, decoder = dict(values["encoder"]), dict(values["decoder"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"The model config is not readable: {error}.") from error
    is_mini = encoder.get("headnet") is not None
    for name in (*_GONE_ENCODER, *(_BACKBONE if is_mini else _OURS)):
        encoder.pop(name, None)
    switches = {now: decoder.pop(then, 0) for then, now in _MINI_FIELDS.items()}
    decoder.pop("guidance", None)
    decoder.pop("hair_cover", None)
    config = values | {"encoder": encoder, "decoder": decoder}
    if not is_mini:
        return build_config(PercHeadConfig, config, "config")
    return build_config(MiniConfig, config | switches, "config")

"""The named sizes, and the model that a config stands for.

``base``, ``light`` and ``light_s`` are the paper's; ``mini`` is ours and shipped; ``tiny`` is a ``mini`` for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

from headlift.errors import IncompatibleWeightsError, InvalidInputError
from headlift.model.mini.config import HeadNetConfig, MiniConfig, MiniEncoderConfig
from headlift.model.mini.headnet import HeadNet
from headlift.model.mini.model import MiniHead
from headlift.model.perchead.config import DecoderConfig, EncoderConfig, PercHeadConfig, SharpenerConfig
from headlift.model.perchead.encoder import Backbone
from headlift.model.perchead.model import PercHead
from headlift.model.template import Template

HeadModel = PercHead | MiniHead
HeadModelConfig = PercHeadConfig | MiniConfig

# What fills weights with random numbers.
_DRAWS = (Tensor.uniform_, Tensor.normal_, init.kaiming_uniform_, init.uniform_, init.normal_)

_TINY = MiniConfig(
    "tiny",
    64,
    MiniEncoderConfig(
        image_size=32, dim=32, depth=1, num_heads=2, fusion_dim=32, thumbnail=8, thumbnail_features=32,
        gradient_cells=4, headnet=HeadNetConfig(32, 2, 2, 2.0, 12, 8, (8, 8, 16), 8), headnet_layers=(0, 1),
    ),
    DecoderConfig(
        dim=32, depth=2, num_heads=2, residual="standard", num_patches=32, gaussian_dim=8, s_init=0.4, s_max=0.08
    ),
    SharpenerConfig(channels=8, depth=2, unshuffle=2, blur_sigma=1.0),
    geometry_rank=3, color_rank=2, outline_steps=2, deformation_cells=3,
)  # fmt: skip

CONFIGS: Mapping[str, HeadModelConfig] = {
    "base": PercHeadConfig(),
    "light": PercHeadConfig("light", decoder=DecoderConfig(depth=4), sharpener=None),
    "light_s": PercHeadConfig(
        "light_s",
        encoder=EncoderConfig(backbone="dinov2_vits14", backbone_layers=(2, 5, 8, 11)),
        decoder=DecoderConfig(depth=4),
        sharpener=None,
    ),
    "mini": MiniConfig(),
    "tiny": _TINY,
}


def named_config(name: str) -> HeadModelConfig:
    """The named size; InvalidInputError lists the names that exist."""
    if name not in CONFIGS:
        raise InvalidInputError(f"There is no model size {name!r}; choose one of {', '.join(CONFIGS)}.", field="config")
    return CONFIGS[name]


def build_model(config: HeadModelConfig, template: Template, backbone: Backbone | None = None) -> HeadModel:
    """The model of a config with random weights.

    Args:
        config: Either kind.
        template: Its anchors become part of the model and of its checkpoints.
        backbone: The frozen network that ``config.encoder.backbone`` names, for the paper's sizes.

    Raises:
        InvalidInputError: The template has another number of anchors, or a backbone comes for a model without.
    """
    if isinstance(config, PercHeadConfig):
        return PercHead(config, template, backbone)
    if backbone is not None:
        raise InvalidInputError(f"The model {config.name!r} has no place for a backbone; leave it out.")
    return MiniHead(config, template)


def build_unset_model(config: HeadModelConfig, template: Template, backbone: Backbone | None = None) -> HeadModel:
    """As ``build_model``, with weights that mean nothing until all of them are loaded: drawing them takes .4 s."""
    with _NothingDrawn():
        return build_model(config, template, backbone)


class _NothingDrawn(TorchFunctionMode):
    """Inside its ``with`` block random numbers are not drawn: memory stays as it was."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else given["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **given)


def require_headnet(model: HeadModel) -> HeadNet:
    """The HeadNet inside a model; IncompatibleWeightsError where it has none."""
    if not isinstance(model, MiniHead):
        raise IncompatibleWeightsError(
            f"The network {model.config.name!r} has no HeadNet, which this needs; take mini."
        )
    return model.encoder.headnet

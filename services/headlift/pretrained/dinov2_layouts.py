"""The two layouts in which DINOv2's weights are published, under the names that timm's network uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor


def to_timm(weights: Mapping[str, Tensor], *, registers: int) -> dict[str, Tensor]:
    """Weights of either published layout under timm's names.

    With registers timm keeps the class token's position in the class token itself, so the two are added here.
    """
    hugging_face = any(key.endswith("patch_embeddings.projection.weight") for key in weights)
    named = _from_hugging_face(weights) if hugging_face else _from_hub(weights)
    named.pop("mask_token", None)  # only pre-training uses it
    if registers and {"cls_token", "pos_embed"} <= named.keys():
        positions = named["pos_embed"]
        named["cls_token"] = named["cls_token"] + positions[:, :1]
        named["pos_embed"] = positions[:, 1:]
    return named


def _from_hub(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renames = {"register_tokens": "reg_token", ".mlp.w12.": ".mlp.fc1.", ".mlp.w3.": ".mlp.fc2."}
    return {_renamed(key, renames): value for key, value in weights.items()}


_HUGGING_FACE_NAMES = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "encoder.layer.": "blocks.",
    ".attention.attention.": ".attn.",
    ".attention.output.dense.": ".attn.proj.",
    ".layer_scale1.lambda1": ".ls1.gamma",
    ".layer_scale2.lambda1": ".ls2.gamma",
    ".mlp.weights_in.": ".mlp.fc1.",
    ".mlp.weights_out.": ".mlp.fc2.",
    "layernorm.": "norm.",
}


def _from_hugging_face(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Hugging Face keeps query, key and value apart; timm (and the hub) stack them in this order."""
    prefix = re.compile(r"^dinov2(_with_registers)?\.")
    named = {_renamed(prefix.sub("", key), _HUGGING_FACE_NAMES): value for key, value in weights.items()}
    for key in [k for k in named if ".attn.query." in k]:
        parts = [named.pop(key.replace("query", part), None) for part in ("query", "key", "value")]
        if all(part is not None for part in parts):
            named[key.replace("query", "qkv")] = torch.cat(cast(list[Tensor], parts))
    return {key: value for key, value in named.items() if not key.startswith("classifier.")}


def _renamed(key: str, renames: Mapping[str, str]) -> str:
    for old, new in renames.items():
        key = key.replace(old, new)
    return key

"""Styles: the terms of a request, checked, and embeddings as messages."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from headlift.errors import InvalidInputError
from headlift.v1 import edit_pb2 as pb

TERMS_MAX, TEXT_MAX, WEIGHT_MAX = 8, 200, 1000.0
_UNIT_TOLERANCE = 1e-2
Source = Literal["text", "picture", "head", "embedding"]


@dataclass(frozen=True)
class Term:
    """One checked part of a style."""

    message: pb.StyleTerm
    source: Source
    weight: float
    field: str  # its name in the request


def parse_style(message: pb.Style, field: str = "style") -> list[Term]:
    """The parts of a style, as far as they can be checked without the network.

    Raises:
        InvalidInputError: TOO_MANY_STYLES, or BAD_STYLE.
    """
    if not message.terms:
        raise bad_style(f"{field} has no terms; name at least one, or leave {field} out.", field)
    if len(message.terms) > TERMS_MAX:
        raise InvalidInputError(
            f"{field} mixes {len(message.terms)} terms; at most {TERMS_MAX} are mixed. Embed some of them first.",
            reason="TOO_MANY_STYLES",
            field=f"{field}.terms",
        )
    return [_parse_term(t, f"{field}.terms[{i}]") for i, t in enumerate(message.terms)]


def embedding_message(style: Tensor, fingerprint: str, picture: bytes = b"") -> pb.StyleEmbedding:
    """A style [D] as a message; ``picture`` is what it was made of."""
    return pb.StyleEmbedding(
        data=style.detach().cpu().float().numpy().astype("<f4").tobytes(),
        fingerprint=fingerprint,
        picture_sha256=hashlib.sha256(picture).hexdigest() if picture else "",
    )


def embedding_of(message: pb.StyleEmbedding, fingerprint: str, field: str) -> Tensor:
    """Inverse of ``embedding_message``. InvalidInputError: BAD_STYLE (another network's, or no direction)."""
    if message.fingerprint != fingerprint:
        raise bad_style(
            f"{field} was made by the network {message.fingerprint[:12]!r}, and {fingerprint[:12]!r} is asked; "
            "embed the style again.",
            field,
        )
    if not message.data or len(message.data) % 4:
        raise bad_style(f"{field} has {len(message.data)} bytes; 32-bit floats are needed.", field)
    style = torch.from_numpy(np.frombuffer(message.data, "<f4").astype(np.float32))
    length = float(style.norm())
    if not abs(length - 1.0) < _UNIT_TOLERANCE:  # also where it is not a number
        raise bad_style(f"{field} has the length {length:.3g}; send it as EmbedStyle gave it, of length 1.", field)
    return style


def bad_style(message: str, field: str) -> InvalidInputError:
    """The refusal of a style."""
    return InvalidInputError(message, reason="BAD_STYLE", field=field)


def _parse_term(message: pb.StyleTerm, field: str) -> Term:
    source = message.WhichOneof("source")
    if source is None:
        raise bad_style(f"{field} has no source; give text, picture, head or embedding.", field)
    weight = message.weight if message.HasField("weight") else 1.0
    if not (math.isfinite(weight) and 0.0 < weight <= WEIGHT_MAX):
        raise bad_style(f"{field}.weight is {weight:g}; it must be > 0 and at most {WEIGHT_MAX:g}.", f"{field}.weight")
    if source == "text" and not 1 <= len(message.text.strip()) <= TEXT_MAX:
        raise bad_style(f"{field}.text has {len(message.text)} characters; 1..{TEXT_MAX} are read.", f"{field}.text")
    if source == "picture" and not message.picture:
        raise bad_style(f"{field}.picture is empty; send the bytes of an image file.", f"{field}.picture")
    return Term(message, source, weight, field)

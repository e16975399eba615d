"""What a request must look like; every refusal names the field, the value, the limit and the way out."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from headlift.errors import InvalidInputError, PictureTooLargeError
from headlift.limits import REFINE_STEPS_MAX
from headlift.store.blobs import Durability
from headlift.store.heads import HeadName
from headlift.v1 import head_service_pb2 as pb

_SEGMENT = "[a-z0-9][a-z0-9-]{0,62}"
_PARENT = re.compile(f"tenants/({_SEGMENT})")
_NAME = re.compile(f"tenants/({_SEGMENT})/heads/({_SEGMENT})")
FACE_INDEX_MAX = 63
PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX = 50, 1000
_DURABILITIES: dict[int, Durability] = {
    pb.DURABILITY_UNSPECIFIED: Durability.DURABLE,
    pb.DURABILITY_DURABLE: Durability.DURABLE,
    pb.DURABILITY_HOT: Durability.HOT,
}


@dataclass(frozen=True)
class CreateOptions:
    """What a caller may choose about a reconstruction."""

    several_faces: Literal["largest", "refuse"] = "largest"
    face_index: int | None = None
    refine_steps: int = 0


@dataclass(frozen=True)
class Creation:
    """A checked CreateHeadRequest."""

    tenant: str
    picture: bytes
    options: CreateOptions
    request_id: str  # lower case; empty where there is none
    input_sha256: str
    body_sha256: str  # of everything that makes the request what it is
    validate_only: bool
    durability: Durability = Durability.DURABLE
    keep: bool = True  # whether anything that is derived from the picture may be remembered
    near: tuple[float, ...] | None = None  # where the head was a frame ago; see PreprocessOptions


def parse_parent(parent: str) -> str:
    """The tenant in ``tenants/{tenant}``."""
    match = _PARENT.fullmatch(parent)
    if match is None:
        raise InvalidInputError(f"parent is {parent[:100]!r}; write tenants/TENANT (a-z, 0-9, '-').", field="parent")
    return match[1]


def parse_name(name: str, field: str = "name") -> HeadName:
    """The parts of ``tenants/{tenant}/heads/{head}``."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise InvalidInputError(
            f"{field} is {name[:200]!r}; write tenants/TENANT/heads/HEAD as CreateHead and ListHeads give it.",
            field=field,
        )
    return HeadName(match[1], match[2])


def parse_creation(request: pb.CreateHeadRequest, *, refine_steps_default: int, picture_bytes_max: int) -> Creation:
    """A CreateHeadRequest, checked as far as that is possible without unpacking the picture."""
    tenant = parse_parent(request.parent)
    if not request.picture:
        raise InvalidInputError("picture is empty; send the bytes of an image file.", field="picture")
    if len(request.picture) > picture_bytes_max:
        raise PictureTooLargeError(
            f"The picture has {len(request.picture)} bytes; the limit is {picture_bytes_max}. Send a smaller one.",
            field="picture",
        )
    check_enum(request.several_faces, pb.SeveralFaces.values(), "several_faces")
    face_index = request.face_index if request.HasField("face_index") else None
    if face_index is not None:
        check_range("face_index", face_index, 0, FACE_INDEX_MAX)
    steps = request.refine_steps if request.HasField("refine_steps") else refine_steps_default
    check_range("refine_steps", steps, 0, REFINE_STEPS_MAX)
    durability = parse_durability(request.durability)
    refuse = request.several_faces == pb.SEVERAL_FACES_REFUSE
    return Creation(
        tenant=tenant,
        picture=request.picture,
        options=CreateOptions("refuse" if refuse else "largest", face_index, steps),
        request_id=parse_request_id(request.request_id),
        input_sha256=hashlib.sha256(request.picture).hexdigest(),
        body_sha256=_body_sha256(request),
        validate_only=request.validate_only,
        durability=durability,
    )


def parse_durability(value: int) -> Durability:
    """What a ``Durability`` of the contract asks for."""
    check_enum(value, _DURABILITIES, "durability")
    return _DURABILITIES[value]


def parse_request_id(text: str) -> str:
    """A UUID of version 4 in lower case, or the empty string."""
    if not text:
        return ""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.version != 4 or str(parsed) != text.lower():
        raise InvalidInputError(
            f"request_id is {text[:60]!r}; it must be a UUID of version 4, 8-4-4-4-12 hexadecimal digits.",
            field="request_id",
        )
    return str(parsed)


def page_size(size: int) -> int:
    """Heads on a page; 0 asks for the default."""
    check_range("page_size", size, 0, PAGE_SIZE_MAX)
    return size or PAGE_SIZE_DEFAULT


def check_range(field: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside ``low..high``, or not a number at all."""
    if not low <= value <= high:
        raise InvalidInputError(f"{field} is {value:g}; it must lie in {low:g}..{high:g}.", field=field)


def check_enum(value: int, known: Collection[int], field: str) -> None:
    """Refuse an enum value that this server does not know."""
    if value not in known:
        raise InvalidInputError(
            f"{field} is {value}, which this server does not know; it knows {min(known)}..{max(known)}.", field=field
        )


def _body_sha256(request: pb.CreateHeadRequest) -> str:
    """Hash of a request without its id; fields unknown to this server count too."""
    body = pb.CreateHeadRequest()
    body.CopyFrom(request)
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()

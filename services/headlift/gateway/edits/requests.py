"""Requests about edits, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message

from headlift.errors import InvalidInputError
from headlift.gateway.edits.strokes import Stroke, parse_strokes
from headlift.gateway.edits.styles import Term, parse_style
from headlift.gateway.validation import check_range, parse_durability, parse_name, parse_parent, parse_request_id
from headlift.store.blobs import Durability
from headlift.store.heads import HeadName
from headlift.v1 import edit_pb2
from headlift.v1 import edit_service_pb2 as pb

EDITS_MAX, TARGETS_MAX = 1000, 64


@dataclass(frozen=True)
class Step:
    """One edit, checked but for its map, which is read once the network's side is known."""

    edit: edit_pb2.Edit  # as it came
    strokes: Sequence[Stroke]  # none where the geometry is a map, or stays
    terms: Sequence[Term]  # none where the style stays
    strength: float
    field: str  # its name in the request, with a dot behind it; empty for the request itself


@dataclass(frozen=True)
class EditOrdered:
    """A checked EditHeadRequest, or one target of a ReplayEditsRequest."""

    tenant: str
    head: HeadName | None
    steps: Sequence[Step]
    request_id: str
    body_sha256: str
    durability: Durability

    @property
    def terms(self) -> list[Term]:
        """Of all styles."""
        return [term for step in self.steps for term in step.terms]


def parse_edit_head(request: pb.EditHeadRequest) -> EditOrdered:
    """An EditHeadRequest. InvalidInputError: as in the contract."""
    tenant = parse_parent(request.parent)
    edit = edit_pb2.Edit()
    if (geometry := request.WhichOneof("geometry")) is not None:
        getattr(edit, geometry).CopyFrom(getattr(request, geometry))
    if request.HasField("style"):
        edit.style.CopyFrom(request.style)
    if request.HasField("strength"):
        edit.strength = request.strength
    edit.keep_map = request.keep_map
    step = parse_step(edit, "")
    if not request.head and not (geometry == "map" and step.terms):
        raise _nothing("Without a head both map and style are needed; give them, or name a head.", "head")
    if not request.head and edit.HasField("strength"):
        raise InvalidInputError("strength needs a head whose style it starts from; leave it out.", field="strength")
    return EditOrdered(
        tenant=tenant,
        head=parse_head(request.head, tenant) if request.head else None,
        steps=[step],
        request_id=parse_request_id(request.request_id),
        body_sha256=body_sha256(request),
        durability=parse_durability(request.durability),
    )


def parse_steps(edits: Sequence[edit_pb2.Edit], field: str) -> list[Step]:
    """Edits that are to be done again. InvalidInputError: there is none, or one cannot be done."""
    if not edits:
        raise _nothing("There are no edits to do again; name a head that was edited, or give edits.", field)
    check_range(field, len(edits), 1, EDITS_MAX)
    return [parse_step(edit, f"{field}[{i}].") for i, edit in enumerate(edits)]


def parse_step(edit: edit_pb2.Edit, field: str) -> Step:
    """One edit; ``field`` as in Step."""
    geometry = edit.WhichOneof("geometry")
    if geometry is None and not edit.HasField("style"):
        raise _nothing("Neither map, strokes nor style are given; give at least one.", f"{field}style")
    strength = edit.strength if edit.HasField("strength") else 1.0
    check_range(f"{field}strength", strength, 0.0, 1.0)
    return Step(
        edit=edit,
        strokes=parse_strokes(edit.strokes, f"{field}strokes") if geometry == "strokes" else (),
        terms=parse_style(edit.style, f"{field}style") if edit.HasField("style") else (),
        strength=strength,
        field=field,
    )


def parse_head(text: str, tenant: str, field: str = "head") -> HeadName:
    """The head that a field names: one of the tenant's own, for what is made of it will be the tenant's."""
    name = parse_name(text, field)
    if name.tenant != tenant:
        raise InvalidInputError(f"{field} is {text}, of another tenant than parent; name one of its own.", field=field)
    return name


def body_sha256(request: Message) -> str:
    """Hash of a request without its id."""
    body = type(request)()
    body.CopyFrom(request)
    body.ClearField("request_id")
    return hashlib.sha256(body.SerializeToString(deterministic=True)).hexdigest()


def _nothing(message: str, field: str) -> InvalidInputError:
    return InvalidInputError(message, reason="NOTHING_TO_EDIT", field=field)

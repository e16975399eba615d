"""Which tenants a request speaks of, found in the message itself, whatever message it is."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from headlift.errors import NotFoundError, PermissionDeniedError
from headlift.serving.edge.auth import Caller, is_tenant

_ROOT = "tenants/"
_PARENT = "parent"


def tenant_of(request: Message) -> str:
    """The tenant that a request names first; empty where it names none that there could be."""
    named = next((_tenant(name) for _, name in _names(request)), "")
    return named if is_tenant(named) else ""


def check_own(request: Message, caller: Caller) -> None:
    """Refuse a request that names anything of another tenant.

    Raises:
        PermissionDeniedError: It is a parent, whose existence is no secret.
        NotFoundError: It is a resource: the words are those for one that does not exist.
    """
    for field, name in _names(request):
        if _tenant(name) == caller.tenant:
            continue
        if field == _PARENT:
            raise PermissionDeniedError(
                f"This credential acts for tenants/{caller.tenant} only; write that as {field}.",
                metadata={"tenant": caller.tenant},
            )
        raise NotFoundError(
            f"{name[:200]} does not exist; ListHeads names those that do.", metadata={"resource": name[:200]}
        )


def _tenant(name: str) -> str:
    return name.removeprefix(_ROOT).split("/", 1)[0]


def _names(message: Message) -> Iterator[tuple[str, str]]:
    """Every resource name in a message, with the field that holds it; outer fields first."""
    texts, inner = _plan(message.DESCRIPTOR)
    for field in texts:
        value = getattr(message, field.name)
        for text in value if field.is_repeated else (value,):
            if text.startswith(_ROOT):
                yield field.name, text
    for field in inner:
        if field.is_repeated:
            for child in getattr(message, field.name):
                yield from _names(child)
        elif message.HasField(field.name):
            yield from _names(getattr(message, field.name))


@cache
def _plan(kind: Descriptor) -> tuple[list[FieldDescriptor], list[FieldDescriptor]]:
    """The string fields of a message kind, and its fields that are messages with strings somewhere in them."""
    texts = [f for f in kind.fields if f.type == f.TYPE_STRING]
    inner = [f for f in kind.fields if (child := _child(f)) is not None and _has_text(child, ())]
    return texts, inner


def _has_text(kind: Descriptor, above: tuple[str, ...]) -> bool:
    if kind.full_name in above:
        return False
    path = (*above, kind.full_name)
    return any(
        f.type == f.TYPE_STRING or ((child := _child(f)) is not None and _has_text(child, path)) for f in kind.fields
    )


def _child(field: FieldDescriptor) -> Descriptor | None:
    """The kind of message that a field holds; None where it holds none, or a map."""
    kind = field.message_type
    return None if kind is None or kind.GetOptions().map_entry else kind

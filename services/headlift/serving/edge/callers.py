"""Who calls, and what a caller may ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headlift.errors import InvalidInputError, PermissionDeniedError

READ, WRITE, STAGES, REFLECTION, ADMIN = SCOPES = ("read", "write", "stages", "reflection", "admin")
_TENANT = re.compile("[a-z0-9][a-z0-9-]{0,62}")
_READING = ("Get", "List", "Render", "Export", "Watch", "Wait", "Segment", "Embed")
_PUBLIC = (".HeadService", ".EditService", ".BatchService", ".Operations")  # the others are stages


@dataclass(frozen=True)
class Caller:
    """An authenticated caller.

    Attributes:
        tenant: The one tenant that it acts for.
        scopes: What it may do; ``admin`` includes every other scope, still for its own tenant alone.
        subject: Name of the key or of the token's subject, for logs; no secret.
        limits: Its own limits, by the names of ``Limits``; the server's hold for the others.
    """

    tenant: str
    scopes: frozenset[str]
    subject: str
    limits: Mapping[str, float] = field(default_factory=dict)

    def require(self, scope: str) -> None:
        """Refuse a caller without ``scope``. PermissionDeniedError: it has not got it."""
        if scope not in self.scopes and ADMIN not in self.scopes:
            raise PermissionDeniedError(
                f"This credential has the scopes {', '.join(sorted(self.scopes)) or '(none)'}; this needs {scope}.",
                metadata={"scope": scope},
            )


def scope_of(method: str) -> str:
    """The scope that a full method name (``/package.Service/Method``) asks for."""
    service, _, name = method.strip("/").rpartition("/")
    if service.startswith("grpc.reflection."):
        return REFLECTION
    if not service.endswith(_PUBLIC):
        return STAGES
    return READ if name.startswith(_READING) else WRITE


def is_tenant(text: str) -> bool:
    """Whether a resource could carry this name of a tenant."""
    return _TENANT.fullmatch(text) is not None


def check_tenant(tenant: str) -> str:
    """Return ``tenant``, or refuse a name that no resource could carry. InvalidInputError: it is none."""
    if not is_tenant(tenant):
        raise InvalidInputError(f"The tenant is {tenant[:80]!r}; write 1..63 of a-z, 0-9, '-'.", field="tenant")
    return tenant


def check_scopes(scopes: Iterable[str]) -> frozenset[str]:
    """Return ``scopes``, or refuse those that there are not. InvalidInputError: unknown, or none."""
    chosen = frozenset(scopes)
    if not chosen or not chosen <= set(SCOPES):
        raise InvalidInputError(
            f"The scopes are {', '.join(sorted(chosen))!r}; choose from {', '.join(SCOPES)}.", field="scopes"
        )
    return chosen

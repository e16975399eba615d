"""Who calls: credentials in a call's metadata, the caller that they stand for, and its scopes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from headlift.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError

KEY_PREFIX = "hlk_"
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


class Verifier(Protocol):
    """Checks one kind of credential."""

    def verify(self, credential: str) -> Caller:
        """The caller that it stands for. UnauthenticatedError: it is unknown, expired or revoked."""
        ...


class Authenticator:
    """Asks every call for a credential of the kinds that are accepted; where none is, everybody may do everything."""

    def __init__(self, keys: Verifier | None = None, tokens: Verifier | None = None) -> None:
        self._keys = keys
        self._tokens = tokens

    @property
    def open(self) -> bool:
        """Whether calls need no credential."""
        return self._keys is None and self._tokens is None

    def authenticate(self, metadata: Mapping[str, str]) -> Caller | None:
        """The caller; None where calls need no credential.

        Raises:
            UnauthenticatedError: No credential, or a bad one. Never says which part of it was wrong, unless the
                credential is genuine.
        """
        if self.open:
            return None
        credential = _credential(metadata)
        verifier = self._keys if credential.startswith(KEY_PREFIX) else self._tokens
        if not credential or verifier is None:
            raise UnauthenticatedError(f"This server asks for {self._accepted()}.", reason="NO_CREDENTIAL")
        return verifier.verify(credential)

    def _accepted(self) -> str:
        kinds = [("an API key", self._keys), ("a JSON web token", self._tokens)]
        names = " or ".join(name for name, verifier in kinds if verifier is not None)
        return f"{names}, sent as metadata `authorization: Bearer ...`"


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


def _credential(metadata: Mapping[str, str]) -> str:
    """What came as ``authorization: Bearer X`` or ``x-api-key: X``; else the empty string."""
    scheme, _, credential = metadata.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return metadata.get("x-api-key", "").strip()

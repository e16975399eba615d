"""From the metadata of a call to its caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from headlift.errors import UnauthenticatedError
from headlift.serving.edge.callers import Caller

KEY_PREFIX = "hlk_"


class Verifier(Protocol):
    """Knows one kind of credential."""

    def verify(self, credential: str) -> Caller:
        """Whose credential this is. UnauthenticatedError: nobody's, or no longer."""
        ...


class Access:
    """Asks every caller for a credential of the kinds that are accepted; of none, everybody may do everything."""

    def __init__(self, keys: Verifier | None = None, tokens: Verifier | None = None) -> None:
        self._keys = keys
        self._tokens = tokens

    @property
    def open(self) -> bool:
        """Whether nobody is asked."""
        return self._keys is None and self._tokens is None

    def caller(self, metadata: Mapping[str, str]) -> Caller | None:
        """The caller; None where nobody is asked.

        Raises:
            UnauthenticatedError: No credential, or a bad one. Never says which part of it was wrong, unless the
                credential is genuine.
        """
        if self.open:
            return None
        credential = _credential(metadata)
        verifier = self._keys if credential.startswith(KEY_PREFIX) else self._tokens
        if not credential or verifier is None:
            raise UnauthenticatedError(f"This server asks for {self._asked()}.", reason="NO_CREDENTIAL")
        return verifier.verify(credential)

    def _asked(self) -> str:
        kinds = [("an API key", self._keys), ("a JSON web token", self._tokens)]
        wanted = " or ".join(name for name, verifier in kinds if verifier is not None)
        return f"{wanted}, sent as metadata `authorization: Bearer ...`"


def _credential(metadata: Mapping[str, str]) -> str:
    """What came as ``authorization: Bearer X`` or ``x-api-key: X``; else the empty string."""
    scheme, _, credential = metadata.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and credential.strip():
        return credential.strip()
    return metadata.get("x-api-key", "").strip()

"""How a client is known to a server, and how it knows the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from headlift.errors import InvalidInputError

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True)
class Credentials:
    """How a client is known, and how it knows the server. A path to PEM files, never their contents.

    Attributes:
        api_key: An API key, or a token that outlives the client.
        token: Called before every try for a token; for those that expire.
        tls: Talk TLS; implied by ``ca`` and ``cert``.
        ca: Who signed the server's certificate; None trusts what gRPC trusts.
        cert: Certificate chain to show (mTLS), with ``key``.
        key: Its private key.
        allow_plaintext: Send a key or token without TLS to another machine too: only where something else encrypts.
    """

    api_key: str = field(default="", repr=False)
    token: Callable[[], str] | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    allow_plaintext: bool = False

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidInputError("mTLS needs a certificate and its key; give both cert and key, or none.")
        if self.api_key and self.token is not None:
            raise InvalidInputError("Give an api_key or a token, not both.")

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls or self.ca is not None or self.cert is not None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What is sent with a call."""
        secret = self.token() if self.token is not None else self.api_key
        return (("authorization", f"Bearer {secret}"),) if secret else ()

    def channel(self, api: Any, address: str, options: Any) -> Any:
        """A channel of ``api`` (``grpc`` or ``grpc.aio``) to HOST:PORT.

        Raises:
            InvalidInputError: A file cannot be read, or a secret would leave this machine in the clear.
        """
        if self.secure:
            read = [None if p is None else _read(p) for p in (self.ca, self.key, self.cert)]
            return api.secure_channel(address, grpc.ssl_channel_credentials(*read), options)
        has_secret = self.api_key or self.token is not None
        local = address.rpartition(":")[0] in _LOOPBACK or address.startswith("unix:")
        if has_secret and not self.allow_plaintext and not local:
            raise InvalidInputError(
                f"The key would go to {address} unencrypted; use TLS (tls, ca), or allow_plaintext=True where "
                "something else encrypts.",
                reason="PLAINTEXT_CREDENTIAL",
            )
        return api.insecure_channel(address, options)


def _read(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.", reason="NO_FILE") from None

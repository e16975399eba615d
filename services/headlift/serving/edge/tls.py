"""TLS of the server: its certificate, and those that its callers must show; both turn over without a restart."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from headlift.errors import InvalidInputError
from headlift.serving.edge.watched_files import WatchedFiles


def server_credentials(cert: Path, key: Path, client_ca: Path | None = None) -> grpc.ServerCredentials:
    """Credentials that follow their files: each new connection is met with what they hold by then.

    Args:
        cert: The server's certificate chain, PEM, its own first.
        key: Its private key, PEM, not encrypted.
        client_ca: Who signs the certificates of callers, PEM; given, a caller without one is not let in (mTLS).

    Raises:
        InvalidInputError: A file cannot be read, the pair does not match, or the certificate is not valid now.
    """
    files = WatchedFiles((cert, key) if client_ca is None else (cert, key, client_ca), _configuration)
    return grpc.dynamic_ssl_server_credentials(
        files.value, lambda: files.value, require_client_authentication=client_ca is not None
    )


def _configuration(cert: bytes, key: bytes, client_ca: bytes | None = None) -> grpc.ServerCertificateConfiguration:
    check_pair(cert, key)
    if client_ca is not None:
        _certificates(client_ca, "client CA")
    return grpc.ssl_server_certificate_configuration([(key, cert)], client_ca)


def check_pair(cert: bytes, key: bytes) -> None:
    """Refuse a certificate that is not this key's or not valid now. InvalidInputError: says which."""
    own = _certificates(cert, "certificate")[0]
    try:
        public = load_pem_private_key(key, None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise InvalidInputError(
            "The TLS key is no PEM private key, or it is encrypted.", reason="BAD_TLS_KEY"
        ) from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != own.public_key().public_bytes(*form):
        raise InvalidInputError("The TLS key does not belong to the TLS certificate.", reason="TLS_PAIR")
    now = datetime.datetime.now(datetime.UTC)
    if not own.not_valid_before_utc <= now < own.not_valid_after_utc:
        raise InvalidInputError(
            f"The TLS certificate holds from {own.not_valid_before_utc:%Y-%m-%d %H:%M} "
            f"to {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, not now; renew it.",
            reason="TLS_EXPIRED",
        )


def _certificates(pem: bytes, what: str) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise InvalidInputError(f"The TLS {what} holds no PEM certificate.", reason="BAD_TLS_CERT") from None

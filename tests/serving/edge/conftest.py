"""Certificates, keys and tokens made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    @property
    def cert_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Paths of the certificate and the key."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        paths[0].write_bytes(self.cert_pem)
        paths[1].write_bytes(self.key_pem)
        return paths


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, name: str) -> None:
        self.own = _certificate(name, None)

    def issue(self, name: str, *, from_days: float = -1, to_days: float = 1) -> Pair:
        """A certificate that holds between two times, in days from now."""
        return _certificate(name, self.own, from_days, to_days)

    def write(self, folder: Path, name: str = "ca") -> Path:
        """Path of its certificate."""
        path = folder / f"{name}.pem"
        path.write_bytes(self.own.cert_pem)
        return path


def _certificate(name: str, issuer: Pair | None, from_days: float = -1, to_days: float = 1) -> Pair:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=from_days))
        .not_valid_after(now + datetime.timedelta(days=to_days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
    )
    return Pair(builder.sign(issuer.private if issuer else private, hashes.SHA256()), private)


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Whom the server and its callers trust."""
    return Authority("headlift test authority")


@pytest.fixture(scope="session")
def stranger() -> Authority:
    """Whom nobody trusts."""
    return Authority("somebody else")

"""JSON web tokens of an identity provider, checked against public keys in a local file.

The algorithm follows from the key and never from the token: an RSA key checks RS256, a P-256 key ES256, an Ed25519 key
EdDSA, a shared secret HS256, and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from headlift.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError
from headlift.serving.edge.auth import SCOPES, Caller, check_tenant
from headlift.serving.edge.watched_files import WatchedFiles

ALGORITHMS = ("RS256", "ES256", "EdDSA", "HS256")
_TOKEN_BYTES_MAX = 8192
_SECRET_BYTES_MIN = 32
_RSA_BITS_MIN = 2048
_REQUIRED = ["exp", "aud", "iss", "sub"]


class TokenVerifier:
    """A Verifier of tokens that one issuer made for one audience."""

    def __init__(
        self,
        path: Path,
        *,
        issuer: str,
        audience: str,
        leeway_s: float = 10.0,
        tenant_claim: str = "tenant",
        scope_claim: str = "scope",
    ) -> None:
        """Read the keys; they are read again when they change.

        Args:
            path: A PEM public key, a JWKS document, or (HS256) 32 bytes or more of shared secret.
            issuer: What ``iss`` must be.
            audience: What ``aud`` must hold.
            leeway_s: How far clocks may differ, seconds.
            tenant_claim: The claim that names the tenant.
            scope_claim: The claim with the scopes, separated by blanks or as a list.

        Raises:
            InvalidInputError: The file holds no usable key, or issuer or audience is empty.
        """
        if not issuer or not audience:
            raise InvalidInputError(
                "Tokens are checked for their issuer and audience; set HEADLIFT_JWT_ISSUER and HEADLIFT_JWT_AUDIENCE."
            )
        self._keys = WatchedFiles((path,), parse_keys)
        self._expected: dict[str, Any] = {"issuer": issuer, "audience": audience, "leeway": leeway_s}
        self._claims = (tenant_claim, scope_claim)

    def verify(self, credential: str) -> Caller:
        """See auth.Verifier. PermissionDeniedError: the token is good, but names no tenant."""
        try:
            claims = self._decode(credential)
        except jwt.ExpiredSignatureError:
            raise UnauthenticatedError("The token has expired; get a new one.", reason="TOKEN_EXPIRED") from None
        except jwt.PyJWTError:
            raise UnauthenticatedError(
                "The token is not valid here: check its issuer, audience, times and signing key.", reason="BAD_TOKEN"
            ) from None
        tenant_claim, scope_claim = self._claims
        try:
            tenant = check_tenant(str(claims.get(tenant_claim, "")))
        except InvalidInputError:
            raise PermissionDeniedError(
                f"The token's claim {tenant_claim!r} names no tenant; ask its issuer for one.", reason="NO_TENANT"
            ) from None
        given = claims.get(scope_claim, "")
        scopes = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        return Caller(tenant, frozenset(SCOPES).intersection(map(str, scopes)), f"token:{str(claims['sub'])[:64]}")

    def _decode(self, token: str) -> dict[str, Any]:
        if len(token) > _TOKEN_BYTES_MAX:
            raise jwt.InvalidTokenError
        key = self._key(jwt.get_unverified_header(token).get("kid"))
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[key.algorithm_name], options={"require": _REQUIRED}, **self._expected
        )
        return claims

    def _key(self, kid: Any) -> jwt.PyJWK:
        """The key that a token names; a single key needs no name."""
        keys = self._keys.value
        found = keys.get(str(kid)) if kid is not None else None
        if found is None and len(keys) == 1:
            ((name, key),) = keys.items()
            found = key if kid is None or not name else None
        if found is None:
            raise jwt.InvalidKeyError
        return found


def parse_keys(data: bytes) -> dict[str, jwt.PyJWK]:
    """Keys by their ids (empty for a file with one key without id). InvalidInputError: none that can be used."""
    try:
        keys = dict(_parse(data))
    except (ValueError, TypeError, AttributeError, KeyError, UnsupportedAlgorithm, jwt.PyJWTError):
        keys = {}
    if not keys:
        raise InvalidInputError(
            f"The file of token keys holds none for {', '.join(ALGORITHMS)}; give a PEM public key (RSA from "
            f"{_RSA_BITS_MIN} bits), a JWKS document, or {_SECRET_BYTES_MIN} bytes or more of shared secret.",
            reason="BAD_TOKEN_KEYS",
        )
    return keys


def _parse(data: bytes) -> Iterator[tuple[str, jwt.PyJWK]]:
    text = data.strip()
    if text.startswith(b"-----BEGIN"):
        yield "", _public(load_pem_public_key(text))
    elif text.startswith(b"{"):
        for entry in json.loads(text)["keys"]:
            key = _listed(entry)
            if key is not None:
                yield str(entry.get("kid", "")), key
    elif len(text) >= _SECRET_BYTES_MIN:
        yield "", _secret(text)


def _listed(entry: Mapping[str, Any]) -> jwt.PyJWK | None:
    """A key of a JWKS document; None for one of another use or algorithm."""
    if entry.get("use", "sig") != "sig" or "d" in entry:
        return None
    try:
        key = jwt.PyJWK(dict(entry), "HS256" if entry.get("kty") == "oct" else None)
    except jwt.PyJWTError:
        return None
    weak = (isinstance(key.key, bytes) and len(key.key) < _SECRET_BYTES_MIN) or (
        isinstance(key.key, rsa.RSAPublicKey) and key.key.key_size < _RSA_BITS_MIN
    )
    return None if weak or key.algorithm_name not in ALGORITHMS else key


def _public(key: Any) -> jwt.PyJWK:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN:
        return _jwk("RS256", key)
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return _jwk("ES256", key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return _jwk("EdDSA", key)
    raise ValueError


def _secret(secret: bytes) -> jwt.PyJWK:
    return _jwk("HS256", secret)


def _jwk(algorithm: str, key: Any) -> jwt.PyJWK:
    entry = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key))
    return jwt.PyJWK(entry, algorithm)

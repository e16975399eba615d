import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from headlift.errors import InvalidInputError, PermissionDeniedError, UnauthenticatedError
from headlift.serving.edge.tokens import TokenVerifier

SECRET = b"0123456789abcdef0123456789abcdef"
MAKERS = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@pytest.fixture(scope="module")
def keys():
    return {name: make() for name, make in MAKERS.items()}


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**changed):
    good = {"iss": "https://id.example", "aud": "headlift", "sub": "ann", "tenant": "acme", "scope": "openid read"}
    return {k: v for k, v in (good | {"exp": time.time() + 60} | changed).items() if v is not None}


def verifier(tmp_path, content, **options):
    path = tmp_path / "keys"
    path.write_bytes(content)
    return TokenVerifier(path, **({"issuer": "https://id.example", "audience": "headlift"} | options))


def reason(known, token):
    with pytest.raises(UnauthenticatedError) as caught:
        known.verify(token)
    return caught.value.reason


@pytest.mark.parametrize("algorithm", [*MAKERS, "HS256"])
def test_a_genuine_token_names_tenant_scopes_and_subject(tmp_path, keys, algorithm):
    signing = keys.get(algorithm, SECRET)
    known = verifier(tmp_path, SECRET if algorithm == "HS256" else public_pem(signing))
    caller = known.verify(jwt.encode(claims(), signing, algorithm))
    assert (caller.tenant, caller.scopes, caller.subject) == ("acme", {"read"}, "token:ann")
    assert known.verify(jwt.encode(claims(scope=["read", "admin"]), signing, algorithm)).scopes == {"read", "admin"}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"exp": -60}, "TOKEN_EXPIRED"),
        ({"exp": None}, "BAD_TOKEN"),
        ({"aud": "somebody"}, "BAD_TOKEN"),
        ({"aud": None}, "BAD_TOKEN"),
        ({"iss": "https://evil.example"}, "BAD_TOKEN"),
        ({"iss": None}, "BAD_TOKEN"),
        ({"sub": None}, "BAD_TOKEN"),
        ({"nbf": 600}, "BAD_TOKEN"),
        ({"iat": 600}, "BAD_TOKEN"),
    ],
)
def test_a_token_of_another_time_issuer_or_audience_is_refused(tmp_path, keys, changed, why):
    known = verifier(tmp_path, public_pem(keys["ES256"]))
    # Times are from now: a test may run long after it was collected.
    changed = {k: time.time() + v if isinstance(v, int) else v for k, v in changed.items()}
    assert reason(known, jwt.encode(claims(**changed), keys["ES256"], "ES256")) == why


def test_clocks_may_differ_by_the_leeway(tmp_path, keys):
    token = jwt.encode(claims(exp=time.time() - 30), keys["ES256"], "ES256")
    assert verifier(tmp_path, public_pem(keys["ES256"]), leeway_s=120.0).verify(token).tenant == "acme"
    assert reason(verifier(tmp_path, public_pem(keys["ES256"]), leeway_s=1.0), token) == "TOKEN_EXPIRED"


def test_only_the_keys_own_algorithm_counts(tmp_path, keys):
    pem = public_pem(keys["RS256"])
    known = verifier(tmp_path, pem)
    head, body, _ = jwt.encode(claims(), SECRET, "HS256").split(".")
    # The classic: the public key taken for a shared secret. PyJWT will not sign so, thus by hand.
    import base64
    import hmac

    forged = base64.urlsafe_b64encode(hmac.digest(pem, f"{head}.{body}".encode(), "sha256")).decode().rstrip("=")
    assert reason(known, f"{head}.{body}.{forged}") == "BAD_TOKEN"
    assert reason(known, jwt.encode(claims(), None, "none")) == "BAD_TOKEN"
    assert reason(known, jwt.encode(claims(), keys["RS256"], "RS512")) == "BAD_TOKEN"
    assert reason(known, jwt.encode(claims(), keys["ES256"], "ES256")) == "BAD_TOKEN"
    assert reason(known, jwt.encode(claims(), rsa.generate_private_key(65537, 2048), "RS256")) == "BAD_TOKEN"


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "." * 10, "é", "x" * 100_000, "eyJhbGciOjF9.e30.", "e30.e30.e30"])
def test_what_is_no_token_is_refused(tmp_path, keys, token):
    assert reason(verifier(tmp_path, public_pem(keys["ES256"])), token) == "BAD_TOKEN"


@pytest.mark.parametrize("tenant", [None, "", "../x", 7.5, ["acme"]])
def test_a_good_token_without_a_tenant_may_nothing(tmp_path, keys, tenant):
    known = verifier(tmp_path, public_pem(keys["ES256"]))
    with pytest.raises(PermissionDeniedError, match="tenant"):
        known.verify(jwt.encode(claims(tenant=tenant), keys["ES256"], "ES256"))


def test_a_listed_key_is_found_by_its_id_and_turns_over(tmp_path, keys, monkeypatch):
    def listed(**by_id):
        entries = []
        for kid, key in by_id.items():
            entry = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(key.public_key()))
            entries.append(entry | {"kid": kid, "use": "sig"})
        return json.dumps({"keys": entries}).encode()

    old, new = MAKERS["ES256"](), MAKERS["ES256"]()
    known = verifier(tmp_path, listed(old=old, other=keys["ES256"]))

    def signed(kid, key):
        return jwt.encode(claims(), key, "ES256", headers={"kid": kid} if kid else None)

    assert known.verify(signed("old", old)).tenant == "acme"
    assert reason(known, signed("other", old)) == "BAD_TOKEN"
    assert reason(known, signed("unknown", old)) == "BAD_TOKEN"
    assert reason(known, signed(None, old)) == "BAD_TOKEN"
    (tmp_path / "keys").write_bytes(listed(new=new))
    known._keys._checked_at -= 10
    assert known.verify(signed("new", new)).tenant == "acme"
    assert reason(known, signed("old", old)) == "BAD_TOKEN"


@pytest.mark.parametrize(
    "content", [b"", b"short", b"{}", b'{"keys": []}', b"-----BEGIN PUBLIC KEY-----\nx", b"[" * 31]
)
def test_a_file_without_a_usable_key_is_refused(tmp_path, content):
    with pytest.raises(InvalidInputError) as caught:
        verifier(tmp_path, content)
    assert caught.value.reason == "BAD_TOKEN_KEYS"


def test_weak_private_and_foreign_keys_are_not_used(tmp_path, keys):
    private = keys["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert load_pem_private_key(private, None)
    secret = {"kty": "oct", "k": "c2hvcnQ"}
    whole = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(keys["ES256"]))
    for content in (private, *(json.dumps({"keys": [k]}).encode() for k in (secret, whole))):
        with pytest.raises(InvalidInputError):
            verifier(tmp_path, content)


@pytest.mark.parametrize("missing", ["issuer", "audience"])
def test_issuer_and_audience_must_be_known(tmp_path, keys, missing):
    with pytest.raises(InvalidInputError, match="HEADLIFT_JWT_ISSUER"):
        verifier(tmp_path, public_pem(keys["ES256"]), **{missing: ""})

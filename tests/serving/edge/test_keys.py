import json
import stat

import pytest

from headlift.errors import ConflictError, InvalidInputError, NotFoundError, UnauthenticatedError
from headlift.serving.edge.keys import KeyFile, KeyRing


class Clock:
    def __init__(self):
        self.now = 1e9

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "keys.json"


@pytest.fixture
def file(path, clock):
    return KeyFile(path, clock=clock)


def reason(ring, key):
    with pytest.raises(UnauthenticatedError) as caught:
        ring.verify(key)
    return caught.value.reason


def test_a_key_stands_for_its_tenant_scopes_and_limits(file, path):
    key, entry = file.create("acme", ["write", "read"], limits={"heads": 3})
    caller = KeyRing(path).verify(key)
    assert (caller.tenant, caller.scopes, caller.limits) == ("acme", {"read", "write"}, {"heads": 3})
    assert caller.subject == f"key:{entry.id}"


def test_the_file_holds_no_key_and_is_its_owners_alone(file, path):
    key, entry = file.create("acme", ["read"])
    text = path.read_text()
    assert key not in text
    assert key.split("_", 2)[2] not in text
    assert entry.id in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(file, path, mode):
    file.create("acme", ["read"])
    path.chmod(mode)
    with pytest.raises(InvalidInputError, match="chmod go-w") as caught:
        KeyRing(path)
    assert (caught.value.reason, str(path.parent) in caught.value.message) == ("OPEN_KEY_FILE", False)


def test_an_altered_key_is_not_known(file, path):
    key, _ = file.create("acme", ["read"])
    other, _ = file.create("acme", ["read"])
    ring = KeyRing(path)
    mixed = "_".join([*key.split("_")[:2], other.split("_", 2)[2]])
    for wrong in (key[:-1], key + "x", key.swapcase(), mixed, "hlk_", "hlk_000000000000_x", "", "hlk_ü_☃"):
        assert reason(ring, wrong) == "BAD_KEY"


def test_a_revoked_key_ends_while_the_server_runs(file, path):
    ticks = [0.0]
    key, entry = file.create("acme", ["read"])
    kept, _ = file.create("acme", ["read"])
    ring = KeyRing(path, ticks=lambda: ticks[0])
    ring.verify(key)
    file.revoke(entry.id)
    ticks[0] += 1.0
    assert reason(ring, key) == "KEY_REVOKED"
    ring.verify(kept)
    with pytest.raises(ConflictError):
        file.revoke(entry.id)
    with pytest.raises(NotFoundError):
        file.revoke("nobody")


def test_a_key_expires_at_its_time(file, path, clock):
    key, _ = file.create("acme", ["read"], expires_in_s=60)
    ring = KeyRing(path, clock=clock)
    clock.now += 59.9
    ring.verify(key)
    clock.now += 0.1
    assert reason(ring, key) == "KEY_EXPIRED"


def test_a_file_that_breaks_later_changes_nothing(file, path, caplog):
    ticks = [0.0]
    key, _ = file.create("acme", ["read"])
    ring = KeyRing(path, ticks=lambda: ticks[0])
    for content in ("{", '{"version": 2}', '{"version": 1, "keys": [{"id": "x"}]}', "[]"):
        path.write_text(content)
        ticks[0] += 1.0
        ring.verify(key)
        with pytest.raises(InvalidInputError):
            KeyRing(path)
    assert "kept what was read before" in caplog.text
    assert key not in caplog.text


@pytest.mark.parametrize(
    ("tenant", "scopes", "limits"),
    [("", ["read"], {}), ("A/b", ["read"], {}), ("acme", [], {}), ("acme", ["root"], {}), ("acme", ["read"], {"x": 1})],
)
def test_a_key_for_nobody_or_nothing_is_not_made(file, path, tenant, scopes, limits):
    with pytest.raises(InvalidInputError):
        file.create(tenant, scopes, limits=limits)
    assert not path.exists()


def test_many_writers_lose_no_key(path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: KeyFile(path).create("acme", ["read"])[1].id, range(24)))
    assert sorted(e.id for e in KeyFile(path).entries()) == sorted(made)
    assert json.loads(path.read_text())["version"] == 1
    assert {p.name for p in path.parent.iterdir()} == {"keys.json", "keys.json.lock"}

import json
import os

import pytest

from headlift.cli import main
from headlift.serving.edge.keys import KeyRing


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No settings but where data lies."""
    for name in [n for n in os.environ if n.startswith("HEADLIFT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADLIFT_DATA_DIR", str(tmp_path))


def run(capsys, *argv):
    """Exit code and what a command printed."""
    code = main(["keys", *map(str, argv)])
    return code, capsys.readouterr()


def test_a_key_is_made_shown_once_listed_and_revoked(capsys, tmp_path):
    code, said = run(capsys, "create", "--tenant", "acme", "--days", 7, "--limit", "heads=3", "--note", "CI", "--json")
    made = json.loads(said.out)
    assert (code, made["tenant"], made["scopes"], made["state"]) == (0, "acme", ["read", "write"], "valid")
    caller = KeyRing(tmp_path / ".keys.json").verify(made["key"])
    assert (caller.tenant, caller.limits) == ("acme", {"heads": 3})
    code, said = run(capsys, "list")
    assert (code, made["id"] in said.out, made["key"] in said.out, "CI" in said.out) == (0, True, False, True)
    assert run(capsys, "revoke", made["id"])[0] == 0
    assert json.loads(run(capsys, "list", "--json")[1].out)["keys"][0]["state"] == "revoked"


def test_the_file_may_lie_elsewhere(capsys, tmp_path):
    path = tmp_path / "other" / "k.json"
    code, said = run(capsys, "create", "--tenant", "acme", "--scopes", "admin", "--keys-file", path)
    assert code == 0
    assert KeyRing(path).verify(said.out.split()[0]).scopes == {"admin"}
    assert "no keys" in run(capsys, "list")[1].out


@pytest.mark.parametrize(
    "argv",
    [
        ["create", "--tenant", "No Tenant"],
        ["create", "--tenant", "acme", "--scopes", "root"],
        ["create", "--tenant", "acme", "--scopes", ","],
        ["create", "--tenant", "acme", "--days", "-1"],
        ["create", "--tenant", "acme", "--limit", "heads"],
        ["create", "--tenant", "acme", "--limit", "hats=3"],
        ["create", "--tenant", "acme", "--limit", "heads=-3"],
        ["revoke", "nobody"],
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(capsys, tmp_path, argv):
    code, said = run(capsys, *argv)
    assert (code, said.err.startswith("headlift: "), said.out) == (3, True, "")
    assert not (tmp_path / ".keys.json").exists() or json.loads((tmp_path / ".keys.json").read_text())["keys"] == []

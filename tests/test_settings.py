import os
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest

from headlift.errors import InvalidInputError
from headlift.settings import Settings, child_environment, table, variable


def test_an_empty_environment_gives_the_defaults():
    assert Settings.from_env({}) == Settings()


def test_every_setting_can_be_set_by_its_variable():
    samples = {int: "7", float: "7.5", bool: "no", str: "", Path: "some/where"}
    for f in fields(Settings):
        kind = Path if "Path" in str(f.type) else {"int": int, "float": float, "bool": bool, "str": str}[str(f.type)]
        text = "64" if f.name in ("refine_size", "refine_final_size") else samples[kind]
        text = "0.5" if f.metadata["high"] == 1 else text
        text = "2000" if f.name == "picture_bytes_max" else "5000" if f.name == "picture_pixels_max" else text
        if f.metadata["one_of"]:
            text = f.metadata["one_of"][-1]
        changed = Settings.from_env({variable(f): text})
        assert getattr(changed, f.name) == (f.default if not text else kind(text) if kind is not bool else False)


def test_options_win_over_the_environment():
    assert Settings.from_env({"HEADLIFT_PORT": "1"}, port=2, host=None).port == 2


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"HEADLIFT_PORT": "many"}, "HEADLIFT_PORT is 'many', which is no whole number"),
        ({"HEADLIFT_PORT": "70000"}, "HEADLIFT_PORT is 70000; it must lie in 0..65535"),
        ({"HEADLIFT_DEADLINE_S": "nan"}, "HEADLIFT_DEADLINE_S is nan"),
        ({"HEADLIFT_CACHE_STAGES": "maybe"}, "write one of 1, true"),
        ({"HEADLIFT_RASTERIZER": "magic"}, "auto, gsplat, native, reference"),
        ({"HEADLIFT_PROT": "1"}, "HEADLIFT_PROT is no setting"),
    ],
)
def test_a_wrong_variable_is_named_with_its_limit(environ, says):
    with pytest.raises(InvalidInputError) as caught:
        Settings.from_env(environ)
    assert says in caught.value.message


def test_settings_are_frozen_and_checked_when_copied():
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
    with pytest.raises(InvalidInputError):
        replace(Settings(), port=-1)


def test_the_table_describes_every_setting_and_no_home_directory():
    rows = table(Settings())
    assert [r["variable"] for r in rows] == [variable(f) for f in fields(Settings)]
    assert all(r["about"].endswith(".") for r in rows)
    assert str(Path.home()) not in str(rows)


def test_nothing_else_reads_the_environment():
    root = Path(str(__import__("headlift").__file__)).parent
    readers = {
        p.relative_to(root).as_posix()
        for p in root.rglob("*.py")
        if any(word in p.read_text() for word in ("os.environ", "os.getenv", "environ["))
    }
    assert readers == {"settings.py"}


def test_a_process_that_a_command_starts_gets_our_environment_and_the_changes(monkeypatch):
    monkeypatch.setenv("HEADLIFT_THREADS", "2")
    environ = child_environment(port="0", tenant="bench")
    assert (environ["HEADLIFT_THREADS"], environ["HEADLIFT_PORT"], environ["HEADLIFT_TENANT"]) == ("2", "0", "bench")
    assert environ["PATH"] == os.environ["PATH"]
    with pytest.raises(InvalidInputError, match="HEADLIFT_PRT"):
        child_environment(prt="0")


def test_secrets_are_never_shown():
    settings = Settings(s3_secret_key="hush")
    assert "hush" not in repr(settings)
    assert all("hush" not in str(row) for row in table(settings))

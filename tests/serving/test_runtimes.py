from dataclasses import replace

import pytest

from headlift.errors import InvalidInputError
from headlift.serving.runtimes import replica_settings, running
from headlift.settings import Settings


def test_without_ray_the_stages_are_those_of_this_process():
    with running(Settings(runtime="embedded")) as backend:
        assert backend is None


def test_a_file_that_is_not_there_is_refused_before_ray_is_started(tmp_path):
    with pytest.raises(InvalidInputError, match="nothing"), running(Settings(), tmp_path / "nothing.yaml"):
        pass


def test_replicas_hear_what_computing_needs_and_no_secret(tmp_path):
    asked = Settings(runtime="ray", ray_address="auto", device="cpu", redis_url="redis://:hush@host:1/0")
    told = replica_settings(replace(asked, weights=tmp_path / "a.safetensors"))
    assert told == {"device": "cpu", "weights": str(tmp_path / "a.safetensors")}

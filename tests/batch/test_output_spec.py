"""A place is bound to one batch, and places that earlier versions bound stay usable."""

import json

import pytest

from headlift.batch.output_spec import OutputSpec, bind_output
from headlift.batch.places import Folder
from headlift.errors import ConflictError

# What version 0.1.0 wrote for the defaults.
STORED = {
    "exports": ["spz_v3"],
    "views": [[0.0, 0.0]],
    "view_format": "jpeg",
    "size": 512,
    "turntable_frames": 0,
    "turntable_fps": 30,
    "refine_steps": 0,
    "refuse_several": False,
    "attempts": 3,
    "manifest": "in",
    "weights_hash": "abc",
}


def test_the_stored_form_does_not_change(tmp_path):
    bind_output(Folder(tmp_path), "in", OutputSpec(), "abc")
    assert json.loads((tmp_path / "job.json").read_text()) == STORED


def test_a_bound_place_takes_the_same_batch_with_other_attempts_and_no_other(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps(STORED))
    bind_output(Folder(tmp_path), "in", OutputSpec(attempts=9), "abc")
    for spec, weights in ((OutputSpec(size=64), "abc"), (OutputSpec(), "other")):
        with pytest.raises(ConflictError, match="differ"):
            bind_output(Folder(tmp_path), "in", spec, weights)

import numpy as np
import pytest
import torch

from headlift.gateway.edits.parsing import by_parser, by_stage
from headlift.model.cameras import orbit_camera
from headlift.model.types import Portrait
from headlift.stages.edit import load_edit


class Upper:
    """Sees glasses in the upper half of what it is given, and no person below."""

    def __init__(self):
        self.loaded = 0

    def __call__(self):
        self.loaded += 1
        return self

    def parse(self, rgb, face):
        shares = np.zeros((19, *rgb.shape[:2]), np.float32)
        half = len(rgb) // 2
        shares[15, :half], shares[0, :half], shares[0, half:] = 0.75, 0.25, 1.0
        assert abs(face.center[0] / len(rgb) - 0.5) < 0.1
        return shares


@pytest.fixture(scope="module")
def stage(tiny_checkpoint, tiny_edit_weights):
    return load_edit(tiny_edit_weights, "cpu", tiny_checkpoint)


def test_a_parser_says_what_of_the_person_it_sees_and_headnet_the_rest(stage):
    grid = torch.linspace(-1, 1, 128)
    disc = (grid[:, None] ** 2 + grid[None] ** 2 < 0.5).float()[None]
    portrait = Portrait(disc.expand(3, -1, -1) * 0.5, disc, torch.eye(3)[:2].double(), orbit_camera(0.0, size=128))
    own, parsed = by_stage(stage, portrait), by_parser(Upper())(stage, portrait)
    shown = own.labels > 0
    upper = torch.arange(64)[:, None] < 32
    assert torch.equal(parsed.labels > 0, shown)
    assert (parsed.labels[shown & upper] == 15).all()
    assert torch.equal(parsed.labels[~upper.expand(64, 64)], own.labels[~upper.expand(64, 64)])
    assert parsed.labels.dtype == own.labels.dtype == torch.uint8
    assert ((parsed.confidence >= 0) & (parsed.confidence <= 1)).all()
    assert (parsed.confidence[shown & upper] > 0.99).all()  # of the person, whatever else it might be

"""The texture atlas."""

from itertools import pairwise

import numpy as np
import pytest

from headlift_trainer.synthetic.base.textures import WEAVES
from headlift_trainer.synthetic.render.compiled import TEXEL_ONE


def test_every_asset_has_a_place_of_its_own(assets):
    atlas = assets.atlas
    names = [
        *atlas.skins,
        *atlas.eyes,
        "hair/short01",
        "eyebrows/eyebrow001",
        "teeth/teeth_base",
        *(f"weave/{weave}" for weave in WEAVES),
    ]
    spans = sorted((start, start + width * height) for start, width, height in map(atlas.row, names))
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert spans[-1][1] <= len(atlas.texels)
    assert atlas.row(None) == (0, 0, 0)


def test_skins_are_ratios_to_their_own_face(assets):
    for name in assets.atlas.skins:
        start, width, height = assets.atlas.row(name)
        ratio = assets.atlas.texels[start : start + width * height, :3] / TEXEL_ONE
        assert np.median(ratio) == pytest.approx(1, abs=0.1)


def test_opacity_reads_the_alpha_channel_and_wraps(assets):
    uvs = np.array([[0.5, 0.5], [1.5, -0.5]], np.float32)
    values = assets.atlas.opacity("hair/short01", uvs)
    assert values[0] == pytest.approx(values[1])
    assert 0.85 < values[0] <= 1

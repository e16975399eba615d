"""Which correspondence a seed's targets are made with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from headlift.errors import NotFoundError
from headlift_trainer.synthetic.prepare import TargetMakers, save_correspondence
from headlift_trainer.synthetic.targets import Correspondence
from headlift_trainer.template.build import builtin_template


def some_correspondence() -> Correspondence:
    count = len(builtin_template().anchors)
    return Correspondence(np.zeros((count, 3), np.int64), np.full((count, 3), 1 / 3))


def test_heads_on_makehumans_mesh_need_its_assets(tmp_path: Path) -> None:
    makers = TargetMakers(builtin_template(), tmp_path, None)
    for seed in (0, 50_000):
        with pytest.raises(NotFoundError, match="--assets"):
            makers[seed]


def test_makehuman_and_ict_share_a_kept_correspondence_and_procedural_heads_have_their_own(tmp_path: Path) -> None:
    template = builtin_template()
    for name in ("correspondence.npz", "correspondence_procedural.npz"):
        save_correspondence(tmp_path / name, some_correspondence(), template)
    makers = TargetMakers(template, tmp_path, None)
    assert makers[7] is makers[50_007]
    assert makers[80_007] is not makers[7]

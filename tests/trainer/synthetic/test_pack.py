"""A packed asset folder makes the same heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headlift.errors import ConflictError, NotFoundError
from headlift_trainer.synthetic.base.assets import MakeHumanAssets
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.pack import Packed, pack, seen_texels
from headlift_trainer.synthetic.source.head import HeadAssets, HeadMesh, sample_head


@pytest.fixture(scope="module")
def packed(asset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Packed, int]:
    """The toy assets with things beside them that nothing reads, packed."""
    unread = asset_folder / "makehuman/data/3dobjs/unread.obj"
    unread.write_text("v 0 0 0\n" * 1000)
    (asset_folder / "makehuman/LICENSE.md").write_text("CC0")
    out = tmp_path_factory.mktemp("packed")
    ticks: list[None] = []
    result = pack(asset_folder, out, lambda: ticks.append(None))
    unread.unlink()
    return out, result, len(ticks)


def test_the_same_seed_makes_the_same_geometry(packed: tuple[Path, Packed, int], head: HeadMesh) -> None:
    ours = sample_head(head.seed, HeadAssets(packed[0]))
    np.testing.assert_array_equal(ours.base_vertices, head.base_vertices)
    assert ours.attributes() == head.attributes()


def test_only_what_is_read_is_copied_and_licences_travel(packed: tuple[Path, Packed, int], asset_folder: Path) -> None:
    out, result, ticks = packed
    found = [path for path in out.rglob("*") if path.is_file()]
    assert len(found) == result.files == ticks
    assert sum(path.stat().st_size for path in found) == result.bytes_after < result.bytes_before
    assert (out / "makehuman/LICENSE.md").read_text() == "CC0"
    assert not (out / "makehuman/data/3dobjs/unread.obj").exists()
    assert {path.relative_to(out) for path in found} <= {
        path.relative_to(asset_folder) for path in asset_folder.rglob("*") if path.is_file()
    }


def test_seen_skin_keeps_its_pixels(packed: tuple[Path, Packed, int], asset_folder: Path) -> None:
    for path in MakeHumanAssets(asset_folder).skin_images():
        with Image.open(path) as before, Image.open(packed[0] / path.relative_to(asset_folder)) as after:
            if before.width <= 256:  # not resampled
                np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


def test_unseen_texels_are_those_of_no_triangle_above_the_chest(assets: HeadAssets) -> None:
    topology = Topology(assets.makehuman)
    seen = seen_texels(topology, 128)
    assert 0 < seen.mean() < 1
    high = topology.mean[topology.triangles][:, :, 1].min(1) > 0
    middle = topology.corner_uvs[high].mean(1)
    columns, rows = (middle[:, 0] * 128).astype(int), ((1 - middle[:, 1]) * 128).astype(int)
    assert seen[rows.clip(0, 127), columns.clip(0, 127)].all()


def test_a_full_folder_and_a_missing_asset_are_refused(
    packed: tuple[Path, Packed, int], asset_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConflictError, match="not empty"):
        pack(asset_folder, packed[0])
    with pytest.raises(NotFoundError):
        pack(tmp_path / "nothing", tmp_path / "out")

"""Files of the generator: complete, resumable, identical when made again."""

import json

import numpy as np
import pytest
from PIL import Image

from headlift.errors import NotFoundError
from headlift_trainer.synthetic.generate import APPEARANCES, generate, main, path_of
from headlift_trainer.synthetic.render.views import RANDOM_VIEWS, RIG_DEG

SIZE = 32
VIEWS = len(RIG_DEG) + RANDOM_VIEWS


@pytest.fixture(scope="module")
def folder(asset_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("heads")
    assert main(["--assets", str(asset_folder), "--out", str(out), "--count", "2", "--size", str(SIZE)]) == 0
    return out


def test_a_file_holds_what_its_description_says(folder, assets):
    with np.load(path_of(folder, 1, 1)) as file:
        assert file["rgba"].shape == (VIEWS, SIZE, SIZE, 4)
        assert file["rgba"].dtype == np.uint8
        assert file["depth"].shape == file["classes"].shape == (VIEWS, SIZE, SIZE)
        assert file["depth"].dtype == np.float16
        assert file["viewmats"].shape == (VIEWS, 4, 4)
        assert file["Ks"].shape == (VIEWS, 3, 3)
        assert file["vertices"].shape == assets.makehuman.base.vertices.shape
        assert len(file["scalp"]) == len(file["vertices"])
        assert file["hair_points"].shape[1] == 3
        assert (file["classes"][file["rgba"][..., 3] == 0] == 0).all()
        attributes = json.loads(str(file["attributes"][0]))
    assert attributes["seed"] == 1
    assert {
        "maleness",
        "age",
        "descent",
        "expression",
        "hair_style",
        "beard",
        "melanin",
        "skin_albedo",
        "hair_albedo",
    } <= set(attributes)


def test_appearances_share_the_geometry(folder):
    files = [np.load(path_of(folder, 0, index)) for index in range(APPEARANCES)]
    assert np.array_equal(files[0]["vertices"], files[1]["vertices"])
    rig = slice(0, len(RIG_DEG))
    assert np.array_equal(files[0]["viewmats"][rig], files[1]["viewmats"][rig])
    assert not np.array_equal(files[0]["rgba"][rig], files[1]["rgba"][rig])
    # dissolving edges are drawn from the same hash, so even they agree
    assert np.array_equal(files[0]["depth"][rig], files[1]["depth"][rig])
    for file in files:
        file.close()


def test_the_surface_in_the_pictures_is_that_of_the_vertices(folder):
    with np.load(path_of(folder, 0, 0)) as file:
        vertices, depth, alpha = file["vertices"], file["depth"][0].astype(float), file["rgba"][0, ..., 3]
        local = vertices @ file["viewmats"][0, :3, :3].T + file["viewmats"][0, :3, 3]
        flat = local @ file["Ks"][0].T
    column, line = np.floor(flat[:, :2] / flat[:, 2:]).astype(int).T
    seen = (
        (column >= 0)
        & (column < SIZE)
        & (line >= 0)
        & (line < SIZE)
        & (np.abs(vertices[:, 0]) < 0.03)
        & (vertices[:, 2] > 0.03)
    )
    assert (alpha[line[seen], column[seen]] > 200).all()
    gap = local[seen, 2] - depth[line[seen], column[seen]]
    assert gap.min() > -0.02
    assert np.median(gap) < 0.02


def test_existing_files_are_kept_and_missing_ones_made_again_alike(folder, asset_folder):
    kept, lost = path_of(folder, 0, 0), path_of(folder, 0, 1)
    before, stamp = dict(np.load(lost)), kept.stat().st_mtime_ns
    lost.unlink()
    assert list(generate(asset_folder, folder, range(2), SIZE))[-1] == (2, 1)
    assert kept.stat().st_mtime_ns == stamp
    after = dict(np.load(lost))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not list(folder.glob("*.part"))


def test_the_preview_is_a_sheet_of_eight_views_a_head(asset_folder, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert main(["--assets", str(asset_folder), "--preview", str(sheet), "--count", "2", "--size", "32"]) == 0
    with Image.open(sheet) as picture:
        assert picture.size == (8 * 32, 2 * 32)


def test_a_wrong_folder_is_named_and_nothing_is_raised(tmp_path, capsys):
    assert main(["--assets", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "base.obj" in capsys.readouterr().err
    with pytest.raises(NotFoundError):
        list(generate(tmp_path, tmp_path / "out", [0], SIZE))


def test_workers_write_the_same_files(asset_folder, folder, tmp_path):
    list(generate(asset_folder, tmp_path, [1], SIZE, workers=2))
    with np.load(path_of(tmp_path, 1, 0)) as ours, np.load(path_of(folder, 1, 0)) as theirs:
        assert np.array_equal(ours["rgba"], theirs["rgba"])

import argparse
import json

import numpy as np
import pytest
from PIL import Image

from headlift.errors import FormatError
from headlift.model.cameras import orbit_cameras
from headlift_trainer.commands.data import register
from headlift_trainer.datasets.filters import held_out
from headlift_trainer.evaluation.real import open_source


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers(required=True))
    args = parser.parse_args(["data", *words])
    code: int = args.run(args)
    return code


@pytest.fixture
def shards(tmp_path):
    """Two generated heads of grey pictures."""
    cameras = orbit_cameras([0, 45], width=32, height=32)
    for seed in (100, 101):
        rgba = np.full((2, 32, 32, 4), 128, np.uint8)
        np.savez(
            tmp_path / f"head_{seed:05d}_0.npz", rgba=rgba, viewmats=cameras.viewmats.numpy(), Ks=cameras.Ks.numpy()
        )
    return tmp_path


def test_a_sound_folder_gives_0_and_the_figures_as_json(shards, capsys) -> None:
    assert run("check", str(shards), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "synthetic"
    assert (found["subjects"], found["items"], found["broken"]) == (2, 2, [])


def test_a_broken_folder_gives_1_and_says_why(shards, capsys) -> None:
    (shards / "head_00101_0.npz").write_bytes(b"gone")
    assert run("check", str(shards)) == 1
    assert "BROKEN  head_00101_0" in capsys.readouterr().out


def test_samples_are_drawn_into_a_picture(shards, tmp_path, capsys) -> None:
    out = tmp_path / "sheet.png"
    assert run("check", str(shards), "--samples", "2", "--out", str(out), "--json") == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 2
    assert out.stat().st_size > 500


def test_a_folder_of_no_known_layout_is_an_input_error(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match="none of"):
        run("check", str(tmp_path / "empty"))


def test_held_out_people_are_written_as_the_evaluation_reads_them(tmp_path, capsys) -> None:
    folder = next(p for i in range(400) if held_out("cafca", (p := tmp_path / "data" / f"{i:05d}").name))
    cameras = orbit_cameras([0, 40], width=64, height=64)
    for i in range(2):
        moment = folder / "00000_000"
        for name in ("color_image", "foreground_mask", "cameras_json"):
            (moment / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (90, 80, 70)).save(moment / "color_image" / f"C{i:02d}.png")
        Image.new("L", (64, 64), 255).save(moment / "foreground_mask" / f"C{i:02d}.png")
        calibration = {"K": cameras.Ks[i].tolist(), "world2cam": cameras.viewmats[i].tolist()}
        (moment / "cameras_json" / f"C{i:02d}.json").write_text(json.dumps(calibration))
    assert run("export", str(tmp_path / "data"), str(tmp_path / "out"), "--size", "64", "--json") == 0
    assert json.loads(capsys.readouterr().out)["subjects"] == [folder.name]
    source = open_source(tmp_path / "out", 64)
    assert len(source.moments) == 1
    assert source.moments[0].viewmats.allclose(cameras.viewmats, atol=1e-5)

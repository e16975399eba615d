"""headlift live and headlift bench live."""

import io
import json
import os

import av
import numpy as np
import pytest
from PIL import Image

from headlift.cli import main
from headlift.commands.bench_live import moving_portrait
from headlift.model.splat import available_backends


@pytest.fixture(autouse=True)
def environment(monkeypatch, tiny_checkpoint, tmp_path_factory):
    """The commands' environment: a tiny network and a store of their own."""
    for name in [n for n in os.environ if n.startswith("HEADLIFT_")]:
        monkeypatch.delenv(name)
    chosen = {
        "WEIGHTS": str(tiny_checkpoint),
        "DATA_DIR": str(tmp_path_factory.getbasetemp() / "live-store"),
        "DEVICE": "cpu",
        "RASTERIZER": "native" if "native" in available_backends() else "reference",
        "REFINE_STEPS": "0",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(f"HEADLIFT_{name}", value)


def test_an_orbit_is_streamed_into_a_film_as_it_came(capsys, tmp_path, portrait_png):
    portrait = tmp_path / "me.png"
    portrait.write_bytes(portrait_png)
    assert main(["reconstruct", str(portrait), "--json"]) == 0
    name = json.loads(capsys.readouterr().out)["name"]
    out = tmp_path / "live.mp4"
    assert main(["live", name, "--out", str(out), "--frames", "9", "--fps", "25", "--size", "64", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["frames"] == 9
    assert figures["film_bytes"] == out.stat().st_size
    with av.open(str(out)) as film:
        stream = film.streams.video[0]
        frames = list(film.decode(stream))
        assert (len(frames), stream.width, stream.height, stream.average_rate) == (9, 64, 64, 25)


def test_a_head_that_is_not_there_is_told(capsys, tmp_path):
    assert main(["live", "h0", "--out", str(tmp_path / "live.mp4")]) == 3
    assert "does not exist" in capsys.readouterr().err


def test_the_frames_of_the_bench_are_one_portrait_that_moves_a_little(portrait_png):
    frames = [np.asarray(Image.open(io.BytesIO(f)), float) for f in moving_portrait(portrait_png, 3)]
    assert [f.shape for f in frames] == [(320, 320, 3)] * 3
    assert 0 < np.abs(frames[1] - frames[2]).mean() < 10


@pytest.mark.slow
def test_every_figure_of_the_bench_is_there(capsys, tmp_path, portrait_png):
    portrait = tmp_path / "me.png"
    Image.open(io.BytesIO(portrait_png)).resize((160, 160)).save(portrait)
    command = ["bench", "live", str(portrait), "--views", "3", "--frames", "2", "--size", "64", "--json"]
    assert main(command) == 0
    figures = json.loads(capsys.readouterr().out)
    for name in ("views", "reconstruct"):
        assert set(figures[name]) == {"jpeg", "webp", "h264"}
        for cell in figures[name].values():
            assert set(cell) == {"p50_ms", "p95_ms", "fps", "bytes_per_frame"}
            assert 0 < cell["p50_ms"] <= cell["p95_ms"]
    heads = figures["heads"]
    assert heads["psnr_db_min"] > 40
    assert heads["delta_bytes"] < heads["whole_bytes"]

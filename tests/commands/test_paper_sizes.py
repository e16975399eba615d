"""The paper's sizes through the commands: weights are random, so heads are noise, but whole, and of their portrait."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys

import pyarrow.parquet
import pytest
import torch
from PIL import Image, ImageOps

from headlift import formats
from headlift.batch.results import rows_from_table
from headlift.cli import main
from headlift.client import HeadliftClient
from headlift.model.splat import available_backends
from headlift.weights.loading import model_hash

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COUNT = 65_536


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """The commands' environment: a store of their own, no refinement, the files named by options alone."""
    for name in [n for n in os.environ if n.startswith("HEADLIFT_")]:
        monkeypatch.delenv(name)
    chosen = {
        "DATA_DIR": str(tmp_path / "store"),
        "DEVICE": "cpu",
        "RASTERIZER": "native" if "native" in available_backends() else "reference",
        "REFINE_STEPS": "0",
        "DEADLINE_S": "600",
        "TIMEOUT_S": "600",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(f"HEADLIFT_{name}", value)


@pytest.fixture
def portraits(tmp_path, portrait_png):
    """Two files of one person, the second mirrored."""
    folder = tmp_path / "portraits"
    folder.mkdir()
    (folder / "a.png").write_bytes(portrait_png)
    ImageOps.mirror(Image.open(io.BytesIO(portrait_png)).convert("RGB")).save(folder / "b.png")
    return folder


def check_heads(one, two):
    """Whole heads, each of its own portrait."""
    for head in (one, two):
        assert len(head) == COUNT
        assert all(getattr(head, name).isfinite().all() for name in ("means", "quats", "scales", "opacities", "colors"))
    assert not torch.equal(one.means, two.means)
    assert not torch.equal(one.colors, two.colors)


def test_reconstruct_makes_a_head_with_the_backbone_and_says_what_is_missing_without(
    capsys, portraits, light_s_files, monkeypatch
):
    checkpoint, backbone = light_s_files
    words = ["reconstruct", str(portraits / "a.png"), "--weights", str(checkpoint), "--json"]
    assert main(words) == 5
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "MISSING_WEIGHTS"
    assert "HEADLIFT_BACKBONE_WEIGHTS" in error["message"]
    assert main([*words, "--backbone", str(backbone)]) == 0
    head = json.loads(capsys.readouterr().out)
    assert head["gaussian_count"] == COUNT
    assert head["weights_hash"] == model_hash(checkpoint, backbone)
    # The shipped network reads none, and says so instead of passing over what it was told.
    monkeypatch.setenv("HEADLIFT_BACKBONE_WEIGHTS", str(backbone))
    assert main(["reconstruct", str(portraits / "a.png"), "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "INCOMPATIBLE_WEIGHTS"


def test_serve_makes_and_draws_heads(portraits, light_s_files):
    checkpoint, backbone = light_s_files
    command = [sys.executable, "-m", "headlift.cli", "serve", "--json", "--port", "0", "--weights", str(checkpoint)]
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen([*command, "--backbone", str(backbone)], env=environ, stdout=subprocess.PIPE) as server:
        try:
            address = json.loads(server.stdout.readline())["address"]
            with HeadliftClient(address, timeout_s=600) as client:
                heads = [client.create_head(str(portraits / name)) for name in ("a.png", "b.png")]
                check_heads(*(formats.read(client.export(head, "wire"), "wire") for head in heads))
                picture = client.render(heads[0], width=64, height=64, format="png")[0]
                assert Image.open(io.BytesIO(picture.data)).size == (64, 64)
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


def test_a_batch_makes_every_head_and_keeps_both_hashes(capsys, portraits, light_s_files, tmp_path):
    checkpoint, backbone = light_s_files
    words = ["batch", str(portraits), "--out", str(tmp_path / "out"), "--weights", str(checkpoint), "--no-ray"]
    words += ["--export", "wire", "--views"]
    assert main(words) == 5  # before anything is begun
    assert "HEADLIFT_BACKBONE_WEIGHTS" in capsys.readouterr().err
    assert main([*words, "--backbone", str(backbone)]) == 0
    capsys.readouterr()
    rows = rows_from_table(pyarrow.parquet.read_table(tmp_path / "out/results.parquet"))
    assert [row.status for row in rows] == ["DONE", "DONE"]
    assert {row.weights_hash for row in rows} == {model_hash(checkpoint, backbone)}
    files = [tmp_path / "out" / output.name for row in rows for output in row.outputs if output.kind == "wire"]
    check_heads(*(formats.read(file.read_bytes(), "wire") for file in files))

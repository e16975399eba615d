import io
import json
import os
import signal
import subprocess
import sys

import av
import pytest
from PIL import Image

from headlift import formats
from headlift.cli import main
from headlift.model.splat import available_backends


@pytest.fixture(autouse=True)
def environment(monkeypatch, tiny_checkpoint, tmp_path_factory):
    """The commands' environment: a tiny network, a store of their own, little refinement."""
    for name in [n for n in os.environ if n.startswith("HEADLIFT_")]:
        monkeypatch.delenv(name)
    chosen = {
        "WEIGHTS": str(tiny_checkpoint),
        "DATA_DIR": str(tmp_path_factory.getbasetemp() / "cli-store"),
        "DEVICE": "cpu",
        "RASTERIZER": "native" if "native" in available_backends() else "reference",
        "REFINE_STEPS": "2",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(f"HEADLIFT_{name}", value)


@pytest.fixture
def portrait(tmp_path, portrait_png):
    path = tmp_path / "me.png"
    path.write_bytes(portrait_png)
    return str(path)


def run(capsys, *argv):
    """Exit code and what a command printed."""
    code = main([str(a) for a in argv])
    return code, capsys.readouterr()


def made(capsys, portrait):
    code, said = run(capsys, "reconstruct", portrait, "--json")
    assert code == 0
    return json.loads(said.out)["name"]


def test_a_head_is_made_looked_at_exported_listed_and_deleted(capsys, portrait, tmp_path):
    name = made(capsys, portrait)
    short = name.split("/")[-1]
    assert run(capsys, "render", short, "--out", tmp_path / "v.webp", "--yaw", 30, "--width", 64, "--alpha")[0] == 0
    assert Image.open(io.BytesIO((tmp_path / "v.webp").read_bytes())).size == (64, 512)
    for suffix in ("ply", "compressed.ply", "splat", "spz", "sog", "glb", "usdz", "html", "wire"):
        assert run(capsys, "export", name, "--out", tmp_path / f"h.{suffix}")[0] == 0
        assert len(formats.read((tmp_path / f"h.{suffix}").read_bytes(), suffix.split(".")[-1])) == 512
    film = ["turntable", short, "--out", tmp_path / "t.mp4", "--frames", 6, "--size", 64]
    assert run(capsys, *film)[0] == 0
    with av.open(str(tmp_path / "t.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    assert name in run(capsys, "list")[1].out
    assert run(capsys, "delete", short)[0] == 0
    assert name not in run(capsys, "list")[1].out


def test_the_demo_leaves_every_file_and_a_report(capsys, portrait, tmp_path):
    out = tmp_path / "out"
    code, said = run(capsys, "demo", portrait, "--out", out, "--frames", 4, "--size", 64)
    assert code == 0
    assert "512 Gaussians from me.png" in said.out
    files = {"head.ply", "head.spz", "head.glb", "turntable.mp4", "views.png", "report.json"}
    assert {p.name for p in out.iterdir()} == files
    report = json.loads((out / "report.json").read_text())
    assert {"preprocess", "encode", "decode", "refine", "pack", "store"} <= set(report["stage_ms"])
    assert {"create", "export", "views.png", "turntable.mp4"} <= set(report["steps_s"])
    assert report["face_box"]["width_px"] > 24
    assert len(report["weights_hash"]) == 64
    assert report["versions"]["torch"]
    assert str(tmp_path) not in json.dumps(report)
    sheet = Image.open(io.BytesIO((out / "views.png").read_bytes()))
    assert sheet.width > sheet.height > 320


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (["reconstruct", "no-such-file.png"], 3, "NO_FILE"),
        (["reconstruct", __file__], 3, "UNREADABLE_PICTURE"),
        (["render", "h0", "--out", "x.png"], 3, "NOT_FOUND"),
        (["render", "h0", "--out", "x.bmp"], 3, "INVALID_INPUT"),
        (["export", "h0", "--out", "x.obj"], 3, "INVALID_INPUT"),
        (["delete", "h0"], 3, "NOT_FOUND"),
        (["list", "--server", "127.0.0.1:1"], 4, "SERVER_ERROR"),
        (["list", "--weights", "nothing.safetensors"], 5, "MISSING_WEIGHTS"),
        (["info", "giant"], 3, "INVALID_INPUT"),
        (["demo", "no-such-file.png"], 3, "INVALID_INPUT"),
    ],
)
def test_failures_have_an_exit_code_and_words_but_no_traceback(capsys, argv, code, reason):
    got, said = run(capsys, *argv)
    assert got == code
    assert said.err.startswith("headlift: ")
    assert "Traceback" not in said.err
    got, said = run(capsys, *argv, "--json")
    assert (got, json.loads(said.out)["error"]["reason"]) == (code, reason)


def test_wrong_usage_exits_with_2(capsys):
    for argv in ([], ["nonsense"], ["render"], ["bench"]):
        with pytest.raises(SystemExit) as caught:
            main(argv)
        assert caught.value.code == 2
    capsys.readouterr()


def test_settings_are_listed_and_a_wrong_one_is_told(capsys, monkeypatch):
    code, said = run(capsys, "settings", "--json")
    rows = {r["variable"]: r["value"] for r in json.loads(said.out)["settings"]}
    assert (code, rows["HEADLIFT_REFINE_STEPS"]) == (0, "2")
    assert "HEADLIFT_PORT" in run(capsys, "settings")[1].out
    monkeypatch.setenv("HEADLIFT_PORT", "x")
    assert run(capsys, "settings")[0] == 3


@pytest.mark.parametrize("size", ["base", "light", "light_s", "mini"])
def test_info_counts_a_models_parameters(capsys, size):
    code, said = run(capsys, "info", size, "--json")
    told = json.loads(said.out)
    assert (code, told["config"], told["gaussian_count"]) == (0, size, 65536)
    assert told["trained_params"] > 0
    assert run(capsys, "info", size)[1].out.startswith(size)


def test_info_reads_a_checkpoint(capsys, tiny_checkpoint):
    told = json.loads(run(capsys, "info", tiny_checkpoint, "--json")[1].out)
    assert (told["config"], told["provenance"]["description"]) == ("tiny", "random")


def test_a_served_process_answers_and_drains_on_sigterm(capsys, portrait):
    command = [sys.executable, "-m", "headlift.cli", "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        address = json.loads(server.stdout.readline())["address"]
        code, said = run(capsys, "reconstruct", portrait, "--server", address, "--json")
        assert (code, json.loads(said.out)["gaussian_count"]) == (0, 512)
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0


def test_serving_for_other_machines_says_what_is_bound_and_warns():
    command = [sys.executable, "-m", "headlift.cli", "serve", "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline().startswith("serving on 0.0.0.0:")
        server.send_signal(signal.SIGTERM)
        _, complaints = server.communicate(timeout=60)
    assert "headlift: warning: 0.0.0.0:" in complaints
    assert "without authentication" in complaints


def test_bench_portrait_measures_a_fresh_server(capsys, portrait):
    code, said = run(capsys, "bench", "portrait", portrait, "--repeats", 1, "--json")
    figures = json.loads(said.out)
    assert code == 0
    assert all(figures[k] > 0 for k in ("reconstruct_ms", "render_ms", "ready_s", "peak_rss_mb"))
    assert figures["passes"]["decoder"] == 1
    assert all(isinstance(count, int) for count in figures["passes"].values())

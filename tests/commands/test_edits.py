import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from headlift import formats
from headlift.cli import main
from headlift.model.splat import available_backends


@pytest.fixture(autouse=True)
def environment(monkeypatch, tiny_checkpoint, tiny_edit_weights, tmp_path_factory):
    """The commands' environment: tiny networks, a store of their own, no refinement."""
    for name in [n for n in os.environ if n.startswith("HEADLIFT_")]:
        monkeypatch.delenv(name)
    chosen = {
        "WEIGHTS": str(tiny_checkpoint),
        "EDIT_WEIGHTS": str(tiny_edit_weights),
        "DATA_DIR": str(tmp_path_factory.getbasetemp() / "cli-edit-store"),
        "DEVICE": "cpu",
        "RASTERIZER": "native" if "native" in available_backends() else "reference",
        "REFINE_STEPS": "0",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(f"HEADLIFT_{name}", value)


@pytest.fixture
def portrait(tmp_path, portrait_png):
    path = tmp_path / "me.png"
    path.write_bytes(portrait_png)
    return path


def run(capsys, *argv):
    """Exit code and what a command printed."""
    code = main([str(a) for a in argv])
    return code, capsys.readouterr()


def told(capsys, *argv, code=0):
    found, said = run(capsys, *argv, "--json")
    assert found == code, said
    return json.loads(said.out)


def opened(path):
    return Image.open(io.BytesIO(path.read_bytes()))


def test_a_head_is_segmented_edited_and_its_edits_done_again(capsys, portrait, tmp_path):
    head = told(capsys, "reconstruct", portrait)["name"]
    seen = told(capsys, "segment", head, "--out", tmp_path / "map.png", "--portrait", tmp_path / "crop.png")
    assert seen["origin"] == "portrait"
    assert sum(seen["shares"].values()) == pytest.approx(1.0, abs=0.01)
    labels = opened(tmp_path / "map.png")
    assert (labels.mode, labels.size) == ("P", (64, 64))
    assert opened(tmp_path / "crop.png").size[0] >= 64
    # What segment writes, edit reads.
    pixels = np.array(labels)
    pixels[:8, 20:40] = 16
    Image.fromarray(pixels).save(tmp_path / "hat.png")
    look = ["--prompt", "red hair", "--style", portrait, "--mix", 0.25, "--strength", 0.5]
    made = told(capsys, "edit", head, "--map", tmp_path / "hat.png", *look, "--out", tmp_path / "hat.ply")
    assert made["parent"] == head
    assert [t["weight"] for t in made["edits"][0]["style"]["terms"]] == [0.75, 0.25]
    assert len(formats.read((tmp_path / "hat.ply").read_bytes(), "ply")) == 512
    (tmp_path / "strokes.json").write_text('{"strokes": [{"label": 14, "points": [4096, 900], "radius": 300}]}')
    more = ["--strokes", tmp_path / "strokes.json", "--out", tmp_path / "more.jpg"]
    code, said = run(capsys, "edit", made["name"].split("/")[-1], *more)
    assert code == 0
    assert opened(tmp_path / "more.jpg").size == (512, 512)
    last = said.out.split()[0]
    assert run(capsys, "history", last)[1].out.splitlines() == [
        '1. a painted map, "red hair" and a reference',
        "2. 1 strokes",
    ]
    assert [e["head"] for e in told(capsys, "history", last)["edits"]] == [head, made["name"]]
    again = told(capsys, "replay", last, portrait, head, "nobody", code=3)["targets"]
    assert again[1]["head"]["parent"] == head
    assert again[2]["error"]["reason"] == "NOT_FOUND"
    assert run(capsys, "segment", again[0]["head"]["name"], "--out", tmp_path / "map.png")[0] == 0
    assert (np.array(opened(tmp_path / "map.png"))[:8, 20:40] == 16).mean() > 0.5


def test_a_person_is_made_up_of_a_map_and_words(capsys, tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    labels[10:50, 15:45] = 2
    Image.fromarray(labels).save(tmp_path / "map.png")
    made = told(capsys, "edit", "--map", tmp_path / "map.png", "--prompt", "long hair")
    assert "parent" not in made
    assert made["gaussian_count"] == 512


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["segment", "nobody.jpg", "--out", "x.png"], "no file"),
        (["edit", "nobody", "--map", "none.png"], "none.png cannot be read"),
        (["edit", "nobody", "--strokes", "none.json"], "none.json cannot be read"),
        (["edit", "nobody", "--prompt", "red", "--out", "x.doc"], ".doc"),
        (["edit", "nobody", "--prompt", "red"], "does not exist"),
        (["edit", "--prompt", "red"], "map and style"),
        (["history", "nobody"], "does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_words_with_exit_code_3(capsys, argv, words):
    code, said = run(capsys, *argv)
    assert (code, said.out) == (3, "")
    assert words in said.err
    assert "Traceback" not in said.err


def test_strokes_that_are_none_are_shown_how_to_be_written(capsys, tmp_path):
    path = tmp_path / "strokes.json"
    path.write_text('{"strokes": [{"colour": 1}]}')
    code, said = run(capsys, "edit", "nobody", "--strokes", path)
    assert code == 3
    assert '"points"' in said.err


def test_without_editing_weights_the_exit_code_is_5(capsys, monkeypatch, portrait, tmp_path):
    monkeypatch.setenv("HEADLIFT_EDIT_WEIGHTS", str(tmp_path / "none.safetensors"))
    code, said = run(capsys, "segment", portrait, "--out", tmp_path / "map.png")
    assert code == 5
    assert "HEADLIFT_EDIT_WEIGHTS" in said.err

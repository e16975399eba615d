"""`headlift train`: lists recipes, changes them by options, trains on generated heads, says what is missing."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import HeadliftError, InvalidInputError, MissingWeightsError
from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint
from headlift.model.sizes import named_config
from headlift.model.template import PATCH_SIZE, PATCHES
from headlift_trainer import recipes
from headlift_trainer.commands import bench_train, train
from headlift_trainer.recipes import LossWeights, RecipeConfig
from headlift_trainer.schedule import Schedule
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.template import implicit

SIZE = 32


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser()
    subparsers = top.add_subparsers()
    train.register(subparsers)
    bench_train.register(subparsers.add_parser("bench").add_subparsers())
    return top


def call(*argv: object) -> int:
    args = parser().parse_args([str(a) for a in argv])
    code: int = args.run(args)
    return code


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Discs of one colour each, as the generator writes heads; two of them are held out."""
    folder = tmp_path / "heads"
    folder.mkdir()
    cameras = orbit_cameras([0.0, 30.0, -30.0, 180.0], width=SIZE, height=SIZE)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    disc = (np.hypot(x / 8, y / 11) < 1)[..., None].astype(np.uint8)
    for seed in (0, 1, 50, 51):
        color = np.random.default_rng(seed).integers(60, 250, 3).astype(np.uint8)
        rgba = np.concatenate([disc * color, disc * 255], -1).astype(np.uint8)
        np.savez(
            path_of(folder, seed, 0),
            rgba=np.repeat(rgba[None], 4, 0),
            viewmats=cameras.viewmats.numpy(),
            Ks=cameras.Ks.numpy(),
        )
    return folder


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe of toy size under the name `light`: the model of the tests, without other people's networks."""
    config = RecipeConfig(
        "light", "reconstruction", named_config("tiny"), (("generated", 1.0),), LossWeights(l1=1.0),
        Schedule(steps=3, warmup_steps=1, accumulate=2), batch_size=1, target_views=1, held_out_heads=1, about="toy",
    )  # fmt: skip
    monkeypatch.setattr(recipes, "RECIPES", {**recipes.RECIPES, "light": lambda: config})


def test_the_list_names_every_recipe(capsys):
    assert call("train", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["recipes"]
    assert [row["name"] for row in rows] == list(train.RECIPES)
    assert call("train", "list") == 0
    assert "loss ablation: LPIPS + L1" in capsys.readouterr().out


@pytest.mark.usefixtures("toy")
def test_a_recipe_runs_goes_on_and_leaves_a_model(shards, tmp_path, tiny_checkpoint, capsys):
    common = ["train", "light", "--data", shards, "--out", tmp_path / "out", "--start", tiny_checkpoint]
    common += ["--device", "cpu", "--json"]
    assert call(*common) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["steps"], result["resumed_from"], result["finished"]) == (3, None, True)
    assert load_checkpoint(tmp_path / "out" / "light.safetensors")[1].steps == 3
    assert call(*common, "--steps", 5) == 0
    assert json.loads(capsys.readouterr().out)["resumed_from"] == 3
    assert call(*common, "--fresh") == 0
    assert json.loads(capsys.readouterr().out)["resumed_from"] is None


@pytest.fixture
def flame(tmp_path: Path) -> Path:
    """A file in FLAME's form with an egg for a head."""
    corner = np.array([0.1, 0.15, 0.12])
    vertices, faces = implicit.mesh(
        lambda points: implicit.ellipsoid(*points.T, (0.0, 0.0, 0.0), (0.075, 0.13, 0.095)), -corner, corner, 0.02
    )
    path = tmp_path / "generic_model.npz"
    np.savez(path, v_template=vertices, f=faces)
    return path


@pytest.mark.usefixtures("toy")
def test_a_flame_model_becomes_the_template_of_what_is_trained(shards, tmp_path, flame, monkeypatch):
    config = recipes.RECIPES["light"]()
    decoder = replace(config.model.decoder, num_patches=PATCHES, gaussians_per_patch=PATCH_SIZE)
    whole = replace(config, model=replace(config.model, decoder=decoder))
    monkeypatch.setattr(recipes, "RECIPES", {"light": lambda: whole})
    argv = ["train", "light", "--data", shards, "--out", tmp_path / "out", "--device", "cpu", "--json"]
    assert call(*argv, "--flame", flame, "--steps", 1, "--accumulate", 1) == 0
    assert load_checkpoint(tmp_path / "out" / "light.safetensors")[0].template.name == "flame-generic_model"


@pytest.mark.usefixtures("toy")
def test_a_checkpoint_brings_its_own_template(shards, tmp_path, flame, tiny_checkpoint):
    argv = ["train", "light", "--data", shards, "--out", tmp_path / "out", "--device", "cpu", "--json"]
    with pytest.raises(InvalidInputError, match="carries its template"):
        call(*argv, "--flame", flame, "--start", tiny_checkpoint)


def test_options_change_the_recipe():
    argv = [
        "train",
        "shp",
        "--data",
        "generated=x",
        "--out",
        "y",
        "--minutes",
        "5",
        "--batch-size",
        "3",
        "--precision",
        "fp32",
        "--seed",
        "7",
    ]
    args = parser().parse_args(argv)
    config = train.changed(recipes.RECIPES["shp"](), args)
    assert (config.schedule.steps, config.schedule.minutes, config.batch_size) == (None, 5, 3)
    assert (config.schedule.precision, config.schedule.seed) == ("fp32", 7)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (["light", "--data", "nersemble=HEADS"], HeadliftError, "cafca, ffhq"),
        (["light", "--data", "generated=HEADS"], HeadliftError, "needs"),
        (["shp", "--data", "generated=HEADS", "--partial"], MissingWeightsError, "vitg14"),
        (["light", "--data", "HEADS", "HEADS"], InvalidInputError, "twice"),
        (["light", "--data", "absent/folder"], InvalidInputError, "no folder"),
        (["light", "--data", "HEADS", "--workers", "some"], InvalidInputError, "1-4"),
    ],
)
def test_what_is_missing_is_named(options, error, match, shards, tmp_path):
    argv = [o.replace("HEADS", str(shards)) for o in options]
    with pytest.raises(error, match=match):
        call("train", *argv, "--out", tmp_path / "out", "--device", "cpu", "--json")


def test_the_bench_prints_figures(capsys):
    threads = torch.get_num_threads()
    code = call(
        "bench", "train", "--json", "--batch-size", 1, "--views", 0, "--size", 32, "--steps", 1, "--device", "cpu"
    )
    assert code == 0
    assert json.loads(capsys.readouterr().out)["threads"] == threads

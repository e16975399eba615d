"""`headlift synth` with heads from code alone: shards with every label, and a contact sheet."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headlift.errors import HeadliftError, InvalidInputError
from headlift_trainer.commands import synth

SIZE = 48


def call(*argv: object) -> int:
    parser = argparse.ArgumentParser()
    synth.register(parser.add_subparsers())
    args = parser.parse_args(["synth", *map(str, argv)])
    code: int = args.run(args)
    return code


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    out = tmp_path_factory.mktemp("heads")
    assert call("--source", "procedural", "--out", out, "--count", 1, "--size", SIZE, "--appearances", 1) == 0
    (path,) = out.glob("head_*.npz")
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_every_label_is_there_and_agrees_with_the_matte(shard: dict[str, np.ndarray]) -> None:
    views = len(shard["rgba"])
    assert shard["normals"].shape == (*shard["albedo"].shape[:3], 3)
    inside = shard["rgba"][..., 3] == 255
    length = np.linalg.norm(shard["normals"][inside].astype(np.float32) / 127, axis=-1)
    assert abs(np.median(length) - 1) < 0.05
    assert (shard["depth"][inside] > 0).all()
    assert shard["landmarks3d"].shape == (68, 3)
    assert shard["landmarks2d"].shape == (views, 68, 2)
    assert shard["expression_code"].shape == (53,)


def test_landmarks_in_the_picture_are_the_projected_ones_and_the_front_sees_the_nose(
    shard: dict[str, np.ndarray],
) -> None:
    local = shard["landmarks3d"] @ shard["viewmats"][0, :3, :3].T + shard["viewmats"][0, :3, 3]
    flat = local @ shard["Ks"][0].T
    np.testing.assert_allclose(flat[:, :2] / flat[:, 2:], shard["landmarks2d"][0], atol=0.1)
    assert shard["landmark_visible"][0, 30]  # nose tip, from the front
    assert not shard["landmark_visible"][5, 30]  # and from the back


def test_the_caption_says_what_the_attributes_do(shard: dict[str, np.ndarray]) -> None:
    caption = str(np.ravel(shard["caption"])[0])
    attributes = json.loads(str(np.ravel(shard["attributes"])[0]))
    assert ("woman" in caption or "girl" in caption) == (attributes["maleness"] < 0.5)


def test_a_preview_is_a_picture(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert call("--source", "procedural", "--preview", sheet, "--count", 1, "--size", SIZE) == 0
    with Image.open(sheet) as picture:
        assert picture.width >= 6 * SIZE


def test_nothing_to_do_and_missing_assets_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="--out"):
        call("--count", 1)
    with pytest.raises(HeadliftError, match="assets"):
        call("--source", "makehuman", "--out", tmp_path, "--count", 1)

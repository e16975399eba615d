"""Other methods' renders: what is missing is listed, what is resized is told, nothing is dropped in silence."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from headlift.errors import InvalidInputError, NotFoundError, UnreadablePictureError
from headlift_trainer.commands.eval import register
from headlift_trainer.evaluation.folders import compare_folders, read_picture, target_name, write_picture

NAMES = [
    target_name(g, s, "front", v) for g in ("novel", "extreme") for s in ("anna", "b.c") for v in ("left", "right")
]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for name in NAMES:
        alpha = (torch.rand(1, 24, 24, generator=generator) > 0.4).float()
        write_picture(
            tmp_path / "truth" / f"{name}.png", torch.cat([torch.rand(3, 24, 24, generator=generator) * alpha, alpha])
        )
    return tmp_path / "truth"


def copied(truth: Path, name: str) -> Path:
    folder = truth.parent / name
    for path in truth.rglob("*.png"):
        target = folder / path.relative_to(truth)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_the_truth_itself_is_perfect(truth: Path) -> None:
    found = compare_folders(truth, {"same": copied(truth, "same")})
    assert found.truths == len(NAMES) == len(found.records)
    assert found.missing == {"same": []}
    assert found.records.mean("iou") == 1
    assert found.records.mean("psnr", group="novel") == pytest.approx(100)
    assert found.records.distinct("subject") == ["anna", "b.c"]


def test_a_missing_file_is_listed_and_left_out_of_the_common_views(truth: Path) -> None:
    whole, lacking = copied(truth, "whole"), copied(truth, "lacking")
    (lacking / f"{NAMES[1]}.png").unlink()
    found = compare_folders(truth, {"whole": whole, "lacking": lacking})
    assert found.missing == {"whole": [], "lacking": [NAMES[1]]}
    assert len(found.records.where(method="lacking")) == len(NAMES) - 1
    assert len(found.complete.where(method="whole")) == len(NAMES) - 1
    assert len(found.records.where(method="whole")) == len(NAMES)


def test_other_suffixes_and_sizes_are_taken_and_sizes_told(truth: Path) -> None:
    folder = copied(truth, "other")
    first, second = folder / f"{NAMES[0]}.png", folder / f"{NAMES[5]}.png"
    Image.open(first).convert("RGB").save(first.with_suffix(".jpg"))
    first.unlink()
    Image.open(second).resize((48, 48)).save(second)
    found = compare_folders(truth, {"other": folder})
    assert found.missing == {"other": []}
    assert found.resized == {"other": [NAMES[5]]}
    row = next(iter(found.records.where(view="left", group="novel", subject="anna")))
    assert "iou" not in row.values  # a JPEG has no matte, so there is none to compare


def test_pictures_with_alpha_lie_over_black(tmp_path: Path) -> None:
    picture = torch.cat([torch.full((3, 4, 4), 0.25), torch.full((1, 4, 4), 0.5)])
    write_picture(tmp_path / "p.png", picture)
    assert torch.allclose(read_picture(tmp_path / "p.png"), picture, atol=0.01)
    (tmp_path / "q.png").write_text("no picture")
    with pytest.raises(UnreadablePictureError, match=r"q\.png"):
        read_picture(tmp_path / "q.png")


def test_folders_without_truths_or_renders_are_refused(truth: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="INPUT__VIEW"):
        compare_folders(tmp_path / "nothing", {"a": truth})
    with pytest.raises(NotFoundError, match="renders of a"):
        compare_folders(truth, {"a": tmp_path / "nothing"})


def test_the_command_tells_what_is_missing(truth: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lacking = copied(truth, "lacking")
    (lacking / f"{NAMES[0]}.png").unlink()
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    words = [
        "eval",
        "renders",
        "--truth",
        str(truth),
        "--renders",
        f"mine={lacking}",
        "--report",
        str(tmp_path / "r.html"),
    ]
    args = parser.parse_args([*words, "--json"])
    assert args.run(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == {"mine": [NAMES[0]]}
    assert NAMES[0] in (tmp_path / "r.html").read_text()
    args = parser.parse_args(words)
    args.run(args)
    text = capsys.readouterr().out
    assert f"mine lacks {NAMES[0]}" in text
    assert f"1 of {len(NAMES)} missing" in text
    args = parser.parse_args([*words[:4], "--renders", "nofolder"])
    with pytest.raises(InvalidInputError, match="NAME=PATH"):
        args.run(args)

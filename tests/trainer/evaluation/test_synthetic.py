"""The whole way: tiny shards, a random network, metrics, and a page that holds every one of them."""

from __future__ import annotations

import argparse
import html
import json
import re
from pathlib import Path

import pytest
import torch

from headlift.errors import InvalidInputError, NotFoundError
from headlift.model.cameras import orbit_cameras
from headlift.model.perchead.model import PercHead
from headlift.model.refine.settings import RefineSettings
from headlift.model.splat import rasterize
from headlift_trainer.commands.eval import register
from headlift_trainer.datasets.synthetic import SyntheticHeads
from headlift_trainer.evaluation.baselines import TrainingBaselines
from headlift_trainer.evaluation.held_out import HeldOutHeads, held_out_seeds, make_held_out
from headlift_trainer.evaluation.in_memory import evaluate
from headlift_trainer.evaluation.report import flattened
from headlift_trainer.evaluation.synthetic import Settings, SyntheticEvaluation, camera_error
from headlift_trainer.metrics import psnr

TRAINED = (100, 101, 102, 103)


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Exit code and standard output of `headlift eval ...`."""
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    args = parser.parse_args(["eval", *map(str, argv)])
    return args.run(args), capsys.readouterr().out


@pytest.fixture(scope="module")
def measured(tiny_model: PercHead, shards: Path) -> SyntheticEvaluation:
    settings = Settings(refine_heads=1, refine=RefineSettings(steps=2, size=32, final_size=48))
    found = SyntheticEvaluation(tiny_model, TrainingBaselines(tiny_model, shards, shards), settings)
    assert len(list(found(HeldOutHeads(shards)))) == 3
    return found


def test_metrics_have_what_a_release_is_judged_by(measured: SyntheticEvaluation) -> None:
    found = measured.metrics()
    assert found["heads"] == 3
    for name in ("novel_psnr", "extreme_psnr", "baseline_mean_psnr", "baseline_nearest_psnr", "iou", "input_psnr"):
        assert isinstance(found[name], float), name
    best = max(found["baseline_mean_psnr"], found["baseline_nearest_psnr"])
    assert found["margin_db"] == pytest.approx(found["novel_psnr"] - best, abs=0.02)
    assert set(found["from_profile"]) >= {"ours", "mean", "nearest"}
    assert set(found["refined"]) >= {"ours", "ours_refined", "mean", "mean_refined", "nearest"}
    assert found["refined"]["heads"] == 1
    assert found["by_trait"]["source"]["procedural"]["heads"] == 1
    assert found["absent_metrics"] == ["lpips", "dreamsim", "arcface", "csim"]
    assert found["methods"]["ours"]["novel"]["lpips"] is None


def test_a_figure_is_the_mean_of_what_rendering_the_head_gives(
    measured: SyntheticEvaluation, tiny_model: PercHead, shards: Path
) -> None:
    scores = []
    with torch.no_grad():
        for head in HeldOutHeads(shards):
            picture = head.pictures[:1]
            cloud = tiny_model(picture[:, :3], picture[:, 3:])[0]
            cameras = orbit_cameras([45, -45, 90, -90], width=48, height=48)
            scores.append(psnr(rasterize(cloud, cameras).rgb, head.pictures[1:5, :3]))
    assert measured.metrics()["novel_psnr"] == pytest.approx(float(torch.stack(scores).mean()), abs=0.01)


def test_every_held_out_head_is_measured_once_and_no_training_head(measured: SyntheticEvaluation) -> None:
    rows = measured.records.where(method="ours", input_view="0°", view="0°")
    assert sorted(row.subject for row in rows) == ["00000_0", "00001_0", "80000_0"]


def test_the_quick_metrics_of_training_agree(measured: SyntheticEvaluation, tiny_model: PercHead, shards: Path) -> None:
    held = SyntheticHeads(shards, shards, tiny_model.template, (0, 1, 80_000))
    train = SyntheticHeads(shards, shards, tiny_model.template, TRAINED)
    quick, whole = evaluate(tiny_model, held, train), measured.metrics()
    for one, other in (
        ("novel_psnr", "novel_psnr"),
        ("self_psnr", "input_psnr"),
        ("mean_novel_psnr", "baseline_mean_psnr"),
    ):
        assert quick[one] == pytest.approx(whole[other], abs=0.02)
    assert quick["nearest_novel_psnr"] == pytest.approx(whole["baseline_nearest_psnr"], abs=0.02)


def test_camera_error_is_the_angle_between_two_views() -> None:
    cameras = orbit_cameras([0, 30, -90]).viewmats
    assert camera_error(cameras, cameras[:1].expand(3, 4, 4)).tolist() == pytest.approx([0, 30, 90], abs=0.05)


def test_the_command_prints_json_and_its_page_holds_every_number(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, shards: Path, tmp_path: Path
) -> None:
    page, tables = tmp_path / "page.html", tmp_path / "tables.md"
    code, out = run(
        capsys, "synthetic", "--shards", shards, "--train-shards", shards, "--targets", shards, "--weights",
        tiny_checkpoint, "--no-profile", "--report", page, "--markdown", tables, "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert found["sources"] == {"makehuman": 2, "procedural": 1}
    assert found["baselines"] == {"from": "training heads", "heads": 4}
    text = page.read_text()
    numbers = set(re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", html.unescape(re.sub(r'src="[^"]*"', "", text))))
    for path, value in flattened(found):
        assert value in numbers or value in text, path
    assert "http" not in text.split("</style>")[1]
    assert text.count("data:image/webp;base64,") == 3 * 4
    assert "ours" in tables.read_text()


def test_one_command_makes_the_baselines_and_another_uses_them(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, shards: Path, tmp_path: Path
) -> None:
    out = tmp_path / "baselines.safetensors"
    given = ("--weights", tiny_checkpoint)
    code, text = run(
        capsys,
        "baselines",
        "--train-shards",
        shards,
        "--targets",
        shards,
        "--shards",
        shards,
        *given,
        "--out",
        out,
        "--json",
    )
    assert code == 0
    assert set(json.loads(text)) == {
        "path", "size_bytes", "from", "heads", "numbers_a_head", "gap_nearest_db", "gap_mean_db",
    }  # fmt: skip
    code, text = run(capsys, "synthetic", "--shards", shards, "--baselines", out, *given, "--limit", 2, "--json")
    assert code == 0
    assert json.loads(text)["baselines"]["from"] == "file"
    assert json.loads(text)["heads"] == 2


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small procedural held-out head, from code alone."""
    folder = tmp_path_factory.mktemp("generated")
    heard: list[tuple[int, int]] = []
    heads = make_held_out(folder, limit=1, size=48, tick=lambda *told: heard.append(told))
    assert heads.entries == [(80_000, 0)]
    assert heard == [(0, 1), (1, 1)]
    return folder


def test_held_out_heads_are_made_from_code_alone_and_only_once(generated: Path) -> None:
    (path,) = generated.glob("head_*.npz")
    before = path.stat().st_mtime_ns
    make_held_out(generated, limit=1, size=48)
    assert path.stat().st_mtime_ns == before
    assert HeldOutHeads(generated).sources == {"procedural": 1}


def test_without_any_folder_the_command_makes_its_heads_itself(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, shards: Path, generated: Path
) -> None:
    training = ("--train-shards", shards, "--targets", shards, "--weights", tiny_checkpoint, "--no-profile", "--json")
    code, out = run(capsys, "synthetic", "--limit", 1, "--cache", generated, "--workers", 1, *training)
    assert code == 0
    found = json.loads(out)
    assert (found["count"], found["sources"]) == (1, {"procedural": 1})
    assert found["picture_size"] == 48
    with pytest.raises(NotFoundError, match="asset folder"):
        run(capsys, "synthetic", "--assets", generated / "absent", *training)


def test_a_folder_without_held_out_heads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="none of the 80 held-out heads"):
        HeldOutHeads(tmp_path)


def test_a_limit_takes_heads_from_all_over_the_list(shards: Path) -> None:
    assert [seed for seed, _ in HeldOutHeads(shards, limit=2).entries] == [0, 1]
    assert len({seed // 10_000 for seed in held_out_seeds(8, ["makehuman", "ict", "procedural"])}) == 3
    assert all(seed >= 80_000 for seed in held_out_seeds(sources=["procedural"]))
    with pytest.raises(InvalidInputError, match="limit"):
        HeldOutHeads(shards, limit=0)


def test_other_weights_are_measured_on_the_same_heads(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path, shards: Path, tmp_path: Path
) -> None:
    tables = tmp_path / "tables.md"
    code, out = run(
        capsys, "synthetic", "--shards", shards, "--train-shards", shards, "--targets", shards, "--weights",
        tiny_checkpoint, "--no-profile", "--also", f"twin={tiny_checkpoint}", "--markdown", tables, "--json",
    )  # fmt: skip
    assert code == 0
    methods = json.loads(out)["methods"]
    assert methods["twin"] == methods["ours"]
    assert "Variants" in tables.read_text()
    with pytest.raises(InvalidInputError, match="also"):
        run(
            capsys, "synthetic", "--shards", shards, "--train-shards", shards, "--targets", shards, "--weights",
            tiny_checkpoint, "--also", "x",
        )  # fmt: skip

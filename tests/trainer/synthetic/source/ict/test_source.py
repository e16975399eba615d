"""Heads of ICT's shapes on a mesh in MakeHuman's format, from a made-up kit in ICT's file format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from headlift.errors import FormatError, NotFoundError
from headlift_trainer.synthetic.base.topology import EYE_MIDPOINT
from headlift_trainer.synthetic.source.expressions import EXPRESSIONS
from headlift_trainer.synthetic.source.head import HeadAssets
from headlift_trainer.synthetic.source.ict import IctSource
from headlift_trainer.synthetic.source.ict.model import IctModel, fit_sphere

VERTICES, ROWS, COLUMNS = 26_719, 148, 76  # ROWS * COLUMNS = the 11,248 vertices of ICT's skin
EYES = {21_451: (0.0315, 0.028, 0.042), 23_021: (-0.0315, 0.028, 0.042)}


def skin() -> tuple[np.ndarray, np.ndarray]:
    """An egg of 148 rings, 3% wider than the test's MakeHuman egg, and its quads."""
    heights = np.linspace(0.1399, -0.19, ROWS)
    round_ = np.sqrt(np.clip(1 - ((heights - 0.03) / 0.112) ** 2, 0, 1))
    neck = np.where(heights < -0.03, 0.05, 0.0)
    angle = np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False)
    x = 1.03 * np.outer(np.maximum(0.078 * round_, neck), np.sin(angle))
    z = 1.03 * np.outer(np.maximum(0.110 * round_, neck), np.cos(angle)) - 0.035
    points = np.stack([x, np.repeat(heights[:, None], COLUMNS, 1), z], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(ROWS - 1), np.arange(COLUMNS), indexing="ij")
    after = (column + 1) % COLUMNS
    corners = ((row, column), (row + 1, column), (row + 1, after), (row, after))
    return points, np.stack([r * COLUMNS + c for r, c in corners], -1).reshape(-1, 4)


def write_kit(folder: Path, vertices: int = VERTICES) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    points, quads = skin()
    neutral = np.tile([[0.0, -0.045, 0.03]], (vertices, 1)) + 0.01 * rng.normal(size=(vertices, 3))
    neutral[: len(points)] = points
    for start, center in EYES.items():
        ray = rng.normal(size=(1570, 3))
        neutral[start : start + 1570] = center + 0.013 * ray / np.linalg.norm(ray, axis=1, keepdims=True)
    modes = np.zeros((100, vertices, 3))
    modes[0] = neutral * [0.03, 0.0, 0.0]  # wider heads
    modes[1, :, 2] = 0.001 * (neutral[:, 1] < 0)
    moves = np.zeros((53, vertices, 3))
    moves[EXPRESSIONS.index("jawOpen"), :, 1] = -0.01 * (neutral[:, 1] < -0.045)
    scale = np.float32(0.1 / 32767)
    np.savez(
        folder / "ict_light.npz",
        neutral=(neutral * 100).astype(np.float32),
        faces=quads.astype(np.int32),
        id_delta_i16=np.round(modes / scale).astype(np.int16),
        id_scale=np.full(100, scale * 100, np.float32),
        ex_delta_i16=np.round(moves / scale).astype(np.int16),
        ex_scale=np.full(53, scale * 100, np.float32),
        ex_names=np.array(EXPRESSIONS),
    )
    front = np.argsort(-points[:, 2])[:68]
    (folder / "vertex_indices.json").write_text(json.dumps({"idx_to_landmark_verts": front.tolist()}))


def write_helpers(base: Path) -> None:
    """Append what MakeHuman's mesh has beside its skin: helpers for eyes, teeth and tongue, as balls (dm)."""
    count = base.read_text(encoding="utf-8").count("\nv ")
    rng = np.random.default_rng(4)
    places = {"l-eye": EYES[21_451], "r-eye": EYES[23_021]}
    places |= dict.fromkeys(("upper-teeth", "lower-teeth", "tongue"), (0.0, -0.045, 0.03))
    with base.open("a", encoding="utf-8") as file:
        for name, center in places.items():
            ray = rng.normal(size=(30, 3))
            points = np.array(center) + 0.012 * ray / np.linalg.norm(ray, axis=1, keepdims=True)
            dm = (points - np.array(EYE_MIDPOINT)) / 0.1 + np.array([0.0, 7.35, 1.26])
            file.write("\n" + "\n".join(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in dm) + f"\ng helper-{name}\n")
            file.writelines(f"f {count + k}/1 {count + k + 1}/1 {count + k + 2}/1\n" for k in range(1, 29))
            count += 30


@pytest.fixture(scope="module")
def root(asset_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ict") / "assets"
    shutil.copytree(asset_folder, folder)
    write_kit(folder / "ict-facekit")
    write_helpers(folder / "makehuman/data/3dobjs/base.obj")
    return folder


@pytest.fixture(scope="module")
def mean(root: Path) -> np.ndarray:
    return HeadAssets(root).topology.mean


@pytest.fixture(scope="module")
def source(root: Path) -> IctSource:
    return IctSource(root)


def test_the_kit_is_read_in_metres_with_its_eyes_in_the_canonical_places(root: Path) -> None:
    model = IctModel(root)
    eyes = [model.neutral[start : start + 1570].mean(0) for start in EYES]
    assert np.allclose((eyes[0] + eyes[1]) / 2, EYE_MIDPOINT, atol=1e-4)
    assert np.isclose(eyes[0][0] - eyes[1][0], 0.063, atol=1e-4)
    assert model.expression.shape[0] == 53


def test_the_mesh_is_laid_onto_icts_mean_head(source: IctSource, mean: np.ndarray) -> None:
    shapes = source.shapes
    laid = (mean + shapes.mean_offset)[: len(mean)]
    side = np.flatnonzero((np.abs(mean[:, 1] - 0.05) < 0.04) & (mean[:, 0] > 0.05))
    wide = laid[side, 0] / mean[side, 0]
    scale = 0.063 / np.linalg.norm(np.subtract(*EYES.values()))
    # The toy mesh's few lip vertices shift its frame by a percent; a mesh that was not widened would be off by .03.
    assert abs(np.median(wide) - 1.03 * scale) < 0.02


def test_a_mode_of_icts_identity_moves_the_skin_as_it_moves_ict(source: IctSource, mean: np.ndarray) -> None:
    wider = source.shapes.identity[0]
    cheeks = np.flatnonzero((np.abs(mean[:, 1]) < 0.05) & (np.abs(mean[:, 0]) > 0.05))
    assert np.median(wider[cheeks, 0] / mean[cheeks, 0]) == pytest.approx(0.03, rel=0.15)


def test_the_same_seed_gives_the_same_head_and_another_seed_another(source: IctSource) -> None:
    first, again, other = source.head(50_001), source.head(50_001), source.head(50_002)
    assert np.array_equal(first.base_vertices, again.base_vertices)
    assert not np.allclose(first.base_vertices, other.base_vertices)


def test_a_head_has_all_that_a_source_promises(source: IctSource) -> None:
    head = source.head(50_003)
    assert head.seed == 50_003
    assert head.landmarks.shape == (68, 3)
    assert head.expression_code.shape == (53,)
    assert head.scalp.shape == (len(head.base_vertices),)
    assert json.loads(json.dumps(head.attributes()))["source"] == "ict"
    assert len(head.base_vertices) == len(source.base_mesh().vertices)


def test_a_head_performs_in_the_same_hair_and_clothes(source: IctSource) -> None:
    head = source.head(3)
    open_code = np.zeros(53, np.float32)
    open_code[EXPRESSIONS.index("jawOpen")] = 0.7
    rest, jaw = head.perform(np.zeros(53, np.float32)), head.perform(open_code)
    worn = {"hair_style", "beard", "garment", "neckline", "hat", "glasses", "earrings", "necklace"}
    assert {k: rest.attributes()[k] for k in worn} == {k: jaw.attributes()[k] for k in worn}
    assert np.array_equal(rest.hair_points, jaw.hair_points)
    moved = jaw.base_vertices - rest.base_vertices
    expected = 0.7 * source.shapes.expression[EXPRESSIONS.index("jawOpen")]
    far = np.abs(expected).max(1) > 0.5 * np.abs(expected).max()
    assert far.any()
    assert np.array_equal(jaw.expression_code, open_code)
    assert np.linalg.norm(moved[far], axis=1).min() > 0


def test_a_missing_kit_is_named(asset_folder: Path) -> None:
    with pytest.raises(NotFoundError, match=r"ict_light\.npz"):
        IctModel(asset_folder)


def test_a_kit_of_another_size_is_refused(tmp_path: Path) -> None:
    write_kit(tmp_path / "ict-facekit", VERTICES + 1)
    with pytest.raises(FormatError, match="26720"):
        IctModel(tmp_path)


def test_a_sphere_is_found_from_a_part_of_it() -> None:
    ray = np.random.default_rng(1).normal(size=(200, 3))
    ray = ray[ray[:, 2] > 0]
    points = np.array([0.1, 0.2, 0.3]) + 0.5 * ray / np.linalg.norm(ray, axis=1, keepdims=True)
    center, radius = fit_sphere(points.astype(np.float32))
    assert np.allclose(center, [0.1, 0.2, 0.3], atol=1e-5)
    assert radius == pytest.approx(0.5, abs=1e-5)

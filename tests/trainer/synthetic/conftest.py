"""A tiny asset folder in MakeHuman's file formats, written by the tests: an egg on a neck on shoulders."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headlift_trainer.synthetic.base.topology import EYE_MIDPOINT
from headlift_trainer.synthetic.source.head import HeadAssets, HeadMesh, sample_head

ROWS, COLUMNS = 72, 40
EYE_DM = np.array([0.0, 7.35, 1.26])
UNITS = ("eye-*-closure", "eye-*-slit", "eyebrows-*-up", "eyebrows-*-down", "mouth-corner-puller", "mouth-parling")
UNITS += ("mouth-upward-retraction", "mouth-part-later", "mouth-retraction", "mouth-open", "mouth-pursing")
UNITS += ("eye-*-opened-up", "eyebrows-*-inner-up", "mouth-compression")


def to_dm(points):
    """Canonical metres to the file's decimetres."""
    return (np.asarray(points) - np.array(EYE_MIDPOINT)) / 0.1 + EYE_DM


def closed_quads(row, column, after, width):
    """Quads between rows of `width` vertices that close on themselves."""
    corners = ((row, column), (row + 1, column), (row + 1, after), (row, after))
    return np.stack([line * width + place for line, place in corners], -1)


def bust():
    """Vertices [N, 3] m, quads and texture coordinates of head, neck and shoulders: one ring per height."""
    heights = np.linspace(0.1399, -0.42, ROWS)
    head = np.sqrt(np.clip(1 - ((heights - 0.03) / 0.112) ** 2, 0, 1))
    lower = np.clip((-0.10 - heights) / 0.08, 0, 1)
    lower = lower * lower * (3 - 2 * lower)
    width = np.maximum(0.078 * head, np.where(heights < -0.03, 0.05 + 0.15 * lower, 0.0))
    depth = np.maximum(0.110 * head, np.where(heights < -0.03, 0.055 + 0.05 * lower, 0.0))
    angle = np.linspace(0, 2 * np.pi, COLUMNS, endpoint=False)
    x, z = np.outer(width, np.sin(angle)), np.outer(depth, np.cos(angle)) - 0.035
    points = np.stack([x, np.repeat(heights[:, None], COLUMNS, 1), z], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(ROWS - 1), np.arange(COLUMNS), indexing="ij")
    after = (column + 1) % COLUMNS
    quads = closed_quads(row, column, after, COLUMNS)
    uvs = np.stack([np.repeat(angle[None], ROWS, 0) / 7, np.repeat(np.linspace(1, 0, ROWS)[:, None], COLUMNS, 1)], -1)
    return points, quads.reshape(-1, 4), uvs.reshape(-1, 2)


def write_obj(path: Path, points, faces, uvs, group: str = "body") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# test", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in points)]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in uvs] + [f"g {group}"]
    lines += ["f " + " ".join(f"{i + 1}/{i + 1}" for i in face) for face in faces]
    path.write_text("\n".join(lines), encoding="utf-8")


def write_target(path: Path, indices: Iterable[int], offsets) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{i} {x:.5f} {y:.5f} {z:.5f}" for i, (x, y, z) in zip(indices, offsets, strict=True)]
    path.write_text("# basemesh test\n" + "\n".join(rows), encoding="utf-8")


def write_proxy(stem: Path, base, points, faces, uvs) -> None:
    """Tie every point to its nearest base vertex."""
    write_obj(stem.with_suffix(".obj"), points, faces, uvs)
    nearest = [int(np.argmin(((base - point) ** 2).sum(1))) for point in points]
    rows = [
        f"{i} {i} {i} 1 0 0 {' '.join(f'{d:.6f}' for d in p - base[i])}" for i, p in zip(nearest, points, strict=True)
    ]
    stem.with_suffix(".mhclo").write_text("# test\nname test\nverts 0\n" + "\n".join(rows), encoding="utf-8")


def ball(center, radius: float, steps: int = 10):
    polar, around = np.meshgrid(
        np.linspace(0.05, np.pi - 0.05, steps), np.linspace(0, 2 * np.pi, steps, endpoint=False), indexing="ij"
    )
    unit = np.stack([np.sin(polar) * np.sin(around), np.sin(polar) * np.cos(around), np.cos(polar)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(steps - 1), np.arange(steps), indexing="ij")
    after = (column + 1) % steps
    quads = closed_quads(row, column, after, steps)
    uvs = np.stack([around / 7, polar / np.pi], -1).reshape(-1, 2)
    return np.asarray(center) + radius * unit, quads.reshape(-1, 4), uvs


def picture(path: Path, color, *, side: int = 32, alpha: float = 1.0, noise: float = 0.1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(side)
    rgba = np.ones((side, side, 4))
    rgba[..., :3] = np.asarray(color) * (1 + noise * rng.normal(size=(side, side, 1)))
    rgba[..., 3] = alpha
    Image.fromarray((np.clip(rgba, 0, 1) * 255).astype(np.uint8)).save(path)


def write_targets(folder: Path, points) -> None:
    x, y, z = points.T
    everywhere = np.arange(len(points))
    scale = 0.0
    for race in ("african", "asian", "caucasian"):
        for sex in ("male", "female"):
            for age in ("child", "young", "old"):
                scale += 0.004
                write_target(
                    folder / f"macrodetails/{race}-{sex}-{age}.target",
                    everywhere,
                    (to_dm(points) - EYE_DM) * [scale, 0.5 * scale, 0],
                )
    for sex in ("male", "female"):
        for age in ("child", "young", "old"):
            for weight in ("minweight", "averageweight", "maxweight"):
                body = y < -0.1
                write_target(
                    folder / f"macrodetails/universal-{sex}-{age}-averagemuscle-{weight}.target",
                    everywhere[body],
                    points[body] * 0.2,
                )
    regions = {
        "nose/nose-scale-depth": (np.abs(x) < 0.012) & (np.abs(y + 0.01) < 0.02) & (z > 0.03),
        "mouth/mouth-upperlip-volume": (np.abs(x) < 0.02) & (np.abs(y + 0.037) < 0.006) & (z > 0.0),
        "mouth/mouth-lowerlip-volume": (np.abs(x) < 0.02) & (np.abs(y + 0.050) < 0.006) & (z > 0.0),
        "chin/chin-width": (y < -0.06) & (y > -0.09) & (z > 0.0),
        "cheek/l-cheek-volume": (x > 0.02) & (np.abs(y) < 0.03) & (z > 0.0),
        "cheek/r-cheek-volume": (x < -0.02) & (np.abs(y) < 0.03) & (z > 0.0),
        "ears/l-ear-trans": (x > 0.066) & (np.abs(y) < 0.03),
        "ears/r-ear-trans": (x < -0.066) & (np.abs(y) < 0.03),
    }
    for name, chosen in regions.items():
        assert chosen.any(), name
        ends = ("up", "down") if "ear" in name else ("incr", "decr")
        for end, sign in zip(ends, (1, -1), strict=True):
            write_target(
                folder / f"{name}-{end}.target", everywhere[chosen], np.tile([0, 0.0, 0.1 * sign], (chosen.sum(), 1))
            )
    units = [unit.replace("*", side) for unit in UNITS for side in (("left", "right") if "*" in unit else ("",))]
    mouth = (np.abs(x) < 0.03) & (np.abs(y + 0.045) < 0.012) & (z > 0.0)
    for race in ("african", "asian", "caucasian"):
        for unit in units:
            write_target(
                folder / f"expression/units/{race}/{unit}.target",
                everywhere[mouth],
                np.tile([0, 0.02, 0], (mouth.sum(), 1)),
            )


def write_assets(root: Path) -> None:
    data, extra = root / "makehuman/data", root / "makehuman-assets/base"
    points, quads, uvs = bust()
    base = to_dm(points)
    write_obj(data / "3dobjs/base.obj", base, quads, uvs)
    write_targets(data / "targets", points)
    left, right = ball((0.0315, 0.028, 0.042), 0.013), ball((-0.0315, 0.028, 0.042), 0.013)
    eyes = (
        np.concatenate([left[0], right[0]]),
        np.concatenate([left[1], right[1] + len(left[0])]),
        np.concatenate([left[2], right[2]]),
    )
    (data / "eyes/high-poly").mkdir(parents=True)
    write_proxy(data / "eyes/high-poly/high-poly", base, to_dm(eyes[0]), *eyes[1:])
    picture(data / "eyes/materials/brown_eye.png", (0.4, 0.3, 0.2))
    picture(extra / "eyes/materials/blue_eye.png", (0.3, 0.4, 0.6))
    cap = ball((0, 0.05, -0.035), 0.12, 12)
    brow = ball((0, 0.05, 0.06), 0.03, 6)
    mouth = ball((0, -0.045, 0.03), 0.015, 6)
    for kind, name, shape, file, alpha in (
        ("hair", "short01", cap, "hair/short01/short01_diffuse.png", 0.9),
        ("eyebrows", "eyebrow001", brow, "eyebrows/eyebrow001/eyebrow001.png", 0.5),
        ("eyelashes", "eyelashes01", brow, "eyelashes/eyelashes01/eyelashes01.png", 0.5),
        ("teeth", "teeth_base", mouth, "teeth/materials/teeth.png", 1.0),
        ("tongue", "tongue01", mouth, "tongue/tongue01/tongue01_diffuse.png", 1.0),
    ):
        (extra / kind / name).mkdir(parents=True, exist_ok=True)
        write_proxy(extra / kind / name / name, base, to_dm(shape[0]), *shape[1:])
        picture(extra / file, (0.5, 0.4, 0.3), alpha=alpha)
    for name, color in (
        ("young_lightskinned_female_diffuse", (0.9, 0.7, 0.6)),
        ("old_darkskinned_male_diffuse", (0.4, 0.25, 0.15)),
    ):
        picture(extra / f"skins/textures/{name}.png", color, side=64)


@pytest.fixture(scope="session")
def asset_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("assets")
    write_assets(root)
    return root


@pytest.fixture(scope="session")
def assets(asset_folder: Path) -> HeadAssets:
    return HeadAssets(asset_folder)


@pytest.fixture(scope="session")
def head(assets: HeadAssets) -> HeadMesh:
    return sample_head(3, assets)

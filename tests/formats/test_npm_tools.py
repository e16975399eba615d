"""Tools from npm read what we write, and we read what they write: the numbers agree.

@adobe/spz (Niantic's own library), @playcanvas/splat-transform, @gltf-transform/core and Khronos' gltf-validator,
at the versions of npm/package-lock.json, installed once into npm/node_modules.
"""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from headlift import formats
from headlift.model.types import Gaussians

pytestmark = pytest.mark.npm

Bust = Callable[[int], Gaussians]
NPM = Path(__file__).parent / "npm"
SH_C0 = 0.28209479177387814
COUNT = 500


def run(node: str, *arguments: object) -> None:
    done = subprocess.run(
        [node, *map(str, arguments)], cwd=NPM, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def transform(node: str, source: Path, target: Path, *options: str) -> bytes:
    """What splat-transform makes of a file."""
    run(node, NPM / "node_modules/@playcanvas/splat-transform/bin/cli.mjs", "-q", "-w", *options, source, target)
    return target.read_bytes()


def matrices(head: Gaussians) -> torch.Tensor:
    return torch.from_numpy(Rotation.from_quat(head.quats[:, [1, 2, 3, 0]].numpy()).as_matrix())


def assert_close(a: Gaussians, b: Gaussians, *, means: float, logs: float, unit: float, turn: float = 5e-3) -> None:
    """Equal but for tolerances; ``turn`` is between the local axes, whose direction along themselves means nothing."""
    assert float((a.means - b.means).abs().max()) <= means
    assert float((a.scales / b.scales).log().abs().max()) <= logs
    assert float((a.opacities - b.opacities).abs().max()) <= unit
    assert float((a.colors - b.colors).abs().max()) <= unit
    assert float(((matrices(a).mT @ matrices(b)).abs() - torch.eye(3)).abs().max()) <= turn


def from_adobe(path: Path) -> Gaussians:
    """The arrays of read_spz.mjs, activated here with formulas of our own."""
    values = np.frombuffer(path.read_bytes(), np.float32, offset=4).copy()
    n = int.from_bytes(path.read_bytes()[:4], "little")
    means, logs, quats, logit, sh = (torch.from_numpy(v) for v in np.split(values, np.cumsum([3 * n, 3 * n, 4 * n, n])))
    return Gaussians(
        means.reshape(n, 3), quats.reshape(n, 4)[:, [3, 0, 1, 2]], logs.reshape(n, 3).exp(), logit.sigmoid(),
        (sh.reshape(n, 3) * SH_C0 + 0.5).clamp(0, 1),
    )  # fmt: skip


def for_adobe(head: Gaussians) -> bytes:
    sh = (head.colors - 0.5) / SH_C0
    arrays = (
        head.means,
        head.scales.log(),
        head.quats[:, [1, 2, 3, 0]],
        head.opacities.clamp(1e-4, 1 - 1e-4).logit(),
        sh,
    )
    return len(head).to_bytes(4, "little") + b"".join(a.numpy().astype("<f4").tobytes() for a in arrays)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize(
    "options", [{}, {"fraction_bits": 12}, {"fraction_bits": 20}, {"frame": "RDF"}, {"frame": "LUF"}]
)
def test_adobe_spz_reads_our_spz(
    node: str, bust: Bust, tmp_path: Path, version: int, options: dict[str, object]
) -> None:
    ours, theirs = tmp_path / "ours.spz", tmp_path / "theirs.bin"
    ours.write_bytes(formats.write(bust(COUNT), "spz", version=version, **options))
    run(node, "read_spz.mjs", ours, theirs)
    # 0.2.3 cannot read extension records in the gzip container ("exceeds remaining stream bytes") and takes RUB.
    blind = {"frame": "RUB"} if version == 3 else {}
    assert_close(from_adobe(theirs), formats.read(ours.read_bytes(), **blind), means=1e-6, logs=1e-5, unit=1e-5)


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("degree", [0, 1, 3])
def test_we_read_adobes_spz(node: str, bust: Bust, tmp_path: Path, version: int, degree: int) -> None:
    head, plain, packed, seen = bust(COUNT), tmp_path / "in.bin", tmp_path / "theirs.spz", tmp_path / "seen.bin"
    plain.write_bytes(for_adobe(head))
    run(node, "write_spz.mjs", plain, packed, version, "RUB", degree)
    ours, metadata = formats.read_with_metadata(packed.read_bytes())
    assert (metadata.version, metadata.sh_degree, metadata.count) == (str(version), degree, COUNT)
    run(node, "read_spz.mjs", packed, seen)
    assert_close(ours, from_adobe(seen), means=1e-6, logs=1e-5, unit=1e-5)
    assert_close(ours, head, means=1.3e-4, logs=0.033, unit=1.1 / 255, turn=2e-2)


def test_the_frames_of_spz_mean_the_same_to_niantics_library(node: str, bust: Bust, tmp_path: Path) -> None:
    head, plain, packed = bust(COUNT), tmp_path / "in.bin", tmp_path / "theirs.spz"
    ply = PlyData.read(io.BytesIO(formats.write(head, "ply")))["vertex"]
    means = torch.from_numpy(np.stack([ply[n] for n in "xyz"], 1))
    quats = torch.from_numpy(np.stack([ply[f"rot_{i}"] for i in range(4)], 1))
    plain.write_bytes(for_adobe(Gaussians(means, quats, head.scales, head.opacities, head.colors)))
    run(node, "write_spz.mjs", plain, packed, 4, "RDF", 0)
    assert_close(formats.read(packed.read_bytes()), head, means=1.3e-4, logs=0.033, unit=1.1 / 255, turn=2e-2)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ply", {}),
        ("ply_compact", {}),
        ("ply_compact", {"normals": False}),
        ("ply_compressed", {}),
        ("sog", {}),
        ("splat", {}),
        ("spz", {}),
        ("spz", {"version": 4}),
        ("spz", {"frame": "RDF"}),
        ("spz", {"frame": "RDF", "version": 4}),
    ],
)
def test_splat_transform_sees_in_our_files_what_we_see(
    node: str, bust: Bust, tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    ours = tmp_path / f"ours.{name.split('_', maxsplit=1)[0]}"
    ours.write_bytes(formats.write(bust(COUNT), name, **options))
    # It takes the numbers of an SPZ file for RDF whatever the specification and the file say.
    raw_frame = options.get("frame", "RUB") if name == "spz" else "RDF"
    theirs = formats.read(transform(node, ours, tmp_path / "theirs.ply"), frame=raw_frame)
    # It maps the bytes of a SPLAT quaternion to -1..1 in 255 steps, we as the viewer does in 256.
    assert_close(
        theirs,
        formats.read(ours.read_bytes()),
        means=1e-6,
        logs=1e-4,
        unit=1e-5,
        turn=2e-2 if name == "splat" else 5e-3,
    )


@pytest.mark.parametrize("version", [3, 4])
def test_we_read_splat_transforms_spz(node: str, bust: Bust, tmp_path: Path, version: int) -> None:
    source = tmp_path / "ours.ply"
    source.write_bytes(formats.write(bust(COUNT), "ply"))
    data = transform(node, source, tmp_path / "theirs.spz", "--spz-version", str(version))
    assert_close(formats.read(data, frame="RDF"), bust(COUNT), means=1.3e-4, logs=0.033, unit=1.1 / 255, turn=2e-2)


@pytest.mark.parametrize(
    ("file", "tolerances"),
    [
        ("theirs.compressed.ply", {"means": 2e-4, "logs": 0.01, "unit": 0.6 / 255, "turn": 1e-2}),
        ("theirs.sog", {"means": 1e-5, "logs": 0.2, "unit": 0.02, "turn": 3e-2}),
    ],
)
def test_we_read_the_compressed_files_of_splat_transform(
    node: str, bust: Bust, tmp_path: Path, file: str, tolerances: dict[str, float]
) -> None:
    source = tmp_path / "ours.ply"
    source.write_bytes(formats.write(bust(COUNT), "ply"))
    data = transform(node, source, tmp_path / file, "-g", "cpu")
    theirs, metadata = formats.read_with_metadata(data)
    assert (metadata.count, metadata.frame) == (COUNT, "RDF")
    order = torch.from_numpy(KDTree(theirs.means.numpy()).query(bust(COUNT).means.numpy())[1])
    assert_close(
        Gaussians(*(getattr(theirs, field.name)[order] for field in fields(Gaussians))), bust(COUNT), **tolerances
    )


def test_we_read_splat_transforms_glb(node: str, bust: Bust, tmp_path: Path) -> None:
    source = tmp_path / "ours.ply"
    source.write_bytes(formats.write(bust(COUNT), "ply"))
    data = transform(node, source, tmp_path / "theirs.glb")
    ours, metadata = formats.read_with_metadata(data, frame="LUF")  # it turns scans about Z: upright, looking along -Z
    assert metadata.generator.startswith("splat-transform")
    assert_close(ours, bust(COUNT), means=1e-6, logs=1e-5, unit=1e-5)


@pytest.mark.parametrize("integers", [True, False])
def test_gltf_transform_reads_our_glb_and_the_validator_knows_no_fault(
    node: str, bust: Bust, tmp_path: Path, integers: bool
) -> None:
    head, ours, report = bust(COUNT), tmp_path / "ours.glb", tmp_path / "report.json"
    ours.write_bytes(formats.write(head, "glb", integers=integers))
    run(node, "read_glb.mjs", ours, report)
    seen = json.loads(report.read_text())
    (attributes,) = seen["attributes"]
    khr = "KHR_gaussian_splatting"
    assert seen["mode"] == 0
    assert seen["extensions"][0][khr]["kernel"] == "ellipse"
    unit, fine = seen["scale"][0], 0.0 if not integers else 1 / 65535
    assert np.allclose(np.array(attributes["POSITION"]) * unit, head.means, atol=1e-7)
    quats = np.array(attributes[f"{khr}:ROTATION"])[:, [3, 0, 1, 2]]
    assert np.allclose(quats, head.quats, atol=0.51 / 127 if integers else 1e-6)
    assert np.allclose(np.array(attributes[f"{khr}:SCALE"]) * unit, head.scales, rtol=1e-6, atol=unit * fine)
    assert np.allclose(np.array(attributes[f"{khr}:OPACITY"])[:, 0], head.opacities, atol=1e-7 + fine)
    assert np.allclose(np.array(attributes[f"{khr}:SH_DEGREE_0_COEF_0"]) * SH_C0 + 0.5, head.colors, atol=1e-6)
    # The validator of today has not heard of the extension, and says so of each of its attribute names; no more.
    for message in seen["issues"]["messages"]:
        unheard = message["code"] == "MESH_PRIMITIVE_INVALID_ATTRIBUTE" and f"{khr}:" in message["pointer"]
        assert unheard or message["code"] == "UNSUPPORTED_EXTENSION", message

"""The public face: every format, there and back, and what the picture loses on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
import torch
from scipy.spatial import KDTree
from torch import Tensor

from headlift import formats
from headlift.errors import FormatError
from headlift.model.cameras import orbit_cameras
from headlift.model.splat import available_backends, rasterize
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]

# Format, options, tolerances of means (m), ln scales, opacities and colours, quaternions (1 - |dot|).
CASES: list[tuple[str, dict[str, Any], tuple[float, float, float, float]]] = [
    ("ply", {}, (0.0, 1e-5, 2e-7, 1e-6)),
    ("ply", {"frame": "LUF"}, (0.0, 1e-5, 2e-7, 1e-6)),
    ("ply_compact", {}, (0.0, 1e-5, 2e-7, 1e-6)),
    ("ply_compact", {"frame": "LUF", "normals": False}, (0.0, 1e-5, 2e-7, 1e-6)),
    ("ply_compressed", {}, (6e-5, 1e-3, 0.5 / 255 + 1e-6, 1e-5)),
    ("ply_compressed", {"frame": "LUF"}, (6e-5, 1e-3, 0.5 / 255 + 1e-6, 1e-5)),
    ("splat", {}, (0.0, 0.0, 0.5 / 255 + 1e-6, 1e-4)),
    ("spz", {}, (2.0**-17, 1 / 32 + 1e-5, 0.95 / 255, 1e-5)),
    ("spz", {"version": 4}, (2.0**-17, 1 / 32 + 1e-5, 0.95 / 255, 1e-5)),
    ("spz", {"frame": "RDF"}, (2.0**-17, 1 / 32 + 1e-5, 0.95 / 255, 1e-5)),
    ("spz", {"frame": "LUF", "version": 4}, (2.0**-17, 1 / 32 + 1e-5, 0.95 / 255, 1e-5)),
    ("sog", {}, (2e-6, 0.1, 0.01, 1e-4)),
    ("glb", {}, (0.0, 2e-3, 1e-5, 5e-5)),
    ("glb", {"integers": False}, (0.0, 0.0, 2e-7, 1e-6)),
    ("usdz", {}, (0.0, 0.0, 2e-7, 1e-6)),
    ("html", {}, (2.0**-17, 1 / 32 + 1e-5, 0.95 / 255, 1e-5)),
    ("wire", {}, (4e-6, 0.02, 0.5 / 255 + 1e-6, 1e-4)),
    ("wire", {"level": 0}, (4e-6, 0.02, 0.5 / 255 + 1e-6, 1e-4)),
    ("wire", {"mode": "raw"}, (0.0, 0.0, 0.0, 1e-6)),
]
SORTED = ("ply_compressed", "sog")  # written in Morton order
COARSE = {"ply_compressed": 2e-4, "sog": 5e-6}  # m; half a step of positions where six Gaussians share one box
IDS = [" ".join([name, *map(str, options.values())]) for name, options, _ in CASES]


def matched(before: Gaussians, after: Gaussians) -> Gaussians:
    """``after`` in the order of ``before``: each its nearest, each used once."""

    def features(head: Gaussians) -> Tensor:
        return torch.cat([head.means, 0.01 * head.opacities[:, None], 0.01 * head.colors], 1)

    order = torch.from_numpy(KDTree(features(after).numpy()).query(features(before).numpy())[1])
    assert len(order.unique()) == len(before) == len(after)
    return Gaussians(*(getattr(after, field.name)[order] for field in fields(Gaussians)))


@pytest.mark.parametrize(("name", "options", "tolerances"), CASES, ids=IDS)
def test_a_round_trip_stays_within_the_quantisers_half_steps(
    bust: Bust, name: str, options: dict[str, Any], tolerances: tuple[float, float, float, float]
) -> None:
    before = bust(4096)
    after = formats.read(formats.write(before, name, **options)).validate()
    after = matched(before, after) if name in SORTED else after
    means, scales, unit, quats = tolerances
    assert float((after.means - before.means).abs().max()) <= means * 1.01
    assert float((after.scales / before.scales).log().abs().max()) <= scales
    assert float((after.opacities - before.opacities).abs().max()) <= unit
    assert (
        float((after.colors - before.colors).abs().max()) <= (unit * 1.05 if name in ("spz", "html") else unit) + 1e-6
    )
    assert float(1 - (after.quats.double() * before.quats).sum(1).abs().min()) <= quats
    assert float((after.quats.norm(dim=1) - 1).abs().max()) <= 1e-5


@pytest.mark.parametrize(("name", "options", "tolerances"), CASES, ids=IDS)
def test_what_was_read_is_written_the_same_again(
    bust: Bust, name: str, options: dict[str, Any], tolerances: object
) -> None:
    once = formats.read(formats.write(bust(500), name, **options))
    twice = matched(once, formats.read(formats.write(once, name, **options)))
    coarse = name == "ply_compressed"  # Gaussians of equal cells change places, and with them the bounds of chunks
    for field in fields(Gaussians):
        a, b = getattr(once, field.name), getattr(twice, field.name)
        if field.name == "quats":
            a, b = a * (a * b).sum(1, keepdim=True).sign(), b
        assert torch.allclose(
            a,
            b,
            rtol=1e-3 if coarse else 1e-5,
            atol=(9e-3 if name in ("splat", "glb") else 2.5e-3) if field.name == "quats" else 2e-3 if coarse else 2e-6,
        ), field.name


@pytest.mark.parametrize(("name", "options", "tolerances"), CASES, ids=IDS)
def test_the_ends_of_every_range_come_back(
    extremes: Gaussians, name: str, options: dict[str, Any], tolerances: object
) -> None:
    after = formats.read(formats.write(extremes, name, **options)).validate()
    after = matched(extremes, after) if name in SORTED else after
    assert torch.allclose(after.means, extremes.means, atol=COARSE.get(name, 1e-5))
    assert torch.allclose(after.opacities, extremes.opacities, atol=0.5 / 255 + 1e-6)
    assert torch.allclose(after.colors, extremes.colors, atol=1.0 / 255)
    assert float((after.quats * extremes.quats).sum(1).abs().min()) > 1 - 1e-4
    assert after.opacities[0] < 1e-6
    assert after.opacities[1] == 1.0
    assert float(after.scales[0].max()) < 5e-5


@pytest.mark.parametrize(("name", "options", "tolerances"), CASES, ids=IDS)
def test_the_same_gaussians_give_the_same_bytes(
    bust: Bust, name: str, options: dict[str, Any], tolerances: object
) -> None:
    assert formats.write(bust(300), name, **options) == formats.write(bust(300), name, **options)


@pytest.mark.parametrize(("name", "options", "tolerances"), CASES, ids=IDS)
def test_a_file_says_what_it_is(bust: Bust, name: str, options: dict[str, Any], tolerances: object) -> None:
    data = formats.write(bust(32), name, **options)
    name = "ply" if name.startswith("ply") else name
    assert formats.sniff(data) == name
    _, metadata = formats.read_with_metadata(data)
    assert (metadata.format, metadata.count, metadata.sh_degree) == (name, 32, 0)
    assert metadata.generator.startswith("headlift") == (name in ("ply", "sog", "glb", "usdz", "html"))
    assert metadata.frame == options.get("frame", "RDF" if name in ("ply", "splat", "sog") else "RUB")


@pytest.mark.parametrize(
    ("name", "options", "least_db"),
    [
        ("ply", {}, 100),
        ("glb", {}, 60),
        ("wire", {}, 60),
        ("spz", {}, 45),
        ("spz", {"version": 4}, 45),
        ("sog", {}, 45),
        ("ply_compressed", {}, 55),
        ("splat", {}, 45),
    ],
)
def test_the_picture_of_a_head_survives(bust: Bust, name: str, options: dict[str, Any], least_db: float) -> None:
    head = bust(65536)
    native = "native" in available_backends()
    cameras = orbit_cameras(
        [0, 40, -80] if native else [25], width=512 if native else 128, height=512 if native else 128
    )
    backend: Any = "native" if native else "reference"
    with torch.no_grad():
        before = rasterize(head, cameras, backend=backend).rgb
        after = rasterize(formats.read(formats.write(head, name, **options)), cameras, backend=backend).rgb
    assert float(before.mean()) > 0.05  # the head is in the picture
    error = float((after - before).square().mean())
    assert 10 * math.log10(1 / max(error, 1e-20)) >= least_db


def test_files_are_as_small_as_promised(bust: Bust) -> None:
    head = bust(65536)
    sizes = {
        name: len(formats.write(head, name)) / 1e6
        for name in ("ply_compact", "ply_compressed", "splat", "spz", "sog", "glb", "wire")
    }
    assert sizes["wire"] < 1.1
    assert sizes["spz"] < 1.15
    assert sizes["sog"] < 0.95
    assert sizes["ply_compressed"] < 1.1
    assert sizes["glb"] < 2.9
    assert sizes["splat"] < 2.1
    assert sizes["ply_compact"] < 4.5


def test_unknown_formats_and_unknown_bytes_are_refused_with_the_known_ones(bust: Bust) -> None:
    with pytest.raises(FormatError, match="ply, ply_compact, ply_compressed, splat, spz, sog, glb, usdz, html, wire"):
        formats.write(bust(10), "obj")
    with pytest.raises(FormatError, match="ply, ply_compact, ply_compressed, splat, spz, sog, glb, usdz, html, wire"):
        formats.read(b"hello")
    with pytest.raises(FormatError, match="no known format"):
        formats.read(b"")


def test_gradients_and_half_precision_are_no_hindrance(bust: Bust) -> None:
    head = bust(16)
    head.means.requires_grad_()
    assert len(formats.read(formats.write(head, "ply"))) == 16
    assert len(formats.read(formats.write(bust(16).to(dtype=torch.float64), "wire"))) == 16

"""USDZ: what usd-core sees in our packages, what we see in those of others, what is refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pxr import Gf, Sdf, Usd, UsdGeom, UsdUtils, UsdVol, Vt

from headlift import formats
from headlift.errors import FormatError, MissingExtraError
from headlift.formats import usd, usd_worker
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]
SH_C0 = 0.28209479177387814


@pytest.fixture
def stage_of(bust: Bust, tmp_path: Path) -> Callable[..., Any]:
    """A stage of one splat prim under a transform, as others would write it."""

    def make(count: int = 50, half: bool = False) -> Any:
        head = bust(count)
        stage = Usd.Stage.CreateNew(str(tmp_path / "theirs.usdc"))
        UsdGeom.SetStageUpAxis(stage, "Y")
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        UsdGeom.Xform.Define(stage, "/World")
        splats = UsdVol.ParticleField3DGaussianSplat.Define(stage, "/World/Splats")
        w, x, y, z = head.quats.numpy().T
        splats.CreatePositionsAttr(Vt.Vec3fArray.FromNumpy(head.means.numpy()))
        if half:
            splats.CreateScaleshAttr(Vt.Vec3hArray.FromNumpy(head.scales.numpy().astype(np.float16)))
        else:
            splats.CreateScalesAttr(Vt.Vec3fArray.FromNumpy(head.scales.numpy()))
        splats.CreateOrientationsAttr(
            [Gf.Quatf(float(a), float(b), float(c), float(d)) for a, b, c, d in zip(w, x, y, z, strict=True)]
        )
        splats.CreateOpacitiesAttr(Vt.FloatArray.FromNumpy(head.opacities.numpy()))
        coefficients = (head.colors.numpy() - 0.5) / SH_C0
        rest = np.zeros((count, 4, 3), np.float32)
        rest[:, 0] = coefficients
        splats.CreateRadianceSphericalHarmonicsDegreeAttr(1)
        splats.CreateRadianceSphericalHarmonicsCoefficientsAttr(Vt.Vec3fArray.FromNumpy(rest.reshape(-1, 3)))
        return stage

    return make


def packed(stage: Any, tmp_path: Path) -> bytes:
    stage.Save()
    target = tmp_path / "theirs.usdz"
    assert UsdUtils.CreateNewUsdzPackage(stage.GetRootLayer().realPath, str(target))
    return target.read_bytes()


def same_rotations(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(((a * b).sum(1).abs() > 1 - 1e-6).all())


def test_usd_core_sees_the_head(bust: Bust, tmp_path: Path) -> None:
    head, path = bust(300), tmp_path / "head.usdz"
    path.write_bytes(formats.write(head, "usdz"))
    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert stage.GetDefaultPrim().GetPath() == "/Head"
    splats = UsdVol.ParticleField3DGaussianSplat(stage.GetPrimAtPath("/Head/Gaussians"))
    assert splats
    assert np.array_equal(np.array(splats.GetPositionsAttr().Get()), head.means)
    assert np.array_equal(np.array(splats.GetScalesAttr().Get()), head.scales)
    assert np.array_equal(np.array(splats.GetOpacitiesAttr().Get()), head.opacities)
    quats = torch.tensor([[q.GetReal(), *q.GetImaginary()] for q in splats.GetOrientationsAttr().Get()])
    assert torch.allclose(quats, head.quats, atol=1e-6)
    assert splats.GetRadianceSphericalHarmonicsDegreeAttr().Get() == 0
    colors = np.array(splats.GetRadianceSphericalHarmonicsCoefficientsAttr().Get()) * SH_C0 + 0.5
    assert np.allclose(colors, head.colors, atol=1e-6)
    low, high = np.array(splats.GetExtentAttr().Get())
    assert (low < head.means.numpy().min(0)).all()
    assert (high > head.means.numpy().max(0)).all()


def test_the_layer_begins_at_a_multiple_of_64_bytes_and_is_not_packed(bust: Bust) -> None:
    data = formats.write(bust(10), "usdz")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        (info,) = archive.infolist()
        assert info.compress_type == zipfile.ZIP_STORED
        assert data.index(archive.read(info)[:64]) % 64 == 0


@pytest.mark.parametrize("half", [False, True])
def test_we_read_what_usd_core_writes(stage_of: Callable[..., Any], bust: Bust, tmp_path: Path, half: bool) -> None:
    back, metadata = formats.read_with_metadata(packed(stage_of(half=half), tmp_path))
    assert (metadata.format, metadata.count, metadata.sh_degree) == ("usdz", 50, 1)
    assert torch.equal(back.means, bust(50).means)
    assert torch.allclose(back.scales, bust(50).scales, rtol=1e-3 if half else 0)
    assert same_rotations(back.quats, bust(50).quats)
    assert torch.allclose(back.colors, bust(50).colors, atol=1e-6)


def test_transforms_units_and_z_up_are_followed(stage_of: Callable[..., Any], bust: Bust, tmp_path: Path) -> None:
    stage = stage_of()
    UsdGeom.SetStageUpAxis(stage, "Z")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    world = UsdGeom.Xformable(stage.GetPrimAtPath("/World"))
    world.AddTranslateOp().Set((1.0, 2.0, 3.0))
    world.AddRotateXOp().Set(90.0)  # stands upright where Z is up
    world.AddScaleOp().Set((2.0, 2.0, 2.0))
    back = formats.read(packed(stage, tmp_path))
    assert torch.allclose(back.means, (bust(50).means * 2 + torch.tensor([1.0, 3.0, -2.0])) * 0.01, atol=1e-6)
    assert torch.allclose(back.scales, bust(50).scales * 0.02, rtol=1e-5)
    assert same_rotations(back.quats, bust(50).quats)
    world.AddScaleOp(opSuffix="more").Set((1.0, 2.0, 1.0))
    with pytest.raises(FormatError, match="stretches"):
        formats.read(packed(stage, tmp_path))


def test_references_to_other_files_are_not_followed(bust: Bust, tmp_path: Path) -> None:
    """A layer whose only splats stand in another file: that file is not opened."""
    secret = Sdf.Layer.CreateNew(str(tmp_path / "secret.usdc"))
    with zipfile.ZipFile(io.BytesIO(formats.write(bust(5), "usdz"))) as archive:
        (tmp_path / "inner.usdc").write_bytes(archive.read("head.usdc"))
    secret.TransferContent(Sdf.Layer.FindOrOpen(str(tmp_path / "inner.usdc")))
    secret.Save()
    for arc in (f"references = @{tmp_path}/secret.usdc@", f"payload = @{tmp_path}/secret.usdc@"):
        text = f'#usda 1.0\ndef "Head" (\n    {arc}\n)\n{{\n}}\n'
        with pytest.raises(FormatError, match="No prim"):
            formats.read(usd._package("layer.usda", text.encode()))
    text = f"#usda 1.0\n(\n    subLayers = [@{tmp_path}/secret.usdc@]\n)\n"
    with pytest.raises(FormatError, match="No prim"):
        formats.read(usd._package("layer.usda", text.encode()))


def test_what_is_not_whole_is_refused(bust: Bust) -> None:
    data = formats.write(bust(50), "usdz")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        layer = archive.read("head.usdc")
    for broken, message in (
        (usd._package("head.usdc", layer[: len(layer) // 2]), "cannot"),
        (usd._package("head.usdc", layer[:8] + bytes(len(layer) - 8)), "cannot"),
        (usd._package("head.usda", b"#usda 1.0\n"), "No prim"),
        (data[:-10], "zip archive"),
    ):
        with pytest.raises(FormatError, match=message):
            formats.read(broken, "usdz")
    with pytest.raises(FormatError, match="at most 49"):
        formats.read(data, max_gaussians=49)


@pytest.mark.parametrize("seed", range(6))
def test_changed_bytes_give_gaussians_or_a_sentence(bust: Bust, seed: int) -> None:
    data = bytearray(formats.write(bust(40), "usdz"))
    rng = np.random.default_rng(seed)
    for at in rng.integers(64, len(data), 12):
        data[at] = rng.integers(256)
    message = "a sentence, or no error at all"
    try:
        formats.read(bytes(data), "usdz", max_gaussians=100_000).validate()
    except FormatError as error:
        message = error.message
    assert len(message) > 20


def test_a_reader_that_dies_or_hangs_ends_in_a_sentence(
    bust: Bust, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = formats.write(bust(5), "usdz")
    for program, message in (
        ("import os; os.abort()", "cannot read"),
        ("import time; time.sleep(30)", "more than 1 s"),
    ):
        script = tmp_path / "worker.py"
        script.write_text(program)
        monkeypatch.setattr(usd_worker, "__file__", str(script))
        monkeypatch.setattr(usd_worker, "SECONDS", 1)
        with pytest.raises(FormatError, match=message):
            formats.read(data)


def test_without_usd_core_the_extra_is_named(bust: Bust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pxr", None)
    with pytest.raises(MissingExtraError, match=r"headlift\[usd\]"):
        formats.write(bust(5), "usdz")

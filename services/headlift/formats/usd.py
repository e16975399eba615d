"""USDZ with ParticleField3DGaussianSplat, OpenUSD's own splats (schema in OpenUSD since 26.03).

The package is a zip archive without compression whose one file, a binary layer, begins at a multiple of 64 bytes. In
it: /Head, a transform, and /Head/Gaussians with ``positions``, ``orientations`` (unit, real part first), ``scales``
(linear), ``opacities`` (0..1) and ``radiance:sphericalHarmonicsCoefficients`` of degree 0, in floats; metres, +Y up,
which has the axes of the head frame. Layers are written attribute by attribute, so an older usd-core will do to write
and to read; to draw them a program needs OpenUSD 26.03 or later. Needs usd-core: the extra ``usd``.

USD is read by a C++ library that was not made for hostile bytes, and that follows references to other files. The
reader therefore runs in a process of its own, with limits on memory, processor and clock (``usd_worker``), and takes
references out before anything is resolved.
Specification: openusd.org, UsdVol, ParticleField schemas; USDZ file format.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from headlift.errors import FormatError, MissingExtraError
from headlift.formats import usd_worker
from headlift.formats.axes import HEAD_FRAME, Frame, parse_frame
from headlift.formats.cloud import (
    GENERATOR,
    MAX_GAUSSIANS,
    Cloud,
    Metadata,
    check_count,
    colors_from_sh,
    joined,
    sh_from_colors,
    unit_quats,
)
from headlift.formats.placement import placed

SUFFIXES = (b".usdc", b".usda", b".usd")  # of the first file of a package

_ROOT, _SPLATS = "Head", "Gaussians"
_ALIGNMENT = 64
_PADDING_ID = 0x1986  # of the zip extra field, as OpenUSD's own writer has it
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MAX_LAYER = 1 << 30  # bytes: 4,000,000 Gaussians of degree 3 take 940 MB
_EXTENT = 3.0  # standard deviations


def encode(cloud: Cloud) -> bytes:
    """A USDZ package.

    Raises:
        MissingExtraError: usd-core is not installed.
    """
    try:
        from pxr import Sdf, Vt
    except ModuleNotFoundError:
        raise _missing() from None
    cloud = cloud.in_frame(HEAD_FRAME)
    layer = Sdf.Layer.CreateAnonymous(".usdc")
    layer.pseudoRoot.SetInfo("upAxis", "Y")
    layer.pseudoRoot.SetInfo("metersPerUnit", 1.0)
    layer.documentation = f"{GENERATOR}: +Y up, the face looks along +Z, +X is the head's own left"
    root = Sdf.PrimSpec(layer, _ROOT, Sdf.SpecifierDef, "Xform")
    layer.defaultPrim = _ROOT
    prim = Sdf.PrimSpec(root, _SPLATS, Sdf.SpecifierDef, "ParticleField3DGaussianSplat")
    reach = _EXTENT * cloud.scales.max(1, keepdims=True)
    extent = np.stack([(cloud.means - reach).min(0), (cloud.means + reach).max(0)])
    quats = unit_quats(cloud.quats)
    for name, kind, value in (
        ("positions", Sdf.ValueTypeNames.Point3fArray, Vt.Vec3fArrayFromBuffer(_contiguous(cloud.means))),
        # OpenUSD stores the imaginary part first in memory.
        ("orientations", Sdf.ValueTypeNames.QuatfArray, Vt.QuatfArrayFromBuffer(_contiguous(quats[:, [1, 2, 3, 0]]))),
        ("scales", Sdf.ValueTypeNames.Float3Array, Vt.Vec3fArrayFromBuffer(_contiguous(cloud.scales))),
        ("opacities", Sdf.ValueTypeNames.FloatArray, Vt.FloatArrayFromBuffer(_contiguous(cloud.opacities))),
        (
            "radiance:sphericalHarmonicsCoefficients",
            Sdf.ValueTypeNames.Float3Array,
            Vt.Vec3fArrayFromBuffer(_contiguous(sh_from_colors(cloud.colors))),
        ),
        ("extent", Sdf.ValueTypeNames.Float3Array, Vt.Vec3fArrayFromBuffer(_contiguous(extent))),
    ):
        Sdf.AttributeSpec(prim, name, kind).default = value
    degree = Sdf.AttributeSpec(
        prim, "radiance:sphericalHarmonicsDegree", Sdf.ValueTypeNames.Int, Sdf.VariabilityUniform
    )
    degree.default = 0
    with tempfile.TemporaryDirectory(prefix="headlift-usd-") as folder:
        path = Path(folder) / "head.usdc"
        if not layer.Export(str(path)):
            raise FormatError("OpenUSD could not write the layer; see the log.")
        return _package(path.name, path.read_bytes())


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of all splat prims in a USDZ package, where their transforms put them; harmonics of degree 0.

    Args:
        data: The file.
        frame: Frame of its world; None takes the head's axes, turned upright where the layer says that Z is up.
        max_gaussians: Refuse packages with more.

    Raises:
        FormatError: Not USDZ, no splats in it, compressed, sheared, damaged, too large, or more than the reader bears.
        MissingExtraError: usd-core is not installed.
    """
    name, layer = _unpackage(data)
    with tempfile.TemporaryDirectory(prefix="headlift-usd-") as folder:
        source, target = Path(folder) / f"layer{Path(name).suffix}", Path(folder) / "out.npz"
        source.write_bytes(layer)
        command = [sys.executable, usd_worker.__file__, str(source), str(target), str(max_gaussians)]
        try:
            done = subprocess.run(  # noqa: S603 -- our own script, on files of our own names
                command,
                capture_output=True,
                timeout=usd_worker.SECONDS,
                check=False,
                cwd=folder,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise FormatError(
                f"The USDZ file took more than {usd_worker.SECONDS} s to read; it was given up."
            ) from None
        if done.returncode == usd_worker.NO_USD:
            raise _missing()
        if done.returncode == usd_worker.REFUSED:
            raise FormatError(done.stdout.decode("utf-8", errors="replace").strip()[:500])
        if done.returncode or not target.is_file():
            raise FormatError(
                "OpenUSD cannot read the USDZ file: it is damaged, or needs more memory than it may have."
            )
        with np.load(target, allow_pickle=False) as arrays:
            return _assembled(dict(arrays), frame, max_gaussians)


def _assembled(arrays: dict[str, Any], frame: Frame | None, max_gaussians: int) -> tuple[Cloud, Metadata]:
    """One cloud of what the worker found."""
    count = int(arrays["prims"])
    total = check_count(sum(len(arrays[f"positions{i}"]) for i in range(count)), max_gaussians, "USDZ file")
    used = parse_frame(frame or HEAD_FRAME)
    parts = [
        placed(
            Cloud(
                means=arrays[f"positions{i}"],
                quats=arrays[f"orientations{i}"],
                scales=arrays[f"scales{i}"],
                opacities=arrays[f"opacities{i}"],
                colors=colors_from_sh(arrays[f"coefficients{i}"]),
            ),
            arrays[f"matrix{i}"],
            "a prim of the USDZ file",
        )
        for i in range(count)
    ]
    cloud = joined(parts, used)
    generator = str(arrays["documentation"]).partition(":")[0][:200]
    return cloud, Metadata("usdz", "1", total, used, generator, int(arrays["degree"]))


def _contiguous(values: Any) -> Any:
    return np.ascontiguousarray(values, np.float32)


def _package(name: str, layer: bytes) -> bytes:
    """A zip archive of one stored file, whose bytes begin at a multiple of 64."""
    info = zipfile.ZipInfo(name, _EPOCH)
    # A local header is 30 bytes and the name, an extra field 4 bytes and its own.
    padding = -(30 + len(name) + 4) % _ALIGNMENT
    info.extra = _PADDING_ID.to_bytes(2, "little") + padding.to_bytes(2, "little") + bytes(padding)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(info, layer)
    return out.getvalue()


def _unpackage(data: bytes) -> tuple[str, bytes]:
    """Name and bytes of the first file, which is the package's root layer."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            info = archive.infolist()[0]
            good = info.compress_type == zipfile.ZIP_STORED and info.file_size <= min(_MAX_LAYER, len(data))
            layer = archive.read(info) if good else b""
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError, IndexError):
        raise FormatError("These bytes are no whole zip archive; a USDZ file is one. Fetch it again.") from None
    if not layer or not info.filename.lower().encode().endswith(SUFFIXES):
        raise FormatError(
            "The first file of the USDZ package is no layer, is packed, or too large; it is not valid USDZ."
        )
    return info.filename, layer


def _missing() -> MissingExtraError:
    return MissingExtraError("USD needs the Python package usd-core. Install it with: pip install 'headlift[usd]'")

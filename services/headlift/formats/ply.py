"""PLY as 3D Gaussian splatting writes it: one vertex a Gaussian, little-endian floats.

Properties: position x y z, normal nx ny nz (unused, zero), colour f_dc_0..2 as coefficients of the
constant spherical harmonic, opacity as a logit, scale_0..2 as natural logarithms, rot_0..3 as w x y z.
Between colour and opacity stand f_rest_0..44, coefficients of higher spherical harmonics, which a head
does not have: zeros in the full layout, left out of the compact one.
The reader takes any order and any scalar types, ignores what it does not know (f_rest_*, normals), and
trusts our own note of the frame; a file without one is taken to be RDF, as 3DGS writes it.
Files in PlayCanvas' packed layout, which are PLY too, are handed on to ``ply_compressed``.
Layout: Kerbl et al. 2023, reference implementation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from headlift.errors import FormatError
from headlift.formats import ply_compressed
from headlift.formats.axes import PLY_FRAME, Frame, describe_frame, parse_frame
from headlift.formats.cloud import (
    GENERATOR,
    MAX_GAUSSIANS,
    Array,
    Cloud,
    Metadata,
    check_count,
    colors_from_sh,
    exp_scales,
    log_scales,
    logits,
    sh_from_colors,
    sigmoids,
)
from headlift.formats.ply_header import MAGIC, parse_header

__all__ = ["MAGIC", "decode", "encode", "encode_compact"]

_POSITION = ("x", "y", "z")
_NORMAL = ("nx", "ny", "nz")
_COLOR = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALE = ("scale_0", "scale_1", "scale_2")
_ROTATION = ("rot_0", "rot_1", "rot_2", "rot_3")
_REST = tuple(f"f_rest_{i}" for i in range(45))
_NEEDED = (*_POSITION, *_COLOR, "opacity", *_SCALE, *_ROTATION)

_RECORD_MAGIC = b"HL"
_RECORD_ROWS = 46  # Gaussians that hold the longest record: 258 bytes in 45 bits each

_DEGREES = {9: 1, 24: 2, 45: 3, 72: 4}  # number of f_rest properties -> SH degree


def encode(cloud: Cloud, *, frame: Frame = PLY_FRAME) -> bytes:
    """A binary PLY file in the full layout of 3DGS: 62 floats a Gaussian (248 bytes), no comments.

    Readers with a fixed layout (of Unity, Godot, Blender, Unreal) take properties by their place and trip over
    comments.
    f_rest_* are zeros; their signs hold the frame and the generator, see ``_rest_with_record``.

    Args:
        cloud: Gaussians in any frame.
        frame: Frame to write.

    Raises:
        FormatError: Too few Gaussians to note a frame other than RDF, which is what a file without a note is taken for.
    """
    cloud = cloud.in_frame(parse_frame(frame))
    rest = _rest_with_record(f"{frame} {GENERATOR}", len(cloud))
    if rest is None and frame != PLY_FRAME:
        raise FormatError(
            f"A PLY file of {len(cloud)} Gaussians has no room to note its frame {frame}; write ply_compact, or RDF."
        )
    if rest is None:
        rest = np.zeros((len(cloud), len(_REST)), np.float32)
    columns = _columns_of(cloud)
    columns[1:1] = [np.zeros_like(cloud.means)]
    columns[3:3] = [rest]
    return _file((*_POSITION, *_NORMAL, *_COLOR, *_REST, *_NEEDED[6:]), columns)


def encode_compact(cloud: Cloud, *, frame: Frame = PLY_FRAME, normals: bool = True) -> bytes:
    """A binary PLY file without f_rest_*, a quarter as large, for readers that go by names.

    Args:
        cloud: Gaussians in any frame.
        frame: Frame to write; recorded in a comment, as is the generator.
        normals: Write nx ny nz (zeros); 12 bytes a Gaussian.
    """
    cloud = cloud.in_frame(parse_frame(frame))
    columns = _columns_of(cloud)
    if normals:
        columns[1:1] = [np.zeros_like(cloud.means)]
    names = (*_POSITION, *(_NORMAL if normals else ()), *_NEEDED[3:])
    return _file(names, columns, f"generator {GENERATOR}", f"frame {describe_frame(frame)}; metres")


def _columns_of(cloud: Cloud) -> list[Array]:
    """Values of the properties in ``_NEEDED``, in their order."""
    return [
        cloud.means,
        sh_from_colors(cloud.colors),
        logits(cloud.opacities)[:, None],
        log_scales(cloud.scales),
        cloud.quats,
    ]


def _file(names: Sequence[str], columns: Sequence[Array], *comments: str) -> bytes:
    rows = np.concatenate(columns, 1).astype("<f4", copy=False)
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {comment}" for comment in comments),
        f"element vertex {len(rows)}",
        *(f"property float {name}" for name in names),
        "end_header\n",
    ]
    return "\n".join(lines).encode("ascii") + rows.tobytes()


def _rest_with_record(text: str, count: int) -> Array | None:
    """Zeros for f_rest_* whose signs spell a record; None where ``count`` Gaussians have too few of them.

    -0 and 0 are the same number to every reader, whereas a comment, a further element or bytes behind the vertices make
    some refuse the file. Bits run along f_rest_0..44 of the first Gaussian, then of the next; most significant first.
    """
    record = _RECORD_MAGIC + bytes([len(text)]) + text.encode("ascii")
    bits = np.unpackbits(np.frombuffer(record, np.uint8))
    if bits.size > count * len(_REST):
        return None
    rest = np.zeros(count * len(_REST), np.float32)
    rest[: bits.size][bits == 1] = -0.0
    return rest.reshape(count, len(_REST))


def _record_of(rows: NDArray[np.void]) -> str:
    """What ``_rest_with_record`` has written; empty where there is nothing of the kind."""
    if not set(_REST) <= set(rows.dtype.names or ()):
        return ""
    rest = _columns(rows[:_RECORD_ROWS], _REST)
    if rest.any():  # true coefficients
        return ""
    record = np.packbits(np.signbit(rest)).tobytes()
    if not record.startswith(_RECORD_MAGIC):
        return ""
    start = len(_RECORD_MAGIC) + 1
    return record[start : start + record[start - 1]].decode("ascii", errors="replace")


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of a binary PLY file, and what it says of itself.

    Args:
        data: The file.
        frame: Frame of its coordinates; None takes the file's own note, and takes RDF where it has none.
        max_gaussians: Refuse files that announce more.

    Raises:
        FormatError: Not a PLY file, a text one, properties missing, shorter than announced, or too large.
    """
    header = parse_header(data)
    vertices = header.element("vertex")
    if vertices is not None and ply_compressed.MARK in vertices.names:
        return ply_compressed.decode(data, header, frame=frame, max_gaussians=max_gaussians)
    if vertices is None:
        raise FormatError("The PLY file has no element called vertex; a 3DGS splat file is needed.")
    if missing := [name for name in _NEEDED if name not in (header.row(vertices).names or ())]:
        raise FormatError(
            f"The PLY vertices lack {', '.join(missing)}; a 3DGS splat file is needed, not a plain point cloud or mesh."
        )
    check_count(vertices.count, max_gaussians, "PLY file")
    rows = header.rows(data, "vertex")
    noted_frame, _, noted_generator = _record_of(rows).partition(" ")
    used = frame or header.frame or noted_frame or PLY_FRAME
    cloud = Cloud(
        means=_columns(rows, _POSITION),
        quats=_columns(rows, _ROTATION),
        scales=exp_scales(_columns(rows, _SCALE)),
        opacities=sigmoids(_columns(rows, ("opacity",))[:, 0]),
        colors=colors_from_sh(_columns(rows, _COLOR)),
        frame=parse_frame(used),
    )
    rest = sum(name.startswith("f_rest_") for name in vertices.names)
    degree = 0 if noted_frame else _DEGREES.get(rest, 0)  # ours are zeros
    generator = header.generator or noted_generator
    return cloud, Metadata("ply", "1.0", len(rows), cloud.frame, generator, degree)


def _columns(rows: NDArray[np.void], names: tuple[str, ...]) -> Array:
    """Properties of all vertices, side by side: [N, len(names)]."""
    out = np.empty((len(rows), len(names)), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a double beyond float32 becomes infinite, and is refused later
        for i, name in enumerate(names):
            out[:, i] = rows[name]
    return out

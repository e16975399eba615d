"""SPLAT, the headerless 32-byte records of antimatter15's web viewer.

A record: position 3 x float32, linear scales 3 x float32, RGBA 4 x uint8, quaternion w x y z as
4 x uint8 of 128 q + 128. The format has no magic and no place for a frame; files are written in the
frame of the PLY they are usually made from (RDF). Layout: antimatter15/splat, README.
"""

from __future__ import annotations

import numpy as np

from headlift.errors import FormatError
from headlift.formats.axes import PLY_FRAME, Frame, parse_frame
from headlift.formats.cloud import MAX_GAUSSIANS, Cloud, Metadata, check_count, unit_quats

_RECORD = np.dtype([("means", "<f4", 3), ("scales", "<f4", 3), ("rgba", "u1", 4), ("quats", "u1", 4)])


def encode(cloud: Cloud, *, frame: Frame = PLY_FRAME) -> bytes:
    """A SPLAT file in the frame asked for; order of the Gaussians kept."""
    cloud = cloud.in_frame(parse_frame(frame))
    rows = np.empty(len(cloud), _RECORD)
    rows["means"] = cloud.means
    rows["scales"] = cloud.scales
    rows["rgba"][:, :3] = np.rint(cloud.colors * 255.0)
    rows["rgba"][:, 3] = np.rint(cloud.opacities * 255.0)
    rows["quats"] = np.clip(np.rint(unit_quats(cloud.quats) * 128.0 + 128.0), 0, 255)
    return rows.tobytes()


def decode(data: bytes, *, frame: Frame | None = None, max_gaussians: int = MAX_GAUSSIANS) -> tuple[Cloud, Metadata]:
    """Gaussians of a SPLAT file.

    Args:
        data: The file.
        frame: Frame of its coordinates; None takes RDF.
        max_gaussians: Refuse longer files.

    Raises:
        FormatError: The length is no multiple of 32, zero, or too large.
    """
    if len(data) % _RECORD.itemsize:
        raise FormatError(
            f"A SPLAT file is made of records of {_RECORD.itemsize} bytes; {len(data):,} bytes leave "
            f"{len(data) % _RECORD.itemsize} over. It is cut off, or another format."
        )
    count = check_count(len(data) // _RECORD.itemsize, max_gaussians, "SPLAT file")
    rows = np.frombuffer(data, _RECORD)
    used = parse_frame(frame or PLY_FRAME)
    cloud = Cloud(
        means=np.ascontiguousarray(rows["means"]),
        quats=(rows["quats"].astype(np.float32) - 128.0) / 128.0,
        scales=np.ascontiguousarray(rows["scales"]),
        opacities=rows["rgba"][:, 3].astype(np.float32) / 255.0,
        colors=rows["rgba"][:, :3].astype(np.float32) / 255.0,
        frame=used,
    )
    return cloud, Metadata("splat", "", count, used)

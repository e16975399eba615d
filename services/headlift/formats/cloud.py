"""What every reader and writer shares: the cloud as NumPy arrays, its limits, its activations.

Files hold logits and logarithms, Headlift holds activated values; the pairs of functions here are the
only place where one becomes the other. Values of a file are judged in ``to_gaussians``: whatever
leaves it is finite and in range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headlift import __version__
from headlift.errors import FormatError, InvalidGaussiansError
from headlift.formats.axes import HEAD_FRAME, Frame, convert_means, convert_quats
from headlift.model.types import Gaussians

MAX_GAUSSIANS = 4_000_000
GENERATOR = f"headlift {__version__}"
SH_C0 = 0.28209479177387814  # the constant spherical harmonic: 1 / (2 sqrt(pi))

_MIN_SCALE = 1e-30  # m; what the logarithm of a scale of zero is taken of
_MIN_OPACITY, _MAX_OPACITY = 1e-12, 1.0 - 1e-8  # these logits come back as 0 and 1 in float32
_UNIT_TOLERANCE = 1e-6  # quaternions this close to unit length pass bit for bit

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Metadata:
    """What a file says of itself.

    Attributes:
        format: ``ply``, ``splat``, ``spz``, ``glb`` or ``wire``.
        version: Version of the format, as the file states it; empty where the format has none.
        count: Number of Gaussians.
        frame: Frame that the file's coordinates were read in.
        generator: Program that wrote the file; empty where it does not say.
        sh_degree: Degree of the spherical harmonics in the file; Headlift keeps degree 0.
    """

    format: str
    version: str
    count: int
    frame: Frame
    generator: str = ""
    sh_degree: int = 0


@dataclass(frozen=True)
class Cloud:
    """Gaussians as contiguous float32 arrays, activated, in a stated frame."""

    means: Array  # [N, 3] m
    quats: Array  # [N, 4] wxyz
    scales: Array  # [N, 3] m, linear
    opacities: Array  # [N] 0..1
    colors: Array  # [N, 3] 0..1
    frame: Frame = HEAD_FRAME

    def __len__(self) -> int:
        return len(self.means)

    def in_frame(self, frame: Frame) -> Cloud:
        """The same Gaussians in another frame."""
        return Cloud(
            means=convert_means(self.means, self.frame, frame),
            quats=convert_quats(self.quats, self.frame, frame),
            scales=self.scales,
            opacities=self.opacities,
            colors=self.colors,
            frame=frame,
        )


def joined(parts: Sequence[Cloud], frame: Frame) -> Cloud:
    """All Gaussians of at least one cloud, one after another, said to be in ``frame``."""
    return Cloud(
        means=np.concatenate([part.means for part in parts]),
        quats=np.concatenate([part.quats for part in parts]),
        scales=np.concatenate([part.scales for part in parts]),
        opacities=np.concatenate([part.opacities for part in parts]),
        colors=np.concatenate([part.colors for part in parts]),
        frame=frame,
    )


def from_gaussians(gaussians: Gaussians) -> Cloud:
    """The cloud of N valid Gaussians on the CPU.

    Raises:
        InvalidGaussiansError: None, too many, of wrong shape, not finite or out of range.
    """
    n = len(gaussians)
    if not 1 <= n <= MAX_GAUSSIANS:
        raise InvalidGaussiansError(f"{n} Gaussians cannot be written; a file holds 1 to {MAX_GAUSSIANS:,}.")
    gaussians.validate()

    def array(value: Tensor) -> Array:
        return value.detach().to("cpu", torch.float32).contiguous().numpy()

    return Cloud(
        means=array(gaussians.means),
        quats=array(gaussians.quats),
        scales=array(gaussians.scales),
        opacities=array(gaussians.opacities),
        colors=array(gaussians.colors),
    )


def to_gaussians(cloud: Cloud, what: str) -> Gaussians:
    """Gaussians in the head frame from what a file held.

    Opacities and colours are clipped to 0..1 (files of others overshoot), quaternions normalised, those
    of no length become the identity.

    Args:
        cloud: Decoded values, in the frame of the file.
        what: Name of the format, for the message.

    Raises:
        FormatError: A value is not finite, or a scale is negative.
    """
    for name in ("means", "quats", "scales", "opacities", "colors"):
        bad = int(np.size(value := getattr(cloud, name))) - int(np.isfinite(value).sum())
        if bad:
            raise FormatError(f"{bad} values of {name} in the {what} are not finite; filter those Gaussians out first.")
    if len(cloud) and float(cloud.scales.min()) < 0.0:
        raise FormatError(f"Scales in the {what} go down to {float(cloud.scales.min()):.3g}; they must be >= 0.")
    head = cloud.in_frame(HEAD_FRAME)
    return Gaussians(
        means=_tensor(head.means),
        quats=_tensor(unit_quats(head.quats)),
        scales=_tensor(head.scales),
        opacities=_tensor(np.clip(head.opacities, 0.0, 1.0)),
        colors=_tensor(np.clip(head.colors, 0.0, 1.0)),
    )


def _tensor(value: Array) -> Tensor:
    """A tensor of its own memory: never a view of the caller's bytes."""
    own = value.dtype == np.float32 and value.flags.owndata and value.flags.c_contiguous
    return torch.from_numpy(value if own else np.array(value, np.float32, order="C"))


def check_count(count: int, limit: int, what: str) -> int:
    """``count`` again, or a FormatError where a file announces none or more than ``limit`` Gaussians."""
    if count < 1:
        raise FormatError(f"The {what} holds no Gaussians; a head needs at least one.")
    if count > limit:
        raise FormatError(
            f"The {what} announces {count:,} Gaussians; at most {limit:,} are read. Thin it out first.",
            metadata={"count": str(count), "limit": str(limit)},
        )
    return count


def unit_quats(quats: Array) -> Array:  # [N, 4] -> [N, 4]
    """Quaternions of unit length; those already there unchanged, those of no length the identity."""
    # Float64: squares of float32 extremes neither overflow nor vanish.
    norms = np.sqrt(np.einsum("ij,ij->i", quats, quats, dtype=np.float64))
    off = np.flatnonzero(np.abs(norms - 1.0) > _UNIT_TOLERANCE)
    if not len(off):
        return quats
    out = quats.copy()
    lost = norms[off] < 1e-20
    out[off] = quats[off] / np.where(lost, 1.0, norms[off])[:, None]
    out[off[lost]] = (1.0, 0.0, 0.0, 0.0)
    return out


def log_scales(scales: Array) -> Array:
    """ln s; a scale of zero becomes about -69."""
    return np.log(np.maximum(scales, np.float32(_MIN_SCALE)))


def exp_scales(logs: Array) -> Array:
    """Linear scales of logarithms; what overflows becomes infinite and is refused later."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.exp(logs)


def logits(opacities: Array) -> Array:
    """Logits of opacities, finite at 0 and 1."""
    p = np.clip(opacities.astype(np.float64), _MIN_OPACITY, _MAX_OPACITY)
    return np.log(p / (1.0 - p)).astype(np.float32)


def sigmoids(values: Array) -> Array:
    """Opacities of logits, for any finite logit."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return (1.0 / (1.0 + np.exp(-values.astype(np.float64)))).astype(np.float32)


def sh_from_colors(colors: Array) -> Array:
    """Degree-0 coefficients of colours 0..1."""
    return (colors - np.float32(0.5)) / np.float32(SH_C0)


def colors_from_sh(coefficients: Array) -> Array:
    """Colours of degree-0 coefficients; not clipped."""
    with np.errstate(over="ignore", invalid="ignore"):
        return coefficients * np.float32(SH_C0) + np.float32(0.5)

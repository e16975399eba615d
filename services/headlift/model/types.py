"""What flows between the stages: frozen dataclasses of tensors, with their shapes and units.

Legend: B batch, P image patches, D width, N Gaussians, C cameras, H W pixels, S crop side.

Conventions: metres; canonical head frame = FLAME neutral's (right-handed, +Y up, face looks along +Z);
OpenCV cameras (+X right, +Y down, +Z forward); pictures float 0..1, black background, alpha apart.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from headlift.errors import InvalidCameraError, InvalidGaussiansError

# The window that every portrait crop shows: what a camera with FOCAL (in picture widths) sees at DISTANCE.
HEAD_CENTER = (0.0, 0.01, 0.0)  # m; crops and orbits look here
FOCAL = 4.2647  # PanoHead's focal length, in picture widths
DISTANCE = 1.706  # m; FOCAL and DISTANCE together show a 0.40 m window at the head


@dataclass(frozen=True)
class _Tensors:
    """A frozen record whose tensor fields move together."""

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Copy with every floating-point tensor moved and cast, every other tensor moved."""
        changed: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                changed[f.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            elif isinstance(value, _Tensors):
                changed[f.name] = value.to(device, dtype)
        return replace(self, **changed)

    def detach(self) -> Self:
        """Copy whose tensors are cut from the autograd graph."""
        changed: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, (Tensor, _Tensors)):
                changed[f.name] = value.detach()
        return replace(self, **changed)


@dataclass(frozen=True)
class Gaussians(_Tensors):
    """One head as a cloud of 3D Gaussians, already activated."""

    means: Tensor  # [N, 3] m, canonical head frame
    quats: Tensor  # [N, 4] wxyz, normalised
    scales: Tensor  # [N, 3] m, standard deviations along the local axes (linear, not log)
    opacities: Tensor  # [N] 0..1
    colors: Tensor  # [N, 3] 0..1 sRGB (spherical harmonics of degree 0)

    def __len__(self) -> int:
        return self.means.shape[0]

    def validate(self) -> Self:
        """Return self, or raise InvalidGaussiansError naming the attribute at fault."""
        n = len(self)
        shapes = {"means": (n, 3), "quats": (n, 4), "scales": (n, 3), "opacities": (n,), "colors": (n, 3)}
        for name, shape in shapes.items():
            value: Tensor = getattr(self, name)
            if tuple(value.shape) != shape:
                found = tuple(value.shape)
                raise InvalidGaussiansError(f"{name} has shape {found}; {shape} is needed for {n} Gaussians.")
            if not bool(torch.isfinite(value).all()):
                raise InvalidGaussiansError(f"{name} holds values that are not finite; remove those Gaussians first.")
        for name in ("opacities", "colors"):
            value = getattr(self, name).detach()
            low, high = (float(value.min()), float(value.max())) if n else (0.0, 1.0)
            if low < 0.0 or high > 1.0:
                raise InvalidGaussiansError(
                    f"{name} spans {low:.3g}..{high:.3g}; it must lie in 0..1 (activated, not logits)."
                )
        smallest = float(self.scales.detach().min()) if n else 0.0
        if smallest < 0.0:
            raise InvalidGaussiansError(f"scales go down to {smallest:.3g} m; they must be >= 0 (linear, not log).")
        return self


@dataclass(frozen=True)
class Cameras(_Tensors):
    """C pinhole cameras that take pictures of one size (gsplat's names, OpenCV axes)."""

    viewmats: Tensor  # [C, 4, 4] world to camera
    Ks: Tensor  # [C, 3, 3] pixels
    width: int
    height: int

    def __len__(self) -> int:
        return self.viewmats.shape[0]

    def __getitem__(self, index: int | slice) -> Cameras:
        keep = slice(index, index + 1) if isinstance(index, int) else index
        return replace(self, viewmats=self.viewmats[keep], Ks=self.Ks[keep])

    def resized(self, width: int, height: int) -> Cameras:
        """The same views at another picture size."""
        scale = self.Ks.new_tensor([width / self.width, height / self.height, 1.0])
        return replace(self, Ks=self.Ks * scale[:, None], width=width, height=height)

    def validate(self) -> Self:
        """Return self, or raise InvalidCameraError naming the camera at fault."""
        c = len(self)
        if tuple(self.viewmats.shape) != (c, 4, 4) or tuple(self.Ks.shape) != (c, 3, 3):
            raise InvalidCameraError(
                f"viewmats {tuple(self.viewmats.shape)} and Ks {tuple(self.Ks.shape)} must be [C,4,4] and [C,3,3]."
            )
        if not 1 <= self.width <= 16384 or not 1 <= self.height <= 16384:
            raise InvalidCameraError(f"Picture size {self.width}x{self.height} is outside 1..16384 pixels a side.")
        if not bool(torch.isfinite(self.viewmats).all() and torch.isfinite(self.Ks).all()):
            raise InvalidCameraError("A camera matrix holds values that are not finite.")
        if c and float(self.Ks.detach()[:, [0, 1], [0, 1]].min()) <= 0.0:
            raise InvalidCameraError("A focal length is not positive; Ks[0,0] and Ks[1,1] are pixels, > 0.")
        if c and float(torch.linalg.det(self.viewmats.detach()[:, :3, :3].double()).abs().min()) < 1e-8:
            raise InvalidCameraError("A view matrix is singular; its upper-left 3x3 must be a rotation.")
        return self


@dataclass(frozen=True)
class RenderedViews(_Tensors):
    """Pictures of one head from C cameras."""

    rgb: Tensor  # [C, 3, H, W] 0..1, composited over black (premultiplied)
    alpha: Tensor  # [C, 1, H, W] 0..1
    depth: Tensor  # [C, 1, H, W] m, expected depth along the optical axis: sum(w z) / sum(w); 0 where alpha is 0


@dataclass(frozen=True)
class Portrait(_Tensors):
    """A cropped, matted portrait: what the encoder sees."""

    image: Tensor  # [3, S, S] 0..1 sRGB, multiplied by alpha (black background)
    alpha: Tensor  # [1, S, S] 0..1
    crop_from_source: Tensor  # [2, 3] maps source pixel coordinates (x, y, 1) to crop pixels; float64
    camera: Cameras | None = None  # C = 1, S x S; None where nothing was able to tell
    source_size: tuple[int, int] | None = None  # width and height of the source, pixels; None where it is unknown

    @property
    def size(self) -> int:
        """Side of the crop, pixels."""
        return self.image.shape[-1]

    def source_mask(self) -> Tensor:
        """[1, S, S], 1 where the crop shows the source and 0 past its borders, where nothing is known.

        A matte of 0 means background only where this is 1: a photograph often ends above the shoulders.
        """
        if self.source_size is None:
            return torch.ones_like(self.alpha)
        matrix = self.crop_from_source.double()
        centers = torch.arange(self.size, dtype=torch.float64) + 0.5
        y, x = torch.meshgrid(centers, centers, indexing="ij")
        offset = torch.stack([x, y]).flatten(1) - matrix[:, 2:]
        source: Tensor = torch.linalg.solve(matrix[:, :2], offset)
        limit = torch.tensor(self.source_size, dtype=torch.float64)[:, None]
        inside: Tensor = ((source >= 0) & (source <= limit)).all(0)
        return inside.view(1, self.size, self.size).to(self.alpha)


@dataclass(frozen=True)
class ImageTokens(_Tensors):
    """What the encoder says about a batch of portraits."""

    tokens: Tensor  # [B, P, D]
    mask: Tensor  # [B, P] bool, True where the patch is foreground (rows may differ in count)
    positions: Tensor  # [B, P, 2] patch centres in the crop, 0..1 (x, y)
    camera: Cameras | None = None  # C = B, the input cameras: given, or estimated by models that can
    observation: Observation | None = None  # what `mini` needs beside tokens; None is the paper


@dataclass(frozen=True)
class Observation(_Tensors):
    """What `mini` has read from a batch of portraits beside their tokens."""

    code: Tensor  # [B, K] numbers of the morphable head: geometry, then colour
    pixels: Tensor  # [B, 4, S, S] RGB multiplied by alpha, and alpha
    parsing: Tensor  # [B, 6, h, h] 0..1, what each place shows (headlift.model.mini.parsing_groups)
    deformation: Tensor  # [B, 2, G, G] shifts of hair and clothes (headlift.model.mini.outline_fit)

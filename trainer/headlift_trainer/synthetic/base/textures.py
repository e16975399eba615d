"""All textures of the generator in one fixed-point atlas: skins, hair, eyes, brows, lashes, teeth, cloth weaves.

A texel holds linear red, green, blue and alpha as uint16, where 32768 stands for 1.0. Skin and hair are stored as
ratios to their own middle colour, so any tone can be laid under any skin, whatever sex or age it was painted for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from headlift_trainer.synthetic.arrays import Floats, Ints
from headlift_trainer.synthetic.base.assets import MakeHumanAssets, load_image
from headlift_trainer.synthetic.base.strand_texture import STRAND_TEXTURES, strand_texture
from headlift_trainer.synthetic.base.topology import Topology
from headlift_trainer.synthetic.classes import FACE
from headlift_trainer.synthetic.render.compiled import TEXEL_ONE

WEAVES = ("plain", "heather", "knit", "stripes", "checks", "denim", "tweed", "print")
_LIMIT = 65535.0 / TEXEL_ONE


class TextureAtlas:
    """Named square textures in one flat array. Legend: P texels."""

    def __init__(
        self, assets: MakeHumanAssets, topology: Topology, skin_side: int = 1024, hair_side: int = 512
    ) -> None:
        self._parts: list[NDArray[np.uint16]] = []
        self._rows: dict[str, tuple[int, int, int]] = {}
        face_uvs = _face_uvs(topology)
        self.skins = tuple(path.stem for path in assets.skin_images() if "suit" not in path.stem)
        for path in assets.skin_images():
            if path.stem in self.skins:
                self._add(path.stem, _skin_ratio(load_image(path, skin_side), face_uvs, dark="dark" in path.stem))
        for name in assets.proxy_names("hair"):
            self._add(f"hair/{name}", _strand_ratio(load_image(assets.proxy_image("hair", name), hair_side)))
        self.eyes = tuple(path.stem for path in assets.eye_images())
        for path in assets.eye_images():
            eye = _linear(load_image(path, 256))
            grey = eye[..., :3].mean(-1, keepdims=True)
            vivid = eye[..., :3].max(-1, keepdims=True) - eye[..., :3].min(-1, keepdims=True)
            # painted irises are too vivid and too bright
            eye[..., :3] = (eye[..., :3] + 0.45 * (grey - eye[..., :3])) * (1 - 1.5 * np.minimum(vivid, 0.25))
            self._add(path.stem, eye)
        for kind in ("eyebrows", "eyelashes"):
            for name in assets.proxy_names(kind):
                mask = load_image(assets.proxy_image(kind, name), 256)
                mask[..., :3] = 1.0
                if kind == "eyelashes":
                    mask[..., 3] *= 0.6
                else:  # painted hair by hair: too thin to be seen, or to be labelled, from a portrait's distance
                    soft = cv2.GaussianBlur(mask[..., 3], (0, 0), 2.0)
                    mask[..., 3] = np.clip(np.maximum(mask[..., 3], 1.5 * soft - 0.06), 0, 1)
                self._add(f"{kind}/{name}", mask)
        for kind in ("teeth", "tongue"):
            for name in assets.proxy_names(kind):
                self._add(f"{kind}/{name}", _linear(load_image(assets.proxy_image(kind, name), 256)))
        for weave in WEAVES:
            self._add(f"weave/{weave}", _weave(weave))
        for strands in STRAND_TEXTURES:
            self._add(strands, strand_texture(strands))
        self.texels: NDArray[np.uint16] = np.concatenate(self._parts)  # [P, 4]
        self._parts.clear()

    def row(self, name: str | None) -> tuple[int, int, int]:
        """Offset, width and height of a texture; zeros for None."""
        return (0, 0, 0) if name is None else self._rows[name]

    def subset(self, names: Sequence[str | None], ratios: Mapping[str, Floats]) -> tuple[Ints, NDArray[np.uint16]]:
        """An atlas of only these textures, for one head.

        Args:
            names: Textures, one per part; None has none.
            ratios: Charts [C, C, 3] by texture that multiply its colour; C divides the texture's side.

        Returns:
            Offset, width and height per name [M, 3], and texels [Q, 4].
        """
        rows: dict[str | None, tuple[int, int, int]] = {None: (0, 0, 0)}
        parts: list[NDArray[np.uint16]] = []
        start = 0
        for name in names:
            if name is None or name in rows:
                continue
            offset, width, height = self._rows[name]
            texels = self.texels[offset : offset + width * height]
            if name in ratios:
                chart = ratios[name]
                repeat = height // len(chart), width // len(chart)
                large = chart if repeat == (1, 1) else _enlarged(chart, width, height)
                texels = texels.copy()
                texels[:, :3] = np.clip(texels[:, :3] * large.reshape(-1, 3), 0, 65535).astype(np.uint16)
            rows[name] = (start, width, height)
            parts.append(texels)
            start += len(texels)
        table = np.array([rows[name] for name in names], np.int32)
        return table, np.concatenate(parts) if parts else np.zeros((1, 4), np.uint16)

    def opacity(self, name: str, uvs: Floats) -> Floats:
        """Alpha of a texture at [..., 2] texture coordinates, nearest texel."""
        offset, width, height = self._rows[name]
        wrapped = uvs - np.floor(uvs)
        column = np.minimum((wrapped[..., 0] * width).astype(np.int64), width - 1)
        line = np.minimum(((1.0 - wrapped[..., 1]) * height).astype(np.int64), height - 1)
        return np.asarray(self.texels[offset + line * width + column, 3] / np.float32(TEXEL_ONE), np.float32)

    def _add(self, name: str, picture: Floats) -> None:
        start = sum(map(len, self._parts))
        height, width = picture.shape[:2]
        fixed = np.clip(picture, 0.0, _LIMIT) * TEXEL_ONE
        self._parts.append(fixed.reshape(-1, 4).astype(np.uint16))
        self._rows[name] = (start, width, height)


def _enlarged(chart: Floats, width: int, height: int) -> Floats:
    return np.asarray(cv2.resize(chart, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _linear(picture: Floats) -> Floats:
    result = picture.copy()
    result[..., :3] = picture[..., :3] ** 2.2
    return result


def _face_uvs(topology: Topology, count: int = 4000) -> Floats:
    """Texture coordinates [count, 2] of points on bare face skin, even by area: vertices crowd at lids and lips."""
    face = (topology.classes == FACE) & (topology.hairline < -0.02) & (topology.mean[:, 2] > 0.0)
    triangles = topology.triangles[face[topology.triangles].all(1)]
    uvs = topology.corner_uvs[face[topology.triangles].all(1)]
    corners = topology.mean[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not area.sum() > 0:
        return np.zeros((0, 2), np.float32)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(area), count, p=area / area.sum())
    weights = rng.dirichlet([1.0, 1.0, 1.0], count)
    return np.asarray(np.einsum("nk,nkd->nd", weights, uvs[chosen]), np.float32)


def _skin_ratio(picture: Floats, face_uvs: Floats, *, dark: bool) -> Floats:
    """Colour relative to the median of the face. Dark skins are painted with more contrast than they need."""
    result = _linear(picture)
    side = picture.shape[0]
    columns = np.clip((face_uvs[:, 0] * side).astype(np.int64), 0, side - 1)
    lines = np.clip(((1.0 - face_uvs[:, 1]) * side).astype(np.int64), 0, side - 1)
    middle = np.median(result[lines, columns, :3], axis=0) if len(face_uvs) else np.full(3, 0.5)
    result[..., :3] = np.clip(result[..., :3] / np.maximum(middle, 1e-3), 0.03, 1.6) ** (0.8 if dark else 1.0)
    return result


def _strand_ratio(picture: Floats) -> Floats:
    """Brightness relative to the mean of the opaque part; alpha a little firmer than painted."""
    luminance = (picture[..., :3] ** 2.2).mean(-1)
    alpha = picture[..., 3]
    mean = (luminance * alpha).sum() / max(float(alpha.sum()), 1e-6)
    logs = np.log(np.maximum(luminance / max(mean, 1e-6), 1e-3))
    spread = float(np.sqrt((logs**2 * alpha).sum() / max(float(alpha.sum()), 1e-6)))
    ratio = np.clip(np.exp(logs * min(0.8, 0.45 / max(spread, 1e-3))), 0.2, 1.9)
    return np.stack([ratio, ratio, ratio, np.clip(alpha * 1.15, 0.0, 1.0)], -1).astype(np.float32)


def _weave(name: str, side: int = 128) -> Floats:
    """A tile of cloth as a ratio to its colour, [side, side, 4]."""
    rng = np.random.default_rng(WEAVES.index(name))
    line, column = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    value: NDArray[np.floating] = np.ones((side, side))
    if name == "heather":
        value = np.clip(1.0 + 0.35 * rng.normal(size=(side, side)), 0.3, 1.8)
    elif name == "knit":
        rows = np.abs(np.sin(2 * np.pi * line / 8 + np.pi * (column // 8 % 2) / 2))
        value = 0.82 + 0.3 * np.abs(np.sin(2 * np.pi * column / 8)) * rows
    elif name == "stripes":
        value = np.where((line // (side // 4)) % 2 == 0, 1.25, 0.45)
    elif name == "checks":
        value = 1.3 - 0.45 * ((line // (side // 4)) % 2 + (column // (side // 4)) % 2)
    elif name == "denim":
        twill = np.sin(2 * np.pi * (line + column) / 4)
        value = 1.0 + 0.16 * twill + 0.12 * _tiled_noise(rng, side, 8) + 0.10 * rng.normal(size=(side, side))
    elif name == "tweed":
        herring = np.abs((line + np.where((column // 16) % 2 == 0, column, -column)) % 16 - 8) / 8
        value = 0.75 + 0.5 * herring + 0.2 * rng.normal(size=(side, side))
    elif name == "print":
        dark = np.where(_tiled_noise(rng, side, 14) > 0.7, 0.35, 1.0)
        value = np.where(_tiled_noise(rng, side, 10) > 0.55, 1.9, dark)
    rough = np.clip(value * (1.0 + 0.03 * rng.normal(size=(side, side))), 0.05, 1.95)
    return np.stack([rough, rough, rough, np.ones_like(rough)], -1).astype(np.float32)


def _tiled_noise(rng: np.random.Generator, side: int, waves: int) -> NDArray[np.floating]:
    """Smooth noise [side, side] that repeats at the edges, deviation about 1."""
    spectrum = np.fft.fft2(rng.normal(size=(side, side)))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side, 1 / side), np.fft.fftfreq(side, 1 / side)))
    noise = np.fft.ifft2(spectrum * np.exp(-(((frequency - waves) / (0.4 * waves)) ** 2))).real
    return np.asarray(noise / noise.std())

"""Compiled loops over triangles and pixels: z-buffer, light transfer, resolve.

Legend: N vertices, T triangles, H W samples (pictures are supersampled), M materials, P texels of the atlas.
Samples carry their triangle and two barycentric coordinates; shading is deferred (`shading.py`).
"""

from __future__ import annotations

import math

import numpy as np

from headlift_trainer.synthetic.render.compiled import (
    ALPHA_FADE,
    ALPHA_NONE,
    ALPHA_TEXTURE,
    TEXEL_ONE,
    Array,
    compiled,
    hash_of,
)

_BROWS = (6, 7)  # classes


@compiled
def _opacity(
    mode: int, c0: float, c1: float, c2: float, fade: Array, corners: Array, uv: Array, place: Array, atlas: Array
) -> float:
    """Opacity of a sample: interpolated fade, times the texture's alpha where the material has one."""
    opacity = min(1.0, max(0.0, c0 * fade[corners[0]] + c1 * fade[corners[1]] + c2 * fade[corners[2]]))
    if mode == ALPHA_TEXTURE:
        u = c0 * uv[0, 0] + c1 * uv[1, 0] + c2 * uv[2, 0]
        v = c0 * uv[0, 1] + c1 * uv[1, 1] + c2 * uv[2, 1]
        column = min(int((u - math.floor(u)) * place[1]), place[1] - 1)
        line = min(int((1.0 - (v - math.floor(v))) * place[2]), place[2] - 1)
        opacity *= atlas[place[0] + line * place[1] + column, 3] / TEXEL_ONE
    return float(opacity)


@compiled
def _is_kept(x: int, y: int, t: int, opacity: float) -> bool:
    """Stochastic transparency, stratified over the 2x2 samples of a pixel so that its noise is small."""
    if opacity < 0.02:
        return False
    if opacity >= 0.98:
        return True
    stratum = ((x & 1) + 2 * (y & 1) + int(hash_of(x >> 1, y >> 1, t) * 4.0)) & 3
    return bool((stratum + hash_of(x, y, t + 7919)) * 0.25 <= opacity)


@compiled
def _first(low: float) -> int:
    """First sample whose centre is not below a coordinate."""
    return max(0, math.ceil(low - 0.5))


@compiled
def rasterize_triangles(
    screen: Array,  # [N, 3] x, y in samples and nearness: 1/z (perspective) or any value growing to the viewer
    perspective: bool,
    triangles: Array,  # [T, 3]
    uvs: Array,  # [T, 3, 2]
    fade: Array,  # [N] opacity of materials that are not ALPHA_NONE, clipped to 0..1 after interpolation
    material: Array,  # [T]
    alpha_mode: Array,  # [M]
    texture: Array,  # [M, 3] offset, width, height
    atlas: Array,  # [P, 4] uint16
    nearness: Array,  # [H, W] in and out, 0 (perspective) or very small where empty
    ids: Array,  # [H, W] int32 out, -1 where empty
    barycentric: Array,  # [H, W, 2] out
) -> None:
    """Draw triangles into the z-buffer; opacity decides per sample."""
    height, width = nearness.shape
    for t in range(triangles.shape[0]):
        i0, i1, i2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        w0, w1, w2 = screen[i0, 2], screen[i1, 2], screen[i2, 2]
        x0, y0, x1, y1, x2, y2 = (
            screen[i0, 0],
            screen[i0, 1],
            screen[i1, 0],
            screen[i1, 1],
            screen[i2, 0],
            screen[i2, 1],
        )
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-12 or (perspective and min(w0, w1, w2) <= 0.0):
            continue
        left, right = _first(min(x0, x1, x2)), min(width, _first(max(x0, x1, x2)))
        top, bottom = _first(min(y0, y1, y2)), min(height, _first(max(y0, y1, y2)))
        if left >= right or top >= bottom:
            continue
        inverse = 1.0 / area
        # views of arrays are counted references: take them once per triangle
        corners, uv, place, mode = triangles[t], uvs[t], texture[material[t]], alpha_mode[material[t]]
        if mode == ALPHA_FADE and min(fade[i0], fade[i1], fade[i2]) >= 0.98:
            mode = ALPHA_NONE
        for y in range(top, bottom):
            for x in range(left, right):
                px, py = x + 0.5, y + 0.5
                l1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * inverse
                l2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * inverse
                if l1 < 0.0 or l2 < 0.0 or l1 + l2 > 1.0:
                    continue
                near = (1.0 - l1 - l2) * w0 + l1 * w1 + l2 * w2
                if near <= nearness[y, x]:
                    continue
                c1, c2 = l1, l2
                if perspective:
                    c1, c2 = l1 * w1 / near, l2 * w2 / near
                if mode != ALPHA_NONE:
                    opacity = _opacity(mode, 1.0 - c1 - c2, c1, c2, fade, corners, uv, place, atlas)
                    if not _is_kept(x, y, t, opacity):
                        continue
                nearness[y, x], ids[y, x] = near, t
                barycentric[y, x, 0], barycentric[y, x, 1] = c1, c2


@compiled
def accumulate_transfer(
    screen: Array,  # [N, 3] orthographic view from the direction
    normals: Array,  # [N, 3]
    direction: Array,  # [3] unit, toward the light
    basis: Array,  # [9] spherical harmonics of the direction
    nearness: Array,  # [S, S] depth from there
    bias: float,  # m
    weight: float,  # solid angle of the direction over pi
    transfer: Array,  # [N, 10] in and out: nine SH coefficients of irradiance, and ambient visibility
) -> None:
    """Add one direction's share of the light that reaches each vertex, shadows included (precomputed transfer)."""
    side = nearness.shape[0]
    for i in range(screen.shape[0]):
        cosine = normals[i, 0] * direction[0] + normals[i, 1] * direction[1] + normals[i, 2] * direction[2]
        if cosine <= 0.0:
            continue
        x, y = int(screen[i, 0]), int(screen[i, 1])
        seen, count = 0.0, 0.0
        for dy in range(-1, 2):
            for dx in range(-1, 2):
                if 0 <= x + dx < side and 0 <= y + dy < side:
                    count += 1.0
                    if screen[i, 2] + bias >= nearness[y + dy, x + dx]:
                        seen += 1.0
        share = weight * cosine * (seen / count if count > 0.0 else 1.0)
        for k in range(9):
            transfer[i, k] += share * basis[k]
        transfer[i, 9] += share


@compiled
def _encoded(value: float) -> float:
    """Linear 0..1 to sRGB 0..1."""
    if value <= 0.0031308:
        return 12.92 * max(value, 0.0)
    return float(1.055 * min(value, 1.0) ** (1.0 / 2.4) - 0.055)


@compiled
def _display(value: float) -> float:
    """Linear radiance to sRGB 0..1 with a soft shoulder above 0.6."""
    if value > 0.6:
        value = 0.6 + 0.4 * (1.0 - math.exp(-(value - 0.6) / 0.4))
    return _encoded(value)


@compiled
def resolve_samples(
    ids: Array,  # [H, W] samples
    barycentric: Array,
    nearness: Array,  # [H, W] 1/z
    shaded: Array,  # [H, W, 9] radiance, albedo, normal; only covered samples are read
    triangles: Array,
    classes: Array,  # [N] uint8 per vertex
    factor: int,  # samples per pixel and axis
    rgba: Array,  # [H/f, W/f, 4] uint8 out, premultiplied sRGB
    depth: Array,  # [H/f, W/f] float32 out, m, nearest sample; 0 where empty
    labels: Array,  # [H/f, W/f] uint8 out, class of most samples
    albedo: Array,  # [H/f, W/f, 3] uint8 out, premultiplied sRGB
    normals: Array,  # [H/f, W/f, 3] int8 out, unit normal times 127
) -> None:
    """Average the samples of each pixel and take it to the display.

    Brows count twice when classes are voted on: single hairs before skin are a brow, as people label it.
    """
    votes = np.zeros(32, np.int32)
    total = factor * factor
    for y in range(rgba.shape[0]):
        for x in range(rgba.shape[1]):
            votes[:] = 0
            count = 0
            nearest = np.float32(0.0)
            r, g, b = 0.0, 0.0, 0.0
            ar, ag, ab = 0.0, 0.0, 0.0
            nx, ny, nz = 0.0, 0.0, 0.0
            for j in range(factor * y, factor * y + factor):
                for i in range(factor * x, factor * x + factor):
                    t = ids[j, i]
                    if t < 0:
                        votes[0] += 1
                        continue
                    count += 1
                    nearest = max(nearest, nearness[j, i])
                    r, g, b = r + shaded[j, i, 0], g + shaded[j, i, 1], b + shaded[j, i, 2]
                    ar, ag, ab = ar + shaded[j, i, 3], ag + shaded[j, i, 4], ab + shaded[j, i, 5]
                    nx, ny, nz = nx + shaded[j, i, 6], ny + shaded[j, i, 7], nz + shaded[j, i, 8]
                    c1, c2 = barycentric[j, i, 0], barycentric[j, i, 1]
                    corner = 0
                    if c1 > 1.0 - c1 - c2:
                        corner = 1
                    if c2 > max(c1, 1.0 - c1 - c2):
                        corner = 2
                    label = classes[triangles[t, corner]]
                    votes[label] += 2 if label in _BROWS else 1
            if count == 0:
                continue
            alpha = count / total
            rgba[y, x, 0] = int(255.0 * alpha * _display(r / count) + 0.5)
            rgba[y, x, 1] = int(255.0 * alpha * _display(g / count) + 0.5)
            rgba[y, x, 2] = int(255.0 * alpha * _display(b / count) + 0.5)
            rgba[y, x, 3] = int(255.0 * alpha + 0.5)
            albedo[y, x, 0] = int(255.0 * alpha * _encoded(ar / count) + 0.5)
            albedo[y, x, 1] = int(255.0 * alpha * _encoded(ag / count) + 0.5)
            albedo[y, x, 2] = int(255.0 * alpha * _encoded(ab / count) + 0.5)
            scale = 127.0 / (math.sqrt(nx * nx + ny * ny + nz * nz) + 1e-9)
            normals[y, x, 0] = round(nx * scale)
            normals[y, x, 1] = round(ny * scale)
            normals[y, x, 2] = round(nz * scale)
            depth[y, x] = 1.0 / nearest
            labels[y, x] = np.argmax(votes)

"""Compiled shading of the samples that the z-buffer kept, and their way to pixels.

Legend: N vertices, T triangles, H W samples, M materials, P texels of the atlas. Light is in units where a white
surface under key colour 1 has radiance 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from headlift_trainer.synthetic.render.compiled import (
    KIND_EYE,
    KIND_HAIR,
    KIND_PLAIN,
    KIND_SKIN,
    TEXEL_ONE,
    Array,
    compiled,
    hash_of,
)

Vector = tuple[float, float, float]


# Named tuples, not dataclasses: compiled functions take no other record of arrays.
class Samples(NamedTuple):
    """What the z-buffer kept."""

    ids: Array  # [H, W] int32 triangle, -1 where empty
    barycentric: Array  # [H, W, 2]


class Mesh(NamedTuple):
    """The surface of a scene in one appearance."""

    triangles: Array  # [T, 3]
    uvs: Array  # [T, 3, 2]
    material: Array  # [T]
    positions: Array  # [N, 3] m
    normals: Array  # [N, 3] unit
    colors: Array  # [N, 3] linear albedo
    surface: Array  # [N, 3] strength of the texture, strength of the grain, gloss
    transfer: Array  # [N, 10] nine SH coefficients of irradiance, and ambient visibility


class Materials(NamedTuple):
    """How the parts of a scene answer light."""

    kinds: Array  # [M] KIND_*
    optics: Array  # [M, 4] roughness, specular, bump, grain frequency 1/m
    texture: Array  # [M, 3] offset, width, height in the atlas
    atlas: Array  # [P, 4] uint16


class Lighting(NamedTuple):
    """An environment and key lights, with the shadow map of the first."""

    sh: Array  # [9, 3] radiance coefficients of the environment
    key_direction: Array  # [K, 3] unit, toward the light; only the first has a shadow map
    key_color: Array  # [K, 3] irradiance of a surface that faces it, over pi
    shadow: Array  # [S, S] nearness from the first key light
    shadow_frame: Array  # [14] centre, x axis, y axis, z axis, radius, penumbra in texels of the map
    disc: Array  # [Q, 2] points of the unit disc


@compiled
def _mixed(values: Array, corners: Array, c0: float, c1: float, c2: float) -> Vector:
    """Three channels of vertex values at barycentric coordinates."""
    a, b, c = corners[0], corners[1], corners[2]
    return (
        c0 * values[a, 0] + c1 * values[b, 0] + c2 * values[c, 0],
        c0 * values[a, 1] + c1 * values[b, 1] + c2 * values[c, 1],
        c0 * values[a, 2] + c1 * values[b, 2] + c2 * values[c, 2],
    )


@compiled
def _unit(x: float, y: float, z: float) -> Vector:
    """The vector at length 1."""
    scale = 1.0 / (math.sqrt(x * x + y * y + z * z) + 1e-9)
    return x * scale, y * scale, z * scale


@compiled
def _dot(a: Vector, b: Vector) -> float:
    """Inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def _texel(c0: float, c1: float, c2: float, uv: Array, place: Array, atlas: Array) -> tuple[Any, Any, Any, Any, Any]:
    """Bilinear red, green, blue of a texture, and the slope of green per texel along u and v."""
    u = c0 * uv[0, 0] + c1 * uv[1, 0] + c2 * uv[2, 0]
    v = c0 * uv[0, 1] + c1 * uv[1, 1] + c2 * uv[2, 1]
    start, width, height = place[0], place[1], place[2]
    fx = (u - math.floor(u)) * width - 0.5
    fy = (1.0 - (v - math.floor(v))) * height - 0.5
    ix, iy = math.floor(fx), math.floor(fy)
    gx, gy = np.float32(fx - ix), np.float32(fy - iy)
    xa, xb = min(max(ix, 0), width - 1), min(max(ix + 1, 0), width - 1)
    ya, yb = min(max(iy, 0), height - 1), min(max(iy + 1, 0), height - 1)
    p00, p01 = start + ya * width + xa, start + ya * width + xb
    p10, p11 = start + yb * width + xa, start + yb * width + xb
    unit = np.float32(1.0 / TEXEL_ONE)
    w00, w01, w10, w11 = (1 - gx) * (1 - gy) * unit, gx * (1 - gy) * unit, (1 - gx) * gy * unit, gx * gy * unit
    red = w00 * atlas[p00, 0] + w01 * atlas[p01, 0] + w10 * atlas[p10, 0] + w11 * atlas[p11, 0]
    green = w00 * atlas[p00, 1] + w01 * atlas[p01, 1] + w10 * atlas[p10, 1] + w11 * atlas[p11, 1]
    blue = w00 * atlas[p00, 2] + w01 * atlas[p01, 2] + w10 * atlas[p10, 2] + w11 * atlas[p11, 2]
    g00, g01, g10, g11 = (
        np.float32(atlas[p00, 1]),
        np.float32(atlas[p01, 1]),
        np.float32(atlas[p10, 1]),
        np.float32(atlas[p11, 1]),
    )
    slope_u = ((g01 - g00) * (1 - gy) + (g11 - g10) * gy) * unit
    slope_v = -((g10 - g00) * (1 - gx) + (g11 - g01) * gx) * unit
    return red, green, blue, slope_u, slope_v


@compiled
def _bumped(
    normal: Vector, slope_u: float, slope_v: float, strength: float, positions: Array, corners: Array, uv: Array
) -> Vector:
    """The normal tilted against the slopes of a height along the texture's axes."""
    a, b, c = corners[0], corners[1], corners[2]
    e1 = (positions[b, 0] - positions[a, 0], positions[b, 1] - positions[a, 1], positions[b, 2] - positions[a, 2])
    e2 = (positions[c, 0] - positions[a, 0], positions[c, 1] - positions[a, 1], positions[c, 2] - positions[a, 2])
    du1, dv1 = uv[1, 0] - uv[0, 0], uv[1, 1] - uv[0, 1]
    du2, dv2 = uv[2, 0] - uv[0, 0], uv[2, 1] - uv[0, 1]
    area = du1 * dv2 - du2 * dv1
    if abs(area) < 1e-14 or strength <= 0.0:
        return normal
    sign = 1.0 if area > 0.0 else -1.0
    tx, ty, tz = _unit(
        (e1[0] * dv2 - e2[0] * dv1) * sign, (e1[1] * dv2 - e2[1] * dv1) * sign, (e1[2] * dv2 - e2[2] * dv1) * sign
    )
    bx, by, bz = _unit(
        (e2[0] * du1 - e1[0] * du2) * sign, (e2[1] * du1 - e1[1] * du2) * sign, (e2[2] * du1 - e1[2] * du2) * sign
    )
    slope_u, slope_v = slope_u * strength, slope_v * strength
    return _unit(
        normal[0] - tx * slope_u - bx * slope_v,
        normal[1] - ty * slope_u - by * slope_v,
        normal[2] - tz * slope_u - bz * slope_v,
    )


@compiled
def _value_noise(x: float, y: float, z: float) -> float:
    """Smooth noise on the integer lattice, 0..1."""
    ix, iy, iz = math.floor(x), math.floor(y), math.floor(z)
    fx, fy, fz = x - ix, y - iy, z - iz
    total = 0.0
    for k in range(8):
        a, b, c = k & 1, (k >> 1) & 1, k >> 2
        weight = (fx if a else 1.0 - fx) * (fy if b else 1.0 - fy) * (fz if c else 1.0 - fz)
        total += weight * hash_of(ix + a, iy + b, iz + c)
    return total


@compiled
def _speckle(p: Vector, frequency: float, strength: float) -> float:
    """Factor on the colour of short hair: grain in two octaves, stretched downward."""
    x, y, z = p[0] * frequency, p[1] * frequency, p[2] * frequency
    return max(0.05, 1.0 + strength * (_value_noise(x, 0.5 * y, z) + _value_noise(2.3 * x, y, 2.3 * z) - 1.0))


@compiled
def _lit_share(p: Vector, shadow: Array, frame: Array, disc: Array, jitter: float) -> float:
    """Share of the first key light that is not hidden, from a turned disc of shadow-map samples."""
    side, radius, reach = shadow.shape[0], frame[12], frame[13]
    q = (p[0] - frame[0], p[1] - frame[1], p[2] - frame[2])
    sx = ((q[0] * frame[3] + q[1] * frame[4] + q[2] * frame[5]) / radius * 0.5 + 0.5) * side
    sy = ((q[0] * frame[6] + q[1] * frame[7] + q[2] * frame[8]) / radius * 0.5 + 0.5) * side
    depth = q[0] * frame[9] + q[1] * frame[10] + q[2] * frame[11]
    cosine, sine = 1.0 - 2.0 * jitter, 2.0 * math.sqrt(max(jitter * (1.0 - jitter), 0.0))
    hidden = 0.0
    for k in range(disc.shape[0]):
        x = int(sx + reach * (cosine * disc[k, 0] - sine * disc[k, 1]))
        y = int(sy + reach * (sine * disc[k, 0] + cosine * disc[k, 1]))
        if 0 <= x < side and 0 <= y < side and depth + 0.006 < shadow[y, x]:
            hidden += 1.0
    return 1.0 - hidden / float(disc.shape[0])


@compiled
def _strand_light(normal: Vector, view: Vector, light: Vector, p: Vector) -> Vector:
    """Diffuse, white and coloured highlight factors of hair whose strands run from the crown down the surface."""
    tx, ty, tz = p[0], p[1] - 0.16, p[2] + 0.05
    along = tx * normal[0] + ty * normal[1] + tz * normal[2]
    tangent = _unit(tx - along * normal[0], ty - along * normal[1], tz - along * normal[2])
    nl, tl = _dot(normal, light), _dot(tangent, light)
    diffuse = 0.8 * math.sqrt(max(0.0, 1.0 - tl * tl)) * max(0.0, 0.3 + 0.7 * nl)
    dot = _dot(tangent, _unit(light[0] + view[0], light[1] + view[1], light[2] + view[2]))
    front = max(0.0, 0.25 + 0.75 * nl)
    sharp = 0.10 * front * max(0.0, 1.0 - (dot + 0.06) ** 2) ** 60
    broad = 0.9 * front * max(0.0, 1.0 - (dot - 0.12) ** 2) ** 18
    return diffuse, sharp, broad


@compiled
def _gloss(normal: Vector, view: Vector, light: Vector, nl: float, nv: float, roughness: float) -> float:
    """GGX highlight times the cosine, for a light given as irradiance over pi (the two factors of pi cancel)."""
    if nl <= 0.0:
        return 0.0
    half = _unit(light[0] + view[0], light[1] + view[1], light[2] + view[2])
    nh, vh = max(_dot(normal, half), 0.0), max(_dot(view, half), 0.0)
    a2 = roughness**4
    spread = nh * nh * (a2 - 1.0) + 1.0
    fresnel = 0.04 + 0.96 * (1.0 - vh) ** 5
    k = (roughness + 1.0) ** 2 * 0.125
    shading = 1.0 / ((nl * (1.0 - k) + k) * (nv * (1.0 - k) + k))
    return float(min(a2 / (spread * spread) * fresnel * shading * 0.25 * nl, 6.0))


@compiled
def _environment(
    transfer: Array, corners: Array, c0: float, c1: float, c2: float, sh: Array
) -> tuple[float, float, float, float]:
    """Radiance of a white surface under the environment, and how much of the surroundings the surface sees (0..1)."""
    a, b, c = corners[0], corners[1], corners[2]
    er, eg, eb = 0.0, 0.0, 0.0
    for k in range(9):
        share = c0 * transfer[a, k] + c1 * transfer[b, k] + c2 * transfer[c, k]
        er, eg, eb = er + share * sh[k, 0], eg + share * sh[k, 1], eb + share * sh[k, 2]
    ambient = min(1.0, c0 * transfer[a, 9] + c1 * transfer[b, 9] + c2 * transfer[c, 9])
    return max(er, 0.0), max(eg, 0.0), max(eb, 0.0), ambient


@compiled
def _mirror(normal: Vector, view: Vector, nv: float, sh: Array) -> Vector:
    """The environment in the mirror direction, read from its low bands."""
    x, y, z = 2 * nv * normal[0] - view[0], 2 * nv * normal[1] - view[1], 2 * nv * normal[2] - view[2]
    red = 0.282 * sh[0, 0] + 0.42 * (y * sh[1, 0] + z * sh[2, 0] + x * sh[3, 0])
    green = 0.282 * sh[0, 1] + 0.42 * (y * sh[1, 1] + z * sh[2, 1] + x * sh[3, 1])
    blue = 0.282 * sh[0, 2] + 0.42 * (y * sh[1, 2] + z * sh[2, 2] + x * sh[3, 2])
    return max(0.0, red), max(0.0, green), max(0.0, blue)


@compiled
def _mirror_share(kind: int, nv: float, roughness: float) -> float:
    """Share of the environment that a surface mirrors: Schlick's Fresnel term, weaker on rough surfaces."""
    base = 0.04 if kind == KIND_EYE else 0.025
    edge = (max(1.0 - roughness, 0.04) - 0.04) * (1.0 - nv) ** 5
    return base + edge


@compiled
def _response(kind: int, nl: float, lit: float) -> Vector:
    """Diffuse answer of a surface to a key light, per channel: skin scatters, red light wraps furthest and bleeds."""
    if kind != KIND_SKIN:
        front = max(nl, 0.0) * lit
        return front, front, front
    wr, wg, wb = max(0.0, (nl + 0.30) / 1.30), max(0.0, (nl + 0.14) / 1.14), max(0.0, (nl + 0.09) / 1.09)
    return wr**1.5 * (lit + (1.0 - lit) * 0.08), wg**1.3 * lit, wb**1.2 * lit


@compiled
def _put(sample: Array, radiance: Vector, albedo: Vector, normal: Vector) -> None:
    """Store what was found out about a sample [9]."""
    sample[0], sample[1], sample[2] = radiance
    sample[3], sample[4], sample[5] = albedo
    sample[6], sample[7], sample[8] = normal


@compiled
def shade_samples(
    samples: Samples,
    mesh: Mesh,
    materials: Materials,
    lighting: Lighting,
    eye: Array,  # [3] camera centre
    out: Array,  # [H, W, 9] out where covered: linear radiance, linear albedo, normal as it was lit
) -> None:
    """Shade every covered sample: precomputed transfer of the environment, key lights, highlights."""
    ids, barycentric = samples
    triangles, uvs, material, positions, normals, colors, surface, transfer = mesh
    kinds, optics, texture, atlas = materials
    sh, key_direction, key_color, shadow, shadow_frame, disc = lighting
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            t = ids[y, x]
            if t < 0:
                continue
            m, corners = material[t], triangles[t]
            kind = kinds[m]
            c1, c2 = barycentric[y, x, 0], barycentric[y, x, 1]
            c0 = np.float32(1.0) - c1 - c2
            p = _mixed(positions, corners, c0, c1, c2)
            normal = _unit(*_mixed(normals, corners, c0, c1, c2))
            view = _unit(eye[0] - p[0], eye[1] - p[1], eye[2] - p[2])
            if kind == KIND_PLAIN and _dot(normal, view) < 0.0:
                normal = (-normal[0], -normal[1], -normal[2])
            ar, ag, ab = _mixed(colors, corners, c0, c1, c2)
            detail, grain, gloss = _mixed(surface, corners, c0, c1, c2)
            if texture[m, 1] > 0 and detail > 0.0:
                tr, tg, tb, slope_u, slope_v = _texel(c0, c1, c2, uvs[t], texture[m], atlas)
                ar, ag, ab = ar * (1 + detail * (tr - 1)), ag * (1 + detail * (tg - 1)), ab * (1 + detail * (tb - 1))
                normal = _bumped(normal, slope_u, slope_v, optics[m, 2] * detail, positions, corners, uvs[t])
            if grain > 0.0:
                factor = _speckle(p, optics[m, 3], grain)
                ar, ag, ab = ar * factor, ag * factor, ab * factor
            er, eg, eb, ambient = _environment(transfer, corners, c0, c1, c2, sh)
            nv = max(_dot(normal, view), 0.03)
            roughness, specular = optics[m, 0], optics[m, 1] * gloss
            sr, sg, sb = 0.0, 0.0, 0.0
            for k in range(key_direction.shape[0]):
                light = (key_direction[k, 0], key_direction[k, 1], key_direction[k, 2])
                kr, kg, kb = key_color[k, 0], key_color[k, 1], key_color[k, 2]
                lit = _lit_share(p, shadow, shadow_frame, disc, hash_of(x, y, 7)) if k == 0 else min(1.0, ambient * 1.3)
                if kind == KIND_HAIR:
                    diffuse, sharp, broad = _strand_light(normal, view, light, p)
                    dr, dg, db = diffuse * lit, diffuse * lit, diffuse * lit
                    hr, hg, hb = sharp + broad * ar, sharp + broad * ag, sharp + broad * ab
                    shine = specular * lit
                else:
                    nl = _dot(normal, light)
                    dr, dg, db = _response(kind, nl, lit)
                    hr, hg, hb = 1.0, 1.0, 1.0
                    shine = specular * lit * _gloss(normal, view, light, nl, nv, roughness)
                sr, sg, sb = sr + shine * hr * kr, sg + shine * hg * kg, sb + shine * hb * kb
                er, eg, eb = er + dr * kr, eg + dg * kg, eb + db * kb
            if kind != KIND_HAIR:
                share = specular * ambient * ambient * _mirror_share(kind, nv, roughness)
                mr, mg, mb = _mirror(normal, view, nv, sh)
                sr, sg, sb = sr + share * mr, sg + share * mg, sb + share * mb
            _put(out[y, x], (ar * er + sr, ag * eg + sg, ab * eb + sb), (ar, ag, ab), normal)

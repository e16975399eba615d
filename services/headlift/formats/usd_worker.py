"""Reads one USD layer in a process of its own: ``python usd_worker.py LAYER OUT.npz MAX_GAUSSIANS``.

Imports neither torch nor the rest of headlift, so that it starts soon. Exit code 0: the arrays are in OUT. REFUSED: the
sentence on standard output says why. Anything else: the library gave up, or a limit ended it.
"""

from __future__ import annotations

import resource
import sys
from typing import Any

import numpy as np

SECONDS = 60
NO_USD, REFUSED = 3, 4
_MEMORY = 8 << 30  # bytes of address space; the library maps some 2 GiB of its own
_TYPE = "ParticleField3DGaussianSplat"
_WIDTHS = {"positions": 3, "orientations": 4, "scales": 3, "opacities": 1, "radiance:sphericalHarmonicsCoefficients": 3}
_MAX_PRIMS = 10_000


class RefusedError(Exception):
    """The layer is not what can be read."""


def main(source: str, target: str, max_gaussians: int) -> int:
    """Read, check, write; the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        from pxr import Sdf, Usd, UsdGeom
    except ModuleNotFoundError:
        return NO_USD
    try:
        layer = Sdf.Layer.OpenAsAnonymous(source)
        if layer is None:
            raise RefusedError("OpenUSD cannot open the layer of the USDZ file; it is damaged.")
        _cut_references(layer)
        stage = Usd.Stage.Open(layer, Usd.Stage.LoadNone)
        arrays = _arrays(stage, UsdGeom, max_gaussians)
        arrays["documentation"] = np.array(layer.documentation[:400])
    except RefusedError as error:
        sys.stdout.write(str(error))
        return REFUSED
    except Exception as error:  # of Tf: a message of the library's, about the layer
        sys.stdout.write(f"OpenUSD cannot read the USDZ file ({type(error).__name__}); it is damaged.")
        return REFUSED
    np.savez(target, **arrays)
    return 0


def _cut_references(layer: Any) -> None:
    """Take out of the layer all that would make the library open another file."""
    layer.subLayerPaths.clear()
    specs: list[Any] = list(layer.rootPrims)
    count = 0
    while specs:
        spec = specs.pop()
        count += 1
        if count > _MAX_PRIMS:
            raise RefusedError(f"The USDZ file has more than {_MAX_PRIMS:,} prims; it is refused.")
        for key in ("references", "payload", "inheritPaths", "specializes", "variantSetNames", "clips", "clipSets"):
            if spec.HasInfo(key):
                spec.ClearInfo(key)
        specs += list(spec.nameChildren)


def _arrays(stage: Any, UsdGeom: Any, max_gaussians: int) -> dict[str, Any]:
    """Arrays of every splat prim, numbered."""
    cache = UsdGeom.XformCache()
    upright = np.eye(4)
    if UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.z:
        upright[1:3, 1:3] = [[0, 1], [-1, 0]]
    upright[:3, :3] *= UsdGeom.GetStageMetersPerUnit(stage) if stage.HasAuthoredMetadata("metersPerUnit") else 1.0
    found: dict[str, Any] = {}
    prims = total = degree = 0
    for prim in stage.TraverseAll():
        if prim.GetTypeName() != _TYPE:
            continue
        values = {name: _values(prim, name, width) for name, width in _WIDTHS.items()}
        count = len(values["positions"])
        total += count
        if total > max_gaussians:
            raise RefusedError(f"The USDZ file announces {total:,} Gaussians; at most {max_gaussians:,} are read.")
        coefficients = values.pop("radiance:sphericalHarmonicsCoefficients")
        if not len(coefficients):
            coefficients = np.zeros((count, 3), np.float32)  # the schema's fallback is middle grey
        if count == 0 or len(coefficients) % count or any(len(value) != count for value in values.values()):
            raise RefusedError("The attributes of a splat prim in the USDZ file differ in length; it is not valid.")
        a_gaussian = len(coefficients) // count
        degree = max(degree, round(a_gaussian**0.5) - 1)
        found[f"coefficients{prims}"] = coefficients[::a_gaussian]
        found |= {f"{name}{prims}": value for name, value in values.items()}
        found[f"opacities{prims}"] = values["opacities"][:, 0]
        found[f"matrix{prims}"] = upright @ np.array(cache.GetLocalToWorldTransform(prim)).T  # USD has rows
        prims += 1
    if not prims:
        raise RefusedError(f"No prim of the USDZ file is a {_TYPE}; a splat file is needed, not a mesh.")
    return found | {"prims": np.array(prims), "degree": np.array(min(degree, 4))}


def _values(prim: Any, name: str, width: int) -> Any:
    """An attribute as float32 [N, width]: the float one, or the half one where that is empty."""
    for attribute in (prim.GetAttribute(name), prim.GetAttribute(f"{name}h")):
        value = attribute.Get() if attribute else None
        if value is not None and len(value):
            array = np.array(value, np.float32).reshape(len(value), -1)
            if array.shape[1] != width:
                raise RefusedError(f"{name} of a splat prim in the USDZ file has {array.shape[1]} numbers a Gaussian.")
            return array[:, [3, 0, 1, 2]] if name == "orientations" else array
    return np.zeros((0, width), np.float32)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

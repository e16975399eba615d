"""Reading FLAME's neutral head from a file that the user has (FLAME 2020 pickle, FLAME 2023 pickle or npz).

FLAME may not be passed on, so Headlift ships none of it. Its pickles hold numpy arrays, scipy matrices and objects of
chumpy, a package long dead; the unpickler here knows just those names, builds inert records in place of everything
that is not an array, and refuses whatever else a file asks for.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift_trainer.template.implicit import Array
from headlift_trainer.template.sampling import Index

_LIMIT = 512 << 20  # bytes; FLAME's largest file has about 100 MB
_SPAN = (0.15, 0.80)  # m, height that a head in metres can have
_WHERE = "Get it from https://flame.is.tue.mpg.de (registration, FLAME licence)"


class _Record:
    """Stands in for an object that is not needed: keeps the state, runs nothing."""

    def __init__(self, *args: object) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: object) -> None:
        self.state = state if isinstance(state, dict) else {}


def _reconstructor(cls: object, base: object, state: object) -> _Record:
    """``copyreg._reconstructor`` for records only."""
    if cls is not _Record:
        raise pickle.UnpicklingError("copyreg._reconstructor on a class other than chumpy's or scipy's")
    return _Record()


def _encode(text: str, encoding: str) -> bytes:
    """``_codecs.encode``, which Python 3 writes for bytes in old protocols."""
    return text.encode("latin1")


def _array(cls: object, shape: object, kind: object) -> np.ndarray[Any, Any]:
    """``numpy._core.multiarray._reconstruct``: always an empty array, filled from the state that follows."""
    return np.ndarray.__new__(np.ndarray, (0,), "b")


def _scalar(dtype: np.dtype[Any], data: object) -> Any:
    """``numpy._core.multiarray.scalar``."""
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes) or dtype.hasobject:
        raise pickle.UnpicklingError("a numpy scalar without bytes")
    return np.frombuffer(raw, dtype)[0]


def _frombuffer(buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str) -> np.ndarray[Any, Any]:
    """``numpy._core.numeric._frombuffer``, which protocol 5 writes."""
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


_ALLOWED: dict[tuple[str, str], Callable[..., Any] | type] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _frombuffer for core in ("core", "_core")},
    **{(f"scipy.sparse.{m}", f"{m.strip('_')}_matrix"): _Record for m in ("csc", "csr", "_csc", "_csr")},
    **{(f"chumpy.{module}", "Ch"): _Record for module in ("ch", "ch_ops")},
    ("chumpy.reordering", "Select"): _Record,
    **{(module, "_reconstructor"): _reconstructor for module in ("copy_reg", "copyreg")},
    **{(module, "object"): object for module in ("__builtin__", "builtins")},
    **{(module, "set"): _Record for module in ("__builtin__", "builtins")},  # bookkeeping inside chumpy's objects
}


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows arrays and nothing that could act."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in _ALLOWED:
            raise CorruptWeightsError(
                f"The FLAME file asks for {module}.{name}, which no FLAME file needs; it may be hostile and was not "
                f"loaded. {_WHERE}.",
                reason="UNSAFE_PICKLE",
                metadata={"global": f"{module}.{name}"},
            )
        return _ALLOWED[module, name]


def read_flame(path: str | Path) -> tuple[Array, Index]:
    """FLAME's neutral head without the hidden backs of its eyeballs.

    Args:
        path: ``generic_model.pkl`` (2020), ``flame2023.pkl`` or an npz with ``v_template`` and ``f``.

    Returns:
        Vertices [V, 3] m and faces [F, 3], counter-clockwise seen from outside.

    Raises:
        MissingWeightsError: There is no such file.
        CorruptWeightsError: It is not a FLAME model, or asks for anything but arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingWeightsError(f"There is no FLAME model {path.name}. {_WHERE}, or use the built-in template.")
    if path.stat().st_size > _LIMIT:
        raise CorruptWeightsError(f"{path.name} has {path.stat().st_size} bytes; a FLAME model has at most {_LIMIT}.")
    data = path.read_bytes()
    try:
        fields = _read_npz(data) if data[:2] == b"PK" else _Unpickler(io.BytesIO(data), encoding="latin1").load()
        vertices = np.array(_plain(fields["v_template"]), np.float64)
        faces = np.array(_plain(fields["f"] if "f" in fields else fields["faces"])).astype(np.int64)
    except CorruptWeightsError:
        raise
    except Exception as error:  # a broken pickle may raise nearly anything
        raise CorruptWeightsError(
            f"{path.name} is not a FLAME model with v_template and f ({type(error).__name__}). {_WHERE}."
        ) from error
    _check(path.name, vertices, faces)
    return vertices, _visible(vertices, _outward(vertices, faces))


def _read_npz(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(item.file_size for item in archive.infolist()) > _LIMIT:
            raise ValueError("unpacks to too much")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {key: arrays[key] for key in ("v_template", "f", "faces") if key in arrays}


def _plain(value: Any) -> Any:
    """The array inside a chumpy record, or the array itself."""
    return value.state["x"] if isinstance(value, _Record) else value


def _check(name: str, vertices: Array, faces: Index) -> None:
    shaped = vertices.ndim == faces.ndim == 2 and vertices.shape[1] == faces.shape[1] == 3 and len(vertices) > 3
    if not shaped or not len(faces) or faces.min() < 0 or faces.max() >= len(vertices):
        raise CorruptWeightsError(
            f"{name}: v_template {vertices.shape} and f {faces.shape} are no mesh [V,3] and [F,3]. {_WHERE}."
        )
    span = float(np.ptp(vertices[:, 1]))
    if not np.isfinite(vertices).all() or not _SPAN[0] <= span <= _SPAN[1]:
        raise CorruptWeightsError(
            f"{name}: v_template is {span:.3g} high; a head in metres has {_SPAN[0]}..{_SPAN[1]}. {_WHERE}."
        )


def _outward(vertices: Array, faces: Index) -> Index:
    """Faces wound so that the mesh encloses a positive volume."""
    a, b, c = (vertices[faces[:, k]] - vertices.mean(0) for k in range(3))
    return faces if float((a * np.cross(b, c)).sum()) >= 0.0 else faces[:, ::-1].copy()


def _visible(vertices: Array, faces: Index) -> Index:
    """Faces without the backs of loose parts: FLAME's eyeballs are whole spheres inside the head."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(len(vertices),) * 2)
    part = connected_components(graph, directed=False)[1][faces[:, 0]]
    cross = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    forward = cross[:, 2] > 0.3 * np.linalg.norm(cross, axis=1)
    return np.asarray(faces[(part == np.bincount(part).argmax()) | forward])

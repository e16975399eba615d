"""FLAME files: what they may hold, what they may not, and what becomes of a good one."""

import os
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csc_matrix

from headlift.errors import CorruptWeightsError, MissingWeightsError
from headlift.model.template import ANCHORS
from headlift_trainer.template import implicit
from headlift_trainer.template.build import load_flame
from headlift_trainer.template.flame import read_flame


def skull(points: np.ndarray) -> np.ndarray:
    x, y, z = points.T
    return implicit.ellipsoid(x, y, z, (0.0, 0.0, -0.01), (0.075, 0.130, 0.095))


def eyeball(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - [0.0315, 0.028, 0.042], axis=1) - 0.012


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    """A file like FLAME's, with an egg for a head and one eyeball."""
    head, f = implicit.mesh(skull, (-0.12, -0.16, -0.14), (0.12, 0.16, 0.14), 0.012)
    eye, g = implicit.mesh(eyeball, (0.015, 0.01, 0.025), (0.05, 0.046, 0.06), 0.004)
    vertices = np.concatenate([head, eye])
    return {
        "v_template": vertices,
        "f": np.concatenate([f, g + len(head)]).astype(np.uint32),
        "J_regressor": csc_matrix(np.eye(5, len(vertices))),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
        "weights": np.ones((len(vertices), 5)),
        "bs_type": "lrotmin",
        "scale": np.float64(1.0),
    }


def written(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that pickles under the name chumpy.ch.Ch, as FLAME 2020's arrays do."""
    module = types.ModuleType("chumpy.ch")
    ch = type("Ch", (), {"__module__": "chumpy.ch"})
    module.Ch = ch  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return ch


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_of_any_protocol_is_read(tmp_path: Path, model: dict[str, Any], protocol: int) -> None:
    vertices, faces = read_flame(written(tmp_path / "flame2023.pkl", model, protocol))
    np.testing.assert_array_equal(vertices, model["v_template"])
    assert faces.dtype == np.int64
    assert {tuple(f) for f in faces.tolist()} <= {tuple(f) for f in model["f"].tolist()}


@pytest.mark.parametrize("protocol", [0, 2])
def test_chumpy_objects_are_read_without_chumpy(
    tmp_path: Path, model: dict[str, Any], chumpy: type, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    wrapped = chumpy()
    wrapped.__dict__.update(x=model["v_template"], _dirty_vars=set(), _itr=None)
    path = written(tmp_path / "generic_model.pkl", {**model, "v_template": wrapped, "shapedirs": wrapped}, protocol)
    monkeypatch.delitem(sys.modules, "chumpy.ch")
    np.testing.assert_array_equal(read_flame(path)[0], model["v_template"])


def test_an_npz_gives_the_same_mesh(tmp_path: Path, model: dict[str, Any]) -> None:
    np.savez(tmp_path / "flame.npz", v_template=model["v_template"], f=model["f"])
    from_npz = read_flame(tmp_path / "flame.npz")
    from_pickle = read_flame(written(tmp_path / "flame.pkl", model))
    np.testing.assert_array_equal(from_npz[0], from_pickle[0])
    np.testing.assert_array_equal(from_npz[1], from_pickle[1])


def test_only_the_front_of_an_eyeball_stays(tmp_path: Path, model: dict[str, Any]) -> None:
    vertices, faces = read_flame(written(tmp_path / "flame.pkl", model))
    center = vertices[faces].mean(1)
    ball = np.abs(eyeball(center)) < 1e-3
    assert ball.any()
    assert center[ball][:, 2].min() > 0.042
    assert (np.abs(skull(center)) < 3e-3)[center[:, 2] < -0.02].all()


def test_a_mesh_that_winds_inward_is_turned(tmp_path: Path, model: dict[str, Any]) -> None:
    inward = {**model, "f": model["f"][:, ::-1]}
    vertices, faces = read_flame(written(tmp_path / "flame.pkl", inward))
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    assert (a * np.cross(b, c)).sum() > 0


def test_a_flame_file_becomes_a_template(tmp_path: Path, model: dict[str, Any]) -> None:
    template = load_flame(written(tmp_path / "generic_model.pkl", model))
    assert len(template) == ANCHORS
    assert template.name == "flame-generic_model"
    assert float((template.normals * template.anchors).sum(1).gt(0).float().mean()) > 0.99
    assert template.sha256 == load_flame(tmp_path / "generic_model.pkl").sha256


def test_a_missing_file_is_named_and_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=r"generic_model\.pkl.*flame\.is\.tue\.mpg\.de.*licence") as caught:
        load_flame(tmp_path / "generic_model.pkl")
    assert str(tmp_path) not in caught.value.message


class Evil:
    """Pickles as a call of whatever it is given."""

    def __init__(self, call: Any, *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.args


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_by_name_and_does_not_run(
    tmp_path: Path, model: dict[str, Any], protocol: int
) -> None:
    mark = tmp_path / "ran"
    path = written(tmp_path / "evil.pkl", {**model, "v_template": Evil(os.system, f"touch {mark}")}, protocol)
    with pytest.raises(CorruptWeightsError, match=r"(posix|nt)\.system") as caught:
        read_flame(path)
    assert caught.value.reason == "UNSAFE_PICKLE"
    assert not mark.exists()


@pytest.mark.parametrize("call", [eval, getattr, __import__, np.load, np.frombuffer, pickle.loads, bytearray])
def test_no_other_callable_is_reachable(tmp_path: Path, call: Any) -> None:
    with pytest.raises(CorruptWeightsError):
        read_flame(written(tmp_path / "evil.pkl", Evil(call, "1")))


def test_arrays_of_objects_cannot_carry_a_call(tmp_path: Path, model: dict[str, Any]) -> None:
    mark = tmp_path / "ran"
    hidden = np.array([Evil(os.system, f"touch {mark}")], object)
    with pytest.raises(CorruptWeightsError):
        read_flame(written(tmp_path / "evil.pkl", {**model, "weights": hidden}))
    np.savez(tmp_path / "evil.npz", v_template=hidden, f=model["f"])
    with pytest.raises(CorruptWeightsError):
        read_flame(tmp_path / "evil.npz")
    assert not mark.exists()


def test_the_reconstructor_makes_nothing_but_records(tmp_path: Path) -> None:
    payload = b"ccopy_reg\n_reconstructor\n(cnumpy\nndarray\nc__builtin__\nobject\nNtR."
    (tmp_path / "odd.pkl").write_bytes(payload)
    with pytest.raises(CorruptWeightsError):
        read_flame(tmp_path / "odd.pkl")


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"not a pickle", b"PK\x03\x04broken", pickle.dumps([1, 2]), pickle.dumps({"f": 1})]
)
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.pkl").write_bytes(data)
    with pytest.raises(CorruptWeightsError, match=r"bad\.pkl"):
        read_flame(tmp_path / "bad.pkl")


def test_a_truncated_file_is_refused(tmp_path: Path, model: dict[str, Any]) -> None:
    whole = pickle.dumps(model, protocol=2)
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.pkl").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(CorruptWeightsError):
            read_flame(tmp_path / "cut.pkl")


@pytest.mark.parametrize("fault", ["millimetres", "nan", "faces", "shape"])
def test_a_mesh_that_is_no_head_in_metres_is_refused(tmp_path: Path, model: dict[str, Any], fault: str) -> None:
    v, f = model["v_template"], model["f"]
    broken = {
        "millimetres": {"v_template": v * 1000, "f": f},
        "nan": {"v_template": np.where(v > 0.09, np.nan, v), "f": f},
        "faces": {"v_template": v, "f": f + len(v)},
        "shape": {"v_template": v.ravel(), "f": f},
    }[fault]
    with pytest.raises(CorruptWeightsError):
        read_flame(written(tmp_path / "broken.pkl", broken))

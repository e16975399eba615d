import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from headlift.errors import FormatError, InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift_trainer.datasets.headframe import (
    HeadPose,
    facing_degrees,
    fit_similarity,
    rig_frame,
    scale_of,
    triangulate,
)

K = np.array([[900.0, 0, 300], [0, 900, 400], [0, 0, 1]])


def similarity(rng: np.random.Generator) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rng.uniform(0.001, 30) * Rotation.random(random_state=int(rng.integers(2**31))).as_matrix()
    matrix[:3, 3] = rng.normal(0, 5, 3)
    return matrix


def moved(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def cast(points: np.ndarray, viewmats: np.ndarray) -> np.ndarray:
    seen = np.einsum("vij,lj->vli", K @ viewmats[:, :3], np.c_[points, np.ones(len(points))])
    return seen[..., :2] / seen[..., 2:]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.integers(4, 30))
def test_a_similarity_is_found_from_the_points_that_it_moved(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    source, truth = rng.normal(0, 1, (count, 3)), similarity(rng)
    found, off = fit_similarity(source, moved(truth, source))
    assert np.allclose(found, truth, rtol=1e-6, atol=1e-6)
    assert off.max() < 1e-6


def test_wrong_landmarks_hardly_move_the_fit() -> None:
    rng = np.random.default_rng(1)
    target = rng.normal(0, 0.05, (40, 3))
    truth = similarity(rng)
    source = moved(np.linalg.inv(truth), target)
    source[:6] += 0.08 / scale_of(truth)
    found, _ = fit_similarity(source, target, outlier=0.003)
    assert np.abs(moved(found, source[6:]) - target[6:]).max() < 5e-4


def test_points_on_a_line_are_refused() -> None:
    line = np.arange(5.0)[:, None] * np.array([1.0, 2.0, 3.0])
    with pytest.raises(InvalidInputError, match="line"):
        fit_similarity(line, line)
    with pytest.raises(InvalidInputError, match="4 landmarks"):
        fit_similarity(line[:3], line[:3])


def test_triangulation_gives_the_points_back_and_drops_a_wrong_sighting() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(0, 0.05, (12, 3))
    viewmats = orbit_cameras([0, 40, -50, 80, -20], 5.0).viewmats.double().numpy()
    seen = cast(points, viewmats)
    seen[1, 3] += 60
    spread = np.ones(seen.shape[:2])
    spread[2, :4] = np.inf
    seen[2, :4] = np.nan
    spread[1:, 11] = np.inf
    places, error = triangulate(seen, spread, viewmats, np.repeat(K[None], 5, 0))
    assert np.abs(places[:11] - points[:11]).max() < 1e-3
    assert np.isinf(error[11])
    assert error[:3].max() < 1e-3


@pytest.mark.parametrize("scale", [1.0, 1000.0, 0.2])
def test_cameras_in_the_head_frame_see_what_they_saw_in_the_world(scale: float) -> None:
    rng = np.random.default_rng(3)
    head_from_world = np.eye(4)
    head_from_world[:3, :3] = Rotation.from_euler("xyz", [20, 130, -40], degrees=True).as_matrix() / scale
    head_from_world[:3, 3] = 0.1, 0.3, -0.2
    world = np.stack([np.eye(4)] * 3)
    for i in range(3):
        world[i, :3, :3] = Rotation.from_euler("xyz", [5 * i, 20 * i, 0], degrees=True).as_matrix()
        world[i, :3, 3] = scale * np.array([0.1, 0.2, 2.0])
    points = rng.normal(0, 0.1 * scale, (9, 3))
    inside = HeadPose(head_from_world, "sidecar").viewmats(world)
    assert np.allclose(inside[:, :3, :3] @ inside[:, :3, :3].transpose(0, 2, 1), np.eye(3))
    assert np.allclose(cast(moved(head_from_world, points), inside), cast(points, world), atol=1e-6)


def test_a_mirroring_pose_is_refused() -> None:
    with pytest.raises(FormatError, match="similarity"):
        scale_of(np.diag([1.0, -1.0, 1.0, 1.0]))
    with pytest.raises(FormatError, match="similarity"):
        scale_of(np.diag([1.0, 2.0, 1.0, 1.0]))


def test_a_rig_in_front_of_the_head_tells_the_head_frame() -> None:
    head = orbit_cameras([0, 30, -30, 60, -60, 0, 0], [0, 0, 0, 0, 0, 25, -25]).viewmats.double().numpy()
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [70, -110, 30], degrees=True).as_matrix()
    turn[:3, 3] = 1.0, -2.0, 0.5
    found = rig_frame(head @ turn)
    assert np.allclose(found, turn, atol=1e-5)


def test_cameras_all_around_do_not_tell_where_the_face_is() -> None:
    around = orbit_cameras([0, 60, 120, 180, 240, 300]).viewmats.double().numpy()
    with pytest.raises(InvalidInputError, match="all around"):
        rig_frame(around)


def test_facing_is_the_angle_from_the_face() -> None:
    viewmats = orbit_cameras([0, 90, -90, 180, 0], [0, 0, 0, 0, 40]).viewmats.double().numpy()
    assert np.allclose(facing_degrees(viewmats), [0, 90, 90, 180, 40], atol=1e-3)

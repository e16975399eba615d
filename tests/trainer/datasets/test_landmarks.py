import numpy as np
import pytest
from scipy.spatial import cKDTree

from headlift.errors import InvalidInputError
from headlift.model.cameras import orbit_cameras
from headlift_trainer.datasets.landmarks import FIVE_PLACES, IBUG_PLACES, crop_scale, fit_camera, places_of
from headlift_trainer.template.build import builtin_template

PLACES = np.array(list(IBUG_PLACES.values()))


def seen(places: np.ndarray, yaw: float, pitch: float, roll: float, focal: float) -> np.ndarray:
    camera = orbit_cameras([yaw], pitch, rolls=roll)
    viewmat = camera.viewmats[0].double().numpy()
    cast = places @ viewmat[:3, :3].T + viewmat[:3, 3]
    return np.array([611.0, 480.0]) + focal * cast[:, :2] / cast[:, 2:]


def test_the_places_lie_on_the_template() -> None:
    anchors = builtin_template().anchors.double().numpy()
    every = np.concatenate([PLACES, FIVE_PLACES])
    assert cKDTree(anchors).query(every)[0].max() < 0.008


def test_the_places_are_symmetric() -> None:
    for left, right in ((45, 36), (42, 39), (54, 48)):
        assert np.allclose(np.array(IBUG_PLACES[left]) * [-1, 1, 1], IBUG_PLACES[right])


@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (40, 10, 0), (-65, -5, 20), (15, -12, -50), (5, 8, 170)])
def test_the_camera_that_saw_the_landmarks_is_found(yaw: float, pitch: float, roll: float) -> None:
    points = seen(PLACES, yaw, pitch, roll, 4000.0)
    fitted = fit_camera(points, PLACES)
    truth = orbit_cameras([yaw], pitch, rolls=roll).viewmats[0].double().numpy()
    angle = np.degrees(np.arccos(np.clip((np.trace(fitted.viewmat[:3, :3] @ truth[:3, :3].T) - 1) / 2, -1, 1)))
    assert angle < 4.0  # portraits are believed to be upright and level, a little
    cast = PLACES @ fitted.viewmat[:3, :3].T + fitted.viewmat[:3, 3]
    back = (cast @ fitted.K.T)[:, :2] / cast[:, 2:]
    assert np.abs(back - points).max() < 10
    assert crop_scale(fitted.K) == pytest.approx(4000 / 4.2647, rel=0.04)


def test_five_points_are_enough_for_a_camera() -> None:
    points, places = places_of(seen(np.array(FIVE_PLACES), 30, 5, 8, 3000.0))
    fitted = fit_camera(points, places)
    truth = orbit_cameras([30.0], 5.0, rolls=8.0).viewmats[0].double().numpy()
    assert np.degrees(np.arccos((np.trace(fitted.viewmat[:3, :3] @ truth[:3, :3].T) - 1) / 2)) < 5


def test_one_wrong_landmark_moves_little() -> None:
    points = seen(PLACES, 20, 0, 0, 4000.0)
    right = fit_camera(points, PLACES)
    points[5] += 60
    wrong = fit_camera(points, PLACES)
    assert np.abs(wrong.viewmat[:3, :3] - right.viewmat[:3, :3]).max() < 0.08


def test_too_few_landmarks_and_unknown_markups_are_refused() -> None:
    points = seen(PLACES, 0, 0, 0, 4000.0)
    points[3:] = np.nan
    with pytest.raises(InvalidInputError, match="4 landmarks"):
        fit_camera(points, PLACES)
    with pytest.raises(InvalidInputError, match="98 landmarks"):
        places_of(np.zeros((98, 2)))

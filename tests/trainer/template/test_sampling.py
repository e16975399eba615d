"""Even samples on a mesh and compact patches of equal size."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial import cKDTree

from headlift_trainer.template import implicit, sampling
from headlift_trainer.template.sampling import Samples


def ball(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points, axis=1) - 0.05


@pytest.fixture(scope="module")
def mesh() -> tuple[np.ndarray, np.ndarray]:
    return implicit.mesh(ball, (-0.06,) * 3, (0.062,) * 3, 0.004)


@pytest.fixture(scope="module")
def cloud(mesh: tuple[np.ndarray, np.ndarray]) -> Samples:
    vertices, faces = mesh
    normals = sampling.vertex_normals(vertices, faces)
    return sampling.sample_surface(vertices, faces, normals, np.ones(len(faces)), 8192)


def patch_rms(points: np.ndarray, size: int) -> np.ndarray:
    x = points.reshape(-1, size, 3)
    return np.sqrt(((x - x.mean(1, keepdims=True)) ** 2).sum(-1).mean(1))


def test_vertex_normals_of_a_sphere_point_away_from_its_centre(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, faces = mesh
    cosine = (sampling.vertex_normals(vertices, faces) * vertices / 0.05).sum(1)
    assert cosine.min() > 0.97


def test_samples_follow_the_density(mesh: tuple[np.ndarray, np.ndarray]) -> None:
    vertices, faces = mesh
    upper = vertices[faces].mean(1)[:, 1] > 0
    normals = sampling.vertex_normals(vertices, faces)
    samples = sampling.sample_surface(vertices, faces, normals, np.where(upper, 3.0, 1.0), 4000)
    assert (samples.points[:, 1] > 0).mean() == pytest.approx(0.75, abs=0.01)
    np.testing.assert_allclose(np.linalg.norm(samples.normals, axis=1), 1.0, atol=1e-9)


def test_thinning_keeps_the_count_the_surface_and_spreads_evenly(cloud: Samples) -> None:
    kept = sampling.thin(cloud, 2048)
    assert len(kept) == 2048
    assert np.abs(ball(kept.points)).max() < 4e-4
    gap = cKDTree(kept.points).query(kept.points, k=2)[0][:, 1]
    assert gap.min() > 0.35 * gap.mean()  # random points have near 0
    assert gap.std() < 0.25 * gap.mean()  # random points have 0.52


@pytest.mark.parametrize("cells", [1, 7, 512, 2048])
def test_kd_cells_are_equal_and_hold_every_point_once(cloud: Samples, cells: int) -> None:
    points = cloud.points[: len(cloud) // cells * cells]
    found = sampling.kd_cells(points, cells)
    assert found.shape == (cells, len(points) // cells)
    assert np.array_equal(np.sort(found.ravel()), np.arange(len(points)))


def test_patches_hold_every_point_once_and_are_compact(cloud: Samples) -> None:
    kept = sampling.thin(cloud, 2048)
    order = sampling.patch_order(kept, 16)
    assert np.array_equal(np.sort(order), np.arange(2048))
    square = np.sqrt(4 * np.pi * 0.05**2 / 128 / 6)  # RMS radius of a square of a patch's area
    assert patch_rms(kept.points[order], 16).mean() < 1.05 * square


def test_patches_follow_each_other_along_the_surface(cloud: Samples) -> None:
    kept = sampling.thin(cloud, 2048)
    center = kept.points[sampling.patch_order(kept, 16)].reshape(-1, 16, 3).mean(1)
    step = np.linalg.norm(np.diff(center, axis=0), axis=1)
    nearest = cKDTree(center).query(center, k=2)[0][:, 1].mean()
    assert np.median(step) < 1.8 * nearest


def test_trading_members_never_makes_patches_less_compact(cloud: Samples) -> None:
    six = sampling.side_aware(cloud)
    patches = sampling.kd_cells(cloud.points, 512)
    spread = []
    for rounds in (0, 2, 8, 24):
        x = six[sampling.trade(six, patches, rounds)]
        spread.append(((x - x.mean(1, keepdims=True)) ** 2).sum())
    assert all(late <= early + 1e-12 for early, late in pairwise(spread))
    assert np.array_equal(np.sort(sampling.trade(six, patches, 8).ravel()), np.arange(len(cloud)))


def test_a_single_patch_is_left_whole(cloud: Samples) -> None:
    few = cloud[np.arange(16)]
    assert np.array_equal(np.sort(sampling.patch_order(few, 16)), np.arange(16))

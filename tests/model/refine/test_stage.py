"""Refinement finds back what was disturbed, keeps its bounds, and does nothing that it was not asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch

from headlift.commands.bench_splat import head_cloud
from headlift.errors import (
    BackendUnavailableError,
    CancelledError,
    InvalidCameraError,
    InvalidGaussiansError,
    InvalidInputError,
)
from headlift.model.cameras import orbit_cameras
from headlift.model.refine import Neighborhood, Refine, RefineSettings
from headlift.model.splat import build_native, rasterize
from headlift.model.types import Cameras, Gaussians, Portrait

COUNT = 3000
FIELDS = ("means", "quats", "scales", "opacities", "colors")
SETTINGS = RefineSettings(steps=40, size=64, final_size=96)


@dataclass
class Case:
    """A disturbed head, the portrait of the true one, and a camera that is a little off."""

    start: Gaussians
    portrait: Portrait
    camera: Cameras
    topology: Neighborhood


@pytest.fixture(autouse=True)
def one_torch_thread() -> Iterator[None]:
    """Small operations are slower on several threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def case() -> Case:
    try:
        build_native()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    cloud = head_cloud(COUNT, seed=1)
    truth = replace(cloud, opacities=cloud.opacities.clamp(min=0.5))
    neighbors = torch.cdist(truth.means, truth.means).topk(9, largest=False).indices[:, 1:]
    mirror = torch.cdist(truth.means * torch.tensor([-1.0, 1.0, 1.0]), truth.means).argmin(1)
    wave = torch.sin(truth.means * 30.0)
    start = replace(
        truth,
        means=truth.means + 0.003 * wave[:, [1, 2, 0]],
        colors=(0.6 * truth.colors + 0.2 + 0.1 * wave).clamp(0, 1),
    )
    views = rasterize(truth, orbit_cameras([5.0], width=96, height=96))
    portrait = Portrait(views.rgb[0], views.alpha[0], torch.eye(3, dtype=torch.float64)[:2])
    return Case(start, portrait, orbit_cameras([6.5], [0.7], width=128, height=128), Neighborhood(neighbors, mirror))


def equal(a: Gaussians, b: Gaussians) -> bool:
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in FIELDS)


def run(case: Case, settings: RefineSettings = SETTINGS, **options: object) -> object:
    return Refine(settings)(case.start, case.portrait, case.camera, topology=case.topology, **options)


def view_error(gaussians: Gaussians, camera: Cameras, portrait: Portrait) -> float:
    with torch.no_grad():
        return float((rasterize(gaussians, camera.resized(96, 96)).rgb[0] - portrait.image).abs().mean())


def test_the_input_view_comes_much_closer(case: Case) -> None:
    result = run(case)
    assert result.steps == len(result.losses) == 40
    assert result.losses[-1] < 0.4 * result.losses[0]
    before, after = (
        view_error(case.start, case.camera, case.portrait),
        view_error(result.gaussians, result.camera, case.portrait),
    )
    assert after < 0.35 * before
    assert (result.camera.width, result.camera.height) == (128, 128)
    assert not torch.equal(result.camera.viewmats, case.camera.viewmats)
    result.gaussians.validate()
    result.camera.validate()
    assert not any(getattr(result.gaussians, n).requires_grad for n in FIELDS)


def test_other_views_do_not_suffer(case: Case) -> None:
    result = run(case)
    truth = head_cloud(COUNT, seed=1)
    truth = replace(truth, opacities=truth.opacities.clamp(min=0.5))
    sides = orbit_cameras([-40.0, 45.0, 100.0, 180.0], width=96, height=96)
    with torch.no_grad():
        target, before, after = (rasterize(g, sides).rgb for g in (truth, case.start, result.gaussians))
    errors = [(views - target).abs().mean(dim=(1, 2, 3)) for views in (before, after)]
    assert (errors[1][:2] < errors[0][:2]).all()
    assert (errors[1] < 1.1 * errors[0]).all()


def test_the_same_input_gives_the_same_bits(case: Case) -> None:
    first, second = run(case), run(case)
    assert equal(first.gaussians, second.gaussians)
    assert first.losses == second.losses
    assert torch.equal(first.camera.viewmats, second.camera.viewmats)


def test_the_number_of_threads_changes_no_bit_and_stays_what_it_was(case: Case) -> None:
    one = run(case, replace(SETTINGS, steps=5))
    torch.set_num_threads(3)
    three = run(case, replace(SETTINGS, steps=5))
    seen_elsewhere: list[int] = []
    other = threading.Thread(target=lambda: seen_elsewhere.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert torch.get_num_threads() == 3
    assert seen_elsewhere == [3]
    assert equal(one.gaussians, three.gaussians)


def test_what_may_not_be_recolored_is_not_and_nobody_overshoots_for_it(case: Case) -> None:
    means = case.start.means
    middle = (means[:, 0].abs() < 0.03).float()  # trusted; left and right are not
    bright = case.portrait.image.clone()
    sides = torch.ones(96, dtype=torch.bool)
    sides[40:56] = False
    bright[:, :, sides] = case.portrait.alpha[:, :, sides]  # what shows left and right is white

    def colors(distrusted_weight: float) -> torch.Tensor:
        still = dict.fromkeys(
            ("means_rate", "scales_rate", "opacities_rate", "camera_turn_rate", "camera_shift_rate"), 0.0
        )
        settings = replace(SETTINGS, distrusted_weight=distrusted_weight, **still)
        portrait = replace(case.portrait, image=bright)
        return run(replace(case, portrait=portrait), settings, trust=middle).gaussians.colors

    less, all_of_it = colors(0.1), colors(1.0)
    changes = (less - case.start.colors).abs().mean(1)
    assert changes[middle == 0].mean() < 0.3 * changes[middle == 1].mean()  # neighbours and mirror images draw a little
    near = (middle == 1) & (means[:, 0].abs() > 0.02) & (means[:, 2] > means[:, 2].mean())
    assert near.sum() > 20
    assert less[near].mean() < all_of_it[near].mean() - 0.01


def test_zero_steps_change_nothing(case: Case) -> None:
    result = run(case, RefineSettings(steps=0))
    assert result.gaussians is case.start
    assert result.camera is case.camera
    assert (result.losses, result.steps) == ((), 0)


def test_nothing_leaves_its_bounds_even_at_wild_rates(case: Case) -> None:
    wild = replace(
        SETTINGS, means_rate=0.01, scales_rate=0.5, colors_rate=1.0, camera_turn_rate=0.1, camera_shift_rate=0.1
    )
    result = run(case, wild)
    assert (result.gaussians.means - case.start.means).norm(dim=1).max() <= wild.max_offset * 1.0001
    growth = result.gaussians.scales / case.start.scales
    assert growth.max() <= wild.max_growth * 1.0001
    assert growth.min() >= 0.9999 / wild.max_growth
    spacing = (
        (case.start.means[case.topology.neighbors] - case.start.means[:, None]).norm(dim=-1).mean(-1, keepdim=True)
    )
    assert (result.gaussians.scales <= torch.maximum(case.start.scales, wild.max_scale_ratio * spacing) * 1.0001).all()
    result.gaussians.validate()
    result.camera.validate()


def test_what_the_camera_does_not_see_stays_close(case: Case) -> None:
    result = run(case)
    back = case.start.means[:, 2] < -0.08
    moved = (result.gaussians.means - case.start.means).norm(dim=1)
    assert moved[back].max() < 0.005
    assert (result.gaussians.scales / case.start.scales)[back].max() < 1.3


def test_an_error_from_progress_ends_the_refinement_and_leaves_the_input_alone(case: Case) -> None:
    before = Gaussians(*(getattr(case.start, n).clone() for n in FIELDS))
    calls = []

    def stop(step: int, steps: int, loss: float) -> None:
        calls.append((step, steps))
        if step == 3:
            raise CancelledError("The caller went away.")

    with pytest.raises(CancelledError):
        run(case, progress=stop)
    assert calls == [(i, 40) for i in range(4)]
    assert equal(before, case.start)


def test_it_works_within_inference_mode(case: Case) -> None:
    short = replace(SETTINGS, steps=3)
    with torch.inference_mode():
        inside = Case(
            Gaussians(*(getattr(case.start, n).clone() for n in FIELDS)),
            Portrait(case.portrait.image.clone(), case.portrait.alpha.clone(), case.portrait.crop_from_source),
            replace(case.camera, viewmats=case.camera.viewmats.clone()),
            case.topology,
        )
        result = run(inside, short)
    assert equal(result.gaussians, run(case, short).gaussians)


def test_what_does_not_fit_together_is_refused(case: Case) -> None:
    refine = Refine(SETTINGS)
    two = orbit_cameras([0.0, 10.0])
    with pytest.raises(InvalidCameraError, match="2 cameras"):
        refine(case.start, case.portrait, two, topology=case.topology)
    with pytest.raises(InvalidInputError, match="neighbors"):
        refine(
            case.start,
            case.portrait,
            case.camera,
            topology=replace(case.topology, neighbors=case.topology.neighbors + COUNT),
        )
    with pytest.raises(InvalidInputError, match="mirror"):
        refine(
            case.start, case.portrait, case.camera, topology=replace(case.topology, mirror=case.topology.mirror[:-1])
        )
    with pytest.raises(InvalidInputError, match="portrait"):
        refine(
            case.start, replace(case.portrait, alpha=case.portrait.alpha[:, 1:]), case.camera, topology=case.topology
        )
    empty = Gaussians(*(getattr(case.start, n)[:0] for n in FIELDS))
    with pytest.raises(InvalidGaussiansError):
        refine(empty, case.portrait, case.camera, topology=case.topology)
    with pytest.raises(InvalidGaussiansError, match="float64"):
        refine(case.start.to(dtype=torch.float64), case.portrait, case.camera, topology=case.topology)

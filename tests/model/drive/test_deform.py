"""Driving one head: zero changes nothing, C++ equals the oracle, bound heads do not mix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from headlift import weights
from headlift.errors import InvalidGaussiansError, InvalidInputError
from headlift.model.checkpoint import load_checkpoint
from headlift.model.drive import BoundRig, Performance, Rig, bind, drive, load_rig
from headlift.model.drive.deform import PIVOT
from headlift.model.gaussians import quats_from_normals
from headlift.model.splat import drawing_threads
from headlift.model.splat.reference import rotation_matrices
from headlift.model.template import Template
from headlift.model.types import Gaussians

RIG = Path(str(weights.__file__)).with_name("rig_builtin.safetensors")
NAMES = ("means", "quats", "scales", "opacities", "colors")


@pytest.fixture(scope="module")
def shipped() -> Template:
    return load_checkpoint(RIG.with_name("mini.safetensors"))[0].template


@pytest.fixture(scope="module")
def rig(shipped: Template) -> Rig:
    return load_rig(RIG, shipped)


def head_on(template: Template, seed: int = 0) -> Gaussians:
    """Discs on the template's anchors, a little displaced and coloured."""
    gen = torch.Generator().manual_seed(seed)
    n = len(template)
    return Gaussians(
        means=template.anchors * (1 + 0.03 * torch.rand((), generator=gen)),
        quats=quats_from_normals(template.normals),
        scales=template.spacing[:, None] * torch.tensor([0.6, 0.8, 0.2]),
        opacities=torch.rand(n, generator=gen),
        colors=torch.rand(n, 3, generator=gen),
    )


@pytest.fixture(scope="module")
def bound(rig: Rig, shipped: Template) -> BoundRig:
    return bind(rig, shipped, head_on(shipped))


def performances(rig: Rig) -> dict[str, Performance]:
    return {
        "jaw": Performance(rig.weights({"jawOpen": 0.7})),
        "all": Performance(torch.rand(52, generator=torch.Generator().manual_seed(3)) * 0.6),
        "turned": Performance(rig.weights({"mouthSmileLeft": 1.0}), turn=torch.tensor([0.1, 0.4, -0.1])),
        "gaze": Performance(gaze=torch.tensor([[0.3, -0.1], [0.2, 0.1]]), turn=torch.tensor([0.0, 0.3, 0.0])),
    }


def test_nothing_to_perform_gives_the_stored_head(bound: BoundRig) -> None:
    assert drive(bound, Performance()) is bound.head


def test_what_the_rig_does_not_move_keeps_its_bits(bound: BoundRig, rig: Rig) -> None:
    driven = drive(bound, Performance(rig.weights({"jawOpen": 1.0})))
    still = torch.ones(len(bound.head), dtype=torch.bool)
    still[bound.rows[bound.rows < len(bound.head)]] = False
    assert int(still.sum()) > 5000
    for name in NAMES:
        assert torch.equal(getattr(driven, name)[: len(still)][still], getattr(bound.head, name)[still])


@pytest.mark.parametrize("name", ["jaw", "all", "turned", "gaze"])
def test_native_equals_the_oracle(bound: BoundRig, rig: Rig, name: str) -> None:
    performance = performances(rig)[name]
    native, oracle = drive(bound, performance), drive(bound, performance, reference=True)
    torch.testing.assert_close(native.means, oracle.means, atol=1e-5, rtol=0)
    torch.testing.assert_close(native.scales, oracle.scales, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(rotation_matrices(native.quats), rotation_matrices(oracle.quats), atol=2e-3, rtol=0)
    native.validate()


def test_threads_change_no_bit(bound: BoundRig, rig: Rig) -> None:
    performance = performances(rig)["turned"]
    found = []
    for count in (1, 3):
        with drawing_threads(count):
            found.append(drive(bound, performance))
    for name in NAMES:
        assert torch.equal(getattr(found[0], name), getattr(found[1], name))


def test_two_heads_driven_in_turn_never_mix(rig: Rig, shipped: Template, bound: BoundRig) -> None:
    other = bind(rig, shipped, head_on(shipped, seed=5))
    smile, jaw = Performance(rig.weights({"mouthSmileLeft": 1.0})), performances(rig)["jaw"]
    alone = drive(bound, smile), drive(other, jaw)
    for _ in range(2):
        assert torch.equal(drive(other, jaw).means, alone[1].means)
        assert torch.equal(drive(bound, smile).means, alone[0].means)


def test_an_edited_head_is_driven_as_it_is(rig: Rig, shipped: Template, bound: BoundRig) -> None:
    recolored = replace(bound.head, colors=1 - bound.head.colors, scales=bound.head.scales * 1.5)
    driven = drive(bind(rig, shipped, recolored), performances(rig)["jaw"])
    n = len(recolored)
    assert torch.equal(driven.colors[:n], recolored.colors)
    assert torch.equal(driven.means[:n], drive(bound, performances(rig)["jaw"]).means[:n])


def test_a_turn_of_the_head_is_rigid_above_the_neck(bound: BoundRig, rig: Rig, shipped: Template) -> None:
    turn = torch.tensor([0.0, 0.5, 0.0])
    driven = drive(bound, Performance(turn=turn))
    quat = torch.tensor([[torch.cos(turn[1] / 2), 0.0, torch.sin(turn[1] / 2), 0.0]])
    pivot = torch.tensor(PIVOT)
    expected = (bound.head.means - pivot) @ rotation_matrices(quat)[0].T + pivot
    upper = torch.nonzero(shipped.anchors[:, 1] > -0.05)[:, 0]
    torch.testing.assert_close(driven.means[upper], expected[upper], atol=1e-6, rtol=0)
    lower = torch.nonzero(shipped.anchors[:, 1] < -0.17)[:, 0]
    torch.testing.assert_close(driven.means[lower], bound.head.means[lower], atol=1e-6, rtol=0)


def test_other_rows_are_other_motions(rig: Rig, shipped: Template, bound: BoundRig) -> None:
    mirrored = bind(rig, shipped, bound.head, rows=shipped.mirror)
    jaw = performances(rig)["jaw"]
    assert not torch.equal(drive(mirrored, jaw).means, drive(bound, jaw).means)
    with pytest.raises(InvalidInputError, match="rows"):
        bind(rig, shipped, bound.head, rows=torch.tensor([0, 1]))


def test_a_head_of_another_size_is_refused(rig: Rig, shipped: Template, bound: BoundRig) -> None:
    fewer = Gaussians(*(getattr(bound.head, name)[:100] for name in NAMES))
    with pytest.raises(InvalidGaussiansError, match="100"):
        bind(rig, shipped, fewer)


def test_performances_out_of_range_are_refused(bound: BoundRig) -> None:
    with pytest.raises(InvalidInputError, match="gaze"):
        drive(bound, Performance(gaze=torch.full((2, 2), 2.0)))
    with pytest.raises(InvalidInputError, match="weights"):
        drive(bound, Performance(torch.zeros(51)))

"""The delta codec: bounds that hold, no drift, hostile bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headlift import formats
from headlift.errors import FormatError
from headlift.formats.delta import QUAT_STEP, UNIT_STEP, DeltaDecoder, DeltaEncoder, DeltaOptions
from headlift.model.types import Gaussians

Bust = Callable[[int], Gaussians]


def moved(head: Gaussians, amount: float, seed: int) -> Gaussians:
    """The same Gaussians, each changed by something about ``amount``."""
    noise = torch.Generator().manual_seed(seed)

    def grain(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=noise) * amount

    return Gaussians(
        means=head.means + 0.01 * grain(head.means) + torch.tensor([0.001, -0.0005, 0.0]) * amount,
        quats=torch.nn.functional.normalize(head.quats + grain(head.quats), dim=-1),
        scales=head.scales * torch.exp(grain(head.scales)),
        opacities=(head.opacities + grain(head.opacities)).clamp(0, 1),
        colors=(head.colors + grain(head.colors)).clamp(0, 1),
    )


def check_bounds(back: Gaussians, head: Gaussians, options: DeltaOptions) -> None:
    """``back`` is as near to ``head`` as the options promise, up to float32's rounding."""
    position_bound = (0.5 + options.position_dead) * options.position_step_m
    bound = 0.5 + options.dead  # steps
    assert (back.means - head.means).abs().max() <= position_bound + 1e-6 * float(head.means.abs().max())
    logs = [g.scales.clamp_min(1e-9).log() for g in (back, head)]
    assert (logs[0] - logs[1]).abs().max() <= bound * options.log_step + 1e-4
    for name in ("opacities", "colors"):
        assert (getattr(back, name) - getattr(head, name)).abs().max() <= bound * UNIT_STEP + 1e-6
    # Normalising can double what the components were off by, no more.
    apart = torch.minimum((back.quats - head.quats).norm(dim=-1), (back.quats + head.quats).norm(dim=-1))
    assert apart.max() <= 2 * 2 * bound * QUAT_STEP + 1e-6


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    amounts=st.lists(st.floats(0, 0.5), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    step=st.sampled_from([1e-6, 30e-6, 1e-3]),
    log_step=st.sampled_from([1e-3, 0.02, 0.2]),
    position_dead=st.integers(0, 4),
    dead=st.integers(0, 4),
)
def test_every_head_comes_back_within_its_bounds_whatever_came_before(
    bust: Bust, amounts: list[float], seed: int, step: float, log_step: float, position_dead: int, dead: int
) -> None:
    options = DeltaOptions(step, log_step, position_dead, dead)
    encoder, decoder, head = DeltaEncoder(options), DeltaDecoder(), bust(64)
    decoder.keyframe(encoder.keyframe(head))
    for i, amount in enumerate(amounts):
        head = moved(head, amount, seed + i)
        data = encoder.delta(head)
        assert data is not None
        check_bounds(decoder.delta(data), head, options)


def test_extremes_come_back_within_their_bounds(extremes: Gaussians) -> None:
    encoder, decoder = DeltaEncoder(), DeltaDecoder()
    decoder.keyframe(encoder.keyframe(replace(extremes, means=extremes.means + 0.1)))
    data = encoder.delta(extremes)
    assert data is not None
    check_bounds(decoder.delta(data), extremes, encoder.options)


def test_errors_do_not_add_up_over_three_hundred_small_moves(bust: Bust) -> None:
    options, head = DeltaOptions(), bust(256)
    encoder, decoder = DeltaEncoder(options), DeltaDecoder()
    decoder.keyframe(encoder.keyframe(head))
    for i in range(300):
        head = moved(head, 0.002, i)
        data = encoder.delta(head)
        assert data is not None
        back = decoder.delta(data)
    check_bounds(back, head, options)


def test_a_keyframe_is_a_wire_message_and_may_be_given_packed(bust: Bust) -> None:
    head = bust(64)
    packed = formats.write(head, "wire")
    assert DeltaEncoder().keyframe(head) == packed
    assert DeltaEncoder().keyframe(packed) is packed
    assert torch.equal(DeltaDecoder().keyframe(packed).means, formats.read(packed).means)


def test_a_head_that_stays_costs_next_to_nothing_and_a_moving_one_less_than_a_whole_one(bust: Bust) -> None:
    head = bust(4096)
    encoder = DeltaEncoder()
    whole = encoder.keyframe(head)
    still, moving = encoder.delta(head), encoder.delta(moved(head, 0.003, 1))
    assert still is not None
    assert moving is not None
    assert len(still) < len(whole) / 20
    assert len(moving) < len(whole) / 2


def test_what_only_flickers_is_left_out(bust: Bust) -> None:
    head = bust(128)
    encoder = DeltaEncoder(DeltaOptions(position_dead=1))
    encoder.keyframe(head)
    settled = encoder.delta(head)
    flickering = replace(head, colors=(head.colors + 0.3 * UNIT_STEP * torch.randn(128, 3).clamp(-1, 1)).clamp(0, 1))
    assert settled is not None
    assert encoder.delta(flickering) == encoder.delta(head)


def test_only_a_keyframe_will_do_at_first_for_other_counts_and_for_heads_far_away(bust: Bust) -> None:
    encoder = DeltaEncoder()
    assert encoder.delta(bust(64)) is None
    encoder.keyframe(bust(64))
    assert encoder.delta(bust(65)) is None
    assert encoder.delta(replace(bust(64), means=bust(64).means + 1e6)) is None
    assert encoder.delta(bust(64)) is not None


def test_a_damaged_delta_is_refused_and_the_sequence_goes_on(bust: Bust) -> None:
    encoder, decoder = DeltaEncoder(), DeltaDecoder()
    decoder.keyframe(encoder.keyframe(bust(64)))
    data = encoder.delta(moved(bust(64), 0.01, 0))
    assert data is not None
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 0x41
        with pytest.raises(FormatError):
            decoder.delta(bytes(broken))
    check_bounds(decoder.delta(data), moved(bust(64), 0.01, 0), encoder.options)


def test_random_bytes_raise_format_errors_and_nothing_else(bust: Bust) -> None:
    rng = random.Random(3)
    encoder, decoder = DeltaEncoder(), DeltaDecoder()
    decoder.keyframe(encoder.keyframe(bust(32)))
    data = encoder.delta(moved(bust(32), 0.3, 0))
    assert data is not None
    for _ in range(500):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        candidate = bytes(broken[: rng.randint(0, len(broken))]) if rng.random() < 0.3 else bytes(broken)
        try:
            decoder.delta(candidate)
        except FormatError:
            continue


def test_moves_out_of_range_are_refused(bust: Bust) -> None:
    bright = replace(bust(8), colors=torch.ones(8, 3), opacities=torch.ones(8))
    dark = replace(bright, colors=torch.zeros(8, 3), opacities=torch.zeros(8))
    encoder = DeltaEncoder()
    encoder.keyframe(dark)
    up = encoder.delta(bright)
    decoder = DeltaDecoder()
    decoder.keyframe(formats.write(bright, "wire"))
    assert up is not None
    with pytest.raises(FormatError, match="out of every range"):
        decoder.delta(up)


def test_a_delta_without_its_keyframe_or_after_another_one_is_refused(bust: Bust) -> None:
    encoder = DeltaEncoder()
    encoder.keyframe(bust(64))
    data = encoder.delta(bust(64))
    assert data is not None
    decoder = DeltaDecoder()
    with pytest.raises(FormatError, match="keyframe"):
        decoder.delta(data)
    decoder.keyframe(formats.write(bust(63), "wire"))
    with pytest.raises(FormatError, match="keyframe"):
        decoder.delta(data)


@pytest.mark.parametrize(
    "options",
    [
        {"position_step_m": 0.0},
        {"position_step_m": float("nan")},
        {"log_step": 1.0},
        {"dead": 17},
        {"position_dead": -1},
        {"level": 0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(FormatError):
        DeltaOptions(**options)  # type: ignore[arg-type]


def test_levels_of_a_full_head_take_every_width(bust: Bust) -> None:
    """Positions that leap by more than 16 bits of steps, and planes that do not move at all."""
    head = bust(32)
    far = replace(head, means=head.means * torch.tensor([100.0, 1.0, 1.0]))
    encoder, decoder = DeltaEncoder(), DeltaDecoder()
    decoder.keyframe(encoder.keyframe(head))
    data = encoder.delta(far)
    assert data is not None
    assert set(data[32:46]) >= {0, 4}
    np.testing.assert_allclose(decoder.delta(data).means, far.means, atol=1e-4)

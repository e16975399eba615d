"""What ran is counted, by name, whoever ran it."""

from __future__ import annotations

import threading

import torch

from headlift.model.mini.model import MiniHead
from headlift.model.passes import count_pass, counted_passes
from headlift.model.perchead.model import PercHead


def test_only_what_ran_within_the_block_counts() -> None:
    count_pass("before")
    with counted_passes() as passes:
        count_pass("a")
        count_pass("b")
        count_pass("a")
        assert passes == {}
    count_pass("a")
    assert passes == {"a": 2, "b": 1}


def test_other_threads_count_and_blocks_may_lie_within_each_other() -> None:
    with counted_passes() as outer:
        count_pass("a")
        with counted_passes() as inner:
            threads = [threading.Thread(target=count_pass, args=("b",)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert inner == {"b": 4}
    assert outer == {"a": 1, "b": 4}


def test_a_block_that_fails_is_counted_all_the_same() -> None:
    try:
        with counted_passes() as passes:
            count_pass("a")
            raise ValueError
    except ValueError:
        assert passes == {"a": 1}


@torch.no_grad()
def test_a_batch_is_one_run_of_each_network_and_fit(
    mini: MiniHead, paper: PercHead, portraits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    mini.encoder.headnet.landmark_rows.copy_(torch.arange(12) * 7)
    with counted_passes() as passes:
        mini(*portraits)
    fits = dict.fromkeys(("landmark_fit", "outline_fit", "deformation_fit"), 1)
    steps = 2 * 2 * mini.config.outline_steps  # of two fits for each of two portraits
    assert passes == {"decoder": 1, "headnet": 1, "trained_branch": 1, "rasterize": steps} | fits
    with counted_passes() as passes:
        paper(*portraits)
    assert passes == {"decoder": 1, "trained_branch": 1}

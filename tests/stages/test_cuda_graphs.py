"""CUDA graphs change when kernels are launched, and nothing else."""

import threading

import pytest
import torch

from headlift.stages.cuda_graphs import SIZES_MAX, Graphed

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def blurred(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.avg_pool2d(x, 3, 1, 1).sqrt()


def test_on_a_cpu_the_function_itself_answers() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(Graphed(blurred)(x), blurred(x))


@pytest.mark.gpu
@gpu
def test_replays_equal_the_function_for_every_size_and_from_every_thread() -> None:
    graphed, wrong = Graphed(blurred), []

    def ask(seed: int) -> None:
        generator = torch.Generator("cuda").manual_seed(seed)
        for side in range(8, 8 + 2 * SIZES_MAX):
            x = torch.rand(1, 3, side, side, generator=generator, device="cuda")
            if not torch.allclose(graphed(x), blurred(x), atol=1e-6):
                wrong.append((seed, side))

    callers = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.gpu
@gpu
def test_an_answer_is_not_overwritten_by_the_next() -> None:
    graphed = Graphed(blurred)
    first = graphed(torch.full((1, 1, 8, 8), 0.25, device="cuda"))
    graphed(torch.full((1, 1, 8, 8), 1.0, device="cuda"))
    assert float(first[0, 0, 4, 4]) == pytest.approx(0.5)

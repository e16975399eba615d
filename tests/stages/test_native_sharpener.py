"""The native sharpening network computes what torch's does."""

import threading

import pytest
import torch
from torch import Tensor, nn

from headlift.model.perchead.config import SharpenerConfig
from headlift.model.perchead.sharpener import Sharpener
from headlift.model.splat.native import drawing_threads, instruction_sets
from headlift.stages.native_sharpener import NativeSharpener

ROUNDING = 2e-5  # largest difference of a pixel

CONFIGS = {
    "mini": SharpenerConfig(32, 4, 2, 1.5),
    "tiny": SharpenerConfig(8, 2, 2, 1.0),
    "paper": SharpenerConfig(64, 8, 1, 2.0),
    "uneven": SharpenerConfig(40, 2, 3, 0.7),
}


def network(name: str) -> Sharpener:
    """A sharpener that changes pictures visibly."""
    torch.manual_seed(3)
    made = Sharpener(CONFIGS[name]).eval().requires_grad_(False)
    for layer in made.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            layer.bias.uniform_(-0.1, 0.1)
    made.last.weight.normal_(0.0, 0.02)
    return made


@pytest.fixture(params=CONFIGS)
def sharpener(request: pytest.FixtureRequest) -> Sharpener:
    return network(request.param)


@pytest.fixture
def noise() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def expected(sharpener: Sharpener, pictures: Tensor) -> Tensor:
    with torch.inference_mode():
        return sharpener(pictures).clamp(0.0, 1.0)


@pytest.mark.parametrize("size", [(64, 64), (97, 131), (16, 200), (17, 16)])
def test_every_size_comes_out_as_torch_computes_it(
    sharpener: Sharpener, noise: torch.Generator, size: tuple[int, int]
) -> None:
    pictures = torch.rand(2, 3, *size, generator=noise)
    wanted = expected(sharpener, pictures)
    assert (wanted - pictures).abs().max() > 0.02
    assert (NativeSharpener(sharpener)(pictures) - wanted).abs().max() < ROUNDING


@pytest.mark.parametrize("place", [(150, 170), (0, 0), (230, 236), (100, 0)])
def test_black_that_is_not_computed_looks_as_if_it_were(
    sharpener: Sharpener, noise: torch.Generator, place: tuple[int, int]
) -> None:
    pictures = torch.zeros(2, 3, 250, 240)
    pictures[0, :, place[0] : place[0] + 20, place[1] : place[1] + 4] = torch.rand(3, 1, 1, generator=noise)
    assert (NativeSharpener(sharpener)(pictures) - expected(sharpener, pictures)).abs().max() < ROUNDING


@pytest.mark.parametrize("side", range(24, 136, 7))
def test_black_that_only_the_first_layers_leave_alone_is_computed(
    sharpener: Sharpener, noise: torch.Generator, side: int
) -> None:
    pictures = torch.rand(1, 3, side, side + 1, generator=noise)
    pictures[:, :, : side // 3] = 0.0
    assert (NativeSharpener(sharpener)(pictures) - expected(sharpener, pictures)).abs().max() < ROUNDING


def test_every_instruction_set_computes_it(noise: torch.Generator) -> None:
    sharpener, pictures = network("mini"), torch.rand(1, 3, 60, 52, generator=noise)
    native, wanted = NativeSharpener(sharpener), expected(sharpener, pictures)
    for isa in range(len(instruction_sets())):
        assert (native(pictures, isa) - wanted).abs().max() < ROUNDING


def test_the_number_of_threads_changes_no_bit(noise: torch.Generator) -> None:
    native, pictures = NativeSharpener(network("mini")), torch.zeros(1, 3, 200, 180)
    pictures[..., 40:120, 60:100] = torch.rand(3, 80, 40, generator=noise)
    found = []
    for count in (1, 2, 5):
        with drawing_threads(count):
            found.append(native(pictures))
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_several_threads_may_sharpen_at_once_and_sizes_may_change(noise: torch.Generator) -> None:
    native = NativeSharpener(network("mini"))
    pictures = [torch.rand(1, 3, side, 40 + side, generator=noise) for side in (120, 30, 64, 90)]
    wanted, wrong = [native(p) for p in pictures], []

    def ask(first: int) -> None:
        for turn in range(8):
            i = (first + turn) % len(pictures)
            if not torch.equal(native(pictures[i]), wanted[i]):
                wrong.append(i)

    callers = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong

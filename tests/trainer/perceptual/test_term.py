"""What holds for every term: gradients reach the picture alone, and neither chunks nor memory change a number."""

from __future__ import annotations

import pytest
import torch
import torchvision.transforms.functional as TF
from torch import Tensor, nn

from headlift.errors import InvalidInputError
from headlift_trainer.perceptual import Framing, Memory, PictureTerm, l1_loss

MEMORIES: tuple[Memory, ...] = ("keep", "recompute", "early")


def gradient(term: PictureTerm, pictures: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Distances, and the gradient of a weighted sum of them."""
    leaf = pictures.clone().requires_grad_()
    distances = term.distances(leaf, targets)
    (distances * torch.arange(1.0, 1 + len(leaf))).sum().backward()
    assert leaf.grad is not None
    return distances.detach(), leaf.grad


def with_memory(term: PictureTerm, chunk: int | None, memory: Memory) -> PictureTerm:
    term.chunk, term.memory = chunk, memory
    return term


def test_equal_pictures_are_at_distance_zero(term: PictureTerm, pictures: Tensor) -> None:
    assert float(term.distances(pictures, pictures).abs().max()) < 2e-6


def test_gradients_reach_every_picture_and_nothing_else(term: PictureTerm, pictures: Tensor) -> None:
    targets = pictures.flip(0).contiguous().requires_grad_()
    leaf = pictures.clone().requires_grad_()
    loss = term(leaf, targets)
    loss.backward()
    assert loss.dim() == 0
    assert leaf.grad is not None
    assert bool(leaf.grad.isfinite().all())
    assert float((leaf.grad[0] != 0).float().mean()) > 0.5
    assert targets.grad is None
    assert all(p.grad is None and not p.requires_grad for p in term.parameters())


def test_the_more_blurred_the_farther(term: PictureTerm, pictures: Tensor) -> None:
    distances = [float(term(TF.gaussian_blur(pictures, [15, 15], [s, s]), pictures)) for s in (0.4, 0.8, 1.6)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_a_step_down_the_gradient_comes_nearer(term: PictureTerm, pictures: Tensor) -> None:
    blurred = TF.gaussian_blur(pictures, [9, 9], [1.5, 1.5])
    before, slope = gradient(term, blurred, pictures)
    after = term.distances(blurred - 0.05 * slope / slope.flatten(1).norm(dim=1).view(-1, 1, 1, 1), pictures)
    assert bool((after < before).all())


def test_neither_chunks_nor_memory_change_a_number(term: PictureTerm, pictures: Tensor) -> None:
    targets = pictures.flip(0)
    distances, slope = gradient(term, pictures, targets)
    for chunk in (1, 2, None):
        for memory in MEMORIES:
            other, other_slope = gradient(with_memory(term, chunk, memory), pictures, targets)
            torch.testing.assert_close(other, distances, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(other_slope, slope, rtol=1e-3, atol=1e-6)


def test_encoded_targets_stand_for_targets(term: PictureTerm, pictures: Tensor) -> None:
    encoded = term.encode(pictures.flip(0).requires_grad_())
    assert not any(layer.requires_grad for layer in encoded)
    assert torch.equal(term.distances(pictures, encoded), term.distances(pictures, pictures.flip(0)))


def test_pictures_of_any_precision_are_compared_in_full(term: PictureTerm, pictures: Tensor) -> None:
    leaf = pictures.to(torch.bfloat16).requires_grad_()
    distances = term.distances(leaf, pictures.flip(0))
    assert distances.dtype is torch.float32
    distances.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.dtype is torch.bfloat16


def test_under_autocast_the_numbers_stay_near(term: PictureTerm, pictures: Tensor) -> None:
    distances, slope = gradient(term, pictures, pictures.flip(0))
    for memory in MEMORIES:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            near, near_slope = gradient(with_memory(term, 2, memory), pictures, pictures.flip(0))
        assert near.dtype is torch.float32
        torch.testing.assert_close(near, distances, rtol=0.1, atol=0.01)
        assert float(torch.cosine_similarity(near_slope.flatten(), slope.flatten(), dim=0)) > 0.9


def test_without_gradients_wanted_none_are_computed(term: PictureTerm, pictures: Tensor) -> None:
    with_memory(term, 1, "early")
    assert not term(pictures, pictures.flip(0)).requires_grad
    with torch.no_grad():
        assert not term(pictures.clone().requires_grad_(), pictures.flip(0)).requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_a_gpu_gives_the_same_numbers(term: PictureTerm, pictures: Tensor) -> None:
    distances, _ = gradient(term, pictures, pictures.flip(0))
    other = term.cuda().distances(pictures.cuda(), pictures.flip(0).cuda())
    torch.testing.assert_close(other.cpu(), distances, rtol=2e-3, atol=1e-4)


def test_a_network_that_would_be_trained_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"Linear has trainable.*requires_grad_\(False\)"):
        Trivial(nn.Linear(2, 2))


def test_settings_that_there_are_not_are_refused(pictures: Tensor) -> None:
    with pytest.raises(InvalidInputError, match="at least 1 picture"):
        Trivial(chunk=0)
    with pytest.raises(InvalidInputError, match="early"):
        Trivial(memory="none")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="one each is needed"):
        l1_loss()(pictures, pictures[:1])
    with pytest.raises(InvalidInputError, match="must fit"):
        Framing(504, 500)


@pytest.mark.parametrize("size", [(512, 512), (300, 411), (700, 512), (64, 64)])
def test_pictures_are_framed_as_torchvision_resizes_and_cuts(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size)
    resized = TF.resize(picture, [512], TF.InterpolationMode.BICUBIC, antialias=True)
    framed = Framing(504, 512, "bicubic")(picture)
    torch.testing.assert_close(framed, TF.center_crop(resized, [504, 504]))


class Trivial(PictureTerm):
    """Compares pixels."""

    def features(self, pictures: Tensor) -> list[Tensor]:
        return [pictures]

    def compare(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:  # type: ignore[override]
        return (ours[0] - theirs[0]).abs().flatten(1).mean(1)

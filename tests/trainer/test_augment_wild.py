"""Pictures as from the wild stay premultiplied pictures, and the same generator gives the same ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from headlift_trainer import augment_wild

COUNT, SIZE = 24, 48


@pytest.fixture(scope="module")
def rgba() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    line = torch.linspace(-1, 1, SIZE)
    alpha = ((line[:, None] ** 2 + line[None] ** 2) < 0.5).float().expand(COUNT, 1, SIZE, SIZE)
    return torch.cat([torch.rand(COUNT, 3, SIZE, SIZE, generator=generator) * alpha, alpha], 1)


@pytest.mark.parametrize("name", ["light", "hide", "blur", "compress", "simulate_capture"])
def test_colours_stay_premultiplied_and_in_range(name: str, rgba: Tensor) -> None:
    change: Callable[[Tensor, torch.Generator], Tensor] = getattr(augment_wild, name)
    out = change(rgba, torch.Generator().manual_seed(1))
    assert out.shape == rgba.shape
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1 + 1e-5
    assert (out[:, :3] <= out[:, 3:] + 1e-4).all()
    assert not torch.equal(out, rgba)
    assert torch.equal(out, change(rgba, torch.Generator().manual_seed(1)))
    assert not torch.equal(out, change(rgba, torch.Generator().manual_seed(2)))


def test_light_and_jpeg_leave_the_matte_alone(rgba: Tensor) -> None:
    for change in (augment_wild.light, augment_wild.compress):
        assert torch.equal(change(rgba, torch.Generator().manual_seed(3))[:, 3], rgba[:, 3])


def test_what_hides_a_head_is_opaque_and_hides_some_heads_only(rgba: Tensor) -> None:
    out = augment_wild.hide(rgba, torch.Generator().manual_seed(4))
    hidden = [not torch.equal(a, b) for a, b in zip(out, rgba, strict=True)]
    assert 0 < sum(hidden) < COUNT
    assert (out[:, 3] >= rgba[:, 3]).all()


def test_motion_keeps_the_brightness_of_the_middle(rgba: Tensor) -> None:
    flat = rgba.clone()
    flat[:, :3] = 0.5 * flat[:, 3:]
    out = augment_wild.blur(flat, torch.Generator().manual_seed(5))
    middle = out[:, :3, SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4]
    assert torch.allclose(middle, torch.full_like(middle, 0.5), atol=1e-5)

"""One tone of a portrait, and colours that follow it."""

import pytest
import torch

from headlift.model.mini.finish import match_monochrome
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.template import Template
from headlift.stages.reconstruct import Reconstruct

LUMA = torch.tensor([0.299, 0.587, 0.114])


def portrait(colors: torch.Tensor) -> torch.Tensor:
    """[1, 4, 128, 128]: colours [128, 128, 3] in a disc, multiplied by alpha."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    alpha = (x**2 + y**2 < 0.8).float()[None]
    return torch.cat([colors.permute(2, 0, 1) * alpha, alpha])[None]


def brightness() -> torch.Tensor:
    return torch.linspace(0.1, 0.9, 128)[None, :, None].expand(128, 128, 1)


def sepia(grey: torch.Tensor) -> torch.Tensor:
    """Some 0.06 redder and 0.14 less blue at middle brightness."""
    return torch.cat([grey + 0.25 * grey * (1 - grey), grey, grey - 0.6 * grey * (1 - grey)], -1)


COLORS = torch.rand(500, 3, generator=torch.Generator().manual_seed(1))


def spread(colors: torch.Tensor) -> torch.Tensor:
    """How far colours are from grey, on average."""
    return (colors.max(-1).values - colors.min(-1).values).mean()


def test_the_head_of_a_grey_portrait_is_grey_and_as_bright_as_before() -> None:
    noisy = brightness() + 0.004 * torch.randn(128, 128, 3, generator=torch.Generator().manual_seed(0))
    grey = match_monochrome(COLORS, portrait(noisy))
    assert (grey.max(-1).values - grey.min(-1).values).max() < 0.005
    torch.testing.assert_close(grey @ LUMA, COLORS @ LUMA, atol=0.005, rtol=0)


def test_the_head_of_a_sepia_portrait_is_sepia() -> None:
    changed = match_monochrome(COLORS, portrait(sepia(brightness())))
    grey = (COLORS @ LUMA)[:, None]
    inside = ((grey > 0.2) & (grey < 0.8))[:, 0]
    torch.testing.assert_close((changed @ LUMA)[inside], (COLORS @ LUMA)[inside], atol=0.01, rtol=0)
    red, green, blue = changed[inside].unbind(-1)
    assert (red - green).min() > 0.02
    assert (green - blue).min() > 0.05
    # Equally bright is equally match_monochrome.
    order = grey[inside, 0].argsort()
    assert (red - blue)[order].diff().abs().max() < 0.02


@pytest.mark.parametrize("colored", [0.06, 0.1, 0.3])
def test_a_portrait_with_colours_of_its_own_changes_nothing(colored: float) -> None:
    spots = brightness().repeat(1, 1, 3)
    spots[40:70, :, 0] += colored  # lips, say
    assert match_monochrome(COLORS, portrait(spots)) is COLORS


def test_between_the_two_colours_fade() -> None:
    spots = brightness().repeat(1, 1, 3)
    spots[40:70, :, 0] += 0.03
    faded = match_monochrome(COLORS, portrait(spots))
    assert 0.1 * spread(COLORS) < spread(faded) < 0.9 * spread(COLORS)


def test_nobody_in_the_picture_says_nothing() -> None:
    assert match_monochrome(COLORS, torch.zeros(1, 4, 64, 64)) is COLORS


def test_decoding_gives_a_grey_portrait_a_grey_head(template: Template) -> None:
    torch.manual_seed(0)
    model = PercHead(named_config("tiny"), template).eval()
    assert model.decoder.head_code is not None
    model.decoder.head_code.mean_colors.uniform_()
    pixels = portrait(brightness().repeat(1, 1, 3))
    with torch.no_grad():
        tokens = model.encode(pixels[:, :3], pixels[:, 3:])
        assert spread(model.decode(tokens)[0].colors) > 0.01
    assert spread(Reconstruct(model).decode(tokens).colors) < 0.001

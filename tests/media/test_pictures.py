import io

import numpy as np
import pytest
import torch
from PIL import Image

from headlift.errors import InvalidInputError
from headlift.media.pictures import RenderOptions, pack


def view(alpha_value=0.5):
    alpha = torch.zeros(1, 20, 30)
    alpha[:, 5:15, 5:25] = alpha_value
    colour = torch.tensor([0.8, 0.4, 0.2])[:, None, None]
    return colour * alpha, alpha


def test_alpha_comes_with_straight_colour():
    rgb, alpha = view()
    data = pack(rgb, alpha, RenderOptions(30, 20, "png", alpha=True))
    got = np.asarray(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(got[10, 10], [204, 102, 51, 128])
    assert got[0, 0, 3] == 0
    # Pasted over black it is the picture without alpha.
    over_black = got[..., :3] / 255.0 * (got[..., 3:] / 255.0)
    np.testing.assert_allclose(over_black, rgb.permute(1, 2, 0).numpy(), atol=3e-3)


def test_raw_numbers_are_exact_and_out_of_range_values_are_clamped():
    rgb = torch.rand(3, 20, 30) * 2 - 0.5
    raw = np.frombuffer(pack(rgb, torch.ones(1, 20, 30), RenderOptions(30, 20, "raw_float32")), "<f4").reshape(
        20, 30, 3
    )
    np.testing.assert_array_equal(raw, rgb.clamp(0, 1).permute(1, 2, 0).numpy())
    bytes_ = np.frombuffer(pack(rgb, torch.ones(1, 20, 30), RenderOptions(30, 20, "raw_uint8")), np.uint8).reshape(
        20, 30, 3
    )
    np.testing.assert_array_equal(bytes_, np.floor(raw * 255 + 0.5).astype(np.uint8))


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_pictures_open_elsewhere_and_look_right(kind, name):
    rgb, alpha = view(1.0)
    opened = Image.open(io.BytesIO(pack(rgb, alpha, RenderOptions(30, 20, kind, quality=95))))
    assert (opened.format, opened.size, opened.mode) == (name, (30, 20), "RGB")
    assert np.abs(np.asarray(opened) / 255.0 - rgb.permute(1, 2, 0).numpy()).mean() < 0.02


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"width": 15}, "picture.width_px"),
        ({"height": 2049}, "picture.height_px"),
        ({"quality": 0}, "picture.quality"),
        ({"format": "jpeg", "alpha": True}, "picture.alpha"),
    ],
)
def test_an_impossible_look_is_refused(options, field):
    with pytest.raises(InvalidInputError) as caught:
        RenderOptions(**options)
    assert caught.value.field == field

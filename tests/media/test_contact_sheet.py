import numpy as np
from PIL import Image

from headlift.media.contact_sheet import contact_sheet


def test_every_tile_is_there_fitted_and_labelled():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    tiles = [(f"view {i}", Image.new("RGB", (100 * (i + 1), 100), c)) for i, c in enumerate(colours)]
    sheet = np.asarray(contact_sheet(tiles, tile_px=120, columns=2)).reshape(-1, 3)
    for i, colour in enumerate(colours):
        area = (sheet == colour).all(-1).sum()
        assert area == 120 * (120 // (i + 1))
    blank = np.asarray(contact_sheet([("", t) for _, t in tiles], tile_px=120, columns=2)).reshape(-1, 3)
    assert (sheet != blank).any()

"""Picture grids."""

import torch

from headlift_trainer.tensorboard import grid


def test_a_grid_shows_every_picture_in_its_cell():
    pictures = [torch.full((3, 4, 6), 0.25 * i) for i in range(5)] + [torch.full((3, 2, 3), 2.0)]
    shown = grid(pictures, columns=3)
    assert shown.shape == (3, 2 * 4 + 2, 3 * 6 + 2 * 2)
    for index in range(5):
        row, column = divmod(index, 3)
        cell = shown[:, row * 6 : row * 6 + 4, column * 8 : column * 8 + 6]
        assert torch.equal(cell, pictures[index])
    assert float(shown.max()) == 1  # clamped
    assert float(shown[:, 8:, 19:].max()) == 0  # the small one is padded with black

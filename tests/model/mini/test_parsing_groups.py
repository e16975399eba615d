"""What may show what."""

import torch

from headlift.model.mini.parsing_groups import ParsingGroup, group_probabilities, region_compatibility


def test_groups_keep_the_probability_and_every_region_may_show_something() -> None:
    probabilities = torch.rand(2, 19, 4, 4).softmax(1)
    torch.testing.assert_close(group_probabilities(probabilities).sum(1), torch.ones(2, 4, 4))
    table = region_compatibility(torch.arange(8, dtype=torch.uint8))
    assert table.shape == (8, len(ParsingGroup))
    assert (table.amax(1) == 1).all()
    assert (table[:, ParsingGroup.BACKGROUND] == 0).all()

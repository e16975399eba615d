"""What tests of the trainer share."""

import pytest
import torch

_BLOCKS = {0: 1, 1: 2, 2: 2, 3: 3, 4: 3, 5: 4, 6: 1}  # blocks of each stage, from the paper's table


def _published(network):
    """A network's weights by the names under which Lite0 is published: blocks are counted through."""
    names = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    first = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    others = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1",
              "conv_pwl": "_project_conv", "bn3": "_bn2"}  # fmt: skip
    out = {}
    for name, value in network.state_dict().items():
        if name.startswith("blocks."):
            _, stage, block, part, leaf = name.split(".")
            number = sum(_BLOCKS[i] for i in range(int(stage))) + int(block)
            out[f"_blocks.{number}.{(others if int(stage) else first)[part]}.{leaf}"] = value
        else:
            part, leaf = name.split(".")
            out[f"{names[part]}.{leaf}"] = value
    return out


@pytest.fixture(scope="session")
def published_lite0():
    """EfficientNet-Lite0 with random weights, by its published names."""
    import timm

    torch.manual_seed(0)
    return _published(timm.create_model("tf_efficientnet_lite0", pretrained=False))

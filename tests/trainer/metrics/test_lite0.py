"""The Lite0 distance: published names find their places, equal pictures are equal, far ones are far."""

import timm
import torch

from headlift_trainer.metrics.lite0 import Lite0Distance


def test_every_published_weight_has_its_place(published_lite0):
    distance = Lite0Distance(dict(sorted(published_lite0.items())))  # safetensors keeps no order
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    own = distance.network.state_dict()
    assert all(torch.equal(own[name], value) for name, value in network.state_dict().items())


def test_it_tells_pictures_apart_and_gradients_reach_them(published_lite0):
    torch.manual_seed(0)
    distance = Lite0Distance(published_lite0)
    truth = torch.rand(2, 3, 64, 64)
    pictures = truth.clone()
    pictures[1] = truth[1].flip(-1)
    pictures.requires_grad_()
    found = distance(pictures, truth)
    assert float(found[0]) == 0.0
    assert float(found[1]) > 0.01
    found.sum().backward()
    assert float(pictures.grad[1].abs().max()) > 0
    assert len(distance.features(truth)) == 5

from pathlib import Path

import pytest
import torch

from headlift.errors import CorruptWeightsError, IncompatibleWeightsError, MissingWeightsError
from headlift.model.checkpoint import weights_hash
from headlift.weights.loading import load_model, model_hash, reads_backbone


@pytest.fixture(scope="module")
def other_backbone(light_s_files, tmp_path_factory):
    """Other weights of the same network."""
    published = torch.load(light_s_files[1], weights_only=True)
    path = tmp_path_factory.mktemp("other") / "other.pth"
    torch.save({name: 1.5 * value for name, value in published.items()}, path)
    return path


def test_the_backbones_features_reach_the_tokens(light_s_files, other_backbone):
    checkpoint, backbone = light_s_files
    image, alpha = torch.rand(1, 3, 112, 112), torch.ones(1, 1, 112, 112)
    with torch.no_grad():
        one, two = (load_model(checkpoint, file).model.encode(image, alpha) for file in (backbone, other_backbone))
    assert one.tokens.isfinite().all()
    assert not torch.allclose(one.tokens, two.tokens)


def test_results_are_kept_under_the_hashes_of_both_files(light_s_files, other_backbone, tiny_checkpoint, tmp_path):
    checkpoint, backbone = light_s_files
    copy = tmp_path / "renamed.pth"
    copy.write_bytes(backbone.read_bytes())
    assert model_hash(checkpoint, backbone) == model_hash(checkpoint, copy)
    assert len({model_hash(checkpoint, backbone), model_hash(checkpoint, other_backbone)}) == 2
    assert model_hash(checkpoint, backbone) not in (weights_hash(checkpoint), weights_hash(backbone))
    # Networks without a backbone keep what they have kept so far.
    assert load_model(tiny_checkpoint).weights_hash == weights_hash(tiny_checkpoint)


def test_a_network_knows_whether_it_reads_a_backbone(light_s_files, tiny_checkpoint):
    assert reads_backbone(light_s_files[0])
    assert not reads_backbone(tiny_checkpoint)


def test_a_backbone_that_is_not_named_or_not_there_is_told_with_the_way_out(light_s_files):
    checkpoint, _ = light_s_files
    for backbone, word in ((None, "no file of it is named"), (Path("nothing.pth"), r"no backbone file nothing\.pth")):
        for load in (load_model, model_hash):
            with pytest.raises(MissingWeightsError, match=word) as caught:
                load(checkpoint, backbone)
            assert "--backbone or HEADLIFT_BACKBONE_WEIGHTS" in caught.value.message
            assert "dinov2_vits14_pretrain.pth" in caught.value.message


def test_a_backbone_of_another_size_is_refused(light_s_files, tmp_path):
    checkpoint, backbone = light_s_files
    published = torch.load(backbone, weights_only=True)
    wrong = tmp_path / "dinov2_vitb14_pretrain.pth"
    torch.save(published | {"cls_token": torch.zeros(1, 1, 768)}, wrong)
    with pytest.raises(CorruptWeightsError, match=r"is not dinov2_vits14: cls_token is \(1, 1, 768\)") as caught:
        load_model(checkpoint, wrong)
    assert "(1, 1, 384)" in caught.value.message
    assert "dinov2_vits14_pretrain.pth" in caught.value.message


def test_a_backbone_that_nobody_reads_is_refused(light_s_files, tiny_checkpoint):
    with pytest.raises(IncompatibleWeightsError, match="reads no frozen backbone") as caught:
        load_model(tiny_checkpoint, light_s_files[1])
    assert "leave out --backbone" in caught.value.message

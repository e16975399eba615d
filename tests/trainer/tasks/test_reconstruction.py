"""The paper's two tasks, end to end at toy size: real renders of real heads, a real DINOv2 with random weights."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from headlift.errors import InvalidInputError, MissingWeightsError
from headlift.model.cameras import orbit_cameras
from headlift.model.checkpoint import load_checkpoint
from headlift.model.perchead.config import EncoderConfig, PercHeadConfig
from headlift.model.perchead.model import PercHead
from headlift.model.sizes import named_config
from headlift.model.splat import rasterize
from headlift.model.template import Template
from headlift.model.types import Gaussians
from headlift.pretrained.dinov2 import ARCHITECTURES, Architecture, Dinov2
from headlift_trainer.collective import Collective, WorkerRank
from headlift_trainer.datasets.mixture import Mixture, mixture_of
from headlift_trainer.datasets.opening import SOURCE_OPENERS
from headlift_trainer.features_cache import CachedBackbone, identity_of
from headlift_trainer.loop import run
from headlift_trainer.perceptual import Framing, PerceptualLoss, dino_loss, l1_loss, load_objective
from headlift_trainer.profiler import measured
from headlift_trainer.schedule import Schedule
from headlift_trainer.synthetic.generate import path_of
from headlift_trainer.tasks.reconstruction import ReconstructionTask
from headlift_trainer.tasks.sharpener import FreshRenders, SharpenerTask
from headlift_trainer.train_state import TrainState

SIZE = 42
QUICK = Schedule(steps=3, learning_rate=2e-3, warmup_steps=1, accumulate=2, log_every=1, checkpoint_minutes=None)


def paper_config() -> PercHeadConfig:
    """The paper's form (frozen backbone, no guidance, no code) at toy size."""
    tiny = named_config("tiny")
    encoder = EncoderConfig(
        image_size=SIZE, dim=32, depth=1, num_heads=2, backbone="dinov2_vits14", backbone_layers=(5, 11), fusion_dim=32
    )
    decoder = replace(tiny.decoder, residual="paper")
    return PercHeadConfig("toy", SIZE, encoder, decoder, tiny.sharpener)


@pytest.fixture(scope="module")
def template(tiny_checkpoint: Path) -> Template:
    return load_checkpoint(tiny_checkpoint)[0].template


@pytest.fixture(scope="module")
def shards(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heads of several shapes and colours, rendered from fourteen sides, in files as the generator writes them."""
    folder = tmp_path_factory.mktemp("shards")
    rng = np.random.default_rng(0)
    cameras = orbit_cameras(list(np.linspace(-180, 155, 14)), width=SIZE, height=SIZE)
    count = len(template.anchors)
    for seed in (0, 1, 50, 51, 52):  # the first two are held out
        head = Gaussians(
            template.anchors * torch.from_numpy(rng.normal(1, 0.06, 3)).float(),
            torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
            0.9 * template.spacing[:, None].repeat(1, 3),
            torch.full((count,), 0.9),
            (torch.from_numpy(rng.uniform(0.2, 0.9, 3)).float() + 2 * template.anchors[:, :1]).clamp(0, 1).repeat(1, 1),
        )
        views = rasterize(head, cameras)
        rgba = torch.cat([views.rgb, views.alpha], 1).clamp(0, 1).permute(0, 2, 3, 1)
        np.savez(
            path_of(folder, seed, 0),
            rgba=(255 * rgba).round().to(torch.uint8).numpy(),
            viewmats=cameras.viewmats.numpy(),
            Ks=cameras.Ks.numpy(),
        )
    return folder


def filled(network: Dinov2, seed: int) -> Dinov2:
    """Random weights of a size that lets pictures matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "norm" not in name:
            parameter.data.normal_(0, 0.05, generator=generator)
    return network


@pytest.fixture(scope="module")
def backbone() -> Dinov2:
    return filled(Dinov2(ARCHITECTURES["dinov2_vits14"], (5, 11)), 1)


@pytest.fixture(scope="module")
def small_dino() -> Dinov2:
    return filled(Dinov2(Architecture(32, 11, 2, grid=3), (8, 11), "hf"), 2)


@pytest.fixture
def task(shards: Path, template: Template, backbone: Dinov2, small_dino: Dinov2) -> ReconstructionTask:
    torch.manual_seed(3)
    model = PercHead(paper_config(), template, CachedBackbone(backbone, "random"))
    dino = dino_loss(small_dino, framing=Framing(SIZE), weighting="kinds")
    objective = PerceptualLoss({"dino": (1.0, dino), "l1": (1.0, l1_loss())})
    return ReconstructionTask(
        model,
        *SOURCE_OPENERS["generated"](shards),
        objective,
        target_views=2,
        held_out_heads=2,
        data=("generated heads",),
    )


def test_reconstruction_learns_resumes_and_releases_a_model_that_others_load(task, tmp_path, backbone):
    before = task.figures()["psnr"]
    result = run(task, replace(QUICK, steps=30, accumulate=1), tmp_path, quiet=True)
    assert result.figures["psnr"] > before + 0.5
    assert set(result.figures) == {"psnr", "psnr_own", "psnr_others"}
    model, provenance = load_checkpoint(tmp_path / "reconstruction.safetensors", backbone=backbone)
    assert provenance.steps == 30
    assert provenance.data == ("generated heads",)
    assert provenance.metrics["psnr"] == pytest.approx(result.figures["psnr"])
    assert model.config == task.model.config
    assert run(task, replace(QUICK, steps=31), tmp_path, quiet=True).resumed_from == 30


def test_the_sharpener_is_left_alone_by_reconstruction_and_alone_moved_by_sharpening(task, tmp_path):
    start = {name: value.clone() for name, value in task.model.state_dict().items()}
    run(task, QUICK, tmp_path / "one", quiet=True)
    moved = {n for n, v in task.model.state_dict().items() if not torch.equal(v, start[n])}
    assert moved
    assert not any(name.startswith("sharpener.") for name in moved)
    middle = {name: value.clone() for name, value in task.model.state_dict().items()}
    sharpening = SharpenerTask(task.model, FreshRenders(task), task.name)
    result = run(sharpening, QUICK, tmp_path / "two", quiet=True)
    moved = {n for n, v in task.model.state_dict().items() if not torch.equal(v, middle[n])}
    assert moved
    assert all(name.startswith("sharpener.") for name in moved)
    assert {"sharpened_psnr", "unsharpened_psnr", "sharpened_detail"} <= set(result.figures)
    assert (tmp_path / "two" / "reconstruction.safetensors").is_file()


def test_checkpointed_activations_give_the_same_gradients(task):
    gradients = []
    for on in (False, True, False):
        task.checkpoint_activations(on)
        task.model.zero_grad()
        generator = torch.Generator().manual_seed(4)
        loss, _ = task.loss(task.draw(generator), generator)
        loss.backward()
        gradients.append([p.grad.clone() for p in task.parameters() if p.grad is not None])
    for other in gradients[1:]:
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients[0], other, strict=True))
    assert task.model.state_dict().keys() == PercHead(paper_config(), task.model.template).state_dict().keys()


def test_pictures_are_pictures(task):
    (picture,) = task.pictures().values()
    assert picture.shape[0] == 3
    assert picture.shape[2] == 3 * SIZE
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_the_phases_of_a_step_are_told_apart_and_add_up(task):
    state = TrainState(task, QUICK, WorkerRank(), Collective(WorkerRank()))
    with measured() as profiler:
        state.advance()
        profiler.event("other")
    assert {"data", "network", "splatting", "loss", "optimiser"} <= set(profiler.seconds)
    assert all(seconds >= 0 for seconds in profiler.seconds.values())


def test_a_sample_depends_on_the_generator_alone_and_starts_with_its_own_view(shards):
    heads, _ = SOURCE_OPENERS["generated"](shards)
    assert len(heads) == 3
    one, same = (heads.sample(torch.Generator().manual_seed(9), 3) for _ in range(2))
    assert torch.equal(one.targets, same.targets)
    assert torch.equal(one.targets[0], one.picture)
    assert one.targets.shape == (4, 4, SIZE, SIZE)
    assert len({tuple(m.flatten().tolist()) for m in one.target_cameras.viewmats}) == 4
    forward = [heads.sample(torch.Generator().manual_seed(i), 0).camera.viewmats[0, 2, 2] for i in range(40)]
    assert max(forward) < 0.25  # no input from behind


def test_mixtures_keep_their_weights_and_say_what_is_missing(shards):
    heads, other = SOURCE_OPENERS["generated"](shards)
    other.sample = lambda generator, views: pytest.fail("a source without weight was drawn")  # type: ignore[method-assign]
    mixture = mixture_of({"a": 1.0}, {"a": heads, "b": other})
    assert mixture.sample(torch.Generator().manual_seed(0), 1).targets.shape[0] == 2
    with pytest.raises(InvalidInputError, match="nersemble"):
        mixture_of({"nersemble": 1.0}, {"generated": heads})
    assert len(mixture_of({"nersemble": 1.0}, {"generated": heads}, partial=True)) == 3
    with pytest.raises(InvalidInputError, match="at least one"):
        Mixture([])


class Named:
    """A source whose samples say nothing but where they are from."""

    def __init__(self, name: str, count: int = 1) -> None:
        self.name, self._count = name, count

    def __len__(self) -> int:
        return self._count

    def sample(self, generator, views):
        return self.name


def test_data_sets_come_in_their_shares_and_the_generator_alone_decides() -> None:
    mixture = Mixture([(Named("a"), 3.0), (Named("b"), 1.0)])

    def drawn(seed: int) -> list:
        generator = torch.Generator().manual_seed(seed)
        return [mixture.sample(generator, 3) for _ in range(2000)]

    assert drawn(1).count("a") / 2000 == pytest.approx(0.75, abs=0.04)
    assert drawn(1) == drawn(1) != drawn(2)
    with pytest.raises(InvalidInputError, match="empty"):
        Mixture([(Named("c", 0), 1.0)])
    with pytest.raises(InvalidInputError, match="weight over 0"):
        Mixture([(Named("a"), 0.0)])


def test_dino_loss_is_zero_for_equal_pictures_and_has_a_gradient_otherwise(small_dino):
    term = dino_loss(small_dino, framing=Framing(28), weighting="kinds")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 40, 40, generator=generator), torch.rand(2, 3, 40, 40, generator=generator)
    assert float(term(a, a)) == pytest.approx(0, abs=1e-5)
    loss = term(a.requires_grad_(), b)
    loss.backward()
    assert float(loss) > 0
    assert a.grad is not None
    assert float(a.grad.abs().sum()) > 0
    kinds = [float(dino_loss(small_dino, framing=Framing(28), kinds=(kind,))(a, b)) for kind in ("class", "patches")]
    assert sum(kinds) / 2 == pytest.approx(float(loss), rel=1e-5)
    with pytest.raises(InvalidInputError, match="multiple of 14"):
        dino_loss(small_dino, framing=Framing(40))


def test_cached_features_are_the_backbones_and_survive_in_a_folder(backbone, tmp_path):
    images = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    cached = CachedBackbone(backbone, identity_of(backbone, (5, 11)), folder=tmp_path)
    wanted = backbone(images)
    for _ in range(2):
        for ours, theirs in zip(cached(images), wanted, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)
    assert (cached.misses, cached.hits) == (3, 3)
    mixed = torch.cat([images[2:], images.flip(-1)[:1], images[2:]])
    assert torch.allclose(cached(mixed)[1], backbone(mixed)[1], atol=1e-5)
    again = CachedBackbone(backbone, identity_of(backbone, (5, 11)), folder=tmp_path)
    again(images)
    assert (again.misses, again.hits) == (0, 3)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"damaged")
    damaged = CachedBackbone(backbone, identity_of(backbone, (5, 11)), folder=tmp_path)
    assert torch.allclose(damaged(images)[0], wanted[0], atol=1e-5)
    assert damaged.misses == 3


def test_a_small_memory_forgets_the_oldest(backbone):
    cached = CachedBackbone(backbone, "x", memory_bytes=2 * 2 * 4 * 384 * 4)  # two pictures of four patches
    images = torch.rand(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    cached(images)
    cached(images[2:])
    cached(images[:1])
    assert (cached.misses, cached.hits) == (4, 1)


def test_sharpening_needs_a_sharpener_and_a_loss_its_files(task, tmp_path):
    from headlift_trainer.recipes import LossWeights

    task.model.sharpener = None
    with pytest.raises(InvalidInputError, match="no sharpener"):
        SharpenerTask(task.model, FreshRenders(task), task.name)
    with pytest.raises(MissingWeightsError, match="dinov2_vits14"):
        load_objective(LossWeights(dino=1.0), tmp_path, torch.device("cpu"))
    loss, parts = load_objective(LossWeights(l1=2.0), None, torch.device("cpu"))(
        torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    )
    assert math.isclose(float(loss), 2.0)
    assert parts == {"l1": 1.0}

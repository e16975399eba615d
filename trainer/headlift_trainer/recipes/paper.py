"""The paper's runs (section 4.5, appendix E), each as a function that returns its complete config.

Stated there: 15 epochs of reconstruction, 30 of sharpening on real data, AdamW, the mixtures, the losses. An epoch is
taken to be every picture once. The text lost the learning rate and weight decay, and never gives the batch size:
those are guesses, and fields of the schedule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from headlift.model.sizes import named_config
from headlift_trainer.recipes.config import LossWeights, RecipeConfig
from headlift_trainer.schedule import Schedule

# Input pictures of an epoch: 270 persons x 16 views, 1,500 x 30, and the subset of FFHQ (section 3.2).
PICTURES: Mapping[str, int] = {"nersemble": 270 * 16, "cafca": 1500 * 30, "ffhq": 3000}
MULTI_VIEW = ("nersemble", "cafca")
PERCEPTUAL = LossWeights(dino=1.0, sam=1.0)  # section 3.3
STANDARD = LossWeights(lpips=1.0, l1=1.0)
SHARPNESS = LossWeights(dino=1.0, dino_layers=(8,), dino_tokens=("class",))  # "the 8th-layer class token"
_BATCH, _ACCUMULATE = 2, 4  # guess: a step of 8 heads, in pieces that fit 24 GB
_SCHEDULE = Schedule(
    steps=1, learning_rate=1e-4, weight_decay=0.01, warmup_steps=1000, accumulate=_ACCUMULATE, ema_decay=0.9995,
    precision="bf16", checkpoint_minutes=15.0, figures_every=5000, best="psnr", log_every=50,
)  # fmt: skip


def reconstruction() -> RecipeConfig:
    """The full model: NeRSemble, Cafca and FFHQ, DINOv2 and SAM 2.1; 15 epochs."""
    return _reconstruction("reconstruction", tuple(PICTURES), PERCEPTUAL, about="the paper's full model")


def data_2d() -> RecipeConfig:
    """Data ablation: in-the-wild pictures only."""
    return _reconstruction("data_2d", ("ffhq",), PERCEPTUAL, about="data ablation: FFHQ only")


def data_multi_view() -> RecipeConfig:
    """Data ablation: multi-view pictures only."""
    return _reconstruction("data_multi_view", MULTI_VIEW, PERCEPTUAL, about="data ablation: NeRSemble and Cafca only")


def data_both() -> RecipeConfig:
    """Data ablation: both; the full model under the ablation's name."""
    return replace(reconstruction(), name="data_both", about="data ablation: all three data sets")


def loss_lpips_l1() -> RecipeConfig:
    """Loss ablation: LPIPS and L1."""
    return _reconstruction("loss_lpips_l1", tuple(PICTURES), STANDARD, about="loss ablation: LPIPS + L1")


def loss_dino() -> RecipeConfig:
    """Loss ablation: DINOv2 only."""
    return _reconstruction("loss_dino", tuple(PICTURES), LossWeights(dino=1.0), about="loss ablation: DINOv2 only")


def loss_sam() -> RecipeConfig:
    """Loss ablation: SAM 2.1 only."""
    return _reconstruction("loss_sam", tuple(PICTURES), LossWeights(sam=1.0), about="loss ablation: SAM 2.1 only")


def loss_full() -> RecipeConfig:
    """Loss ablation: DINOv2 and SAM 2.1; the full model under the ablation's name."""
    return replace(reconstruction(), name="loss_full", about="loss ablation: DINOv2 + SAM 2.1")


def without_shp() -> RecipeConfig:
    """SHP off: the reconstruction of a model that has no sharpener."""
    model = replace(named_config("base"), name="base_without_shp", sharpener=None)
    return replace(reconstruction(), name="without_shp", model=model, about="SHP-CNN ablation: off")


def shp() -> RecipeConfig:
    """SHP on: 30 epochs of the SHP-CNN alone, on real pictures, from the full model."""
    return _sharpening("shp", "reconstruction", "the SHP-CNN of the full model")


def shp_lpips_l1() -> RecipeConfig:
    """The SHP-CNN of the model trained with LPIPS and L1, which the paper gives its own."""
    return _sharpening("shp_lpips_l1", "loss_lpips_l1", "the SHP-CNN of the LPIPS + L1 model")


def light() -> RecipeConfig:
    """Four decoder layers, no SHP-CNN."""
    return replace(reconstruction(), name="light", model=named_config("light"), about="4 layers, ViT-g, no SHP-CNN")


def light_s() -> RecipeConfig:
    """Four decoder layers, DINOv2-S in the encoder, no SHP-CNN."""
    return replace(reconstruction(), name="light_s", model=named_config("light_s"), about="4 layers, ViT-S, no SHP-CNN")


def edit() -> RecipeConfig:
    """Editing: the encoder replaced, the decoder warm-started; 24 epochs without Cafca's artificial heads."""
    data = ("nersemble", "ffhq")
    return RecipeConfig(
        "edit", "editing", named_config("base"), _mixture(data), PERCEPTUAL, _schedule(24, data), batch_size=_BATCH,
        starts_from="reconstruction", editor="base", about="3D editing: maps by FaRL, styles by CLIP ViT-L/14",
    )  # fmt: skip


def edit_light() -> RecipeConfig:
    """The same for the light model, with the smaller CLIP."""
    return replace(
        edit(), name="edit_light", model=named_config("light"), starts_from="light", editor="light",
        about="3D editing: 4 layers, CLIP ViT-B/32",
    )  # fmt: skip


RECIPES: Mapping[str, Callable[[], RecipeConfig]] = {
    f.__name__: f
    for f in (
        reconstruction, data_2d, data_multi_view, data_both, loss_lpips_l1, loss_dino, loss_sam, loss_full,
        without_shp, shp, shp_lpips_l1, light, light_s, edit, edit_light,
    )
}  # fmt: skip


def _reconstruction(name: str, data: tuple[str, ...], loss: LossWeights, *, about: str) -> RecipeConfig:
    model = named_config("base")
    return RecipeConfig(
        name, "reconstruction", model, _mixture(data), loss, _schedule(15, data), batch_size=_BATCH, about=about
    )


def _sharpening(name: str, starts_from: str, about: str) -> RecipeConfig:
    data = ("nersemble", "ffhq")  # "only real data"; appendix C names VFHQ in FFHQ's place
    schedule = replace(_schedule(30, data), weight_decay=0.0, warmup_steps=200, best="sharpened_psnr")
    return RecipeConfig(
        name, "sharpening", named_config("base"), _mixture(data), SHARPNESS, schedule, batch_size=_BATCH,
        starts_from=starts_from, about=about,
    )  # fmt: skip


def _mixture(data: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """Every picture as often as any other."""
    total = sum(PICTURES[name] for name in data)
    return tuple((name, PICTURES[name] / total) for name in data)


def _schedule(epochs: int, data: tuple[str, ...]) -> Schedule:
    pictures = sum(PICTURES[name] for name in data)
    return replace(_SCHEDULE, steps=max(1, epochs * pictures // (_BATCH * _ACCUMULATE)))

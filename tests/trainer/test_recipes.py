"""Recipes: every run of the paper is there, complete, and says what the paper says."""

import dataclasses

import pytest

from headlift.errors import InvalidInputError
from headlift_trainer.commands import train as command
from headlift_trainer.recipes import RECIPES, LossWeights, MiniRecipe, RecipeConfig, mini


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_complete_frozen_and_named_as_it_is_called(name):
    config = RECIPES[name]()
    assert isinstance(config, RecipeConfig)
    assert config.name == name
    assert config.about
    assert sum(share for _, share in config.mixture) == pytest.approx(1)
    assert config.schedule.steps
    assert config == RECIPES[name]()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.name = "other"


def test_the_command_knows_every_recipe():
    assert tuple(RECIPES) == command.RECIPES


def test_epochs_are_the_papers():
    for name, epochs in (("reconstruction", 15), ("shp", 30), ("edit", 24)):
        config = RECIPES[name]()
        pictures = {"nersemble": 4320, "cafca": 45_000, "ffhq": 3000}
        total = sum(pictures[data] for data, _ in config.mixture)
        seen = config.schedule.steps * config.schedule.accumulate * config.batch_size
        assert seen == pytest.approx(epochs * total, rel=1e-3)


def test_ablations_change_what_they_name_and_nothing_else():
    full = RECIPES["reconstruction"]()
    assert RECIPES["data_both"]() == RECIPES["loss_full"]().__class__(**{**vars(full), "name": "data_both"})
    for name in ("loss_lpips_l1", "loss_dino", "loss_sam"):
        assert dataclasses.replace(RECIPES[name](), name=full.name, loss=full.loss) == full
    for name in ("light", "light_s", "without_shp"):
        assert dataclasses.replace(RECIPES[name](), name=full.name, model=full.model) == full
    assert [name for name, _ in RECIPES["data_2d"]().mixture] == ["ffhq"]
    assert [name for name, _ in RECIPES["data_multi_view"]().mixture] == ["nersemble", "cafca"]


def test_the_losses_are_the_papers():
    assert RECIPES["reconstruction"]().loss == LossWeights(dino=1.0, sam=1.0)
    assert RECIPES["shp"]().loss == LossWeights(dino=1.0, dino_layers=(8,), dino_tokens=("class",))
    assert "cafca" not in dict(RECIPES["shp"]().mixture)
    assert RECIPES["shp"]().starts_from == "reconstruction"


def test_impossible_runs_are_refused():
    with pytest.raises(InvalidInputError, match="no sharpener"):
        dataclasses.replace(RECIPES["shp"](), model=RECIPES["light"]().model)
    with pytest.raises(InvalidInputError, match="Loss weights"):
        LossWeights()
    with pytest.raises(InvalidInputError, match="batch_size 0"):
        dataclasses.replace(RECIPES["light"](), batch_size=0)


def test_our_own_recipe_is_still_there():
    assert isinstance(mini(), MiniRecipe)


def test_the_shipped_run_is_complete_and_takes_as_long_as_it_is_given():
    config = mini(hours=10.0, headnet_hours=2.0, seed=3)
    (stage,) = config.stages
    assert config.sharpener is not None
    lengths = [stage.schedule.minutes, config.sharpener.schedule.minutes, config.sharpener.render_minutes]
    assert lengths == pytest.approx([540, 30, 30])
    assert sum(headnet.schedule.minutes for headnet in config.headnet) == pytest.approx(120)
    assert [headnet.size for headnet in config.headnet] == [128, 192]
    seeds = {each.schedule.seed for each in (*config.headnet, *config.stages)}
    assert seeds == {config.seed} == {3}
    assert mini() == mini()


@pytest.mark.parametrize("wrong", [{"heads": 1}, {"headnet_hours": 0.0}, {"hours": -1.0}])
def test_a_run_of_nothing_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="too little"):
        mini(**wrong)


def test_editing_leaves_artificial_heads_out_and_starts_from_reconstruction():
    for name, start, editor in (("edit", "reconstruction", "base"), ("edit_light", "light", "light")):
        config = RECIPES[name]()
        assert "cafca" not in dict(config.mixture)
        assert (config.starts_from, config.editor) == (start, editor)
        assert config.loss == RECIPES["reconstruction"]().loss
    with pytest.raises(InvalidInputError, match="editor"):
        dataclasses.replace(RECIPES["edit"](), editor="")

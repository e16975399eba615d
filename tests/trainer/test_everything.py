"""The plan of the shipped weights: which heads, that nothing held out is trained on, and how it is stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headlift.errors import ConflictError, InvalidInputError
from headlift_trainer.everything import Everything, Patience, Plan, recipe_of, seeds_of
from headlift_trainer.synthetic.source.seeds import HELD_OUT, SEED_RANGES, source_of


def test_every_source_has_its_share_and_all_held_out_heads_are_there() -> None:
    seeds = seeds_of(Plan(heads=200), tuple(SEED_RANGES))
    trained = [seed for seed in seeds if seed not in HELD_OUT]
    assert set(seeds) >= HELD_OUT
    assert len(seeds) == len(set(seeds))
    counts = {name: sum(source_of(seed) == name for seed in trained) for name in SEED_RANGES}
    assert counts == {"makehuman": 120, "ict": 50, "procedural": 30}


def test_without_assets_all_heads_are_procedural() -> None:
    seeds = seeds_of(Plan(heads=10), ("procedural",))
    assert {source_of(seed) for seed in seeds} == {"procedural"}
    assert sum(seed not in HELD_OUT for seed in seeds) == 10


def test_another_seed_draws_other_people() -> None:
    one, two = (set(seeds_of(Plan(heads=50, seed=s), ("makehuman",))) - HELD_OUT for s in (0, 1))
    assert not one & two


@pytest.mark.parametrize("wrong", [{"heads": 1}, {"headnet_hours": 0.0}, {"mini_hours": -1.0}, {"workers": 0}])
def test_a_plan_for_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="too little"):
        Plan(**wrong)  # type: ignore[arg-type]


def test_a_few_heads_get_a_code_of_no_more_numbers_than_they_can_tell() -> None:
    few, many = recipe_of(Plan(heads=6), 6), recipe_of(Plan(heads=600), 600)
    assert few.model.decoder.geometry_rank == 11
    assert few.model.decoder.color_rank == 23
    assert many.model.decoder.geometry_rank == 40
    assert few.thumbnails >= 1000  # the thumbnail head has hundreds of components
    assert many.thumbnails > few.thumbnails


def test_a_folder_of_another_plan_is_refused_and_more_workers_are_no_other_plan(tmp_path: Path) -> None:
    work = Everything(None, tmp_path, Plan(heads=6), lambda line: None)
    with work.steps.attempt("heads"):
        pass
    kept = json.loads((tmp_path / "steps.json").read_text())["plan"]
    assert kept["training_heads"] == {"procedural": 6}
    assert kept["first_seed"]["procedural"] not in HELD_OUT
    assert Everything(None, tmp_path, Plan(heads=6, workers=2), lambda line: None).steps.is_done("heads")
    with pytest.raises(ConflictError, match="mini_hours"):
        Everything(None, tmp_path, Plan(heads=6, mini_hours=2.0), lambda line: None)


def test_a_stop_waits_for_a_checkpoint_only_where_one_is_written_and_only_once() -> None:
    patience = Patience()
    with pytest.raises(KeyboardInterrupt):
        patience.ask()
    with patience.waiting():
        patience.ask()
        assert patience.asked
        with pytest.raises(KeyboardInterrupt):
            patience.ask()

"""Rules of `mini` switched off one at a time."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from headlift.model.mini.model import MiniHead
from headlift_trainer.evaluation.held_out import HeldOutHeads
from headlift_trainer.evaluation.rules import VARIANTS, Ledger, Variant

NOTHING = Variant(lambda _: nullcontext(), fits=True)


@pytest.fixture(scope="module")
def ledger(tiny_model: MiniHead, shards: Path) -> Ledger:
    return Ledger(tiny_model, HeldOutHeads(shards, limit=2))


def test_a_rule_that_is_off_changes_heads(ledger: Ledger) -> None:
    assert ledger.gain(VARIANTS["no holes"])["input"] != 0


def test_every_rule_is_on_again_afterwards(ledger: Ledger) -> None:
    for variant in VARIANTS.values():
        with variant.apply(ledger.head):
            pass
    assert ledger.gain(VARIANTS["no holes"]) == ledger.gain(VARIANTS["no holes"])
    assert set(ledger.gain(NOTHING).values()) == {0.0}

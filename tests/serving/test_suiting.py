"""Settings without a fast rasteriser: nothing that was asked for is changed, nothing else ends in a deadline."""

from __future__ import annotations

import pytest

from headlift.model.splat import native
from headlift.serving.suiting import slow_because, suited
from headlift.settings import Settings


def test_a_fast_rasteriser_needs_no_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "unavailable_because", lambda: None)
    settings = Settings(device="cpu")
    assert slow_because(settings) is None
    assert suited(settings) == settings


def test_a_slow_one_does_not_refine_and_has_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "unavailable_because", lambda: "No C++ compiler was found.")
    settings = suited(Settings(device="cpu"))
    assert settings.refine_steps == 0
    assert settings.deadline_s == settings.timeout_s == 3600
    chosen = suited(Settings(device="cpu", refine_steps=7, deadline_s=9.0))
    assert (chosen.refine_steps, chosen.deadline_s, chosen.timeout_s) == (7, 9.0, 3600)
    assert slow_because(Settings(device="cpu")) == "No C++ compiler was found."

"""Where weights come from, as every task of ours writes it into them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from headlift import __version__
from headlift.model.checkpoint import Provenance


@dataclass(frozen=True)
class TrainingCost:
    """What a model has taken so far."""

    minutes: float = 0.0
    steps: int = 0
    samples: int = 0


def provenance(
    description: str,
    data: tuple[str, ...],
    metrics: Mapping[str, float],
    *,
    cost: TrainingCost | None = None,
    license: str = "",
) -> Provenance:
    """The provenance of weights that are written now, by this version of the code."""
    cost = cost or TrainingCost()
    return Provenance(
        description=description,
        license=license,
        data=data,
        steps=cost.steps,
        samples=cost.samples,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        code_version=__version__,
        metrics=dict(metrics),
    )

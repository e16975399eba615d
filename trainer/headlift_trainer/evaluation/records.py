"""One measured picture, and means over many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Record:
    """What one method scored on one target view."""

    method: str
    subject: str  # which head
    input_view: str  # what the method was given
    view: str  # what was asked
    group: str  # "input", "novel", "extreme" or "back": what the view is to the input
    values: dict[str, float]  # metric to value
    traits: dict[str, str] = field(default_factory=dict)  # of the head, to break metrics down by


class Records:
    """A growing list of records."""

    def __init__(self, rows: Iterable[Record] = ()) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._rows)

    def add(
        self,
        method: str,
        subject: str,
        input_view: str,
        views: Iterable[tuple[str, str]],
        values: dict[str, Tensor],
        traits: dict[str, str] | None = None,
    ) -> None:
        """One record for each of C views, (name, group), from metric values [C]."""
        for i, (view, group) in enumerate(views):
            scores = {name: float(value[i]) for name, value in values.items()}
            self._rows.append(Record(method, subject, input_view, view, group, scores, traits or {}))

    def extend(self, others: Iterable[Record]) -> None:
        """Take other records in."""
        self._rows.extend(others)

    def where(self, keep: Callable[[Record], bool] | None = None, **equal: str) -> Records:
        """Those whose fields have these values, and that ``keep`` wants."""
        return Records(
            row
            for row in self._rows
            if all(getattr(row, name) == value for name, value in equal.items()) and (keep is None or keep(row))
        )

    def mean(self, metric: str, **equal: str) -> float | None:
        """Mean of a metric over the chosen records that have it as a finite number; None where there is none."""
        chosen = (row.values.get(metric) for row in self.where(None, **equal))
        finite = [value for value in chosen if value is not None and math.isfinite(value)]
        return sum(finite) / len(finite) if finite else None

    def distinct(self, name: str) -> list[str]:
        """Values of a field, in order of appearance."""
        return list(dict.fromkeys(getattr(row, name) for row in self._rows))

    def by_subject(self, metric: str, **equal: str) -> dict[str, float]:
        """Mean of a metric for each head that has one."""
        sums: dict[str, list[float]] = {}
        for row in self.where(None, **equal):
            if metric in row.values and math.isfinite(row.values[metric]):
                sums.setdefault(row.subject, []).append(row.values[metric])
        return {subject: sum(values) / len(values) for subject, values in sums.items()}


def rounded(value: float | None, metric: str = "psnr") -> float | None:
    """As metrics are given: decibels to hundredths, everything else to ten-thousandths."""
    if value is None:
        return None
    return round(value, 2 if metric in ("psnr", "sharpness") else 4)

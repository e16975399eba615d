"""The page that a batch ends with: counts by reason, a contact sheet, throughput, time and cost an item."""

from __future__ import annotations

import base64
import html
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from PIL import Image

from headlift.batch.places import Place
from headlift.batch.results import DONE, Row
from headlift.errors import NotFoundError, StoreError
from headlift.media.contact_sheet import contact_sheet

_RUNS, _PAGE, _METRICS = "runs", "summary.html", "summary.json"
_TILES, _TILE_PX, _COLUMNS = 32, 128, 8
_NAMED_MAX = 200
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#18181b}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .9rem .25rem 0;text-align:left;"
    "border-bottom:1px solid #e4e4e7}td.n{text-align:right;font-variant-numeric:tabular-nums}img{max-width:100%}"
)


@dataclass(frozen=True)
class Run:
    """One start of a batch."""

    begun_at: float  # seconds since 1970, as ended_at
    ended_at: float  # so far
    workers: int
    items: int  # finished in it


class RunLog:
    """The runs of a batch in its place; one that was killed is known up to its last record."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def record(self, run: Run) -> None:
        """Store how far a run has come."""
        self._place.write(f"{_RUNS}/{run.begun_at * 1e3:015.0f}.json", json.dumps(asdict(run)).encode())

    def runs(self) -> list[Run]:
        """All, oldest first."""
        return [Run(**json.loads(self._place.read(name))) for name in list(self._place.names(_RUNS))]


@dataclass(frozen=True)
class BatchMetrics:
    """A batch in numbers.

    Attributes:
        items: In the manifest.
        rows: Of them, with a row.
        reasons: Rows by status and reason, most first.
        wall_s: Time in which workers ran, all runs together.
        items_per_s: Items that were finished in that time.
        worker_s: Median, 95th percentile and sum of a worker's time on an item.
        stage_ms: Median time of each stage over the heads that were made.
        cost: Of all worker time; 0 where no price is known.
    """

    items: int
    rows: int
    reasons: dict[str, int]
    wall_s: float
    items_per_s: float
    worker_s: dict[str, float]
    stage_ms: dict[str, float]
    cost: float

    @property
    def cost_per_item(self) -> float:
        """Of every row."""
        return self.cost / self.rows if self.rows else 0.0


def metrics_of(rows: Sequence[Row], items: int, runs: Iterable[Run], hourly_cost: float) -> BatchMetrics:
    """The numbers of a batch; ``hourly_cost`` is of one worker, which costs also while it waits."""
    runs = list(runs)
    wall_s = sum(run.ended_at - run.begun_at for run in runs)
    paid_s = sum((run.ended_at - run.begun_at) * run.workers for run in runs)
    seconds = [row.seconds for row in rows] or [0.0]
    stages = defaultdict[str, list[float]](list)
    for row in rows:
        for stage, spent in row.stages_ms.items() if row.status == DONE else ():
            stages[stage].append(spent)
    reasons = Counter(f"{row.status} {row.reason}" for row in rows)
    return BatchMetrics(
        items=items,
        rows=len(rows),
        reasons=dict(reasons.most_common()),
        wall_s=wall_s,
        items_per_s=sum(run.items for run in runs) / wall_s if wall_s else 0.0,
        worker_s={
            "median": float(np.median(seconds)),
            "p95": float(np.percentile(seconds, 95)),
            "sum": float(np.sum(seconds)),
        },
        stage_ms={stage: float(np.median(spent)) for stage, spent in stages.items()},
        cost=paid_s / 3600 * hourly_cost,
    )


def write_summary(out: Place, rows: Sequence[Row], items: int, runs: Iterable[Run], hourly_cost: float) -> BatchMetrics:
    """Write ``summary.html``, which holds all that it shows, and ``summary.json``."""
    metrics = metrics_of(rows, items, runs, hourly_cost)
    sheet = _sheet(out, rows)
    out.write(_PAGE, page(metrics, rows, sheet).encode())
    plain = asdict(metrics) | {"cost_per_item": metrics.cost_per_item}
    out.write(_METRICS, (json.dumps(plain, indent=1) + "\n").encode())
    return metrics


def page(metrics: BatchMetrics, rows: Sequence[Row], sheet: bytes | None) -> str:
    """The summary as HTML; what came from outside is escaped."""
    state = "finished" if metrics.rows == metrics.items else "not finished: start it again"
    cost = [("cost an item", f"{metrics.cost_per_item:.6f}"), ("cost in all", f"{metrics.cost:.4f}")]
    numbers = [
        ("items", f"{metrics.items:,}"),
        ("with a result", f"{metrics.rows:,}"),
        ("time", f"{metrics.wall_s:,.1f} s"),
        ("items a second", f"{metrics.items_per_s:.3f}"),
        ("worker time an item, median / 95 %", f"{metrics.worker_s['median']:.3f} / {metrics.worker_s['p95']:.3f} s"),
        *(cost if metrics.cost else ()),
    ]
    stages = [(stage, f"{spent:.1f} ms") for stage, spent in metrics.stage_ms.items()]
    reasons = [(reason, f"{count:,}") for reason, count in metrics.reasons.items()]
    others = [row for row in rows if row.status != DONE]
    named = "".join(
        f"<tr><td>{_e(r.id)}</td><td>{_e(r.status)}</td><td>{_e(r.reason)}</td><td>{_e(r.message)}</td></tr>"
        for r in others[:_NAMED_MAX]
    )
    more = f"<p>{len(others) - _NAMED_MAX:,} more are in the table of results.</p>" if len(others) > _NAMED_MAX else ""
    picture = f"<img alt='heads' src='data:image/jpeg;base64,{base64.b64encode(sheet).decode()}'>" if sheet else ""
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Batch</title><style>{_STYLE}</style>"
        f"<h1>Batch, {state}</h1>{_table(numbers)}<h2>By reason</h2>{_table(reasons)}"
        f"<h2>Heads</h2>{picture}<h2>Median time of a stage</h2>{_table(stages)}"
        f"<h2>Without a head</h2><table>{named}</table>{more}</html>\n"
    )


def _sheet(out: Place, rows: Sequence[Row]) -> bytes | None:
    """First views, evenly over the batch, as one JPEG; None where there are none."""
    views = [(row.id, o.name) for row in rows for o in [o for o in row.outputs if o.kind == "view"][:1]]
    chosen = views[:: max(1, -(-len(views) // _TILES))]
    tiles = []
    for name, file in chosen:
        try:
            with Image.open(io.BytesIO(out.read(file))) as picture:
                tiles.append((name[-16:], picture.convert("RGB")))
        except (NotFoundError, StoreError, OSError):  # somebody has moved it; the page is no reason to fail
            continue
    if not tiles:
        return None
    buffer = io.BytesIO()
    contact_sheet(tiles, tile_px=_TILE_PX, columns=_COLUMNS).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _table(lines: Iterable[tuple[str, str]]) -> str:
    return f"<table>{''.join(f'<tr><td>{_e(a)}</td><td class=n>{_e(b)}</td></tr>' for a, b in lines)}</table>"


def _e(text: str) -> str:
    return html.escape(text, quote=True)

"""One HTML page with everything: headline metrics, a chart, tables, contact sheets, and every number of the JSON.

The page is one file, opens without a network, needs no script, and follows the reader's light or dark setting.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headlift_trainer.evaluation.sheets import Sheet
from headlift_trainer.evaluation.tables import ABSENT, Table

_CSS = """
:root { color-scheme: light dark; --paper: #fbfbfa; --card: #ffffff; --ink: #1c1d20; --soft: #62656c; --line: #dfe0e3;
  --accent: #1f5fbf; --second: #b4571b; --third: #7b7f87; --good: #1d7a45; --bad: #b3261e; --picture: #000; }
@media (prefers-color-scheme: dark) { :root { --paper: #131417; --card: #1b1d21; --ink: #e8e9ec; --soft: #9a9ea7;
  --line: #31343a; --accent: #7fb0ff; --second: #f0a264; --third: #8b9099; --good: #63c78d; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 24px 80px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 44px 0 12px; letter-spacing: -0.005em; }
p { margin: 6px 0; max-width: 78ch; } .soft, figure p { color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 22px 0 8px; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 14px; }
.tile b { display: block; font-size: 24px; font-weight: 620; font-variant-numeric: tabular-nums; line-height: 1.25; }
.tile span { color: var(--soft); font-size: 13px; }
.tile .good { color: var(--good); } .tile .bad { color: var(--bad); }
figure { margin: 14px 0 22px; } figcaption { font-weight: 600; margin-bottom: 6px; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 6px 12px; text-align: right; white-space: nowrap; font-weight: 400; }
th[scope=row], thead th:first-child { text-align: left; } thead th { color: var(--soft); font-size: 13px; }
table.wide th, table.wide td { padding: 6px 7px; }
tr.groups th { text-align: center; border-bottom: 1px solid var(--line); }
tbody tr + tr { border-top: 1px solid var(--line); } thead { border-bottom: 1px solid var(--line); }
tr.published { color: var(--soft); } td b { color: var(--accent); } .muted { color: var(--soft); font-style: italic; }
.sheet { border: 1px solid var(--line); border-radius: 10px; background: var(--card);
  padding: 12px 14px; margin: 14px 0; }
.sheet h3 { font-size: 15px; margin: 0; } .sheet .soft { font-size: 13px; margin: 0 0 8px; max-width: none; }
.strips { display: grid; grid-template-columns: max-content minmax(640px, 1fr); gap: 3px 12px; align-items: center;
  overflow-x: auto; font-size: 13px; color: var(--soft); }
.strips img { display: block; width: 100%; height: auto; background: var(--picture); border-radius: 3px; }
.views { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; text-align: center; }
svg { width: 100%; height: auto; max-width: 860px; } svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--line); } svg .s0 { --c: var(--accent); } svg .s1 { --c: var(--second); }
svg .s2 { --c: var(--third); } svg polyline { fill: none; stroke: var(--c); stroke-width: 2; }
svg circle { fill: var(--c); } svg .s0 text, svg .s1 text, svg .s2 text { fill: var(--c); font-weight: 600; }
.all { columns: 3 300px; font-size: 12.5px; font-variant-numeric: tabular-nums; }
.all div { display: flex; justify-content: space-between; gap: 12px;
  border-bottom: 1px solid var(--line); padding: 1px 0; }
.all span { color: var(--soft); overflow-wrap: anywhere; } summary { cursor: pointer; font-weight: 600; }
@media print { .sheet, .tile, figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Tile:
    """A headline metric; ``good`` says whether it reaches its goal, where there is one."""

    value: str
    label: str
    good: bool | None = None


@dataclass(frozen=True)
class Chart:
    """Lines over named places: series name to one value a place."""

    title: str
    places: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    unit: str = "dB"


@dataclass(frozen=True)
class Report:
    """What the page shows, in its order."""

    title: str
    about: Sequence[str]
    metrics: Mapping[str, Any]  # the JSON; every number of it is on the page
    tiles: Sequence[Tile] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    sheets: Sequence[Sheet] = ()
    notes: Sequence[str] = field(default_factory=tuple)  # what is missing or was changed

    def html(self) -> str:
        """The page."""
        parts = [f"<h1>{html.escape(self.title)}</h1>"]
        parts += [f'<p class="soft">{html.escape(line)}</p>' for line in self.about]
        if self.tiles:
            parts.append(f'<div class="tiles">{"".join(_tile(tile) for tile in self.tiles)}</div>')
        parts += [f"<p><b>Note.</b> {html.escape(note)}</p>" for note in self.notes]
        if self.charts:
            parts += ["<h2>By view</h2>", *(_chart(chart) for chart in self.charts)]
        if self.tables:
            parts += ["<h2>Tables</h2>", *(table.html() for table in self.tables)]
        if self.sheets:
            parts += ["<h2>Heads</h2>", *(_sheet(sheet) for sheet in self.sheets)]
        parts.append(_all_metrics(self.metrics))
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{_CSS}</style></head>"
            f"<body><main>{''.join(parts)}</main></body></html>\n"
        )


def flattened(metrics: Any, path: str = "") -> list[tuple[str, str]]:
    """Every leaf of a JSON value with its dotted path, as text."""
    if isinstance(metrics, Mapping):
        return [
            leaf for key, value in metrics.items() for leaf in flattened(value, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(metrics, (list, tuple)):
        return [leaf for i, value in enumerate(metrics) for leaf in flattened(value, f"{path}.{i}")]
    return [(path, ABSENT if metrics is None else str(metrics))]


def _tile(tile: Tile) -> str:
    kind = "" if tile.good is None else f' class="{"good" if tile.good else "bad"}"'
    return f'<div class="tile"><b{kind}>{html.escape(tile.value)}</b><span>{html.escape(tile.label)}</span></div>'


def _sheet(sheet: Sheet) -> str:
    views = "".join(f"<span>{html.escape(view)}</span>" for view in sheet.views)
    rows = "".join(
        f'<span>{html.escape(s.method)}</span><img loading="lazy" alt="{html.escape(f"{s.method}: {sheet.subject}")}" '
        f'src="{s.data_uri}">'
        for s in sheet.strips
    )
    return (
        f'<div class="sheet"><h3>{html.escape(sheet.title)}</h3><p class="soft">{html.escape(sheet.about)}</p>'
        f'<div class="strips"><span></span><div class="views">{views}</div>{rows}</div></div>'
    )


def _all_metrics(metrics: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<div><span>{html.escape(name)}</span>{html.escape(value)}</div>" for name, value in flattened(metrics)
    )
    return f'<h2>All metrics</h2><details open><summary>As in the JSON</summary><div class="all">{rows}</div></details>'


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 860, 300, 44, 200, 14, 34


def _chart(chart: Chart) -> str:
    """An SVG line chart; names stand at the lines' ends instead of a legend."""
    values = [v for series in chart.series.values() for v in series if v is not None]
    if not values:
        return ""
    step = _step(max(values) - min(values))
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    high = high if high > low else low + step

    def x(i: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (i + 0.5) / len(chart.places)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = []
    for k in range(round((high - low) / step) + 1):
        tick = low + k * step
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>'
            f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    for i, place in enumerate(chart.places):
        parts.append(f'<text x="{x(i):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{html.escape(place)}</text>')
    ends = _apart({name: y(last) for name, series in chart.series.items() if (last := _last(series)) is not None})
    for k, (name, series) in enumerate(chart.series.items()):
        points = [(x(i), y(v)) for i, v in enumerate(series) if v is not None]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        dots = "".join(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4"/>' for px, py in points)
        label = f'<text x="{_WIDTH - _RIGHT + 8}" y="{ends[name] + 4:.1f}">{html.escape(name)}</text>' if points else ""
        parts.append(f'<g class="s{k % 3}"><polyline points="{line}"/>{dots}{label}</g>')
    title = html.escape(f"{chart.title} ({chart.unit})")
    return (
        f'<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg></figure>'
    )


def _step(span: float) -> float:
    """A round distance between some five lines."""
    rough = max(span, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _last(series: Sequence[float | None]) -> float | None:
    return next((v for v in reversed(series) if v is not None), None)


def _apart(places: Mapping[str, float], least: float = 16.0) -> dict[str, float]:
    """Heights moved down where two labels would touch."""
    found: dict[str, float] = {}
    below = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        found[name] = below = max(place, below + least)
    return found

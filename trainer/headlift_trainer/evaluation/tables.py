"""Tables as in papers: methods by metrics, the best in bold, what was not measured said so."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headlift_trainer.evaluation.records import Records
from headlift_trainer.metrics import HIGHER_IS_BETTER

ABSENT = "absent"
PAPER_METRICS = ("psnr", "ssim", "lpips", "dreamsim", "arcface")
_TITLES = {
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "dreamsim": "DreamSim",
    "arcface": "ArcFace",
    "csim": "CSIM",
    "iou": "IoU",
    "sharpness": "Sharpness",
}


@dataclass(frozen=True)
class Column:
    """One metric, perhaps of one group of views."""

    metric: str
    group: str = ""
    title: str = ""  # instead of the metric's own

    @property
    def heading(self) -> str:
        """Its title with an arrow to the better side."""
        if self.title:
            return self.title
        arrow = {True: " ↑", False: " ↓"}.get(HIGHER_IS_BETTER.get(self.metric, True), "")
        return _TITLES.get(self.metric, self.metric) + (arrow if self.metric in HIGHER_IS_BETTER else "")


@dataclass(frozen=True)
class Row:
    """One method."""

    label: str
    cells: tuple[float | None, ...]  # None: not measured
    published: bool = False  # from a paper, on its data: shown for reference, never the best
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A titled grid of numbers."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    first: str = "Method"
    mark_best: bool = True

    def texts(self) -> list[list[str]]:
        """Every cell as it is printed."""
        return [[cell_text(v, c, row) for v, c in zip(row.cells, self.columns, strict=True)] for row in self.rows]

    def best(self) -> list[set[int]]:
        """For each column, the rows that share its best value; none where only one row has a value."""
        found: list[set[int]] = []
        for i, column in enumerate(self.columns):
            texts = {r: row.cells[i] for r, row in enumerate(self.rows) if not row.published}
            known = {r: value for r, value in texts.items() if value is not None}
            if len(known) < 2 or not self.mark_best or column.metric not in HIGHER_IS_BETTER:
                found.append(set())
                continue
            choose = max if HIGHER_IS_BETTER[column.metric] else min
            found.append({r for r, value in known.items() if value == choose(known.values())})
        return found

    def markdown(self) -> str:
        """As GitHub shows it."""
        groups = any(column.group for column in self.columns)
        heads = [f"{c.group}: {c.heading}" if groups and c.group else c.heading for c in self.columns]
        lines = [f"**{self.title}**", "", _line([self.first, *heads]), _line(["---", *["---:"] * len(heads)])]
        best = self.best()
        for r, (row, texts) in enumerate(zip(self.rows, self.texts(), strict=True)):
            marked = [f"**{text}**" if r in best[i] else text for i, text in enumerate(texts)]
            lines.append(_line([_label(row), *marked]))
        return "\n".join([*lines, *(["", self.caption] if self.caption else [])])

    def html(self) -> str:
        """As a ``<figure>``; its looks are the page's."""
        spans = _spans([column.group for column in self.columns])
        top = "".join(f'<th colspan="{count}" scope="colgroup">{html.escape(group)}</th>' for group, count in spans)
        heads = "".join(f'<th scope="col">{html.escape(column.heading)}</th>' for column in self.columns)
        first = html.escape(self.first)
        grouped = any(group for group, _ in spans)
        rows = [f'<tr class="groups"><th></th>{top}</tr>'] if grouped else []
        rows.append(f'<tr><th scope="col">{first}</th>{heads}</tr>')
        body = []
        best = self.best()
        for r, (row, texts) in enumerate(zip(self.rows, self.texts(), strict=True)):
            cells = "".join(
                f"<td>{f'<b>{html.escape(text)}</b>' if r in best[i] else _muted(text)}</td>"
                for i, text in enumerate(texts)
            )
            kind = ' class="published"' if row.published else ""
            body.append(f'<tr{kind}><th scope="row">{html.escape(_label(row))}</th>{cells}</tr>')
        caption = f"<p>{html.escape(self.caption)}</p>" if self.caption else ""
        wide = ' class="wide"' if len(self.columns) > 8 else ""
        return (
            f'<figure class="table"><figcaption>{html.escape(self.title)}</figcaption><div class="scroll"><table{wide}>'
            f"<thead>{''.join(rows)}</thead><tbody>{''.join(body)}</tbody></table></div>{caption}</figure>"
        )

    def json(self) -> dict[str, Any]:
        """For machines; what was not measured is null."""
        columns = [{"metric": c.metric, "group": c.group, "title": c.heading} for c in self.columns]
        rows = [
            {"label": r.label, "values": list(r.cells), "published": r.published} | ({"note": r.note} if r.note else {})
            for r in self.rows
        ]
        return {"title": self.title, "columns": columns, "rows": rows, "caption": self.caption}


def cell_text(value: float | None, column: Column, row: Row | None = None) -> str:
    """A number as this metric is printed; a word where there is none."""
    if value is None:
        return "—" if row is not None and row.published else ABSENT
    if column.metric == "count":
        return f"{value:.0f}"
    if column.metric == "psnr":
        return f"{value:.1f}" if row is not None and row.published else f"{value:.2f}"
    return f"{value:.3f}"


def method_table(
    records: Records,
    title: str,
    *,
    groups: Sequence[tuple[str, str]] = (("novel", "Novel views"), ("extreme", "Extreme views")),
    metrics: Sequence[str] = PAPER_METRICS,
    published: Sequence[Row] = (),
    names: dict[str, str] | None = None,
    notes: dict[str, str] | None = None,
    caption: str = "",
) -> Table:
    """Tables 1, 3 and 4 of the paper: every method in the records by metrics in groups of views.

    Args:
        records: What was measured.
        title: Over the table.
        groups: Names of groups of views in the records, and what to call them.
        metrics: Columns of each group.
        published: Rows of a paper, put below for reference.
        names: What to call methods.
        notes: What to add to a method's name, such as how many of its pictures were missing.
        caption: Below the table.
    """
    columns = tuple(Column(metric, label) for _, label in groups for metric in metrics)
    rows = [
        Row(
            (names or {}).get(method, method),
            tuple(records.mean(metric, method=method, group=group) for group, _ in groups for metric in metrics),
            note=(notes or {}).get(method, ""),
        )
        for method in records.distinct("method")
    ]
    return Table(title, columns, (*rows, *published), caption)


def _label(row: Row) -> str:
    return row.label + (" (published)" if row.published else "") + (f" ({row.note})" if row.note else "")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _muted(text: str) -> str:
    return f'<span class="muted">{text}</span>' if text in (ABSENT, "—") else html.escape(text)


def _spans(groups: Sequence[str]) -> list[tuple[str, int]]:
    """Runs of equal groups and their lengths."""
    runs: list[tuple[str, int]] = []
    for group in groups:
        if runs and runs[-1][0] == group:
            runs[-1] = (group, runs[-1][1] + 1)
        else:
            runs.append((group, 1))
    return runs

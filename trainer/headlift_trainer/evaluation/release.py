"""The page about a set of weights: tables, charts and contact sheets from a synthetic evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headlift_trainer.evaluation.records import Records, rounded
from headlift_trainer.evaluation.report import Chart, Report, Tile
from headlift_trainer.evaluation.sheets import Sheet, Strip, chosen, strip
from headlift_trainer.evaluation.synthetic import FRONT, VIEW_NAMES, EvaluatedHead
from headlift_trainer.evaluation.tables import PAPER_METRICS, Column, Row, Table, method_table

NAMES = {
    "ours": "ours",
    "ours_sharpened": "ours, sharpened",
    "ours_refined": "ours + refinement",
    "ours_refined_sharpened": "ours + refinement, sharpened",
    "mean": "mean training head",
    "mean_refined": "mean training head + refinement",
    "nearest": "nearest training head",
    "truth": "truth",
}
GOALS = {"margin_db": 3.0, "extreme_drop_db": 0.7, "iou": 0.93}
_ORDER = ("truth", "ours", "ours_refined", "nearest", "mean", "mean_refined")  # what sheets show


class SheetKeeper:
    """Keeps every head's pictures small, so that the worst and the best can be shown when all are measured."""

    def __init__(self) -> None:
        self._strips: dict[str, tuple[Strip, ...]] = {}
        self._about: dict[str, str] = {}

    def __call__(self, evaluated: EvaluatedHead) -> None:
        """Observe one head; pictures from profiles are not kept."""
        if evaluated.input_view != FRONT:
            return
        order = list(_ROUND_BY_YAW)
        name = evaluated.head.name
        self._strips[name] = tuple(
            strip(NAMES.get(method, method), evaluated.pictures[method][order])
            for method in _ORDER
            if method in evaluated.pictures
        )
        self._about[name] = ", ".join(f"{k}: {v}" for k, v in evaluated.head.traits.items())

    def sheets(self, records: Records, each: int = 3) -> list[Sheet]:
        """The worst, some typical and the best heads by their novel and extreme views."""
        front = records.where(method="ours", input_view=VIEW_NAMES[FRONT])
        scores = front.where(keep=lambda row: row.group in ("novel", "extreme")).by_subject("psnr")
        views = tuple(VIEW_NAMES[i] for i in _ROUND_BY_YAW)
        return [
            Sheet(
                subject,
                f"{what.capitalize()}: head {subject}, {scores[subject]:.2f} dB",
                self._about[subject],
                views,
                self._strips[subject],
            )
            for subject, what in chosen(scores, each).items()
            if subject in self._strips
        ]


_ROUND_BY_YAW = (7, 4, 2, 0, 1, 3, 6, 5)  # -135, -90, -45, 0, 45, 90, 135, 180


def synthetic_tables(records: Records, metrics: Mapping[str, Any]) -> list[Table]:
    """All tables of a synthetic evaluation."""
    front = records.where(input_view=VIEW_NAMES[FRONT])
    whole = front.where(keep=lambda row: not row.method.endswith(("_refined", "_refined_sharpened")))
    groups = (("input", "Input view"), ("novel", "Novel views"), ("extreme", "Extreme views"))
    tables = [
        method_table(
            whole,
            "Held-out generated heads, front view in",
            metrics=(*PAPER_METRICS, "iou"),
            names=NAMES,
            caption=f"{counted(metrics['heads'], 'head')}. Novel: 45 and 90 degrees to both sides; "
            "extreme: 180 and 135 degrees.",
        ),
        _view_table(whole),
    ]
    variants = [name for name in front.distinct("method") if name not in NAMES]
    if variants:
        tables.append(_variant_table(front, variants))
    if "from_profile" in metrics:
        profile = records.where(keep=lambda row: row.input_view != VIEW_NAMES[FRONT])
        asked = (("input", "Input"), ("novel", "Front, 45°"), ("extreme", "Other profile"), ("back", "Back"))
        tables.append(
            method_table(profile, "From the left profile (90°)", groups=asked, metrics=("psnr", "iou"), names=NAMES)
        )
    if "refined" in metrics:
        subjects = set(front.where(method="ours_refined").distinct("subject"))
        same = front.where(keep=lambda row: row.subject in subjects)
        caption = f"{counted(len(subjects), 'head')}; every method on the same ones."
        tables.append(
            method_table(same, "With refinement", groups=groups, metrics=("psnr", "iou"), names=NAMES, caption=caption)
        )
    traits = [_trait_table(metrics)] if metrics["by_trait"] else []
    return [*tables, *traits, _time_table(metrics)]


def synthetic_report(metrics: Mapping[str, Any], records: Records, keeper: SheetKeeper) -> Report:
    """The whole page."""
    weights = metrics.get("weights", {})
    about = [
        f"{counted(metrics['heads'], 'dressed head')} of {metrics.get('identities', '?')} identities that nothing was "
        "trained on; "
        f"weights {weights.get('name', '?')} ({str(weights.get('sha256', ''))[:12]}).",
        "Each head is rebuilt from one picture with the model's own camera estimate and held against renders of the "
        "true head at the same views, over black. PSNR in dB is the mean over pictures.",
    ]
    notes = []
    if metrics["absent_metrics"]:
        notes.append(f"Not measured, because no weights were given: {', '.join(metrics['absent_metrics'])}.")
    series = {
        NAMES[method]: [metrics["by_view"][method][VIEW_NAMES[i]] for i in _ROUND_BY_YAW]
        for method in ("ours", "nearest", "mean")
        if method in metrics["by_view"]
    }
    chart = Chart("PSNR of each view, front view in", [VIEW_NAMES[i] for i in _ROUND_BY_YAW], series)
    return Report(
        "Headlift: held-out generated heads",
        about,
        metrics,
        tiles=_tiles(metrics),
        charts=[chart],
        tables=synthetic_tables(records, metrics),
        sheets=keeper.sheets(records),
        notes=notes,
    )


def _tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    margin, drop, iou = (metrics.get(name) for name in GOALS)
    tiles = [
        Tile(f"{metrics['novel_psnr']:.2f} dB", "novel views"),
        Tile(f"{metrics['extreme_psnr']:.2f} dB", "extreme views"),
    ]
    if margin is not None:
        goal = GOALS["margin_db"]
        tiles.append(Tile(f"{margin:+.2f} dB", f"over the better baseline (goal: {goal:+.1f})", margin >= goal))
    if drop is not None:
        goal = GOALS["extreme_drop_db"]
        tiles.append(Tile(f"{-drop:+.2f} dB", f"extreme against novel (goal: at least {-goal:+.1f})", drop <= goal))
    if iou is not None:
        tiles.append(Tile(f"{iou:.3f}", f"mask IoU (goal: {GOALS['iou']})", iou >= GOALS["iou"]))
    if "sharpness_after" in metrics:
        before, after = metrics["sharpness_before"], metrics["sharpness_after"]
        label = f"sharpness by the sharpener (truth: 1), {metrics['sharpening_gain_db']:+.2f} dB"
        good = after > before and metrics["sharpening_gain_db"] >= 0
        tiles.append(Tile(f"{before:.2f} → {after:.2f}", label, good))
    front = metrics["camera_error_deg"].get(VIEW_NAMES[FRONT])
    if front is not None:
        tiles.append(Tile(f"{front:.1f}°", "camera error, front view in"))
    return tiles


def _view_table(front: Records) -> Table:
    """PSNR of every view."""
    columns = tuple(Column("psnr", title=VIEW_NAMES[i]) for i in _ROUND_BY_YAW)
    rows = tuple(
        Row(
            NAMES.get(method, method),
            tuple(front.mean("psnr", method=method, view=VIEW_NAMES[i]) for i in _ROUND_BY_YAW),
        )
        for method in front.distinct("method")
    )
    return Table("PSNR by view, front view in", columns, rows)


def _variant_table(front: Records, variants: list[str]) -> Table:
    """The paper's Table 2: other weights on the same heads."""
    metrics = (*PAPER_METRICS, "iou", "sharpness")
    same = front.where(keep=lambda row: row.method in ("ours", "ours_sharpened", *variants))
    groups = (("novel", "Novel views"), ("extreme", "Extreme views"))
    return method_table(same, "Variants, front view in", groups=groups, metrics=metrics, names=NAMES)


def counted(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _trait_table(metrics: Mapping[str, Any]) -> Table:
    """Heads of one kind a row."""
    columns = (
        Column("count", title="Heads"),
        Column("psnr", title="Novel PSNR"),
        Column("psnr", title="Better baseline"),
        Column("psnr", title="Extreme PSNR"),
        Column("iou"),
    )
    keys = ("heads", "novel_psnr", "baseline_psnr", "extreme_psnr", "iou")
    rows = [
        Row(f"{trait}: {word}", tuple(row[key] for key in keys))
        for trait, words in metrics["by_trait"].items()
        for word, row in words.items()
    ]
    caption = "PSNR between rows differs with how bright the heads are; compare each with its own baseline."
    return Table("By kind of head, front view in", columns, tuple(rows), caption, first="Kind", mark_best=False)


def _time_table(metrics: Mapping[str, Any]) -> Table:
    """The paper's Table 5: what a picture costs here."""
    stages = metrics["timings_s"]
    columns = tuple(Column("seconds", title=stage.capitalize()) for stage in stages)
    row = Row("ours", tuple(rounded(value, "seconds") for value in stages.values()))
    caption = "Shortest of all runs on this machine; rendering and sharpening are for all eight views together."
    return Table("Seconds a head", columns, (row,), caption, first="Model", mark_best=False)

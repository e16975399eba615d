"""From records to the metrics of a release: the JSON that ``headlift eval synthetic`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headlift_trainer.evaluation.records import Records, rounded

BASELINES = ("mean", "nearest")
_GROUPS = ("input", "novel", "extreme")
_MORE_METRICS = ("ssim", "iou", "lpips", "dreamsim", "arcface", "csim")


def summarize(records: Records, camera_errors: Mapping[str, float], views: Sequence[str]) -> dict[str, Any]:
    """All metrics of a set of records; views are those of the rig, the input first."""
    front = records.where(input_view=views[0])
    summary: dict[str, Any] = {"heads": len(front.where(method="ours").distinct("subject"))}
    summary |= _headline(front)
    summary["camera_error_deg"] = {view: round(error, 2) for view, error in camera_errors.items()}
    summary["methods"] = {method: _all_metrics(front.where(method=method)) for method in front.distinct("method")}
    summary["by_view"] = {
        method: {view: rounded(front.mean("psnr", method=method, view=view)) for view in views}
        for method in front.distinct("method")
        if not method.endswith("_refined")
    }
    profile = records.where(keep=lambda row: row.input_view != views[0])
    if len(profile):
        summary["from_profile"] = _profile(profile)
    if "ours_refined" in front.distinct("method"):
        summary["refined"] = _refined(front)
    summary["by_trait"] = _by_trait(front)
    return summary


def _headline(front: Records) -> dict[str, Any]:
    """The metrics that a release is judged by."""
    ours = front.where(method="ours")
    summary: dict[str, Any] = {f"{group}_psnr": rounded(ours.mean("psnr", group=group)) for group in _GROUPS}
    for name in BASELINES:
        summary[f"baseline_{name}_psnr"] = rounded(front.mean("psnr", method=name, group="novel"))
        summary[f"baseline_{name}_extreme_psnr"] = rounded(front.mean("psnr", method=name, group="extreme"))
    best = max(front.mean("psnr", method=name, group="novel") or 0.0 for name in BASELINES)
    novel, extreme = ours.mean("psnr", group="novel"), ours.mean("psnr", group="extreme")
    if novel is not None and extreme is not None:
        summary |= {"margin_db": rounded(novel - best), "extreme_drop_db": rounded(novel - extreme)}
    summary["iou"] = rounded(ours.mean("iou"), "iou")
    summary |= {f"{group}_iou": rounded(ours.mean("iou", group=group), "iou") for group in _GROUPS}
    sharp = front.where(method="ours_sharpened")
    if len(sharp):
        summary["sharpened_novel_psnr"] = rounded(sharp.mean("psnr", group="novel"))
        summary["sharpening_gain_db"] = rounded((sharp.mean("psnr") or 0) - (ours.mean("psnr") or 0))
        summary["sharpness_before"] = rounded(ours.mean("sharpness"), "ratio")
        summary["sharpness_after"] = rounded(sharp.mean("sharpness"), "ratio")
    return summary


def _all_metrics(rows: Records) -> dict[str, Any]:
    """Group to metric to mean; a metric that nobody could measure is None, which is "absent" in print."""
    return {
        group: {metric: rounded(rows.mean(metric, group=group), metric) for metric in ("psnr", *_MORE_METRICS)}
        for group in _GROUPS
    }


def _profile(rows: Records) -> dict[str, Any]:
    """From the left profile: the front and the sides, the other profile, and the back."""
    groups = (*_GROUPS, "back")
    return {
        method: {f"{group}_psnr": rounded(rows.mean("psnr", method=method, group=group)) for group in groups}
        for method in rows.distinct("method")
    }


def _refined(front: Records) -> dict[str, Any]:
    """With refinement, on those heads alone that were refined, every method on the same ones."""
    subjects = set(front.where(method="ours_refined").distinct("subject"))
    same = front.where(keep=lambda row: row.subject in subjects)
    summary: dict[str, Any] = {"heads": len(subjects)}
    for method in same.distinct("method"):
        summary[method] = {f"{group}_psnr": rounded(same.mean("psnr", method=method, group=group)) for group in _GROUPS}
    return summary


def _by_trait(front: Records) -> dict[str, Any]:
    """Trait to word to heads and mean PSNR of the novel and extreme views, ours and the better baseline."""
    traits = {name for row in front for name in row.traits}
    summary: dict[str, Any] = {}
    for trait in sorted(traits):
        words = sorted({row.traits[trait] for row in front if trait in row.traits})
        if len(words) > 1:
            summary[trait] = {
                word: _group_row(front.where(keep=lambda row, t=trait, w=word: row.traits.get(t) == w))  # type: ignore[misc]
                for word in words
            }
    return summary


def _group_row(rows: Records) -> dict[str, Any]:
    baselines = [rows.mean("psnr", method=name, group="novel") for name in BASELINES]
    return {
        "heads": len(rows.where(method="ours").distinct("subject")),
        "novel_psnr": rounded(rows.mean("psnr", method="ours", group="novel")),
        "extreme_psnr": rounded(rows.mean("psnr", method="ours", group="extreme")),
        "baseline_psnr": rounded(max((b for b in baselines if b is not None), default=None)),
        "iou": rounded(rows.mean("iou", method="ours"), "iou"),
    }

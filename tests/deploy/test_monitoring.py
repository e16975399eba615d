"""Dashboards and alerts ask for what the code exports, and for nothing else."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import pytest
import yaml

from headlift.telemetry.instruments import Instrument
from headlift.telemetry.metrics import Metrics
from headlift.v1 import head_service_pb2

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them to whatever it fetches
OWN = {"up": set()}  # Prometheus' own metrics
LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}
VALUES = {
    "method": {f"HeadService/{m.name}" for m in head_service_pb2.DESCRIPTOR.services_by_name["HeadService"].methods},
    "code": {code.name for code in grpc.StatusCode},
    "outcome": {"hit", "miss", "corrupt"},
    "tier": {"hot", "durable"},
    "cached": {"true", "false"},
    "stage": {"preprocess", "encode", "decode", "refine", "render", "sharpen", "pack"},
    "reason": {"closed", "replaced", "deadline"},
}
TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*")|(?P<window>\[[^\]]*\])|(?P<time>\d+[smhdw]\b)|(?P<number>[\d.]+(?:e\d+)?)"""
    r"""|(?P<name>[A-Za-z_:][\w:]*)|(?P<match>=~|!~|!=|=)|(?P<sign>[^\s\w])|(?P<space>\s+)"""
)


def exported() -> dict[str, set[str]]:
    """Names as Prometheus stores them, and their labels."""
    fresh, found = Metrics(), {}
    fresh.watch_gpus(lambda: [("cuda:0", 1, 2)])
    for one in (v for v in vars(fresh).values() if isinstance(v, Instrument)):
        name, labels = one.description.name, set(one.description.labels)
        if one.description.kind == "histogram":
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[name] = labels
    for family in fresh.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set(sample.labels))
    return found


EXPORTED = exported()


def tokens(expr: str) -> list[tuple[str, str]]:
    found = [(m.lastgroup or "", m.group()) for m in TOKEN.finditer(expr)]
    assert "".join(text for _, text in found) == expr, f"not understood: {expr}"
    return [(kind, text) for kind, text in found if kind != "space"]


def selectors(expr: str) -> tuple[dict[str, list[tuple[str, str, str]]], set[str]]:
    """Metrics with their label matchers, and the labels that are grouped by."""
    found, grouped = {}, set()
    todo = tokens(expr)
    i = 0
    while i < len(todo):
        kind, text = todo[i]
        after = todo[i + 1][1] if i + 1 < len(todo) else ""
        if kind == "name" and text in LABEL_LISTS:
            end = next(j for j in range(i, len(todo)) if todo[j][1] == ")")
            grouped |= {t for k, t in todo[i + 1 : end] if k == "name"}
            i = end
        elif kind == "name" and after not in {"(", *LABEL_LISTS} and text not in WORDS:
            matchers = found.setdefault(text, [])
            if after == "{":
                end = next(j for j in range(i, len(todo)) if todo[j][1] == "}")
                inside = [t for t in todo[i + 2 : end] if t[1] != ","]
                assert len(inside) % 3 == 0, expr
                matchers += [(inside[j][1], inside[j + 1][1], inside[j + 2][1][1:-1]) for j in range(0, len(inside), 3)]
                i = end
        i += 1
    return found, grouped


def faults(expr: str) -> list[str]:
    """What an expression asks for and the code does not export."""
    found, grouped = selectors(expr)
    known, wrong = EXPORTED | OWN, []
    wrong += [f"no metric {name}" for name in found if name not in known]
    labels = set().union(*(known.get(name, set()) for name in found)) | TARGET_LABELS
    wrong += [f"no label {label}" for label in grouped - labels]
    for name, matchers in found.items():
        for label, how, value in matchers:
            if label not in known.get(name, set()) | TARGET_LABELS:
                wrong.append(f"{name} has no label {label}")
            elif label in VALUES:
                fits = [v for v in VALUES[label] if (re.fullmatch(value, v) if "~" in how else v == value)]
                wrong += [] if fits else [f"{label} is never {value}"]
    return wrong + ([] if found else ["asks for nothing"])


def panels(board):
    return [p for p in board["panels"] if p["type"] != "row"]


def expressions():
    for path in DASHBOARDS:
        for panel in panels(json.loads(path.read_text())):
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]
    for rule in ALERTS:
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expr"), list(expressions()), ids=[where for where, _ in expressions()])
def test_an_expression_asks_only_for_what_is_exported(where, expr):
    assert faults(expr) == [], where


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("rate(headlift_request_total[5m])", "no metric headlift_request_total"),
        ('headlift_queue_depth{tier="hot"}', "headlift_queue_depth has no label tier"),
        ("sum by (tenant) (headlift_queue_depth)", "no label tenant"),
        ("headlift_stage_seconds", "no metric headlift_stage_seconds"),
        ('headlift_requests_total{code="NOTFOUND"}', "code is never NOTFOUND"),
        ('headlift_request_seconds_count{method=~"RenderHead"}', "method is never RenderHead"),
        ("vector(1)", "asks for nothing"),
    ],
)
def test_the_check_finds_what_is_wrong(expr, wrong):
    assert wrong in faults(expr)


def test_every_metric_is_on_a_dashboard_and_measured_somewhere():
    asked = " ".join(expr for _, expr in expressions())
    code = "\n".join(p.read_text() for p in (ROOT / "services/headlift").rglob("*.py") if p.parent.name != "telemetry")
    code += (ROOT / "services/headlift/telemetry/rpc.py").read_text()
    for attribute, one in vars(Metrics()).items():
        if isinstance(one, Instrument) and not attribute.startswith("_"):
            assert one.description.name in asked, f"nobody looks at {one.description.name}"
            assert re.search(rf"\.{attribute}\b", code), f"nothing measures {one.description.name}"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_a_dashboard_can_be_imported_as_it_is(path):
    board = json.loads(path.read_text())
    assert board["uid"] == f"headlift-{path.stem}"
    assert board["title"] == f"Headlift / {path.stem.capitalize()}"
    ids = [p["id"] for p in board["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in board["panels"]:
        box = panel["gridPos"]
        cells = {(x, y) for x in range(box["x"], box["x"] + box["w"]) for y in range(box["y"], box["y"] + box["h"])}
        assert box["x"] + box["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels(board):
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            found, _ = selectors(target["expr"])
            assert all(("job", "=", "$job") in matchers for matchers in found.values()), panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda p: p.stem)
def test_legends_name_labels_that_are_left(path):
    for panel in panels(json.loads(path.read_text())):
        for target in panel["targets"]:
            found, grouped = selectors(target["expr"])
            left = grouped or set().union(*(EXPORTED[name] for name in found)) | TARGET_LABELS
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= left, panel["title"]


@pytest.mark.parametrize("rule", ALERTS, ids=lambda r: r["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["runbook"]) > 20
    found, grouped = selectors(rule["expr"])
    aggregated = re.search(r"\b(sum|max|count|min|avg)\b", rule["expr"])
    left = grouped if aggregated else set().union(*((EXPORTED | OWN)[name] for name in found)) | TARGET_LABELS
    told = " ".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", told)) <= left
    names = {r["alert"] for r in ALERTS}
    assert set(re.findall(r"\bHeadlift[A-Z]\w+", told)) <= names


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian package prometheus) is not installed")
@pytest.mark.parametrize(
    "argv",
    [
        ["check", "config", "deploy/prometheus/prometheus.yml"],
        ["check", "rules", "deploy/prometheus/alerts.yml"],
        ["test", "rules", "tests/deploy/alerts_test.yaml"],
    ],
    ids=" ".join,
)
def test_prometheus_own_tool_agrees(argv):
    done = subprocess.run(["promtool", *argv], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr

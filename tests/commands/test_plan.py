import json

import pytest

from headlift.cli import main

DAILY = "1,000,000 portraits a day, 100 steps"


def run(capsys, *argv):
    code = main(["plan", *argv])
    return code, capsys.readouterr().out


def test_the_loads_that_were_asked_about_are_planned_on_cpus_and_gpus(capsys):
    code, out = run(capsys, "--json")
    found = json.loads(out)
    assert code == 0
    assert [(p["load"]["name"], p["on"]) for p in found["plans"]] == [
        (name, on)
        for name in (*(f"{n} live sessions" for n in ("10", "1,000", "100,000")), DAILY)
        for on in ("cpu", "gpu")
    ]  # fmt: skip
    small, _, large = (p for p in found["plans"] if p["on"] == "gpu" and "live" in p["load"]["name"])
    assert 0 < small["month"] < large["month"] / 1000
    assert found["costs"][1]["where"].startswith("ASSUMED")


def test_what_was_measured_takes_the_place_of_what_is_shipped(capsys, tmp_path):
    cell = {"p50_ms": 1.0, "rps": 100.0, "cpu_ms": 7.0, "failed": 0}
    busy = cell | {"rps": 500.0, "cpu_ms": 5.0}
    calls = {kind: {"1": cell, "8": busy} for kind in ("get", "render", "create")}
    (tmp_path / "serve.json").write_text(json.dumps({"embedded": {}, "ray-fused": calls}))
    portrait = {"reconstruct_ms": 1000.0, "refined_ms": 2000.0, "render_ms": 30.0, "cpu_count": 4}
    (tmp_path / "portrait.json").write_text(json.dumps(portrait))
    serve, alone = str(tmp_path / "serve.json"), str(tmp_path / "portrait.json")
    cpu, gpu = json.loads(run(capsys, "--json", "--cpu", alone, serve, "--gpu", serve)[1])["costs"]
    assert (cpu["view_s"], cpu["portrait_s"], cpu["call_s"]) == (0.005, 0.005, 0.005)  # CPU time at most load
    assert cpu["step_s"] == pytest.approx(0.04)  # a second of four cores for a hundred steps
    assert (gpu["view_s"], gpu["portrait_s"], gpu["call_s"]) == (0.002, 0.002, 0.005)  # one GPU answered 500 a second
    assert cpu["where"] == "measured: portrait.json, serve.json"


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "nothing", '{"embedded": {"render": {}}}', '{"ray-fused": {"get": {}}}', '{"reconstruct_ms": 1}'],
)
def test_a_file_that_no_bench_printed_is_told(capsys, tmp_path, text):
    path = tmp_path / "figures.json"
    path.write_text(text)
    code, out = run(capsys, "--json", "--cpu", str(path))
    assert code == 3
    assert "figures.json" in json.loads(out)["error"]["message"]


def test_the_table_says_what_is_assumed(capsys):
    out = run(capsys, "--sessions", "10")[1]
    assert "ASSUMED" in out
    assert "10 live sessions" in out
    assert "Prices are examples" in out


def test_a_node_without_cores_is_told(capsys):
    code, out = run(capsys, "--json", "--cpu-node-cores", "0")
    assert code == 3
    assert "cpu_node_cores" in json.loads(out)["error"]["message"]


def test_wrong_amounts_are_wrong_usage(capsys):
    with pytest.raises(SystemExit) as left:
        main(["plan", "--views", "-1"])
    assert left.value.code == 2

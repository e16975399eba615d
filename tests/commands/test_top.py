import json

import pytest

from headlift.cli import main
from headlift.telemetry.exposition import MetricsServer
from headlift.telemetry.metrics import Metrics


@pytest.fixture
def address():
    """The metrics port of a process that has served a little."""
    fresh = Metrics()
    fresh.set_build_info(version="1.2", weights_hash="abcdef", config="mini", runtime="embedded")
    for _ in range(20):
        fresh.requests.inc(method="HeadService/RenderHead", code="OK")
        fresh.request_seconds.observe(0.03, method="HeadService/RenderHead")
    fresh.requests.inc(method="HeadService/RenderHead", code="RESOURCE_EXHAUSTED")
    fresh.errors.inc(reason="OVERLOADED")
    fresh.requests_running.set(2, method="HeadService/RenderHead")
    fresh.stage_seconds.observe(0.02, stage="render", cached="false")
    fresh.queue_capacity.set(64, pool="rendering")
    fresh.queue_running.set(2, pool="rendering")
    fresh.queue_depth.set(7, pool="rendering")
    for outcome, count in (("hit", 3), ("miss", 1)):
        fresh.cache_reads.inc(count, tier="hot", stage="render", outcome=outcome)
    fresh.breaker_open.set(1, tier="hot")
    fresh.live_sessions.set(5)
    fresh.watch_gpus(lambda: [("cuda:0", 1 << 30, 4 << 30)])
    with MetricsServer(0, source=fresh) as server:
        yield f"http://127.0.0.1:{server.port}/metrics"


def test_once_tells_a_machine_everything(capsys, address):
    assert main(["top", "--metrics", address, "--once", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    method = shown["methods"][0]
    assert (method["method"], method["running"]) == ("HeadService/RenderHead", 2)
    assert method["requests_s"] == pytest.approx(21 * method["errors_s"])
    assert 25 <= method["p50_ms"] <= method["p95_ms"] <= 50
    assert (shown["queues"][0]["waiting"], shown["queues"][0]["capacity"]) == (7, 64)
    assert shown["caches"][0]["hit_ratio"] == 0.75
    assert shown["caches"][0]["skipped"] is True
    assert shown["live"]["sessions"] == 5
    assert shown["memory"]["gpus"] == [{"device": "cuda:0", "used": 2**30, "total": 2**32}]
    assert shown["errors"] == {"OVERLOADED": 1}


def test_once_tells_a_person_in_lines_of_one_width_per_table(capsys, address):
    assert main(["top", "--metrics", address, "--once"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    for wanted in ("headlift 1.2  mini abcdef embedded", "HeadService/RenderHead", "75%", "1.0 GiB", "1 OVERLOADED"):
        assert wanted in out
    head, row = (line for line in out.splitlines() if line.startswith(("QUEUE", "rendering")))
    assert len(head) == len(row)


def test_without_once_it_looks_again_until_it_is_interrupted(capsys, address, monkeypatch):
    looks = []

    def wait(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("headlift.commands.top.time.sleep", wait)
    assert main(["top", "--metrics", address, "--interval", "0.5", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert lines[1]["methods"][0]["requests_s"] == 0.0
    assert lines[1]["methods"][0]["p50_ms"] is None
    assert looks == [0.5] * 3


def test_on_a_terminal_it_draws_in_place_and_gives_the_screen_back(capsys, address, monkeypatch):
    def wait(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("headlift.commands.top.time.sleep", wait)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["top", "--metrics", address]) == 0
    out = capsys.readouterr().out
    assert out.startswith("\x1b[?1049h")
    assert out.endswith("\x1b[?1049l")
    assert "HeadService/RenderHead" in out


@pytest.mark.parametrize(
    ("argv", "code", "word"),
    [
        (["--metrics", "http://127.0.0.1:9/metrics"], 4, "--metrics-port"),
        (["--metrics", "file:///etc/hostname"], 3, "http://HOST:PORT"),
        (["--metrics", "http://127.0.0.1:9", "--interval", "0"], 3, "0.1 seconds"),
        (["--metrics", "http://127.0.0.1:9", "--interval", "nan"], 3, "0.1 seconds"),
    ],
)
def test_what_cannot_be_shown_is_said_in_words(capsys, argv, code, word):
    assert main(["top", "--once", *argv]) == code
    assert word in capsys.readouterr().err

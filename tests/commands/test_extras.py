"""What is missing is named with the extra that brings it, whatever the command."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from headlift.commands.extras import EXTRAS, missing_extra

EXTRAS_OF_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]
# Where import and distribution are called differently.
DISTRIBUTIONS = {"opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-grpc", "skimage": "scikit-image"} | {
    "open_clip": "open_clip_torch",
    "pxr": "usd-core",
}
WITH_THE_DEMO = ("skimage", "starlette", "uvicorn", "websockets")

# Runs commands, one a line of stdin, where some modules cannot be imported.
BLOCKED_RUN = """
import sys, traceback
blocked = sys.argv[1].split(",")
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{b}.") for b in blocked):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from headlift.cli import main
for line in sys.stdin.read().splitlines():
    print("code", main(line.split()), file=sys.stderr, flush=True)
"""


def brought_by(extra: str) -> set[str]:
    """Distributions that an extra names, those of the extras in it included."""
    found = set()
    for requirement in EXTRAS_OF_PROJECT[extra]:
        name, inner = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement).groups()
        if name == "headlift":
            found |= set().union(*(brought_by(one) for one in inner.split(",")))
        else:
            found.add(name)
    return found


def distribution(module: str) -> str:
    return DISTRIBUTIONS.get(module, module.replace(".", "-"))


def test_the_table_is_what_the_project_offers():
    for module, extras in EXTRAS.items():
        for extra in extras:
            assert distribution(module).replace("_", "-") in {d.replace("_", "-") for d in brought_by(extra)}, module
    named = {distribution(module).replace("_", "-") for module in EXTRAS}
    for extra in set(EXTRAS_OF_PROJECT) - {"dev"}:
        assert {d.replace("_", "-") for d in brought_by(extra)} <= named, extra


def test_a_fault_of_ours_is_not_called_a_missing_package():
    assert missing_extra(ModuleNotFoundError("x", name="headlift.nothing"), training=False) is None
    assert missing_extra(ModuleNotFoundError("x"), training=False) is None


@pytest.mark.slow
def test_with_the_demos_extras_alone_every_command_says_what_it_needs(tmp_path):
    (tmp_path / "shards").mkdir()
    commands = {
        f"synth --preview {tmp_path}/p.png --source procedural": "train",
        f"data check {tmp_path}/shards": "train",
        f"train everything --out {tmp_path}/run": "train",
        "eval synthetic": "train",
        "serve --runtime ray": "ray",
        "bench serve --runtimes ray-fused": "ray",
        f"batch {tmp_path}/none.csv --out {tmp_path}/batch": "ray",
        "serve --otlp-endpoint http://127.0.0.1:1 --port 0": "otlp",
    }
    blocked = ",".join(m for m in EXTRAS if m not in WITH_THE_DEMO)
    # Servers that a command starts have the same extras as the command.
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(
        BLOCKED_RUN.partition("from headlift")[0].replace("sys.argv[1]", repr(blocked))
    )
    python_path = [str(tmp_path / "site"), *filter(None, sys.path)]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED_RUN, blocked],
        input="\n".join(commands),
        env={"PYTHONPATH": ":".join(python_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert re.findall(r"^code (\d+)$", done.stderr, re.M) == ["5"] * len(commands), done.stderr
    assert re.findall(r"'?headlift\[(\w+)\]", done.stderr) == list(commands.values()), done.stderr

"""The net under every move of code: heads of the served chain, bit for bit, and what each of them costs.

Digests hold where they were taken (processor, torch, instruction set of the rasteriser); elsewhere sums of the same
fields are compared within a tolerance. After a change that is meant to change heads, run
``python tests/golden/test_served_chain.py`` and commit what it writes, with a word on why.

Pretrained models are off: the record is of what Headlift makes with nothing but what it ships.

Portraits: three heads of our own procedural generator: from the front, turned, and cut off at borders.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from headlift.backend.local import LocalBackend, local_backend
from headlift.model.passes import counted_passes
from headlift.model.splat import native
from headlift.model.types import Gaussians, Portrait
from headlift.settings import Settings

FOLDER = Path(__file__).parent
RECORD = FOLDER / "served_chain.json"
PORTRAITS = ("front", "turned", "cut")
FIELDS = ("means", "quats", "scales", "opacities", "colors")
REFINE_STEPS = 6


def processor() -> str:
    """What bits depend on: kernels are chosen by it."""
    names = [line.split(":", 1)[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    best = "reference" if native.unavailable_because() else native.instruction_sets()[-1]
    parts = (names[0] if names else platform.processor(), f"torch {torch.__version__}", best)
    return ", ".join(parts)


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


def described(head: Gaussians) -> dict[str, Any]:
    """A digest of every field, and numbers that say the same within a tolerance."""
    found: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(head, name).detach().cpu().contiguous()
        weights = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).view_as(value)  # order counts, too
        sums = [float(value.double().mean()), float(value.double().std()), float((value.double() * weights).mean())]
        found[name] = {"sha256": hashlib.sha256(value.numpy().tobytes()).hexdigest(), "sums": sums}
    return found


def heads_of(backend: LocalBackend, tiny: LocalBackend) -> dict[str, Any]:
    """Every head of the record, with the passes of its making."""
    found: dict[str, Any] = {}
    for name in PORTRAITS:
        picture = (FOLDER / "portraits" / f"{name}.png").read_bytes()
        with counted_passes() as passes:
            portrait = backend.stage_preprocess(picture).portrait
            made = backend.stage_reconstruct(portrait)
        found[name] = {"head": described(made.gaussians), "passes": passes}
        if name == "front":
            refined = backend.stage_reconstruct(portrait, tokens=made.tokens, refine_steps=REFINE_STEPS)
            found["front refined"] = {"head": described(refined.gaussians)}
    generator = torch.Generator().manual_seed(0)
    alpha = torch.zeros(1, 64, 64)
    alpha[:, 12:60, 14:50] = 1
    image = torch.rand(3, 64, 64, generator=generator) * alpha
    noise = Portrait(image, alpha, torch.eye(3, dtype=torch.float64)[:2])
    found["tiny"] = {"head": described(tiny.stage_reconstruct(noise, refine_steps=2).gaussians)}
    return found


def backend_of(weights: Path | None = None) -> LocalBackend:
    return local_backend(Settings(weights=weights, device="cpu", models="off"))


@pytest.fixture(scope="module")
def made(tiny_checkpoint: Path) -> Mapping[str, Any]:
    return heads_of(backend_of(), backend_of(tiny_checkpoint))


@pytest.fixture(scope="module")
def record() -> Mapping[str, Any]:
    return dict(json.loads(RECORD.read_text()))


@pytest.mark.parametrize("name", [*PORTRAITS, "front refined", "tiny"])
def test_every_field_of_a_head_is_what_it_was(name: str, made: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    for field in FIELDS:
        ours, known = made[name]["head"][field], record["heads"][name]["head"][field]
        if processor() == record["processor"]:
            assert ours["sha256"] == known["sha256"], f"{name}: {field} changed"
        assert ours["sums"] == pytest.approx(known["sums"], rel=2e-2, abs=2e-4), f"{name}: {field} changed"


@pytest.mark.parametrize("name", PORTRAITS)
def test_a_head_costs_what_it_did(name: str, made: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    assert made[name]["passes"] == record["heads"][name]["passes"]


def test_the_same_portrait_gives_the_same_bits_again(made: Mapping[str, Any]) -> None:
    backend = backend_of()
    portrait = backend.stage_preprocess((FOLDER / "portraits" / "cut.png").read_bytes()).portrait
    assert described(backend.stage_reconstruct(portrait).gaussians) == made["cut"]["head"]


def main() -> None:
    """Take the record anew."""
    import sys
    import tempfile

    sys.path.insert(0, str(FOLDER.parent))
    from conftest import tiny_weights

    with tempfile.TemporaryDirectory() as folder:
        heads = heads_of(backend_of(), backend_of(tiny_weights(Path(folder))))
    text = json.dumps({"processor": processor(), "heads": heads}, indent=1, sort_keys=True)
    RECORD.write_text(text + "\n")


if __name__ == "__main__":
    main()

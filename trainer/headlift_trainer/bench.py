"""How fast training is here (``headlift bench train``): samples a second, where the time goes, share of the peak.

Networks have random weights and pictures are noise, so nothing needs to be fetched: the arithmetic is that of a run.
The peak is measured in the same process, by a large matrix product in the same type of number. Floating-point
operations are torch's count of matrix products, convolutions and attention; splatting is not among them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.flop_counter import FlopCounterMode

from headlift.model.cameras import orbit_cameras
from headlift.model.perchead.config import EncoderConfig
from headlift.model.sizes import HeadModelConfig, build_model, named_config
from headlift.model.splat.rasterize import available_backends
from headlift.pretrained.dinov2 import ARCHITECTURES, Dinov2
from headlift_trainer.collective import Collective, WorkerRank
from headlift_trainer.datasets.interface import PictureSample
from headlift_trainer.device import torch_device
from headlift_trainer.perceptual import Framing, PerceptualLoss, PictureTerm, dino_loss, l1_loss
from headlift_trainer.profiler import measured
from headlift_trainer.schedule import Precision, Schedule
from headlift_trainer.tasks.reconstruction import ReconstructionTask
from headlift_trainer.template.build import builtin_template
from headlift_trainer.train_state import TrainState

PHASES = ("data", "network", "splatting", "loss", "optimiser", "other")
LossName = Literal["l1", "dino"]
_DINO_LAYERS, _DINO_SIDE = (8, 11), 504


class NoisePictures:
    """Noise as portraits, seen by cameras around the head: the work of a data set without its files."""

    name = "noise"

    def __init__(self, size: int, target_size: int) -> None:
        self._size, self._target_size = size, target_size

    def __len__(self) -> int:
        return 1

    def sample(self, generator: torch.Generator, views: int) -> PictureSample:
        """A fresh one."""
        yaws = (360 * torch.rand(views + 1, generator=generator) - 180).tolist()
        cameras = orbit_cameras(yaws, width=self._target_size, height=self._target_size)
        picture = torch.rand(4, self._size, self._size, generator=generator)
        picture[3] = 1.0
        targets = torch.rand(views + 1, 4, self._target_size, self._target_size, generator=generator)
        return PictureSample(picture, cameras[0], targets, cameras, "noise", ("noise",) * len(cameras))


@dataclass(frozen=True)
class BenchTask:
    """What is measured."""

    model: str = "mini"
    loss: LossName = "l1"
    batch_size: int = 2
    target_views: int = 3
    target_size: int = 256  # pixels
    precision: Precision = "fp32"
    checkpoint_activations: bool = False


def bench_train(what: BenchTask, *, steps: int = 5, device: torch.device | None = None) -> dict[str, float | int | str]:
    """Time whole training steps; the fastest counts.

    Args:
        what: The task.
        steps: Of which the fastest counts; one more goes before as a warm-up.
        device: None takes the GPU where there is one.

    Returns:
        samples_per_s (heads), views_per_s, step_ms, ``PHASE_ms`` for each of `PHASES` (they add up to step_ms; backward
        is counted in its own phase), flops_per_step, peak_flops_per_s, share_of_peak (0..1), device, backend, threads.
    """
    device = device or torch_device("auto")
    state = TrainState(_task(what, device), _schedule(what), WorkerRank(), Collective(WorkerRank()))
    state.advance()
    with FlopCounterMode(display=False) as counter:
        state.advance()
    timed = [_timed_step(state) for _ in range(steps)]
    step_s, phases = min(timed, key=lambda pair: pair[0])
    flops = float(counter.get_total_flops())
    peak = peak_flops(device, torch.bfloat16 if what.precision == "bf16" else torch.float32)
    return {
        "samples_per_s": what.batch_size / step_s,
        "views_per_s": what.batch_size * (what.target_views + 1) / step_s,
        "step_ms": 1e3 * step_s,
        **{f"{name}_ms": 1e3 * phases.get(name, 0.0) for name in PHASES},
        "flops_per_step": flops,
        "peak_flops_per_s": peak,
        "share_of_peak": flops / step_s / peak,
        "model": what.model,
        "loss": what.loss,
        "precision": what.precision,
        "batch_size": what.batch_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "backend": available_backends()[0],
        "threads": torch.get_num_threads(),
    }


def peak_flops(device: torch.device, dtype: torch.dtype, *, repeats: int = 5) -> float:
    """Operations a second of a large square matrix product: what this device reaches at best."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, device=device, dtype=dtype)
    best = math.inf
    for _ in range(repeats + 1):  # the first is a warm-up, and never the best
        _wait(device)
        begin = time.perf_counter()
        torch.mm(a, a)
        _wait(device)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * side**3 / best


def _timed_step(state: TrainState) -> tuple[float, dict[str, float]]:
    """Seconds of a step, whole and by phase."""
    with measured() as profiler:
        state.advance()
        profiler.event("other")
    return sum(profiler.seconds.values()), profiler.seconds


def _task(what: BenchTask, device: torch.device) -> ReconstructionTask:
    config = named_config(what.model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(config, builtin_template(), _random_backbone(config, device)).to(device).train()
        objective = PerceptualLoss({what.loss: (1.0, l1_loss() if what.loss == "l1" else _random_dino(device))})
    source = NoisePictures(config.portrait_size, what.target_size)
    return ReconstructionTask(
        model,
        source,
        source,
        objective,
        name="bench",
        batch_size=what.batch_size,
        target_views=what.target_views,
        held_out_heads=1,
    )


def _random_backbone(config: HeadModelConfig, device: torch.device) -> Dinov2 | None:
    encoder = config.encoder
    if not isinstance(encoder, EncoderConfig):
        return None
    return _filled(Dinov2(ARCHITECTURES[encoder.backbone], encoder.backbone_layers, encoder.layer_convention), device)


def _random_dino(device: torch.device) -> PictureTerm:
    network = _filled(Dinov2(ARCHITECTURES["dinov2_vits14"], _DINO_LAYERS, "hf"), device)
    return dino_loss(network.eval().requires_grad_(False), framing=Framing(_DINO_SIDE), weighting="kinds")


def _filled(network: Dinov2, device: torch.device) -> Dinov2:
    """Random weights: a fresh `Dinov2` holds whatever memory held, for a file to replace."""
    network.vit.init_weights()
    return network.to(device)


def _schedule(what: BenchTask) -> Schedule:
    return Schedule(
        steps=1_000_000, precision=what.precision, checkpoint_activations=what.checkpoint_activations, warmup_steps=1
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

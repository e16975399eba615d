"""How fast the rasteriser is on this machine, against its oracle in the same run (``headlift bench splat``)."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

import torch

from headlift.model.cameras import orbit_cameras
from headlift.model.splat import native
from headlift.model.splat.rasterize import available_backends, rasterize
from headlift.model.types import HEAD_CENTER, Gaussians, RenderedViews

TOLERANCE = 1e-4  # a pixel value that is farther from the oracle's counts as differing


def head_cloud(count: int = 65_536, seed: int = 0) -> Gaussians:
    """A head-like cloud: a shell of small discs on an ellipsoid of a head's size, half of them nearly opaque.

    Args:
        count: Number of Gaussians.
        seed: The same seed gives the same cloud.
    """
    g = torch.Generator().manual_seed(seed)
    i = torch.arange(count) + 0.5
    polar, turn = torch.arccos(1 - 2 * i / max(count, 1)), math.pi * (1 + math.sqrt(5)) * i
    directions = torch.stack([turn.cos() * polar.sin(), polar.cos(), turn.sin() * polar.sin()], dim=-1)
    order = torch.randperm(count, generator=g)
    shell = directions * (1 + 0.02 * torch.randn(count, 1, generator=g)) * torch.tensor([0.115, 0.148, 0.133])
    spacing = 0.148 * math.sqrt(4 * math.pi / max(count, 1))  # m, between neighbours
    scales = spacing * torch.exp(torch.empty(count, 3).uniform_(math.log(0.45), math.log(0.9), generator=g))
    kind = torch.rand(count, generator=g)
    low = torch.where(kind < 0.5, 0.7, torch.where(kind < 0.8, 0.2, 0.01))
    high = torch.where(kind < 0.5, 0.99, torch.where(kind < 0.8, 0.7, 0.2))
    waves = torch.sin(directions * torch.tensor([7.0, 11.0, 9.0]) + torch.tensor([0.0, 1.0, 2.0]))
    colors = 0.5 + 0.35 * waves + 0.1 * torch.randn(count, 3, generator=g)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=g), dim=-1)
    return Gaussians(
        means=(shell + torch.tensor(HEAD_CENTER))[order],
        quats=quats,
        scales=scales,
        opacities=low + (high - low) * torch.rand(count, generator=g),
        colors=colors.clamp(0, 1)[order],
    )


def _best_ms(action: Callable[[], object], repeats: int) -> float:
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def _resident_mb() -> float:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:  # no such file outside Linux
        return math.nan


def peak_extra_mb(action: Callable[[], object]) -> float:
    """How far the process grows while ``action`` runs, MB; sampled, not a number outside Linux."""
    before = _resident_mb()
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.0005):
            peak = max(peak, _resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        action()
    finally:
        done.set()
        watcher.join()
    return max(peak, _resident_mb()) - before


def _differing_fraction(ours: RenderedViews, oracle: RenderedViews) -> float:
    far = [((getattr(ours, n) - getattr(oracle, n)).abs() > TOLERANCE).flatten() for n in ("rgb", "alpha", "depth")]
    return float(torch.cat(far).float().mean())


def splat_forward_ms(*, count: int = 65_536, size: int = 512, repeats: int = 30) -> float:
    """Fastest of ``repeats`` pictures of a head-like cloud, ms."""
    device = "cuda" if "gsplat" in available_backends() else "cpu"
    cloud, camera = head_cloud(count).to(device), orbit_cameras([17.0], width=size, height=size).to(device)
    with torch.no_grad():
        return _best_ms(lambda: rasterize(cloud, camera), repeats)


def bench_splat(*, count: int = 65_536, size: int = 512, repeats: int = 50) -> dict[str, float | int | str]:
    """Time one picture of a head-like cloud, its gradient and the oracle's picture.

    Args:
        count: Gaussians.
        size: Picture side, pixels.
        repeats: Of which the fastest counts; the oracle gets five, two of them on one thread.

    Returns:
        forward_ms, forward_backward_ms (projection and all inputs included), ratio_to_oracle (its forward time over
        ours), differing_fraction (of pixel values more than 1e-4 off the oracle's), peak_extra_mb (growth of the
        process during a render), backend, threads, isa.
    """
    device = "cuda" if "gsplat" in available_backends() else "cpu"
    cloud, camera = head_cloud(count).to(device), orbit_cameras([17.0], width=size, height=size).to(device)
    backend = available_backends()[0]
    weights = torch.randn(5, size, size, generator=torch.Generator().manual_seed(1)).to(device)
    leaves = [getattr(cloud, n).requires_grad_() for n in ("means", "quats", "scales", "opacities", "colors")]

    def forward() -> RenderedViews:
        with torch.no_grad():
            return rasterize(cloud, camera)

    def forward_backward() -> None:
        views = rasterize(cloud, camera)
        torch.autograd.grad([views.rgb, views.alpha], leaves, [weights[None, :3], weights[None, 3:4]])

    peak = peak_extra_mb(forward)
    forward_ms = _best_ms(forward, repeats)
    forward_backward_ms = _best_ms(forward_backward, repeats)
    with torch.no_grad():
        oracle: list[RenderedViews] = []
        # Several runs, on one thread too: a cold start, or threads that cost more than they bring, would flatter us.
        draw = lambda: oracle.append(rasterize(cloud, camera, backend="reference"))  # noqa: E731
        threads = torch.get_num_threads()
        oracle_ms = _best_ms(draw, 3)
        torch.set_num_threads(1)
        oracle_ms = min(oracle_ms, _best_ms(draw, 2))
        torch.set_num_threads(threads)
    return {
        "forward_ms": forward_ms,
        "forward_backward_ms": forward_backward_ms,
        "ratio_to_oracle": oracle_ms / forward_ms,
        "differing_fraction": _differing_fraction(forward(), oracle[0]),
        "peak_extra_mb": peak,
        "backend": backend,
        "threads": torch.get_num_threads(),
        "isa": native.instruction_sets()[-1] if backend == "native" else "none",
    }

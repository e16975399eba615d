"""plan: how many replicas, nodes and how much money a load takes, from what ``headlift bench`` measured."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from headlift.commands.capacity import Costs, Load, Plan, Prices, daily, live, plan
from headlift.commands.session import Subparsers, add_command, emit
from headlift.errors import InvalidInputError

# `bench serve --runtimes embedded --concurrency 1`: CPU time of all processes, on cores that other work shared. The
# step is from `bench portrait`: two cores for what a hundred steps take longer.
CPU = Costs(
    where="measured on two busy cores of an AMD EPYC (Zen 4), weights mini, embedded",
    gpu=False,
    view_s=0.086,
    portrait_s=1.14,
    step_s=0.037,
    call_s=0.0013,
)
# No cluster with GPUs has been measured. The numbers are what the design aims for on an H200 (a floor of arithmetic
# and memory traffic, times three to ten), for the paper's base network; host numbers were measured on a CPU.
GPU = Costs(
    where="ASSUMED for one H200, weights base: never measured",
    gpu=True,
    view_s=0.001,
    portrait_s=0.012,
    step_s=0.004,
    call_s=CPU.call_s,
    host_view_s=0.003,
    host_portrait_s=0.100,
)
_RUNTIMES = ("ray-fused", "ray-split", "embedded")  # of a bench; the first that is there counts
_REFINE_STEPS = 100  # of `bench portrait`


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "plan", "replicas, nodes and money for a load, from measured costs", show)
    parser.add_argument("--sessions", nargs="*", type=_count, default=[10, 1_000, 100_000], metavar="N", help="live")
    parser.add_argument("--portraits", nargs="*", type=_count, default=[1_000_000], metavar="N", help="a day")
    load = parser.add_argument_group("load")
    load.add_argument("--views", type=_amount, default=15.0, help="that a session sees a second (default: 15)")
    load.add_argument("--new-heads", type=_amount, default=0.1, help="that a session makes a minute (default: 0.1)")
    load.add_argument("--view-kb", type=_amount, default=30.0, help="size of a view, JPEG at 512x512 (default: 30)")
    load.add_argument("--head-kb", type=_amount, default=1100.0, help="size of a head that is fetched (default: 1100)")
    load.add_argument("--refine-steps", type=_count, default=_REFINE_STEPS, help="of portraits (default: 100)")
    load.add_argument("--spare", type=_count, default=1, help="replicas more than needed, each kind (default: 1)")
    costs = parser.add_argument_group("costs")
    costs.add_argument(
        "--cpu", nargs="+", type=Path, default=[], metavar="FILE", help="JSON of bench serve, bench portrait"
    )
    costs.add_argument(
        "--gpu", nargs="+", type=Path, default=[], metavar="FILE", help="the same from a machine with one GPU"
    )
    prices = parser.add_argument_group("prices (examples only)")
    for name, value in asdict(Prices()).items():
        kind = type(value) if not isinstance(value, float) else _amount
        prices.add_argument(f"--{name.replace('_', '-')}", type=kind, default=value, help=f"(default: {value})")


def show(args: argparse.Namespace) -> int:
    """``headlift plan``."""
    prices = Prices(**{name: getattr(args, name) for name in asdict(Prices())})
    kinds = [measured(CPU, args.cpu), measured(GPU, args.gpu)]
    loads: list[Load] = [live(n, args.views, args.new_heads, args.view_kb) for n in args.sessions]
    loads += [daily(n, args.refine_steps, args.head_kb) for n in args.portraits]
    plans = [plan(load, costs, prices, args.spare) for load in loads for costs in kinds]
    emit(
        args,
        {"costs": [asdict(k) for k in kinds], "prices": asdict(prices), "plans": [_row(p) for p in plans]},
        _text(plans, prices),
    )
    return 0


def measured(costs: Costs, files: list[Path]) -> Costs:
    """``costs`` with what the files of ``headlift bench serve --json`` and ``bench portrait --json`` say instead.

    Of CPUs the time of all processes counts, which other work on the machine does not change; of a GPU how many calls a
    second it answered.

    Raises:
        InvalidInputError: A file is neither.
    """
    for path in files:
        try:
            found = json.loads(path.read_text())
            changes: dict[str, Any] = _portrait(costs, found) if "reconstruct_ms" in found else _serve(costs, found)
        except (OSError, ValueError, TypeError, LookupError, ArithmeticError, StopIteration):
            raise InvalidInputError(
                f"{path.name} is not what `headlift bench serve --json` or `headlift bench portrait --json` prints."
            ) from None
        costs = replace(costs, **changes, where=f"measured: {', '.join(p.name for p in files)}")
    return costs


def _serve(costs: Costs, found: Mapping[str, Any]) -> dict[str, Any]:
    calls = found[next(r for r in _RUNTIMES if r in found)]

    def seconds(kind: str) -> float | None:
        if kind not in calls:
            return None
        busiest: Mapping[str, float] = calls[kind][max(calls[kind], key=int)]
        return 1 / busiest["rps"] if costs.gpu and kind != "get" else busiest["cpu_ms"] / 1e3

    changes = {"call_s": seconds("get"), "view_s": seconds("render"), "portrait_s": seconds("create")}
    return {name: value for name, value in changes.items() if value is not None}


def _portrait(costs: Costs, found: Mapping[str, Any]) -> dict[str, Any]:
    # Wall time of calls that had the machine for themselves: on CPUs all its cores were busy at most.
    cores = 1.0 if costs.gpu else float(found["cpu_count"])
    step_s = (found["refined_ms"] - found["reconstruct_ms"]) / 1e3 / _REFINE_STEPS * cores
    return {
        "portrait_s": found["reconstruct_ms"] / 1e3 * cores,
        "view_s": found["render_ms"] / 1e3 * cores,
        "step_s": max(0.0, step_s),
    }


def _row(p: Plan) -> dict[str, Any]:
    return {
        "load": asdict(p.load),
        "on": "gpu" if p.costs.gpu else "cpu",
        "replicas": p.replicas,
        "edges": p.edges,
        "cpu_nodes": p.cpu_nodes,
        "gpu_nodes": p.gpu_nodes,
        "gbit_s": p.gbit_s,
        "compute_h": p.compute_h,
        "traffic_h": p.traffic_h,
        "month": p.month,
    }


def _text(plans: list[Plan], prices: Prices) -> str:
    head = f"{'':38}{'on':4}{'Reconstruct':>12}{'Render':>9}{'edges':>7}{'CPU nodes':>11}{'GPU nodes':>11}"
    lines = [f"{head}{'Gbit/s out':>12}{prices.currency + '/h':>12}{'of it traffic':>15}{'a month':>14}"]
    lines += [
        f"{p.load.name:38}{'GPU' if p.costs.gpu else 'CPU':4}{p.replicas.get('Reconstruct', 0):12,}"
        f"{p.replicas.get('Render', 0):9,}{p.edges:7,}{p.cpu_nodes:11,}{p.gpu_nodes:11,}{p.gbit_s:12,.1f}"
        f"{p.compute_h + p.traffic_h:12,.2f}{p.traffic_h:15,.2f}{p.month:14,.0f}"
        for p in plans
    ]
    for costs in {id(p.costs): p.costs for p in plans}.values():
        unit = "GPU" if costs.gpu else "core"
        lines.append(
            f"\n{unit} ms: view {costs.view_s * 1e3:.3g}, portrait {costs.portrait_s * 1e3:.3g}, refinement step "
            f"{costs.step_s * 1e3:.3g}; call {costs.call_s * 1e3:.3g} of a core - {costs.where}"
        )
    lines.append("\nPrices are examples; give your own (--help).")
    return "\n".join(lines)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def _amount(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{value} is not zero or more")
    return value

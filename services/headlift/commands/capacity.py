"""The capacity model: from what a view and a portrait cost to replicas, nodes and money. Arithmetic alone.

A replica is busy at most ``utilization`` of the time, so that arrivals that bunch do not wait: at 0.6 a queue is short,
at 0.85 it is long, which a batch does not mind. Every deployment has ``spare`` replicas more than that, since one may
die or be replaced. Nodes are counted by whichever runs out first, cores or GPUs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from headlift.errors import InvalidInputError

HOURS_A_MONTH = 730.0
CORES_PER_REPLICA = 1.0  # on CPUs
GPU_SHARE = {"Reconstruct": 0.25, "Render": 0.125}  # of replicas in deploy/ray/gpu.yaml
CORES_PER_EDGE = 2.0  # deploy/k8s/base/edge.yaml
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Costs:
    """What one machine does, in seconds of one core or one GPU.

    Attributes:
        where: Where that was measured, or that it was not.
        gpu: Whether the seconds are a GPU's.
        view_s: One view of 512x512, sharpened and packed.
        portrait_s: One portrait, bytes to stored head, without refinement.
        step_s: One step of refinement.
        call_s: One call that computes nothing; seconds of a core, whatever computes.
        host_view_s: Seconds of a core that a view costs beside its GPU.
        host_portrait_s: The same for a portrait.
    """

    where: str
    gpu: bool
    view_s: float
    portrait_s: float
    step_s: float
    call_s: float
    host_view_s: float = 0.0
    host_portrait_s: float = 0.0


@dataclass(frozen=True)
class Load:
    """What is asked for, a second, and what leaves the cluster."""

    name: str
    views: float = 0.0
    portraits: float = 0.0
    refine_steps: int = 0
    bytes_out: float = 0.0
    utilization: float = 0.6


@dataclass(frozen=True)
class Prices:
    """Examples of prices and nodes, of no real provider.

    Raises:
        InvalidInputError: A node has no core or no GPU.
    """

    cpu_node_h: float = 0.40
    cpu_node_cores: float = 8.0
    gpu_node_h: float = 2.50
    gpu_node_cores: float = 8.0
    gpus_per_node: int = 1
    out_gb: float = 0.02
    currency: str = "USD"

    def __post_init__(self) -> None:
        for name in ("cpu_node_cores", "gpu_node_cores", "gpus_per_node"):
            if getattr(self, name) <= 0:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; a node has more than none.", field=name)


@dataclass(frozen=True)
class Plan:
    """What a load takes.

    Attributes:
        load: For what.
        costs: With what.
        replicas: Of each deployment; Preprocess goes with Reconstruct.
        edges: Pods of the edge.
        cpu_nodes: For edges, and for replicas where they compute on CPUs.
        gpu_nodes: For replicas on GPUs.
        gbit_s: What leaves the cluster.
        compute_h: Money for nodes an hour.
        traffic_h: Money for what leaves an hour.
    """

    load: Load
    costs: Costs
    replicas: dict[str, int]
    edges: int
    cpu_nodes: int
    gpu_nodes: int
    gbit_s: float
    compute_h: float
    traffic_h: float

    @property
    def month(self) -> float:
        """Money a month."""
        return (self.compute_h + self.traffic_h) * HOURS_A_MONTH


def live(sessions: int, views_per_s: float, portraits_per_min: float, view_kb: float) -> Load:
    """Sessions that view heads, and send new portraits now and then."""
    views = sessions * views_per_s
    portraits = sessions * portraits_per_min / 60
    return Load(f"{sessions:,} live sessions", views, portraits, 0, views * view_kb * 1e3)


def daily(portraits: int, refine_steps: int, head_kb: float) -> Load:
    """So many portraits a day, evenly, each head fetched once."""
    rate = portraits / _DAY_S
    refined = f", {refine_steps} steps" if refine_steps else ""
    return Load(f"{portraits:,} portraits a day{refined}", 0.0, rate, refine_steps, rate * head_kb * 1e3, 0.85)


def plan(load: Load, costs: Costs, prices: Prices, spare: int = 1) -> Plan:
    """Replicas, nodes and money for a load."""
    busy = {  # units in use on average: cores or GPUs
        "Reconstruct": load.portraits * (costs.portrait_s + load.refine_steps * costs.step_s),
        "Render": load.views * costs.view_s,
    }
    share = GPU_SHARE if costs.gpu else dict.fromkeys(busy, CORES_PER_REPLICA)
    replicas = {
        name: math.ceil(units / load.utilization / share[name] - 1e-9) + spare for name, units in busy.items() if units
    }
    edges = math.ceil((load.views + load.portraits) * costs.call_s / load.utilization / CORES_PER_EDGE - 1e-9) + spare
    units = sum(count * share[name] for name, count in replicas.items())
    cores = edges * CORES_PER_EDGE
    gpu_nodes = 0
    if costs.gpu:
        host = (load.views * costs.host_view_s + load.portraits * costs.host_portrait_s) / load.utilization
        gpu_nodes = max(math.ceil(units / prices.gpus_per_node), math.ceil(host / prices.gpu_node_cores))
    else:
        cores += units
    cpu_nodes = math.ceil(cores / prices.cpu_node_cores)
    compute = cpu_nodes * prices.cpu_node_h + gpu_nodes * prices.gpu_node_h
    traffic = load.bytes_out * 3600 / 1e9 * prices.out_gb
    return Plan(load, costs, replicas, edges, cpu_nodes, gpu_nodes, load.bytes_out * 8 / 1e9, compute, traffic)

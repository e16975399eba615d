"""The capacity model, held against sums that are done by hand."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headlift.commands.capacity import CORES_PER_EDGE, GPU_SHARE, Costs, Load, Prices, daily, live, plan

COSTS = Costs("by hand", gpu=False, view_s=0.05, portrait_s=1.0, step_s=0.02, call_s=0.002)
ON_GPU = replace(COSTS, gpu=True, view_s=0.001, portrait_s=0.01, step_s=0.004, host_view_s=0.004, host_portrait_s=0.1)
PRICES = Prices(cpu_node_h=1.0, cpu_node_cores=8, gpu_node_h=3.0, gpu_node_cores=8, out_gb=0.1)
DEPLOY = Path(__file__).parents[2] / "deploy"
loads = st.builds(Load, st.just("any"), st.floats(0, 1e6), st.floats(0, 1e4), st.integers(0, 100), st.floats(0, 1e9))


def test_a_hundred_sessions_by_hand():
    load = live(100, views_per_s=6, portraits_per_min=0.6, view_kb=30)  # 600 views and 1 portrait a second
    found = plan(load, COSTS, PRICES)
    assert found.replicas == {"Reconstruct": 2 + 1, "Render": 50 + 1}  # 1 / 0.6, 600 * 0.05 / 0.6, and one to spare
    assert found.edges == 2 + 1  # 601 * 0.002 / 0.6 cores, 2 a pod
    assert found.cpu_nodes == 8  # 54 cores of replicas and 6 of edges
    assert found.gpu_nodes == 0
    assert found.gbit_s == pytest.approx(600 * 30e3 * 8 / 1e9)
    assert found.compute_h == 8.0
    assert found.traffic_h == pytest.approx(600 * 30e3 * 3600 / 1e9 * 0.1)


def test_a_million_portraits_a_day_on_gpus_by_hand():
    found = plan(daily(1_000_000, 100, 1000), ON_GPU, PRICES)  # 11.574 a second, 0.41 s of a GPU each
    assert found.replicas == {"Reconstruct": 23 + 1}  # 4.745 GPUs / 0.85 = 5.58, four replicas on each
    assert found.gpu_nodes == 6
    assert found.cpu_nodes == 1  # two edges
    assert found.compute_h == 6 * 3.0 + 1.0


def test_the_host_of_a_gpu_may_run_out_first():
    many_pictures = Load("views", views=12_000)
    assert plan(many_pictures, ON_GPU, PRICES, spare=0).gpu_nodes == 20  # its GPUs
    assert plan(many_pictures, replace(ON_GPU, host_view_s=0.02), PRICES, spare=0).gpu_nodes == 50  # its cores


@given(loads, st.sampled_from([COSTS, ON_GPU]))
def test_what_is_planned_carries_the_load_and_more_never_costs_less(load, costs):
    found = plan(load, costs, PRICES)
    share = GPU_SHARE if costs.gpu else {"Reconstruct": 1.0, "Render": 1.0}
    busy = {
        "Render": load.views * costs.view_s,
        "Reconstruct": load.portraits * (costs.portrait_s + load.refine_steps * costs.step_s),
    }
    for name, units in busy.items():
        # With one replica gone the others are busy no more than they may be.
        assert units <= (found.replicas.get(name, 1) - 1) * share[name] * load.utilization * (1 + 1e-6) + 1e-9
    more = plan(replace(load, views=load.views * 2, bytes_out=load.bytes_out * 2), costs, PRICES)
    assert more.month >= found.month


def test_shares_and_cores_are_those_of_the_manifests():
    (app,) = yaml.safe_load((DEPLOY / "ray/gpu.yaml").read_text())["applications"]
    shares = {d["name"]: d["ray_actor_options"]["num_gpus"] for d in app["deployments"]}
    assert shares.items() >= GPU_SHARE.items()
    edge = next(yaml.safe_load_all((DEPLOY / "k8s/base/edge.yaml").read_text()))
    (container,) = edge["spec"]["template"]["spec"]["containers"]
    assert float(container["resources"]["limits"]["cpu"]) == CORES_PER_EDGE

"""A Ray cluster of several nodes, as a RayService has it: what is lost comes back, and no accepted head with it."""

import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import grpc
import pyarrow.parquet
import pytest
import yaml
from google.longrunning import operations_pb2, operations_pb2_grpc
from PIL import Image
from real_cluster import RealEdge
from real_load import BACK_S, DOCUMENTED, Load, until

from headlift.batch.results import rows_from_table
from headlift.model.checkpoint import Provenance, load_checkpoint, save_checkpoint, weights_hash
from headlift.v1 import batch_service_pb2 as batch_pb
from headlift.v1 import batch_service_pb2_grpc, head_service_pb2_grpc
from headlift.v1 import head_service_pb2 as pb

ROOT = Path(__file__).parents[2]
# The first test waits for a cluster, six replicas and an edge, on a machine that may be busy with other things.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
READY_S = 600.0
STAGES = {"Preprocess", "Reconstruct", "Render"}


def config_of(replica_settings, weights=None):
    """deploy/ray/fused.yaml with two replicas of each deployment, never two of a kind on one node."""
    config = yaml.safe_load((ROOT / "deploy/ray/fused.yaml").read_text())
    (app,) = config["applications"]
    app["args"]["settings"] = replica_settings
    for deployment in app["deployments"]:
        del deployment["autoscaling_config"]
        deployment |= {"num_replicas": 2, "max_replicas_per_node": 1, "health_check_period_s": 5}
        deployment["user_config"] = {**deployment.get("user_config", {}), **({"weights": weights} if weights else {})}
    return config


@pytest.fixture(scope="module")
def edge(real_cluster, replica_settings, tmp_path_factory):
    """An edge before two replicas of each stage on two nodes."""
    real_cluster.deploy(config_of(replica_settings))
    until(lambda: real_cluster.status() == "RUNNING", READY_S)
    edge = RealEdge(real_cluster, tmp_path_factory.mktemp("edge"))
    try:
        yield edge
    finally:
        edge.close()


@pytest.fixture(scope="module")
def channel(edge):
    """To the API."""
    with grpc.insecure_channel(edge.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    """HeadService."""
    return head_service_pb2_grpc.HeadServiceStub(channel)


def whole(stub, load):
    """Every head that was promised is there, whole, and once."""
    listed = stub.ListHeads(pb.ListHeadsRequest(parent="tenants/load", page_size=1000)).heads
    assert {h.name for h in load.made.values()} <= {h.name for h in listed}
    for head in load.made.values():
        chunks = stub.ExportHead(pb.ExportHeadRequest(name=head.name, format=pb.EXPORT_FORMAT_WIRE))
        assert sum(len(c.data) for c in chunks) == head.size_bytes
    return True


def test_a_batch_goes_on_when_a_node_dies_under_it(real_cluster, replica_settings, portrait_png, tmp_path):
    portraits, looks, out = tmp_path / "in", tmp_path / "looks", tmp_path / "out"
    portraits.mkdir()
    small = Image.open(io.BytesIO(portrait_png)).convert("RGB").crop((80, 0, 208, 128))
    for i in range(40):
        small.point(lambda v, i=i: min(255, int(v * (0.9 + i / 400)))).save(portraits / f"{i:02d}.png")
    words = [portraits, out, replica_settings["weights"], replica_settings["rasterizer"], real_cluster.address, looks]
    looked = lambda: looks.read_text().splitlines() if looks.exists() else []  # noqa: E731
    with (tmp_path / "errors").open("w") as errors:
        command = [sys.executable, "-W", "ignore", str(ROOT / "tests/servers/batch_driver.py"), *map(str, words)]
        path = os.pathsep.join(p for p in sys.path if p)
        driver = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stderr=errors)
    try:
        until(lambda: len(looked()) >= 8 or driver.poll() is not None, READY_S)
        real_cluster.kill_worker(real_cluster.worker_of(int(looked()[-1].split()[1])))
        assert driver.wait(READY_S) == 0, (tmp_path / "errors").read_text()[-3000:]
    finally:
        driver.kill()
    rows = rows_from_table(pyarrow.parquet.read_table(out / "results.parquet"))
    assert [f"{row.id} {row.status}" for row in rows] == [f"{i:02d}.png DONE" for i in range(40)]
    times = Counter(line.split()[0] for line in looked())
    assert sum(times.values()) <= 40 + 2  # at most what both workers had in their hands is done again
    real_cluster.add_worker()


def test_every_stage_runs_on_every_worker_and_none_on_the_head(real_cluster, stub):
    replicas = real_cluster.replicas()
    assert set(replicas) == STAGES
    assert all(sorted(nodes) == sorted(real_cluster.workers) for nodes in replicas.values())


def test_a_batch_is_done_by_the_clusters_stages(channel, stub, portrait_png):
    requests = [pb.CreateHeadRequest(picture=picture) for picture in (portrait_png, b"no picture", portrait_png)]
    begun = batch_service_pb2_grpc.BatchServiceStub(channel).BatchCreateHeads(
        batch_pb.BatchCreateHeadsRequest(parent="tenants/batch", requests=requests), timeout=BACK_S
    )
    spec = operations_pb2.WaitOperationRequest(name=begun.name)
    spec.timeout.FromSeconds(int(BACK_S))
    ended = operations_pb2_grpc.OperationsStub(channel).WaitOperation(spec, timeout=BACK_S + 10)
    response = batch_pb.BatchCreateHeadsResponse()
    assert ended.response.Unpack(response)
    assert [bool(result.head) for result in response.results] == [True, False, True]
    listed = stub.ListHeads(pb.ListHeadsRequest(parent="tenants/batch")).heads
    assert {h.name for h in listed} == {r.head for r in response.results if r.head}


def test_new_weights_are_rolled_out_under_load_and_no_request_is_refused(
    real_cluster, stub, replica_settings, tiny_checkpoint, portrait_png, tmp_path
):
    model, _ = load_checkpoint(tiny_checkpoint)
    for weight in model.parameters():
        weight.data.mul_(1.01)
    new = tmp_path / "new.safetensors"
    save_checkpoint(new, model, Provenance(description="new"))
    hashes = {weights_hash(tiny_checkpoint), weights_hash(new)}
    before = real_cluster.replicas()
    with Load(stub, portrait_png) as load:
        until(lambda: load.answered >= 3)
        real_cluster.deploy(config_of(replica_settings, str(new)))
        made = lambda: [h.weights_hash for h in list(load.made.values())]  # noqa: E731
        until(lambda: made()[-6:] == [weights_hash(new)] * 6)
    assert load.refusals == set(), load.words
    assert set(made()) == hashes
    assert whole(stub, load)
    assert real_cluster.replicas() == before  # none was started anew
    real_cluster.deploy(config_of(replica_settings))
    until(lambda: real_cluster.status() == "RUNNING")


def test_requests_are_answered_while_the_clusters_memory_is_away_and_it_comes_back(
    real_cluster, stub, replica_settings, portrait_png
):
    before = real_cluster.replicas()
    with Load(stub, portrait_png) as load:
        until(lambda: load.answered >= 2)
        real_cluster.restart_memory(pause_s=3.0)
        answered = load.answered
        until(lambda: load.answered >= answered + 4)
        until(lambda: real_cluster.status() == "RUNNING")
    assert load.refusals <= DOCUMENTED
    assert whole(stub, load)
    until(lambda: real_cluster.replicas() == before)


def test_a_node_that_dies_under_load_costs_no_head_and_a_new_one_takes_its_place(real_cluster, stub, portrait_png):
    with Load(stub, portrait_png) as load:
        until(lambda: load.answered >= 3)
        victim = sorted(real_cluster.workers)[0]
        real_cluster.kill_worker(victim)
        answered = load.answered
        recovery_s = until(lambda: load.answered >= answered + 4)
        print(f"answers again after {recovery_s:.1f} s")
    assert load.refusals <= DOCUMENTED
    assert whole(stub, load)
    # Ray gives a node half a minute to start, which on two cores under full load may not be enough.
    real_cluster.add_worker()
    workers = sorted(real_cluster.workers)
    until(lambda: [sorted(n) for n in real_cluster.replicas().values()] == [workers] * len(STAGES), READY_S)
    with Load(stub, portrait_png) as more:
        until(lambda: more.answered >= 4)
    assert whole(stub, more)


def test_an_edge_whose_own_node_ends_leaves_with_the_reason(real_cluster, edge):
    real_cluster.kill_edge_node()
    assert edge.process.wait(READY_S) == 4
    assert '"NODE_LOST"' in edge.process.stdout.read()  # among what Ray says about the node

"""Headlift in a real Ray: what dies comes back, what is asked for is answered, and replicas follow the load."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
from real_load import BACK_S, DOCUMENTED, LOOK, Load, until

from headlift.errors import BackendUnavailableError, CancelledError, DeadlineError, OverloadedError
from headlift.serving.background import BackgroundServer
from headlift.serving.compose import compose
from headlift.serving.deployments import TOPOLOGIES, AppConfig
from headlift.stages.stop_token import StopToken
from headlift.v1 import head_service_pb2 as pb
from headlift.v1 import head_service_pb2_grpc, picture_pb2

pytest.importorskip("ray.serve")


@contextmanager
def serving(settings, backend, folder, **changes):
    """An edge of its own in front of ``backend``, without a stage cache, and a stub on it."""
    own = replace(settings, data_dir=folder, port=0, cache_stages=False, **changes)
    with (
        BackgroundServer(own, compose(own, backend=backend)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield head_service_pb2_grpc.HeadServiceStub(channel)


@pytest.mark.slow
@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_killing_a_replica_of_every_deployment_loses_no_accepted_head(
    ray_app,
    settings,
    topology,
    tmp_path,
    portrait_png,
):
    from headlift.serving.ray_app import replica_pids

    app = f"headlift-{topology}"
    with serving(settings, ray_app(topology), tmp_path) as stub:
        with Load(stub, portrait_png) as load:
            until(lambda: load.answered >= 3)
            # At once: what has to come back then comes back together, which is quicker and harder.
            victims = {name: pids[0] for name, pids in replica_pids(app).items()}
            assert set(victims) == set(TOPOLOGIES[topology])
            for pid in victims.values():
                os.kill(pid, signal.SIGKILL)
            answered = load.answered
            recovery_s = until(lambda: load.answered >= answered + len(load._threads) + 1)
            print(f"{topology}: answers again after {recovery_s:.1f} s")
        assert load.refusals <= DOCUMENTED
        assert not any(word in text for text in load.words for word in ("actor", "replica(", "127.0.0.1", "pid"))
        # Every head that was ever promised is there, whole, and once.
        listed = stub.ListHeads(pb.ListHeadsRequest(parent="tenants/load", page_size=1000)).heads
        assert sorted(h.name for h in listed) == sorted(h.name for h in load.made.values())
        for head in load.made.values():
            assert stub.GetHead(pb.GetHeadRequest(name=head.name)).head == head
            chunks = stub.ExportHead(pb.ExportHeadRequest(name=head.name, format=pb.EXPORT_FORMAT_WIRE))
            assert sum(len(c.data) for c in chunks) == head.size_bytes
        until(lambda: set(replica_pids(app)) == set(victims) and all(replica_pids(app).values()))
        assert not {pid for pids in replica_pids(app).values() for pid in pids} & set(victims.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The `metrics_interval_s` field:DeprecationWarning")  # else every 10 s
def test_replicas_follow_the_load_up_and_down_and_nothing_is_lost(
    ray_app, settings, replica_settings, tmp_path, portrait_png
):
    from ray import serve

    from headlift.serving.ray_app import application, replica_pids

    scaling = {
        "min_replicas": 1,
        "max_replicas": 2,
        "target_ongoing_requests": 1,
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 1.0,
        "metrics_interval_s": 0.2,
        "look_back_period_s": 1.0,
    }
    backend, app = ray_app("fused"), "headlift-fused"

    def renderers():
        return len(replica_pids(app)["Render"])

    def scale(deployments):
        serve.run(application(AppConfig("fused", replica_settings, deployments)), name=app, route_prefix=None)

    with serving(settings, backend, tmp_path, render_workers=8) as stub:
        name = stub.CreateHead(pb.CreateHeadRequest(parent="tenants/many", picture=portrait_png)).head.name
        scale({"Render": {"autoscaling_config": scaling}})
        try:
            assert renderers() == 1
            done, over = [], threading.Event()
            large = picture_pb2.PictureOptions(width_px=1024, height_px=1024)

            def look():
                while not over.is_set():
                    picture = stub.RenderHead(pb.RenderHeadRequest(name=name, picture=large), timeout=BACK_S)
                    done.append(len(picture.pictures[0].data))

            callers = [threading.Thread(target=look) for _ in range(6)]
            for caller in callers:
                caller.start()
            try:
                until(lambda: renderers() == 2)
                count = len(done)
                until(lambda: len(done) > count + 6)
            finally:
                over.set()
                for caller in callers:
                    caller.join()
            until(lambda: renderers() == 1)
            assert len(set(done)) == 1  # the same picture every time, whichever replica took it
            assert stub.RenderHead(pb.RenderHeadRequest(name=name, picture=LOOK)).pictures[0].data
        finally:
            scale({})


def test_time_and_patience_reach_the_replica(ray_app, portrait_png):
    from headlift.stages.preprocess import PreprocessOptions

    backend = ray_app("fused")
    preprocessed = backend.preprocess(portrait_png, PreprocessOptions(), StopToken())
    begin = time.monotonic()
    with pytest.raises(DeadlineError):
        backend.reconstruct(preprocessed.portrait, 1000, StopToken(begin + 0.5))
    token = StopToken()
    threading.Timer(0.3, token.stop).start()
    with pytest.raises(CancelledError):
        backend.reconstruct(preprocessed.portrait, 1000, token)
    # The work behind both has ended: the same replica answers at once.
    assert backend.reconstruct(preprocessed.portrait, 0, StopToken(time.monotonic() + 30)).gaussian_count == 512


def test_more_than_replicas_and_queue_hold_is_refused_with_the_time_to_come_back(
    ray_app, replica_settings, portrait_png
):
    from ray import serve

    from headlift.serving.ray_app import application
    from headlift.stages.preprocess import PreprocessOptions

    backend = ray_app("fused")
    preprocessed = backend.preprocess(portrait_png, PreprocessOptions(), StopToken())
    tight = {"Reconstruct": {"max_queued_requests": 1}}
    serve.run(application(AppConfig("fused", replica_settings, tight)), name="headlift-fused", route_prefix=None)
    try:
        tokens, refusals = [StopToken(time.monotonic() + 60) for _ in range(12)], []

        def ask(token):
            try:
                backend.reconstruct(preprocessed.portrait, 1000, token)
            except (OverloadedError, CancelledError) as error:
                refusals.append(error)

        callers = [threading.Thread(target=ask, args=(token,)) for token in tokens]
        for caller in callers:
            caller.start()
        until(lambda: any(isinstance(r, OverloadedError) for r in list(refusals)), 30)
        for token in tokens:
            token.stop()
        for caller in callers:
            caller.join()
        busy = [r for r in refusals if isinstance(r, OverloadedError)]
        assert all(r.retry_after_s > 0 and "max_queued" not in r.message for r in busy)
        assert 1 <= len(busy) <= 11
    finally:
        serve.run(application(AppConfig("fused", replica_settings)), name="headlift-fused", route_prefix=None)


def test_an_application_that_does_not_run_is_a_clear_error(ray_cluster):
    from headlift.serving.ray_app import ray_backend

    with pytest.raises(BackendUnavailableError, match="nowhere"):
        ray_backend("fused", "nowhere")

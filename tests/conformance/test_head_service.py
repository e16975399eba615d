"""What headlift.v1.HeadService promises, held against every runtime."""

import hashlib
import io
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from PIL import Image

from headlift import formats
from headlift.model.cameras import orbit_cameras
from headlift.v1 import camera_pb2, picture_pb2
from headlift.v1 import head_service_pb2 as pb

METHODS = {m.name: m for m in pb.DESCRIPTOR.services_by_name["HeadService"].methods}
ALLOWED = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION"}
GONE = "tenants/shared/heads/h000"


def create(runtime, picture, tenant="shared", **fields):
    request = pb.CreateHeadRequest(parent=f"tenants/{tenant}", picture=picture, **fields)
    return runtime.stub.CreateHead(request, timeout=60).head


def look(**fields):
    return picture_pb2.PictureOptions(**({"width_px": 64, "height_px": 48} | fields))


def pixels(picture):
    if picture.format == picture_pb2.PICTURE_FORMAT_RAW_FLOAT32:
        return np.frombuffer(picture.data, "<f4").reshape(picture.height_px, picture.width_px, picture.channel_count)
    if picture.format == picture_pb2.PICTURE_FORMAT_RAW_UINT8:
        raw = np.frombuffer(picture.data, np.uint8).reshape(picture.height_px, picture.width_px, picture.channel_count)
        return raw / 255.0
    return np.asarray(Image.open(io.BytesIO(picture.data))) / 255.0


# -- what every head says ---------------------------------------------------------------------------------------------


def test_a_created_head_tells_what_it_is(head, portrait_png):
    assert head.name.startswith("tenants/shared/heads/")
    assert head.input_sha256 == hashlib.sha256(portrait_png).hexdigest()
    assert len(head.weights_hash) == 64
    assert (head.config_name, head.gaussian_count, head.refine_steps) == ("tiny", 512, 2)
    assert abs(head.create_time.ToSeconds() - time.time()) < 600
    stages = [t.stage for t in head.stage_timings]
    assert stages == ["preprocess", "encode", "decode", "refine", "pack", "store"]
    assert all(t.duration_ms >= 0 for t in head.stage_timings)
    assert len(head.quality.crop_from_source) == 6
    assert head.quality.face.width_px > 24
    assert len(head.input_camera.view_matrix) == 16
    assert all(low < high for low, high in zip(head.bounding_box.min_m, head.bounding_box.max_m, strict=True))


def test_get_says_the_same_as_create(runtime, head):
    assert runtime.stub.GetHead(pb.GetHeadRequest(name=head.name)).head == head


def test_the_same_portrait_again_comes_from_the_cache_and_is_the_same_head(runtime, portrait_png):
    first = create(runtime, portrait_png, tenant="again", refine_steps=1)
    second = create(runtime, portrait_png, tenant="again", refine_steps=1)
    assert first.name != second.name
    assert all(t.cached for t in second.stage_timings if t.stage != "store")
    assert export(runtime, first, pb.EXPORT_FORMAT_WIRE) == export(runtime, second, pb.EXPORT_FORMAT_WIRE)
    # Other refinement of the same portrait: the portrait is remembered, the head is computed.
    third = create(runtime, portrait_png, tenant="again", refine_steps=0)
    assert [t.cached for t in third.stage_timings][:3] == [True, False, False]


def test_validating_stores_nothing(runtime, portrait_png):
    head = create(runtime, portrait_png, tenant="validating", validate_only=True)
    assert head.name == ""
    assert head.gaussian_count == 0
    assert head.quality.score > 0
    assert runtime.blob_keys("tenants/validating") == []


# -- listing ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def five(runtime, portrait_png):
    heads = []
    for _ in range(5):
        heads.append(create(runtime, portrait_png, tenant="five").name)
        time.sleep(0.002)  # names sort by the millisecond of their creation
    return heads


@pytest.mark.parametrize("size", [1, 2, 5, 1000, 0])
def test_pages_hold_every_head_once_in_order(runtime, five, size):
    names, token = [], ""
    while True:
        page = runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/five", page_size=size, page_token=token))
        assert len(page.heads) <= (size or 50)
        names += [h.name for h in page.heads]
        token = page.next_page_token
        if not token:
            break
    assert names == five


def test_a_page_token_is_of_no_use_altered_or_elsewhere(runtime, refused, five):
    token = runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/five", page_size=1)).next_page_token
    altered = [token[:i] + ("A" if c != "A" else "B") + token[i + 1 :] for i, c in enumerate(token)]
    attempts = [("tenants/five", t) for t in [*altered, token[:-1], token + "A", "x", "é", "="]]
    for parent, other in [*attempts, ("tenants/shared", token)]:
        request = pb.ListHeadsRequest(parent=parent, page_token=other)
        answer = refused(lambda r=request: runtime.stub.ListHeads(r))
        assert (answer.code, answer.reason) == ("INVALID_ARGUMENT", "BAD_PAGE_TOKEN")
        assert answer.fields == ["page_token"]


# -- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", picture_pb2.PictureFormat.values())
@pytest.mark.parametrize("alpha", [False, True])
def test_every_format_shows_the_same_picture(runtime, refused, head, kind, alpha):
    request = pb.RenderHeadRequest(name=head.name, picture=look(format=kind, alpha=alpha, quality=100))
    if kind == picture_pb2.PICTURE_FORMAT_JPEG and alpha:
        assert refused(lambda: runtime.stub.RenderHead(request)).fields == ["picture.alpha"]
        return
    exact = look(format=picture_pb2.PICTURE_FORMAT_RAW_FLOAT32, alpha=alpha)
    truth = pixels(runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, picture=exact)).pictures[0])
    picture = runtime.stub.RenderHead(request).pictures[0]
    got = pixels(picture)
    assert got.shape == truth.shape == (48, 64, 4 if alpha else 3)
    lossy = kind == picture_pb2.PICTURE_FORMAT_JPEG
    seen = truth[..., 3:] > 0.05 if alpha else np.ones((48, 64, 1), bool)  # colour below nothing is anything
    assert np.abs((got - truth) * seen).mean() < (0.03 if lossy else 0.003)


def test_a_camera_by_matrices_takes_the_same_picture_as_by_angles(runtime, head):
    orbit = camera_pb2.OrbitPose(yaw_deg=30, pitch_deg=-10, roll_deg=5, distance_m=1.2, fov_deg=20)
    same = orbit_cameras([30.0], -10.0, rolls=5.0, distance_m=1.2, fov_deg=20.0, width=64, height=48)
    matrix = camera_pb2.MatrixPose(
        view_matrix=same.viewmats[0].flatten().tolist(), intrinsics=same.Ks[0].flatten().tolist()
    )
    cameras = [camera_pb2.Camera(orbit=orbit), camera_pb2.Camera(matrix=matrix)]
    options = look(format=picture_pb2.PICTURE_FORMAT_RAW_UINT8)
    answer = runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, cameras=cameras, picture=options))
    assert answer.pictures[0].data == answer.pictures[1].data
    assert {t.stage for t in answer.stage_timings} == {"render", "sharpen", "pack"}


def test_sharpening_can_be_left_out(runtime, head):
    on, off = (
        runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, picture=look(sharpening=s)))
        for s in (picture_pb2.SHARPENING_ON, picture_pb2.SHARPENING_OFF)
    )
    assert "sharpen" in {t.stage for t in on.stage_timings}
    assert "sharpen" not in {t.stage for t in off.stage_timings}


def test_the_largest_picture_can_be_had(runtime, head):
    exact, plain = picture_pb2.PICTURE_FORMAT_RAW_FLOAT32, picture_pb2.SHARPENING_OFF
    options = look(width_px=2048, height_px=2048, format=exact, alpha=True, sharpening=plain)
    picture = runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, picture=options), timeout=120).pictures[0]
    assert len(picture.data) == 2048 * 2048 * 4 * 4


def test_an_orbit_comes_in_order_and_shows_what_single_pictures_show(runtime, head):
    request = pb.RenderOrbitRequest(name=head.name, frame_count=6, start_yaw_deg=10, pitch_deg=5, picture=look())
    frames = list(runtime.stub.RenderOrbit(request, timeout=60))
    assert [f.frame_index for f in frames] == list(range(6))
    assert {f.frame_count for f in frames} == {6}
    assert [f.yaw_deg for f in frames] == pytest.approx([10, 70, 130, -170, -110, -50])
    camera = camera_pb2.Camera(orbit=camera_pb2.OrbitPose(yaw_deg=130, pitch_deg=5))
    single = runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, cameras=[camera], picture=look())).pictures[0]
    assert frames[2].picture == single


# -- files ------------------------------------------------------------------------------------------------------------


def export(runtime, head, kind):
    chunks = list(runtime.stub.ExportHead(pb.ExportHeadRequest(name=head.name, format=kind), timeout=60))
    data = b"".join(c.data for c in chunks)
    assert [c.offset_bytes for c in chunks] == [sum(len(p.data) for p in chunks[:i]) for i in range(len(chunks))]
    assert {(c.total_size_bytes, c.sha256) for c in chunks} == {(len(data), hashlib.sha256(data).hexdigest())}
    return data


@pytest.mark.parametrize("kind", pb.ExportFormat.values()[1:])
def test_every_file_holds_the_head(runtime, head, kind):
    exact = formats.read(export(runtime, head, pb.EXPORT_FORMAT_WIRE), "wire")
    name = pb.ExportFormat.Name(kind).removeprefix("EXPORT_FORMAT_").lower().split("_")[0]
    read = formats.read(export(runtime, head, kind), name)
    assert len(read) == head.gaussian_count
    # SPLAT's writers may sort; boxes must agree to a millimetre either way.
    for bound in ("amin", "amax"):
        a, b = (getattr(g.means, bound)(0).numpy() for g in (read, exact))
        np.testing.assert_allclose(a, b, atol=1e-3)


def baked(runtime, head, **limits):
    request = pb.ExportHeadRequest(name=head.name, format=pb.EXPORT_FORMAT_WIRE, sharpening=pb.EXPORT_SHARPENING_BAKE)
    return runtime.stub.ExportHead(request, **({"timeout": 120} | limits))


@pytest.mark.slow
def test_a_baked_file_comes_after_reports_of_progress(runtime, head):
    messages = list(baked(runtime, head))
    reports = [m.bake_progress for m in messages if not m.data]
    assert len(reports) >= 10
    assert reports == sorted(reports)
    assert all(m.data for m in messages[len(reports) :])
    file = b"".join(m.data for m in messages)
    assert hashlib.sha256(file).hexdigest() == messages[-1].sha256
    plain, fitted = (formats.read(data, "wire") for data in (export(runtime, head, pb.EXPORT_FORMAT_WIRE), file))
    np.testing.assert_allclose(fitted.means, plain.means, atol=1e-5)
    assert not np.array_equal(fitted.colors, plain.colors)


@pytest.mark.slow
def test_a_fit_ends_with_its_call(runtime, head):
    call = baked(runtime, head)
    next(call)
    call.cancel()
    with pytest.raises(grpc.RpcError) as late:
        list(baked(runtime, head, timeout=0.3))
    assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # One fit runs at a time: had the first two not ended, this one would begin after them.
    last = baked(runtime, head, timeout=60)
    assert next(m for m in last if m.bake_progress > 0.25)
    last.cancel()


def test_an_unknown_sharpening_is_refused(runtime, head):
    request = pb.ExportHeadRequest(name=head.name, format=pb.EXPORT_FORMAT_PLY, sharpening=9)
    with pytest.raises(grpc.RpcError) as refused:
        list(runtime.stub.ExportHead(request, timeout=60))
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


# -- deletion and tenants ---------------------------------------------------------------------------------------------


def test_deleting_leaves_no_blob(runtime, refused, portrait_png):
    head = create(runtime, portrait_png, tenant="leaving", request_id=str(uuid.uuid4()), refine_steps=1)
    runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, picture=look()))
    assert len(runtime.blob_keys("tenants/leaving")) >= 4
    runtime.stub.DeleteHead(pb.DeleteHeadRequest(name=head.name))
    assert runtime.blob_keys("tenants/leaving") == []
    for ask in asks(runtime, head.name):
        answer = refused(ask)
        assert (answer.code, answer.reason) == ("NOT_FOUND", "NOT_FOUND")


def asks(runtime, name):
    """Every RPC that names a head."""
    stub = runtime.stub
    return [
        lambda: stub.GetHead(pb.GetHeadRequest(name=name)),
        lambda: stub.RenderHead(pb.RenderHeadRequest(name=name)),
        lambda: stub.RenderOrbit(pb.RenderOrbitRequest(name=name)),
        lambda: stub.ExportHead(pb.ExportHeadRequest(name=name, format=pb.EXPORT_FORMAT_PLY)),
        lambda: stub.DeleteHead(pb.DeleteHeadRequest(name=name)),
    ]


def test_another_tenant_cannot_tell_that_a_head_exists(runtime, refused, head):
    other = head.name.replace("tenants/shared", "tenants/stranger")
    for ask, nobody in zip(asks(runtime, other), asks(runtime, "tenants/stranger/heads/h0"), strict=True):
        mine, none = refused(ask), refused(nobody)
        assert (mine.code, mine.reason) == (none.code, none.reason) == ("NOT_FOUND", "NOT_FOUND")
        assert mine.message.replace(other, "") == none.message.replace("tenants/stranger/heads/h0", "")
    assert not runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/stranger")).heads
    assert runtime.stub.GetHead(pb.GetHeadRequest(name=head.name)).head.name == head.name


def test_a_failed_creation_leaves_no_blob(runtime, refused):
    buffer = io.BytesIO()
    Image.new("RGB", (200, 200), "grey").save(buffer, "PNG")
    request = pb.CreateHeadRequest(parent="tenants/failing", picture=buffer.getvalue(), request_id=str(uuid.uuid4()))
    assert refused(lambda: runtime.stub.CreateHead(request)).reason == "NO_FACE"
    assert runtime.blob_keys("tenants/failing") == []


# -- refusals ---------------------------------------------------------------------------------------------------------

BAD_CREATIONS = [
    ({"parent": ""}, "INVALID_INPUT", "parent"),
    ({"parent": "tenants/UPPER"}, "INVALID_INPUT", "parent"),
    ({"parent": "tenants/../x"}, "INVALID_INPUT", "parent"),
    ({"parent": "tenants/a/heads/b"}, "INVALID_INPUT", "parent"),
    ({"picture": b""}, "INVALID_INPUT", "picture"),
    ({"picture": b"not a picture"}, "UNREADABLE_PICTURE", "picture"),
    ({"picture": b"\xff\xd8\xff\xe0" + bytes(100)}, "UNREADABLE_PICTURE", "picture"),
    ({"picture": bytes((32 << 20) + 1)}, "PICTURE_TOO_LARGE", "picture"),
    ({"several_faces": 9}, "INVALID_INPUT", "several_faces"),
    ({"face_index": -1}, "INVALID_INPUT", "face_index"),
    ({"face_index": 64}, "INVALID_INPUT", "face_index"),
    ({"face_index": 63}, "INVALID_INPUT", "face_index"),
    ({"refine_steps": -1}, "INVALID_INPUT", "refine_steps"),
    ({"refine_steps": 1001}, "INVALID_INPUT", "refine_steps"),
    ({"request_id": "1"}, "INVALID_INPUT", "request_id"),
    ({"request_id": "1b4e28ba-2fa1-11d2-883f-0016d3cca427"}, "INVALID_INPUT", "request_id"),
]


@pytest.mark.parametrize(("change", "reason", "field"), BAD_CREATIONS)
def test_a_bad_creation_is_refused_with_its_field(runtime, refused, portrait_png, change, reason, field):
    request = pb.CreateHeadRequest(**({"parent": "tenants/shared", "picture": portrait_png} | change))
    answer = refused(lambda: runtime.stub.CreateHead(request))
    assert (answer.code, answer.reason, answer.fields) == ("INVALID_ARGUMENT", reason, [field])


def matrix(view=None, intrinsics=None):
    same = orbit_cameras([0.0], width=64, height=48)
    view = same.viewmats[0].flatten().tolist() if view is None else view
    intrinsics = same.Ks[0].flatten().tolist() if intrinsics is None else intrinsics
    return {"cameras": [camera_pb2.Camera(matrix=camera_pb2.MatrixPose(view_matrix=view, intrinsics=intrinsics))]}


def pose(**fields):
    return {"cameras": [camera_pb2.Camera(), camera_pb2.Camera(orbit=camera_pb2.OrbitPose(**fields))]}


NAN, INF = float("nan"), float("inf")
EYE = np.eye(4).ravel().tolist()
BAD_RENDERINGS = [
    ({"name": "heads/1"}, "INVALID_INPUT", "name"),
    ({"picture": look(width_px=15)}, "INVALID_INPUT", "picture.width_px"),
    ({"picture": look(height_px=2049)}, "INVALID_INPUT", "picture.height_px"),
    ({"picture": look(height_px=-5)}, "INVALID_INPUT", "picture.height_px"),
    ({"picture": look(format=17)}, "INVALID_INPUT", "picture.format"),
    ({"picture": look(sharpening=17)}, "INVALID_INPUT", "picture.sharpening"),
    ({"picture": look(quality=101)}, "INVALID_INPUT", "picture.quality"),
    ({"cameras": [camera_pb2.Camera()] * 65}, "INVALID_INPUT", "cameras"),
    (
        {"cameras": [camera_pb2.Camera()] * 6, "picture": look(width_px=2048, height_px=2048)},
        "INVALID_INPUT",
        "cameras",
    ),
    (pose(yaw_deg=NAN), "INVALID_CAMERA", "cameras[1].orbit.yaw_deg"),
    (pose(yaw_deg=1e9), "INVALID_CAMERA", "cameras[1].orbit.yaw_deg"),
    (pose(pitch_deg=91), "INVALID_CAMERA", "cameras[1].orbit.pitch_deg"),
    (pose(roll_deg=INF), "INVALID_CAMERA", "cameras[1].orbit.roll_deg"),
    (pose(distance_m=0.0), "INVALID_CAMERA", "cameras[1].orbit.distance_m"),
    (pose(distance_m=21), "INVALID_CAMERA", "cameras[1].orbit.distance_m"),
    (pose(fov_deg=0.5), "INVALID_CAMERA", "cameras[1].orbit.fov_deg"),
    (matrix(view=[1.0]), "INVALID_CAMERA", "cameras[0].matrix.view_matrix"),
    (matrix(view=[0.0] * 16), "INVALID_CAMERA", "cameras[0].matrix.view_matrix"),
    (matrix(view=[NAN, *EYE[1:]]), "INVALID_CAMERA", "cameras[0].matrix.view_matrix"),
    (matrix(view=[-1.0, *EYE[1:]]), "INVALID_CAMERA", "cameras[0].matrix.view_matrix"),
    (matrix(view=[*EYE[:3], 1e6, *EYE[4:]]), "INVALID_CAMERA", "cameras[0].matrix.view_matrix"),
    (matrix(view=[*EYE[:12], 1.0, 0.0, 0.0, 1.0]), "INVALID_CAMERA", "cameras[0].matrix.view_matrix"),
    (matrix(intrinsics=[-1.0, 0, 0, 0, 1, 0, 0, 0, 1]), "INVALID_CAMERA", "cameras[0].matrix.intrinsics"),
    (matrix(intrinsics=[9.0, 1, 0, 0, 9, 0, 0, 0, 1]), "INVALID_CAMERA", "cameras[0].matrix.intrinsics"),
    (matrix(intrinsics=[9.0, 0, 0, 0, 9, 0, 0, 0, 2]), "INVALID_CAMERA", "cameras[0].matrix.intrinsics"),
]


@pytest.mark.parametrize(("change", "reason", "field"), BAD_RENDERINGS)
def test_a_bad_rendering_is_refused_with_its_field(runtime, refused, head, change, reason, field):
    request = pb.RenderHeadRequest(**({"name": head.name, "picture": look()} | change))
    answer = refused(lambda: runtime.stub.RenderHead(request))
    assert (answer.code, answer.reason, answer.fields) == ("INVALID_ARGUMENT", reason, [field])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"frame_count": -1}, "frame_count"),
        ({"frame_count": 3601}, "frame_count"),
        ({"sweep_deg": NAN}, "sweep_deg"),
        ({"start_yaw_deg": 3601}, "start_yaw_deg"),
        ({"pitch_deg": 100}, "pitch_deg"),
    ],
)
def test_a_bad_orbit_is_refused_with_its_field(runtime, refused, head, change, field):
    answer = refused(lambda: runtime.stub.RenderOrbit(pb.RenderOrbitRequest(**({"name": head.name} | change))))
    assert (answer.code, answer.fields) == ("INVALID_ARGUMENT", [field])


@pytest.mark.parametrize("kind", [0, 77, -1])
def test_a_file_of_no_known_kind_is_refused(runtime, refused, head, kind):
    answer = refused(lambda: runtime.stub.ExportHead(pb.ExportHeadRequest(name=head.name, format=kind)))
    assert (answer.code, answer.fields) == ("INVALID_ARGUMENT", ["format"])


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_page_of_impossible_size_is_refused(runtime, refused, size):
    answer = refused(lambda: runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/shared", page_size=size)))
    assert (answer.code, answer.fields) == ("INVALID_ARGUMENT", ["page_size"])


# -- request_id -------------------------------------------------------------------------------------------------------


def test_the_same_request_gets_the_same_answer_and_another_body_is_refused(runtime, refused, portrait_png):
    request_id = str(uuid.uuid4())
    first = create(runtime, portrait_png, tenant="once", request_id=request_id)
    assert create(runtime, portrait_png, tenant="once", request_id=request_id.upper()) == first
    request = pb.CreateHeadRequest(parent="tenants/once", picture=portrait_png, request_id=request_id, refine_steps=1)
    answer = refused(lambda: runtime.stub.CreateHead(request))
    assert (answer.code, answer.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    # The id is one tenant's own.
    assert create(runtime, portrait_png, tenant="once-more", request_id=request_id).name != first.name


def test_a_hundred_equal_requests_at_once_are_one_execution(runtime, portrait_png):
    request_id = str(uuid.uuid4())
    with ThreadPoolExecutor(100) as pool:
        asked = [
            pool.submit(create, runtime, portrait_png, tenant="hundred", request_id=request_id, refine_steps=3)
            for _ in range(100)
        ]
        answers = [a.result() for a in asked]
    assert all(a == answers[0] for a in answers)
    assert len(runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/hundred")).heads) == 1


def test_a_failed_request_may_be_sent_again(runtime, refused, portrait_png):
    request_id = str(uuid.uuid4())
    bad = pb.CreateHeadRequest(parent="tenants/shared", picture=b"no picture", request_id=request_id)
    assert refused(lambda: runtime.stub.CreateHead(bad)).code == "INVALID_ARGUMENT"
    assert create(runtime, portrait_png, request_id=request_id).name


def test_a_restart_forgets_no_request_and_no_page(start, settings, tmp_path, portrait_png):
    own, request_id = replace(settings, data_dir=tmp_path), str(uuid.uuid4())
    with start(own) as runtime:
        first = create(runtime, portrait_png, request_id=request_id)
        create(runtime, portrait_png)
        token = runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/shared", page_size=1)).next_page_token
    with start(own) as runtime:
        assert create(runtime, portrait_png, request_id=request_id) == first
        page = runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/shared", page_token=token))
        assert len(page.heads) == 1
        assert export(runtime, first, pb.EXPORT_FORMAT_PLY)


# -- time, load, going away -------------------------------------------------------------------------------------------

LONG = 1000  # refinement steps: seconds of work


def test_a_deadline_ends_the_work(runtime, refused, portrait_png):
    request = pb.CreateHeadRequest(parent="tenants/late", picture=portrait_png, refine_steps=LONG)
    assert refused(lambda: runtime.stub.CreateHead(request, timeout=0.3)).code == "DEADLINE_EXCEEDED"
    begin = time.monotonic()
    create(runtime, portrait_png, tenant="late-2")  # the only worker is free again
    assert time.monotonic() - begin < 10
    assert not runtime.stub.ListHeads(pb.ListHeadsRequest(parent="tenants/late")).heads
    assert runtime.blob_keys("tenants/late") == []


def test_the_server_has_a_deadline_of_its_own(start, settings, refused, portrait_png):
    with start(replace(settings, deadline_s=0.5)) as runtime:
        request = pb.CreateHeadRequest(parent="tenants/shared", picture=portrait_png, refine_steps=LONG)
        answer = refused(lambda: runtime.stub.CreateHead(request))
        assert (answer.code, answer.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


def test_cancelling_ends_the_work_and_leaves_nothing(runtime, portrait_png):
    request = pb.CreateHeadRequest(parent="tenants/cancelling", picture=portrait_png, refine_steps=LONG)
    calls = [runtime.stub.CreateHead.future(request) for _ in range(4)]
    time.sleep(0.8)
    for call in calls:
        call.cancel()
    begin = time.monotonic()
    create(runtime, portrait_png, tenant="cancelling-2")
    assert time.monotonic() - begin < 10
    assert runtime.blob_keys("tenants/cancelling") == []


def test_one_caller_who_leaves_does_not_end_what_another_waits_for(runtime, portrait_png):
    fields = {"parent": "tenants/shared", "picture": portrait_png, "request_id": str(uuid.uuid4()), "refine_steps": 30}
    leaving, staying = (runtime.stub.CreateHead.future(pb.CreateHeadRequest(**fields), timeout=60) for _ in range(2))
    time.sleep(0.1)
    leaving.cancel()
    assert staying.result().head.refine_steps == 30


def test_leaving_an_orbit_early_ends_it(runtime, head):
    orbit = runtime.stub.RenderOrbit(pb.RenderOrbitRequest(name=head.name, frame_count=3600, picture=look()))
    next(orbit)
    orbit.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        list(orbit)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


def test_overload_is_refused_at_once_with_the_time_to_come_back(start, settings, refused, tmp_path, portrait_png):
    with start(replace(settings, data_dir=tmp_path, create_workers=1, create_queue=1)) as runtime:
        request = pb.CreateHeadRequest(parent="tenants/shared", picture=portrait_png, refine_steps=LONG)
        calls = [runtime.stub.CreateHead.future(request) for _ in range(6)]
        end = time.monotonic() + 20
        while sum(c.done() for c in calls) < 4 and time.monotonic() < end:
            time.sleep(0.02)
        done = [c for c in calls if c.done()]
        for call in calls:
            call.cancel()
        answers = [refused(call.result) for call in done]
        assert [(a.code, a.reason) for a in answers] == [("RESOURCE_EXHAUSTED", "OVERLOADED")] * 4
        assert all(a.retry_s is not None and a.retry_s > 0 for a in answers)


# -- standards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", "headlift.v1.HeadService"])
def test_health_says_serving(runtime, service):
    answer = health_pb2_grpc.HealthStub(runtime.channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_describes_every_method(runtime):
    database = ProtoReflectionDescriptorDatabase(runtime.channel)
    assert {"headlift.v1.HeadService", "grpc.health.v1.Health"} <= set(database.get_services())
    file = database.FindFileContainingSymbol("headlift.v1.HeadService")
    assert {m.name for m in file.service[0].method} == set(METHODS)


# -- hostile bytes ----------------------------------------------------------------------------------------------------


def raw_call(runtime, method, data):
    """Send bytes as they are; the code of the answer."""
    path, descriptor = f"/headlift.v1.HeadService/{method}", METHODS[method]
    try:
        if descriptor.server_streaming:
            for i, _ in enumerate(runtime.channel.unary_stream(path)(data, timeout=30)):
                if i > 3:
                    return "OK"
        else:
            runtime.channel.unary_unary(path)(data, timeout=30)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def mutations(data, generator, count):
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(generator.randrange(1, 6)):
            at = generator.randrange(len(changed) + 1)
            kind = generator.randrange(4)
            if kind == 0:
                changed[at:at] = generator.randbytes(generator.randrange(1, 9))
            elif kind == 1:
                del changed[at : at + generator.randrange(1, 9)]
            elif changed:
                changed[at % len(changed)] = generator.randrange(256)
        yield bytes(changed)


@pytest.mark.parametrize("method", [m for m, d in METHODS.items() if not d.client_streaming])
def test_garbage_messages_are_refused_and_never_a_fault(runtime, head, method):
    fields = {"name": head.name, "picture": look()} if "Render" in method else {"name": head.name}
    if method == "CreateHead":
        fields = {
            "parent": "tenants/shared",
            "picture": b"no picture",
            "request_id": str(uuid.uuid4()),
            "refine_steps": 1,
        }
    elif method == "ListHeads":
        fields = {"parent": "tenants/shared", "page_size": 2}
    elif method == "DeleteHead":
        fields = {"name": GONE}
    valid = getattr(pb, f"{method}Request")(**fields).SerializeToString()
    generator = random.Random(method)
    # A mutated Delete must not hit the shared head: it names one that never was.
    bodies = [b"\xff" * 20, b"", *mutations(valid, generator, 120), *(generator.randbytes(40) for _ in range(30))]
    codes = {raw_call(runtime, method, body) for body in bodies}
    assert codes <= ALLOWED
    assert "INVALID_ARGUMENT" in codes


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_mutated_pictures_are_refused_and_never_a_fault(runtime, portrait_png, kind):
    buffer = io.BytesIO()
    Image.open(io.BytesIO(portrait_png)).resize((96, 96)).save(buffer, kind)
    generator, codes = random.Random(kind), set()
    for picture in mutations(buffer.getvalue(), generator, 15):
        request = pb.CreateHeadRequest(parent="tenants/hostile", picture=picture, validate_only=True)
        codes.add(raw_call(runtime, "CreateHead", request.SerializeToString()))
    assert codes <= ALLOWED


def test_a_message_over_the_transports_limit_is_refused(runtime, refused):
    request = pb.CreateHeadRequest(parent="tenants/shared", picture=bytes(75 << 20))
    assert refused(lambda: runtime.stub.CreateHead(request)).code == "RESOURCE_EXHAUSTED"


def test_after_all_that_the_service_goes_on(runtime, head, portrait_png):
    assert create(runtime, portrait_png).gaussian_count == 512
    assert runtime.stub.RenderHead(pb.RenderHeadRequest(name=head.name, picture=look())).pictures[0].data

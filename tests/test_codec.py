import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headlift import codec
from headlift.errors import InvalidCameraError
from headlift.v1 import camera_pb2

ANGLE = st.floats(-180, 180)


@given(yaw=ANGLE, pitch=st.floats(-90, 90), roll=ANGLE, distance=st.floats(0.15, 20), fov=st.floats(1, 170))
def test_a_camera_survives_the_way_through_its_matrices(yaw, pitch, roll, distance, fov):
    pose = camera_pb2.OrbitPose(yaw_deg=yaw, pitch_deg=pitch, roll_deg=roll, distance_m=distance, fov_deg=fov)
    once = codec.orbit(pose, 64, 48)
    message = camera_pb2.MatrixPose.FromString(codec.message_from_camera(once).SerializeToString())
    again = codec.matrix(message, 64, 48)
    assert torch.equal(once.viewmats, again.viewmats)
    assert torch.equal(once.Ks, again.Ks)


def test_no_camera_means_the_front():
    front = codec.cameras_from_messages([], 64, 64)
    assert len(front) == 1
    assert torch.allclose(front.viewmats[0, :3, :3], torch.diag(torch.tensor([1.0, -1.0, -1.0])))


def test_cameras_keep_their_order():
    poses = [camera_pb2.Camera(orbit=camera_pb2.OrbitPose(yaw_deg=y)) for y in (10, 20, 30)]
    many = codec.cameras_from_messages(poses, 64, 64)
    for i, pose in enumerate(poses):
        assert torch.equal(many[i].viewmats, codec.cameras_from_messages([pose], 64, 64).viewmats)


def field_at_fault(view, intrinsics):
    """None where the numbers are a camera."""
    try:
        codec.matrix(camera_pb2.MatrixPose(view_matrix=view, intrinsics=intrinsics), 64, 64).validate()
    except InvalidCameraError as error:
        return error.field
    return None


@given(st.lists(st.floats(), min_size=16, max_size=16))
def test_any_sixteen_numbers_are_a_camera_or_refused(numbers):
    assert field_at_fault(numbers, [100, 0, 32, 0, 100, 32, 0, 0, 1]) in (None, "view_matrix")


@given(st.lists(st.floats(), max_size=12))
def test_any_intrinsics_are_a_camera_or_refused(numbers):
    fault = field_at_fault(torch.eye(4).flatten().tolist(), numbers)
    assert fault == "intrinsics" or (fault is None and len(numbers) == 9)


@pytest.mark.parametrize("field", ["yaw_deg", "pitch_deg", "roll_deg", "distance_m", "fov_deg"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9, -1e9])
def test_a_bad_angle_names_its_field(field, value):
    with pytest.raises(InvalidCameraError) as caught:
        codec.orbit(camera_pb2.OrbitPose(**{field: value}), 64, 64)
    assert caught.value.field == field

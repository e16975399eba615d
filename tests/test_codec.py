from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headlift import codec
from headlift.errors import FormatError, InvalidCameraError
from headlift.model.cameras import orbit_camera
from headlift.model.types import Cameras, ImageTokens, Observation, Portrait
from headlift.v1 import camera_pb2, tensor_pb2

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


# -- what flows between stages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]
)
def test_a_tensor_travels_to_the_last_bit_whatever_it_is_made_of(dtype):
    tensor = (torch.arange(24).reshape(2, 3, 4) % 2).to(dtype).transpose(0, 2)
    message = codec.message_from_tensor(tensor)
    assert message.shape == [4, 3, 2]
    if dtype.is_floating_point or dtype is torch.bool:
        kind = "float" if dtype.is_floating_point else "bool"
        back = codec.tensor_from_message(message, "it", 4, 3, -1, kind=kind)
        assert back.dtype == dtype
        assert torch.equal(back, tensor)


def test_a_tensor_that_is_not_what_it_says_is_refused():
    whole = codec.message_from_tensor(torch.ones(2, 3))
    nan = {"data": b"\xff" * 24}
    cases = {"type": {"dtype": 0}, "shape": {"shape": [3, 2]}, "bytes": {"data": b"1234"}, "finite": nan}
    for word, change in cases.items():
        message = tensor_pb2.Tensor(**({"dtype": whole.dtype, "shape": whole.shape, "data": whole.data} | change))
        with pytest.raises(FormatError, match=word) as caught:
            codec.tensor_from_message(message, "a.b", 2, 3)
        assert caught.value.field == "a.b"


def test_portraits_and_tokens_come_back_as_they_went():
    camera = orbit_camera(20.0, size=32)
    crop = torch.rand(2, 3, dtype=torch.float64)
    portrait = Portrait(torch.rand(3, 32, 32), torch.rand(1, 32, 32), crop, camera, (640, 480))
    tokens = ImageTokens(
        torch.rand(1, 5, 8),
        torch.rand(1, 5) > 0.5,
        torch.rand(1, 5, 2),
        camera=camera,
        observation=Observation(
            torch.rand(1, 7), torch.rand(1, 4, 8, 8), torch.rand(1, 6, 4, 4), torch.rand(1, 2, 4, 4)
        ),
    )
    for sent, back in (
        (portrait, codec.portrait_from_message(codec.message_from_portrait(portrait))),
        (tokens, codec.tokens_from_message(codec.message_from_tokens(tokens))),
    ):
        for field in fields(sent):
            a, b = getattr(sent, field.name), getattr(back, field.name)
            if isinstance(a, Cameras):
                assert torch.equal(a.viewmats, b.viewmats)
                assert torch.equal(a.Ks, b.Ks)
            elif isinstance(a, torch.Tensor):
                assert torch.equal(a, b)
            elif isinstance(a, Observation):
                for part in fields(a):
                    assert torch.equal(getattr(a, part.name), getattr(b, part.name))
            else:
                assert a == b


def test_tokens_with_a_part_of_their_observation_are_refused_and_without_it_are_the_papers():
    tokens = ImageTokens(torch.rand(1, 5, 8), torch.ones(1, 5, dtype=torch.bool), torch.rand(1, 5, 2))
    message = codec.message_from_tokens(tokens)
    assert codec.tokens_from_message(message).observation is None
    message.code.CopyFrom(codec.message_from_tensor(torch.rand(1, 7)))
    with pytest.raises(FormatError, match="code but no pixels") as caught:
        codec.tokens_from_message(message)
    assert caught.value.field == "tokens.pixels"

"""From what a request says about pictures to a checked RenderOptions, and back to Picture messages."""

from __future__ import annotations

from headlift.codec import ANGLE_LIMIT_DEG
from headlift.errors import InvalidInputError
from headlift.gateway.validation import check_range
from headlift.limits import CAMERAS_MAX
from headlift.media.pictures import RenderOptions
from headlift.stages.rpc import render_options_from_message
from headlift.v1 import camera_pb2, picture_pb2
from headlift.v1 import head_service_pb2 as pb

ANSWER_BYTES_MAX = 64 << 20  # of unpacked pictures in one answer
FRAMES_DEFAULT, FRAMES_MAX = 90, 3600


def parse_render_options(message: picture_pb2.PictureOptions, picture_count: int) -> RenderOptions:
    """The RenderOptions that ``message`` asks for; ``picture_count`` such pictures must fit into one answer."""
    options = render_options_from_message(message)
    size = options.unpacked_bytes * picture_count
    if size > ANSWER_BYTES_MAX:
        raise InvalidInputError(
            f"{picture_count} pictures of {options.width}x{options.height} hold {size} bytes "
            f"unpacked; one answer may hold {ANSWER_BYTES_MAX}. Ask for fewer or smaller ones, or use RenderOrbit.",
            field="cameras",
        )
    return options


def parse_camera_count(request: pb.RenderHeadRequest) -> int:
    """How many pictures are asked for."""
    check_range("cameras", len(request.cameras), 0, CAMERAS_MAX)
    return len(request.cameras) or 1


def parse_orbit(request: pb.RenderOrbitRequest) -> tuple[list[float], camera_pb2.OrbitPose]:
    """Yaw of every frame of an orbit, degrees in -180..180, and what all frames share."""
    check_range("frame_count", request.frame_count, 0, FRAMES_MAX)
    sweep = request.sweep_deg if request.HasField("sweep_deg") else 360.0
    check_range("start_yaw_deg", request.start_yaw_deg, -ANGLE_LIMIT_DEG, ANGLE_LIMIT_DEG)
    check_range("sweep_deg", sweep, -ANGLE_LIMIT_DEG, ANGLE_LIMIT_DEG)
    count = request.frame_count or FRAMES_DEFAULT
    yaws = [(request.start_yaw_deg + sweep * i / count + 180.0) % 360.0 - 180.0 for i in range(count)]
    shared = camera_pb2.OrbitPose(pitch_deg=request.pitch_deg)
    if request.HasField("distance_m"):
        shared.distance_m = request.distance_m
    if request.HasField("fov_deg"):
        shared.fov_deg = request.fov_deg
    return yaws, shared


def picture_message(data: bytes, message: picture_pb2.PictureOptions, options: RenderOptions) -> picture_pb2.Picture:
    """A packed picture as the API hands it out."""
    return picture_pb2.Picture(
        data=data,
        format=message.format or picture_pb2.PICTURE_FORMAT_PNG,
        width_px=options.width,
        height_px=options.height,
        channel_count=options.channels,
    )

"""Small data sets in the published layouts, of a head that is nothing but coloured dots at known places.

A loader is right when the dots of its crops lie where its cameras project the places. That finds any transposed matrix,
wrong unit, axis or half pixel.
"""

import json
import shutil
import zipfile
from dataclasses import dataclass, replace
from fractions import Fraction
from io import BytesIO
from types import SimpleNamespace

import av
import numpy as np
import pytest
from PIL import Image

DOTS = np.array(
    [
        (0.0, -0.015, 0.090),
        (0.046, 0.028, 0.050),
        (-0.046, 0.028, 0.050),
        (0.0255, -0.0455, 0.058),
        (-0.0255, -0.0455, 0.058),
        (0.02, 0.11, 0.03),
    ]
)
COLORS = np.array([(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)], float)
GREY = 0.45
CENTER = np.array([0.0, 0.01, 0.0])


def camera_at(yaw_deg, pitch_deg, distance, *, turn_deg=(0.0, 0.0, 0.0)):
    """World-to-camera [4, 4] in the head frame, looking near the head, slightly askew."""
    y, p = np.deg2rad([yaw_deg, pitch_deg])
    way = np.array([np.sin(y) * np.cos(p), np.sin(p), np.cos(y) * np.cos(p)])
    forward = -way
    right = np.array([np.cos(y), 0, -np.sin(y)])
    rotation = np.stack([right, np.cross(forward, right), forward])
    rotation = euler(*turn_deg) @ rotation
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, -rotation @ (CENTER + distance * way)
    return matrix


def euler(x, y, z):
    """A rotation from degrees about x, y and z."""
    (a, b, c), o = np.deg2rad([x, y, z]), 0.0
    rx = np.array([[1, o, o], [o, np.cos(a), -np.sin(a)], [o, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), o, np.sin(b)], [o, 1, o], [-np.sin(b), o, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), o], [np.sin(c), np.cos(c), o], [o, o, 1]])
    return rx @ ry @ rz


def similarity(scale, angles, shift):
    """[4, 4]."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * euler(*angles), shift
    return matrix


def projected(points, viewmat, K):
    """Pixels [n, 2]."""
    cast = (points @ viewmat[:3, :3].T + viewmat[:3, 3]) @ K.T
    return cast[:, :2] / cast[:, 2:]


def dotted(pixels, width, height, radius):
    """A grey picture [H, W, 3] uint8 with a soft disc at each place."""
    picture = np.full((height, width, 3), GREY)
    for place, color in zip(pixels, COLORS, strict=True):
        x0, y0 = (max(0, int(v) - radius - 2) for v in place)
        part = picture[y0 : y0 + 2 * radius + 5, x0 : x0 + 2 * radius + 5]
        y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        cover = np.clip(radius + 0.5 - np.hypot(x + x0 - place[0], y + y0 - place[1]), 0, 1)[..., None]
        part[:] = part * (1 - cover) + color * cover
    return (picture * 255 + 0.5).astype(np.uint8)


def found_dots(rgb):
    """Where the dots are in a picture [S, S, 3] in 0..1: [n, 2], NaN where one is missing."""
    side = rgb.shape[0]
    x, y = np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5)
    every = np.concatenate([COLORS, np.full((1, 3), GREY), np.zeros((1, 3))])
    nearest = np.linalg.norm(rgb[:, :, None] - every, axis=-1)
    kind = nearest.argmin(-1)
    result = np.full((len(COLORS), 2), np.nan)
    for i in range(len(COLORS)):
        weight = np.where((kind == i) & (nearest[..., i] < 0.45), 0.6 - nearest[..., i], 0.0)
        if (weight > 0).sum() >= 4:
            result[i] = (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()
    return result


def worst_error(rgba, camera, places=DOTS):
    """Largest distance in pixels between the dots seen in a crop [4, S, S] and where its camera projects them."""
    seen = found_dots(rgba[:3].permute(1, 2, 0).numpy())
    wanted = projected(places, camera.viewmats[0].double().numpy(), camera.Ks[0].double().numpy())
    assert np.isfinite(seen).all(), "a dot was not found"
    return float(np.linalg.norm(seen - wanted, axis=1).max())


def write_video(path, frames):
    """An mp4 of pictures [H, W, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(73))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "4", "g": "2"}
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def save(path, pixels):
    """A PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@dataclass(frozen=True)
class Rig:
    """A data set's folder and the truth about it."""

    root: object  # Path
    head_from_world: np.ndarray
    viewmats: dict  # world, by camera


def world_cameras(head_from_world, places):
    """Cameras of a world in which the head stands as given: rigid matrices [4, 4], in the world's unit, by name."""
    scale = np.cbrt(np.linalg.det(head_from_world[:3, :3]))
    found = {}
    for name, (yaw, pitch, distance, turn) in places.items():
        matrix = camera_at(yaw, pitch, distance, turn_deg=turn) @ head_from_world
        matrix[:3] /= scale
        found[name] = matrix
    return found


def write_pose(root, head_from_world, key):
    """The sidecar."""
    entry = {key: {"head_from_world": head_from_world.tolist(), "rms_m": 0.001}}
    (root / "headlift_pose.json").write_text(json.dumps({"format": "headlift-pose-1", "moments": entry}))


@pytest.fixture(scope="session")
def dots():
    """The functions and constants of this file, for tests."""
    return SimpleNamespace(**globals())


NERSEMBLE_K = np.array([[8190.0, 0, 1130.0], [0, 8190.0, 1570.0], [0, 0, 1]])
NERSEMBLE_CAMERAS = {
    "222200037": (0, 3, 1.05, (2, -1.5, 1)),
    "222200038": (48, 10, 1.0, (-1, 2, 0)),
    "221501007": (-60, -15, 1.1, (0, 0, -4)),
    "222200042": (20, 28, 0.95, (1, 1, 0)),
}
NERSEMBLE_POSE = similarity(1.0, (10, -20, 5), (0.1, -0.04, 0.2))
SEQUENCE = "EXP-1-head"


@pytest.fixture(scope="session")
def nersemble_made(tmp_path_factory):
    """Subject 017 with four cameras, an eighth of the size, three frames: the dots are off in the middle one."""
    tmp_path = tmp_path_factory.mktemp("nersemble")
    head_from_world = NERSEMBLE_POSE
    viewmats = world_cameras(head_from_world, NERSEMBLE_CAMERAS)
    dots = (DOTS - head_from_world[:3, 3]) @ head_from_world[:3, :3]  # a rotation's inverse is its transpose
    for name, viewmat in viewmats.items():
        K = np.diag([0.125, 0.125, 1]) @ NERSEMBLE_K
        right = dotted(projected(dots, viewmat, K), 275, 401, 4)
        wrong = dotted(projected(dots, viewmat, K) + 20, 275, 401, 4)
        write_video(tmp_path / "017" / "sequences" / SEQUENCE / "images" / f"cam_{name}.mp4", [right, wrong, right])
    data = {"world_2_cam": {k: v.tolist() for k, v in viewmats.items()}, "intrinsics": NERSEMBLE_K.tolist()}
    folder = tmp_path / "017" / "calibration"
    folder.mkdir(parents=True)
    (folder / "camera_params.json").write_text(json.dumps(data))
    for name in viewmats:
        mask = np.full((401, 275), 255, np.uint8)
        save(tmp_path / "headlift_mattes" / "017" / SEQUENCE / "0" / f"{name}.png", mask)
    return Rig(tmp_path, head_from_world, viewmats)


def copied(made, tmp_path):
    """A copy that a test may break."""
    return replace(made, root=shutil.copytree(made.root, tmp_path / made.root.name))


@pytest.fixture
def nersemble(nersemble_made, tmp_path):
    """See `nersemble_made`."""
    return copied(nersemble_made, tmp_path)


CAFCA_CAMERAS = {
    "C00": (0, 0, 1.2, (0, 0, 0)),
    "C01": (70, 12, 1.2, (1, -1, 2)),
    "C02": (-58, -10, 1.3, (0, 1, 0)),
    "C03": (178, 5, 1.2, (0, 0, 0)),
    "C04": (-130, 20, 1.2, (0, 0, 0)),
}
CAFCA_K = np.array([[760.0, 0, 260.0], [0, 752.0, 250.0], [0, 0, 1]])


def write_cafca(root, subject="00012", moment="00001_002", head_from_world=None):
    """One moment of one subject."""
    head_from_world = np.eye(4) if head_from_world is None else head_from_world
    viewmats = world_cameras(head_from_world, CAFCA_CAMERAS)
    dots = (DOTS - head_from_world[:3, 3]) @ np.linalg.inv(head_from_world[:3, :3]).T
    folder = root / subject / moment
    for name, viewmat in viewmats.items():
        save(folder / "color_image" / f"{name}.png", dotted(projected(dots, viewmat, CAFCA_K), 512, 512, 6))
        mask = np.zeros((512, 512), np.uint8)
        mask[:, 150:] = 255
        save(folder / "foreground_mask" / f"{name}.png", mask)
        save(folder / "segmentation" / f"{name}.png", (mask > 0).astype(np.uint16) * 3)
        (folder / "cameras_json").mkdir(exist_ok=True)
        rows = viewmat[:3] if name == "C01" else viewmat  # both forms are about
        data = {"K": CAFCA_K.tolist(), "world2cam": rows.tolist(), "position": [0, 0, 0]}
        (folder / "cameras_json" / f"{name}.json").write_text(json.dumps(data))
    return Rig(root, head_from_world, viewmats)


@pytest.fixture
def cafca(tmp_path):
    """Subject 00012 with five cameras, one behind the head and one nearly."""
    return write_cafca(tmp_path)


AVA_SUBJECT = "20210810--1306--FXN596"
AVA_CAMERAS = {
    "400943": (0, 0, 1.1, (1, 0, 0)),
    "401031": (55, 15, 1.1, (0, -1, 1)),
    "401045": (-80, -20, 1.15, (0, 0, 2)),
    "401292": (-25, 30, 1.05, (0, 2, 0)),
}
AVA_K = np.array([[9800.0, 0, 1300.0], [0, 9800.0, 2100.0], [0, 0, 1]])
# The tracked head: Y down and Z out of the back of the head, in mm; what the file holds is local to world.
AVA_AXES = np.diag([1.0, -1.0, -1.0])
AVA_WORLD = similarity(1.0, (3, 160, -8), (120.0, -300.0, 950.0))


@pytest.fixture(scope="session")
def ava256_made(tmp_path_factory):
    """One capture at a quarter of the calibration's size, all matrices transposed, millimetres."""
    tmp_path = tmp_path_factory.mktemp("ava256")
    head_from_local = np.eye(4)
    head_from_local[:3, :3] = 1e-3 * AVA_AXES
    head_from_local[:3, 3] = (0.0, 0.012, 0.004)  # the tracked origin is not ours
    head_from_world = head_from_local @ np.linalg.inv(AVA_WORLD)
    viewmats = world_cameras(head_from_world, AVA_CAMERAS)
    dots = np.linalg.solve(head_from_world, np.c_[DOTS, np.ones(len(DOTS))].T).T[:, :3]
    folder = tmp_path / f"m--{AVA_SUBJECT}--GHS" / "decoder"
    for name in ("image", "segmentation_parts", "head_pose", "keypoints_3d"):
        (folder / name).mkdir(parents=True)
    for name, viewmat in viewmats.items():
        K = np.diag([0.25, 0.25, 1]) @ AVA_K
        picture = Image.fromarray(dotted(projected(dots, viewmat, K), 667, 1024, 6))
        with zipfile.ZipFile(folder / "image" / f"cam{name}.zip", "w") as archive:
            buffer = BytesIO()
            picture.save(buffer, "AVIF", quality=95, subsampling="4:4:4", speed=9)
            archive.writestr("000123.avif", buffer.getvalue())
        labels = np.full((1024, 667), 2, np.uint8)
        labels[-60:] = 3  # the chair
        with zipfile.ZipFile(folder / "segmentation_parts" / f"cam{name}.zip", "w") as archive:
            buffer = BytesIO()
            Image.fromarray(labels).save(buffer, "PNG")
            archive.writestr(f"cam{name}/000123.png", buffer.getvalue())
    entries = [{"cameraId": k, "K": AVA_K.T.tolist(), "T": v.T.tolist()} for k, v in viewmats.items()]
    (folder / "camera_calibration.json").write_text(json.dumps({"KRT": entries}))
    (folder / "frame_list.csv").write_text("seg_id,frame_id\nEXP_neutral_peak,123\nEXP_ear_pull,200\n")
    with zipfile.ZipFile(folder / "head_pose" / "head_pose.zip", "w") as archive:
        archive.writestr("000123.txt", "\n".join(" ".join(f"{x:.9g}" for x in row) for row in AVA_WORLD[:3]))
    return Rig(tmp_path, head_from_world, viewmats)


@pytest.fixture
def ava256(ava256_made, tmp_path):
    """See `ava256_made`."""
    return copied(ava256_made, tmp_path)


def write_keypoints(rig):
    """Key points about the middle of the face, as the release has them."""
    spread = np.random.default_rng(0).normal(0, 0.03, (101, 3))
    points = np.array([0.0, 0.0, 0.058]) + spread - np.median(spread, 0)
    # The median is taken in the world, whose axes are turned: only a point cloud that is symmetric keeps it in place.
    points = np.concatenate([points, 2 * np.array([0.0, 0.0, 0.058]) - points])
    world = np.linalg.solve(rig.head_from_world, np.c_[points, np.ones(len(points))].T).T[:, :3]
    rows = np.c_[np.arange(len(world)), world, np.ones(len(world)), np.full(len(world), 5)]
    buffer = BytesIO()
    np.save(buffer, rows)
    folder = next(rig.root.glob("m--*")) / "decoder" / "keypoints_3d"
    with zipfile.ZipFile(folder / "keypoints_3d.zip", "w") as archive:
        archive.writestr("000123.npy", buffer.getvalue())

import asyncio
import io

import numpy as np
import pytest
from PIL import Image

from headlift import formats
from headlift.client import (
    AsyncHeadliftClient,
    HeadliftClient,
    RetryPolicy,
    camera,
    camera_from_matrices,
)
from headlift.client._heads import Download
from headlift.errors import (
    ConflictError,
    DeadlineError,
    InvalidCameraError,
    InvalidInputError,
    NotFoundError,
    ServerError,
    UnreadablePictureError,
)
from headlift.v1 import head_service_pb2 as pb


@pytest.fixture
def client(server):
    with HeadliftClient(server.address, tenant="sdk") as connected:
        yield connected


@pytest.fixture(scope="module")
def head(server, portrait_png):
    with HeadliftClient(server.address, tenant="sdk") as connected:
        return connected.create_head(portrait_png)


def test_a_head_is_made_from_a_path_and_found_by_message_name_or_last_segment(client, portrait_png, tmp_path):
    path = tmp_path / "me.png"
    path.write_bytes(portrait_png)
    made = client.create_head(path)
    assert client.get_head(made) == client.get_head(made.name) == client.get_head(made.name.split("/")[-1]) == made
    assert made.name in [h.name for h in client.list_heads(page_size=1)]
    client.delete_head(made)
    with pytest.raises(NotFoundError):
        client.get_head(made)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "raw_uint8", "raw_float32"])
def test_pictures_come_as_arrays_and_images(client, head, kind):
    front, side = client.render(head, [camera(), camera(yaw_deg=90)], width=64, height=32, format=kind)
    assert front.array().shape == side.array().shape == (32, 64, 3)
    assert front.image().size == (64, 32)
    assert front.data != side.data


def test_cameras_may_be_given_as_matrices(client, head):
    view = np.diag([1.0, -1.0, -1.0, 1.0])
    view[2, 3] = 1.7
    view[1, 3] = 0.01
    K = [[273.0, 0, 32], [0, 273.0, 32], [0, 0, 1]]
    picture = client.render(head, [camera_from_matrices(view, K)], width=64, height=64, alpha=True)[0]
    assert picture.array()[..., 3].max() > 0


def test_an_orbit_is_iterated_and_can_be_left(client, head):
    frames = client.orbit(head, 8, width=32, height=32, format="raw_uint8")
    first = next(frames)
    assert (first.index, first.count) == (0, 8)
    frames.close()
    assert sum(1 for _ in client.orbit(head, 4, width=32, height=32)) == 4


@pytest.mark.parametrize(
    "kind", ["ply", "ply_compact", "ply_compressed", "splat", "spz", "spz_v4", "sog", "glb", "usdz", "html", "wire"]
)
def test_files_are_exported_whole_with_progress(client, head, kind, tmp_path):
    path, reports = tmp_path / f"head.{kind}", []
    data = client.export(head, kind, path=path, progress=lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == data
    assert reports[-1] == (len(data), len(data))
    assert len(formats.read(data, kind.split("_")[0])) == head.gaussian_count
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_baked_file_is_exported_with_reports_of_the_fit(client, head):
    shares, bytes_ = [], []
    data = client.export(
        head, "ply", sharpen="bake", bake_progress=shares.append, progress=lambda done, total: bytes_.append(done)
    )
    assert data != client.export(head, "ply")
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    assert bytes_[-1] == len(data)
    with pytest.raises(InvalidInputError, match="'bake'"):
        client.export(head, "ply", sharpen="yes")


def test_a_damaged_download_is_noticed():
    download = Download()
    download.add(pb.ExportHeadResponse(data=b"abc", offset_bytes=0, total_size_bytes=3, sha256="0" * 64))
    with pytest.raises(ServerError):
        download.finish()
    with pytest.raises(ServerError):
        download.add(pb.ExportHeadResponse(data=b"abc", offset_bytes=9, total_size_bytes=3, sha256="0" * 64))


def test_refusals_arrive_as_the_servers_own_classes(client, head, portrait_png):
    with pytest.raises(UnreadablePictureError) as caught:
        client.create_head(b"no picture")
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "picture")
    with pytest.raises(NotFoundError) as missing:
        client.get_head("h0")
    assert missing.value.metadata == {"resource": "tenants/sdk/heads/h0"}
    with pytest.raises(InvalidCameraError):
        client.render(head, [camera(pitch_deg=100)])
    request_id = "7d444840-9dc0-41d1-b245-5ffdce74fad2"
    client.create_head(portrait_png, request_id=request_id)
    with pytest.raises(ConflictError):
        client.create_head(portrait_png, request_id=request_id, refine_steps=1)
    with pytest.raises(DeadlineError):
        client.create_head(portrait_png, refine_steps=1000, timeout_s=0.2)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        client.create_head("no/such/file.png")
    with pytest.raises(InvalidInputError, match="must be one of"):
        client.export(head, "obj")


def test_a_server_that_is_away_is_asked_again_and_then_reported():
    with HeadliftClient("127.0.0.1:1", timeout_s=10, retry=RetryPolicy(attempts_max=3, first_s=0.01)) as client:
        with pytest.raises(ServerError) as caught:
            client.get_head("h0")
        assert caught.value.code == "UNAVAILABLE"
        with pytest.raises(DeadlineError):
            client.wait_until_serving(0.3)


async def test_the_async_client_does_what_the_blocking_one_does(server, portrait_png, tmp_path):
    async with AsyncHeadliftClient(server.address, tenant="async") as client:
        await client.wait_until_serving()
        head = await client.create_head(portrait_png)
        assert await client.get_head(head) == head
        assert [h.name async for h in client.list_heads()] == [head.name]
        views = [client.render(head, [camera(yaw_deg=y)], width=32, height=32) for y in (0, 90)]
        shots = await asyncio.gather(*views)
        assert all(Image.open(io.BytesIO(s[0].data)).size == (32, 32) for s in shots)
        assert len([f async for f in client.orbit(head, 3, width=32, height=32)]) == 3
        data = await client.export(head, "spz", path=tmp_path / "head.spz")
        assert (tmp_path / "head.spz").read_bytes() == data
        await client.delete_head(head)
        with pytest.raises(NotFoundError):
            await client.get_head(head)

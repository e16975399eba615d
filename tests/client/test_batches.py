import io

import av
import numpy as np
import pytest
from PIL import Image

from headlift.client import AsyncHeadliftClient, HeadliftClient
from headlift.errors import CancelledError, DeadlineError, InvalidInputError, NotFoundError

LIMIT_S = 120.0


@pytest.fixture(scope="module")
def images(portrait_png):
    """Small portraits that are not equal."""
    small = Image.open(io.BytesIO(portrait_png)).convert("RGB").crop((80, 0, 208, 128))
    return [small.point(lambda v, i=i: min(255, int(v * (0.9 + i / 200)))) for i in range(20)]


@pytest.fixture(scope="module")
def pictures(images):
    """The same as files."""

    def file(image):
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()

    return [file(image) for image in images]


def clip_of(images):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "12"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def test_batches_are_begun_listed_waited_for_cancelled_and_forgotten(server, images, pictures):
    with HeadliftClient(server.address, tenant="batches") as client:
        name = client.create_heads(pictures[:2], refine_steps=0)
        assert name in list(client.list_batches())
        results = client.wait_for_batch(name, timeout_s=LIMIT_S)
        assert {r.head for r in results} == {head.name for head in client.list_heads()}
        assert client.get_batch(name).done_count == 2
        client.delete_batch(name)
        with pytest.raises(NotFoundError):
            client.get_batch(name)
        clip = client.create_heads_of_clip(clip_of(images[:3]), frame_step=2, refine_steps=0)
        assert [r.frame_index for r in client.wait_for_batch(clip, timeout_s=LIMIT_S)] == [0, 2]
        long = client.create_heads(pictures, refine_steps=0)
        with pytest.raises(DeadlineError):
            client.wait_for_batch(long, timeout_s=0.001)
        client.cancel_batch(long)
        with pytest.raises(CancelledError):
            client.wait_for_batch(long, timeout_s=LIMIT_S)


async def test_the_async_client_waits_for_batches_too(server, pictures):
    async with AsyncHeadliftClient(server.address, tenant="batches-async") as client:
        name = await client.create_heads(pictures[:1], refine_steps=0)
        (result,) = await client.wait_for_batch(name, timeout_s=LIMIT_S)
        assert [n async for n in client.list_batches()] == [name]
        assert (await client.get_head(result.head)).name == result.head


def test_a_clip_that_is_not_there_is_named(server, tmp_path):
    with HeadliftClient(server.address) as client, pytest.raises(InvalidInputError) as caught:
        client.create_heads_of_clip(tmp_path / "none.mp4")
    assert caught.value.field == "clip"

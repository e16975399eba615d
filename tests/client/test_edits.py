import numpy as np
import pytest
from PIL import Image

from headlift.client import AsyncHeadliftClient, HeadliftClient, style
from headlift.client._edits import label_map, mixed_style
from headlift.errors import InvalidInputError, NotFoundError, UnreadablePictureError
from headlift.v1 import edit_pb2

HAT = edit_pb2.Stroke(label=16, points=[1000, 500, 7000, 500], radius=500)


@pytest.fixture
def client(server):
    with HeadliftClient(server.address, tenant="editing") as connected:
        yield connected


@pytest.fixture(scope="module")
def head(server, portrait_png):
    with HeadliftClient(server.address, tenant="editing") as connected:
        return connected.create_head(portrait_png)


def test_a_head_is_segmented_painted_described_and_done_again_to_others(client, head, portrait_png, tmp_path):
    path = tmp_path / "other.png"
    path.write_bytes(portrait_png)
    segmented = client.segment(head, with_portrait=True)
    assert segmented.labels.shape == segmented.confidence.shape == (64, 64)
    assert 0.0 <= segmented.confidence.min() <= segmented.confidence.max() <= 1.0
    assert segmented.portrait.image().size[0] == head.quality.crop_size_px
    assert np.array_equal(client.segment(path).labels, segmented.labels)
    segmented.labels[:6] = 16
    painted = client.edit(head, map=segmented.labels, prompt="red hair", reference=str(path), mix=0.25).head
    assert [t.weight for t in painted.edits[0].style.terms] == [0.75, 0.25]
    assert (client.segment(painted).labels[:6] == 16).all()
    client.render(head, [segmented.camera], width=64, height=64)
    further = client.edit(painted, strokes=[HAT], reference=head).head
    history = client.edit_history(further.name.split("/")[-1])
    assert list(history.heads) == [head.name, painted.name]
    answers = list(client.replay(further, [head, path, "nobody"]))
    assert [a.index for a in answers] == [0, 1, 2]
    assert answers[0].head.parent == head.name
    assert isinstance(answers[2].error, NotFoundError)
    assert next(client.replay(history.edits, [head])).head.edits == answers[0].head.edits


def test_a_style_that_was_embedded_once_can_be_used_again(client, head, portrait_png):
    embedding = client.embed_style(style((portrait_png, 0.5), "red hair", (head, 2.0)))
    made = client.edit(head, reference=embedding).head
    assert made.edits[0].style.terms[0].embedding == embedding


def test_a_person_can_be_made_up(client, tmp_path):
    labels = np.zeros((64, 64), np.uint8)
    labels[10:50, 15:45] = 2
    path = tmp_path / "map.png"
    Image.fromarray(labels).save(path)
    answer = client.edit(map=path, prompt="long black flumox hair")
    made = answer.head
    assert (made.parent, answer.ignored_words) == ("", ("flumox",))
    assert np.array_equal(client.segment(made).labels, labels)


def test_refusals_arrive_as_classes_with_reasons(client, head):
    with pytest.raises(InvalidInputError) as caught:
        client.edit(head, prompt="xyzzy")
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_WORDS", "style.terms[0].text")
    with pytest.raises(UnreadablePictureError):
        client.edit(head, reference=b"nothing")
    with pytest.raises(NotFoundError):
        client.segment("nobody")


@pytest.mark.parametrize(("mix", "weights"), [(0.0, [1.0]), (0.25, [0.75, 0.25]), (1.0, [1.0])])
def test_mixing_gives_the_reference_its_share(mix, weights):
    assert [t.weight for t in mixed_style("red", b"picture", mix).terms] == weights
    assert len(mixed_style("red", None, mix).terms) == 1
    assert mixed_style(None, None, mix) is None


def test_what_cannot_be_sent_is_refused_at_once(tmp_path, client, head):
    with pytest.raises(InvalidInputError, match="mix"):
        mixed_style("red", b"picture", 1.5)
    with pytest.raises(InvalidInputError, match="uint8"):
        label_map(np.zeros((4, 5), np.uint8))
    with pytest.raises(InvalidInputError, match="not both"):
        client.edit(head, map=np.zeros((64, 64), np.uint8), strokes=[HAT])
    with pytest.raises(InvalidInputError) as caught:
        label_map(tmp_path / "none.png")
    assert caught.value.field == "map"


async def test_the_async_client_does_what_the_blocking_one_does(server, head):
    async with AsyncHeadliftClient(server.address, tenant="editing") as client:
        segmented = await client.segment(head)
        made = (await client.edit(head, strokes=[HAT])).head
        assert (segmented.origin, (await client.segment(made)).origin) == ("portrait", "painted")
        embedding = await client.embed_style(style("red hair"))
        assert embedding.fingerprint == made.weights_hash
        assert len((await client.edit_history(made)).edits) == 1
        assert [a.head.parent async for a in client.replay(made, [head])] == [head.name]

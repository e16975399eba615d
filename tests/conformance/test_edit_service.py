"""What headlift.v1.EditService promises, held against every runtime; the network is tiny and knows nothing."""

import hashlib
import io
import time
import uuid
from dataclasses import replace

import grpc
import numpy as np
import pytest
from PIL import Image

from headlift import formats
from headlift.v1 import camera_pb2, edit_pb2, picture_pb2
from headlift.v1 import edit_service_pb2 as pb
from headlift.v1 import head_service_pb2 as head_pb

SIDE = 64
METHODS = {m.name: m for m in pb.DESCRIPTOR.services_by_name["EditService"].methods}
GONE = "tenants/shared/heads/h000"
# Refusals are made before anything is asked of a stage: one runtime stands for all.
ONCE = pytest.mark.parametrize("start", ["embedded"], indirect=True, scope="session")
LINE, AREA, FILL = edit_pb2.STROKE_SHAPE_LINE, edit_pb2.STROKE_SHAPE_AREA, edit_pb2.STROKE_SHAPE_FILL


@pytest.fixture(scope="module")
def create(runtime, portrait_png):
    """Makes a head of the astronaut."""

    def make(tenant="shared"):
        request = head_pb.CreateHeadRequest(parent=f"tenants/{tenant}", picture=portrait_png)
        return runtime.stub.CreateHead(request, timeout=60).head

    return make


@pytest.fixture(scope="module")
def edit(runtime):
    """Edits a head, or makes one up; answers the new one."""

    def do(head="", tenant="shared", **fields):
        request = pb.EditHeadRequest(parent=f"tenants/{tenant}", head=getattr(head, "name", head), **fields)
        return runtime.edits.EditHead(request, timeout=60).head

    return do


@pytest.fixture(scope="module")
def segment(runtime):
    """The map of a head, and the whole answer."""

    def do(head, **fields):
        tenant = head.name.split("/heads/")[0]
        answer = runtime.edits.SegmentPortrait(pb.SegmentPortraitRequest(parent=tenant, head=head.name, **fields))
        return labels_of(answer.map), answer

    return do


@pytest.fixture(scope="module")
def exported(runtime):
    """A head's Gaussians as they are stored."""

    def export(head):
        request = head_pb.ExportHeadRequest(name=head.name, format=head_pb.EXPORT_FORMAT_WIRE)
        return b"".join(chunk.data for chunk in runtime.stub.ExportHead(request))

    return export


def labels_of(message):
    if message.format == edit_pb2.LABEL_MAP_FORMAT_RAW:
        return np.frombuffer(message.data, np.uint8).reshape(message.side_px, message.side_px)
    return np.asarray(Image.open(io.BytesIO(message.data)))


def raw(labels):
    labels = np.asarray(labels, np.uint8)
    return edit_pb2.LabelMap(data=labels.tobytes(), format=edit_pb2.LABEL_MAP_FORMAT_RAW, side_px=len(labels))


def png(labels, mode="L"):
    buffer = io.BytesIO()
    picture = Image.fromarray(np.asarray(labels, np.uint8))
    if mode == "P":
        picture.putpalette(bytes(range(256)) * 3)  # makes it one of mode P
    else:
        picture = picture.convert(mode)
    picture.save(buffer, "PNG")
    return edit_pb2.LabelMap(data=buffer.getvalue())


def words(*texts, weights=()):
    terms = [edit_pb2.StyleTerm(text=t) for t in texts]
    for term, weight in zip(terms, weights, strict=False):
        term.weight = weight
    return edit_pb2.Style(terms=terms)


def stroke(label=14, points=(4096, 1000), radius=900, shape=LINE):
    return edit_pb2.Stroke(label=label, points=points, radius=radius, shape=shape)


def strokes(*some):
    return edit_pb2.Strokes(strokes=some)


def face():
    """A map that somebody painted: hair round a face on a neck."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[8:40, 16:48], labels[18:44, 22:42], labels[44:60, 26:38] = 14, 2, 1
    return labels


# -- maps -------------------------------------------------------------------------------------------------------------


def test_the_map_of_a_head_is_that_of_its_portrait_and_is_seen_once(runtime, create, segment, portrait_png):
    head = create("maps")
    labels, answer = segment(head, with_portrait=True)
    assert answer.origin == pb.MAP_ORIGIN_PORTRAIT
    assert labels.shape == (SIDE, SIDE) == np.asarray(Image.open(io.BytesIO(answer.confidence))).shape
    assert labels.max() <= 18
    assert labels.any()
    crop = Image.open(io.BytesIO(answer.portrait.data))
    assert crop.size == (answer.portrait.width_px, answer.portrait.height_px)
    assert crop.size[0] == head.quality.crop_size_px
    again, twice = segment(head, format=edit_pb2.LABEL_MAP_FORMAT_RAW)
    assert np.array_equal(labels, again)
    assert [(t.stage, t.cached) for t in twice.stage_timings] == [("segment", True)]
    direct = runtime.edits.SegmentPortrait(pb.SegmentPortraitRequest(parent="tenants/maps", picture=portrait_png))
    # The head's camera may have been refined, its crop is the same.
    assert np.array_equal(labels_of(direct.map), labels)
    assert not any("segment" in key and "derived" not in key for key in runtime.blob_keys("tenants/maps"))


def test_the_camera_of_a_map_shows_the_head_as_the_map_does(runtime, create, segment):
    head = create()
    _, answer = segment(head)
    request = head_pb.RenderHeadRequest(
        name=head.name,
        cameras=[camera_pb2.Camera(matrix=answer.camera)],
        picture=picture_pb2.PictureOptions(width_px=SIDE, height_px=SIDE),
    )
    assert len(runtime.stub.RenderHead(request).pictures) == 1
    scale = head.quality.crop_size_px / SIDE
    assert answer.camera.intrinsics[0] * scale == pytest.approx(head.input_camera.intrinsics[0], rel=1e-4)


def test_without_its_portrait_a_head_is_looked_at_itself(start, settings, portrait_png, tmp_path):
    with start(replace(settings, data_dir=tmp_path, cache_stages=False)) as forgetful:
        request = head_pb.CreateHeadRequest(parent="tenants/a", picture=portrait_png)
        head = forgetful.stub.CreateHead(request, timeout=60).head
        answer = forgetful.edits.SegmentPortrait(pb.SegmentPortraitRequest(parent="tenants/a", head=head.name))
        assert answer.origin == pb.MAP_ORIGIN_HEAD
        assert labels_of(answer.map).shape == (SIDE, SIDE)
        edit = pb.EditHeadRequest(parent="tenants/a", head=head.name, style=words("red hair"))
        assert forgetful.edits.EditHead(edit, timeout=60).head.parent == head.name


@ONCE
def test_looking_at_a_picture_leaves_nothing_behind(runtime, portrait_png):
    runtime.edits.SegmentPortrait(pb.SegmentPortraitRequest(parent="tenants/passing", picture=portrait_png))
    style = edit_pb2.Style(terms=[edit_pb2.StyleTerm(picture=portrait_png)])
    runtime.edits.EmbedStyle(pb.EmbedStyleRequest(parent="tenants/passing", style=style))
    assert runtime.blob_keys("tenants/passing") == []


# -- styles ------------------------------------------------------------------------------------------------------------


def embed(runtime, style, tenant="shared"):
    answer = runtime.edits.EmbedStyle(pb.EmbedStyleRequest(parent=f"tenants/{tenant}", style=style))
    return np.frombuffer(answer.embedding.data, "<f4"), answer


@ONCE
def test_styles_are_unit_and_a_mix_lies_between_its_parts(runtime, portrait_png, create):
    head = create()
    picture = edit_pb2.StyleTerm(picture=portrait_png)
    a, said = embed(runtime, words("red hair"))
    b, shown = embed(runtime, edit_pb2.Style(terms=[picture]))
    assert shown.embedding.picture_sha256 == hashlib.sha256(portrait_png).hexdigest()
    of_head, _ = embed(runtime, edit_pb2.Style(terms=[edit_pb2.StyleTerm(head=head.name)]))
    np.testing.assert_allclose(of_head, b, atol=1e-5)
    for share in (0.1, 0.5, 0.9):
        terms = [
            edit_pb2.StyleTerm(embedding=said.embedding, weight=1 - share),
            edit_pb2.StyleTerm(embedding=shown.embedding, weight=share),
        ]
        mixed, _ = embed(runtime, edit_pb2.Style(terms=terms))
        assert np.linalg.norm(mixed) == pytest.approx(1.0, abs=1e-4)
        whole = np.arccos(np.clip(a @ b, -1, 1))
        assert np.arccos(np.clip(a @ mixed, -1, 1)) == pytest.approx(share * whole, abs=1e-2)


def test_the_same_words_are_embedded_once_and_unknown_ones_are_named(runtime):
    first, _ = embed(runtime, words("a red hat, gorgeous"), "speaking")
    second, answer = embed(runtime, words("a red hat, gorgeous"), "speaking")
    assert np.array_equal(first, second)
    assert [(t.stage, t.cached) for t in answer.stage_timings] == [("embed", True)]
    assert "gorgeous" in answer.ignored_words


# -- edits ------------------------------------------------------------------------------------------------------------


def test_an_edited_head_tells_where_it_came_from(runtime, create, edit, segment, exported):
    head = create("lineage")
    first = edit(head, "lineage", style=words("red hair"), strength=0.5)
    across = stroke(points=(4096, 4096), radius=2000)  # over what faces the camera, so that the head changes
    second = edit(first, "lineage", strokes=strokes(across))
    assert (first.parent, first.origin) == (head.name, head.name)
    assert (second.parent, second.origin) == (first.name, head.name)
    assert first.edits[0].style.terms[0].text == "red hair"
    assert first.edits[0].strength == 0.5
    assert second.edits[0].strokes.strokes[0] == across
    assert second.gaussian_count == head.gaussian_count
    assert (second.quality, second.input_camera) == (head.quality, head.input_camera)
    assert second.input_sha256 not in ("", head.input_sha256)
    assert second.weights_hash not in ("", head.weights_hash)
    assert [t.stage for t in first.stage_timings] == ["segment", "embed", "edit", "pack", "store"]
    assert runtime.stub.GetHead(head_pb.GetHeadRequest(name=second.name)).head == second
    history = runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=second.name))
    assert list(history.edits) == [*first.edits, *second.edits]
    assert list(history.heads) == [head.name, first.name]
    labels, answer = segment(second)
    assert answer.origin == pb.MAP_ORIGIN_PAINTED
    assert np.array_equal(labels_of(history.map), labels)
    assert len({exported(h) for h in (head, first, second)}) == 3
    assert not runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=head.name)).edits


def test_words_that_are_shapes_are_painted_unless_the_map_is_to_be_kept(runtime, edit, segment):
    head = edit("", "shapes", map=raw(face()), style=words("red hair"))
    hat = np.where((np.arange(SIDE) < SIDE // 4)[:, None], np.uint8(16), face())  # what the tiny weights call a hat
    hatted = edit(head, "shapes", style=words("black hat"))
    assert np.array_equal(segment(hatted)[0], hat)
    kept = edit(head, "shapes", style=words("black hat"), keep_map=True)
    assert kept.edits[-1].keep_map
    assert np.array_equal(segment(kept)[0], face())
    half = edit(head, "shapes", style=words("hat", "red hair", weights=(0.4, 0.6)))
    assert np.array_equal(segment(half)[0], face())
    # What is painted in the same edit lies on top.
    both = edit(head, "shapes", style=words("hat"), strokes=strokes(stroke(0, (0, 0), 300)))
    assert (segment(both)[0][0, 0], segment(both)[0][0, -1]) == (0, 16)
    bare = edit(hatted, "shapes", style=words("bare"))
    assert not (segment(bare)[0] == 16).any()
    # Done again to another head, words are painted into its own map.
    other = edit("", "shapes", map=raw(face()[:, ::-1]), style=words("black hair"))
    request = pb.ReplayEditsRequest(
        parent="tenants/shapes", edits=hatted.edits[-1:], targets=[pb.ReplayTarget(head=other.name)]
    )
    (answer,) = runtime.edits.ReplayEdits(request)
    assert np.array_equal(segment(answer.head)[0] == 16, hat == 16)


def test_another_prompt_computes_only_what_it_changes(create, edit):
    head = create("prompting")
    first = edit(head, "prompting", style=words("red hair"))
    assert {t.stage for t in first.stage_timings if t.cached} == set()
    second = edit(head, "prompting", style=words("black hair"))
    assert {t.stage for t in second.stage_timings if t.cached} == {"segment"}
    assert first.input_sha256 != second.input_sha256


def test_the_same_edit_by_whatever_way_is_the_same_head_and_computed_once(create, edit, exported):
    head = create("ways")
    straight = edit(head, "ways", strokes=strokes(stroke()), style=words("red hair"))
    painted = edit(head, "ways", strokes=strokes(stroke()))
    styled = edit(painted, "ways", style=words("red hair"))
    assert all(t.cached for t in styled.stage_timings if t.stage != "store")
    assert styled.input_sha256 == straight.input_sha256
    assert exported(styled) == exported(straight)
    assert (styled.parent, straight.parent) == (painted.name, head.name)


@ONCE
def test_strength_goes_from_the_look_before_to_the_new_one(runtime, create, edit):
    head = create("strong")
    styles = []
    for strength in (0.0, 0.5, 1.0):
        made = edit(head, "strong", style=words("red hair"), strength=strength)
        history = runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=made.name))
        styles.append(np.frombuffer(history.style.data, "<f4"))
    target, _ = embed(runtime, words("red hair"))
    own, _ = embed(runtime, edit_pb2.Style(terms=[edit_pb2.StyleTerm(head=head.name)]), "strong")
    np.testing.assert_allclose(styles[0], own, atol=1e-5)
    np.testing.assert_allclose(styles[2], target, atol=1e-5)
    assert styles[1] @ target > styles[0] @ target


@ONCE
@pytest.mark.parametrize("pack", [raw, png, lambda m: png(m, "P"), lambda m: raw(np.kron(m, np.ones((3, 3))))])
def test_maps_mean_the_same_however_they_are_packed(create, edit, segment, pack):
    head = create("packing")
    patch = np.full((SIDE, SIDE), 255, np.uint8)
    patch[4:12, 10:50] = 16
    made = edit(head, "packing", map=pack(patch))
    before, after = segment(head)[0], segment(made)[0]
    assert (after[4:12, 10:50] == 16).all()
    kept = np.ones_like(before, bool)
    kept[4:12, 10:50] = False
    assert np.array_equal(before[kept], after[kept])
    # What was painted is remembered, and nothing else.
    assert set(np.unique(labels_of(made.edits[0].map))) <= {16, 255}


@ONCE
def test_a_person_can_be_made_up_and_edited_further(runtime, edit, segment):
    made = edit("", "inventing", map=raw(face()), style=words("long red hair"))
    assert (made.parent, made.origin) == ("", "")
    assert np.array_equal(segment(made)[0], face())
    further = edit(made, "inventing", style=words("black hair"))
    assert (further.parent, further.origin) == (made.name, made.name)
    assert np.array_equal(segment(further)[0], face())
    history = runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=further.name))
    assert list(history.heads) == ["", made.name]


def test_a_reference_picture_is_embedded_and_not_kept(runtime, create, edit, portrait_png):
    head = create("reference")
    style = edit_pb2.Style(terms=[edit_pb2.StyleTerm(picture=portrait_png), edit_pb2.StyleTerm(head=head.name)])
    made = edit(head, "reference", style=style)
    for term in made.edits[0].style.terms:
        assert term.WhichOneof("source") == "embedding"
    assert made.edits[0].style.terms[0].embedding.picture_sha256 == hashlib.sha256(portrait_png).hexdigest()
    assert runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=made.name)).ByteSize() < len(portrait_png) / 2


@ONCE
def test_the_same_request_id_makes_one_head_and_means_one_edit(runtime, refused, create):
    head, request_id = create("repeating"), str(uuid.uuid4())
    request = pb.EditHeadRequest(
        parent="tenants/repeating", head=head.name, style=words("red hair"), request_id=request_id
    )
    first, second = (runtime.edits.EditHead(request).head for _ in range(2))
    assert first == second
    request.style.terms[0].text = "black hair"
    answer = refused(lambda: runtime.edits.EditHead(request))
    assert (answer.code, answer.reason) == ("ALREADY_EXISTS", "REQUEST_ID_REUSED")
    other = head_pb.CreateHeadRequest(parent="tenants/repeating", picture=b"x", request_id=request_id)
    assert refused(lambda: runtime.stub.CreateHead(other)).code == "ALREADY_EXISTS"


@ONCE
def test_painting_everything_back_leads_back_to_the_head(create, edit, segment, exported):
    head = create("back")
    before = segment(head)[0]
    there = edit(head, "back", strokes=strokes(stroke(radius=2000)), style=words("red hair"))
    assert exported(there) != exported(head)
    style_of_head = edit_pb2.Style(terms=[edit_pb2.StyleTerm(head=head.name)])
    back = edit(there, "back", map=raw(before), style=style_of_head)
    first, last = (formats.read(exported(h), "wire") for h in (head, back))
    for name in ("means", "scales", "opacities", "colors"):
        np.testing.assert_allclose(getattr(last, name), getattr(first, name), atol=2e-3, rtol=0.03)
    assert ((last.quats * first.quats).sum(-1).abs() > 0.999).all()


# -- replay -----------------------------------------------------------------------------------------------------------


def test_edits_are_done_again_to_heads_and_portraits(runtime, create, edit, segment, portrait_png):
    source, target = create("replaying"), create("replaying")
    marked = stroke(label=16, points=(1000, 500, 7000, 500), radius=400)
    last = edit(edit(source, "replaying", strokes=strokes(marked)), "replaying", style=words("red hair"))
    request = pb.ReplayEditsRequest(
        parent="tenants/replaying",
        source=last.name,
        targets=[
            pb.ReplayTarget(head=target.name),
            pb.ReplayTarget(head="tenants/replaying/heads/h0"),
            pb.ReplayTarget(picture=b"nobody"),
            pb.ReplayTarget(picture=portrait_png),
        ],
        request_id=str(uuid.uuid4()),
    )
    answers = list(runtime.edits.ReplayEdits(request, timeout=120))
    assert [a.target_index for a in answers] == [0, 1, 2, 3]
    assert [a.WhichOneof("outcome") for a in answers] == ["head", "error", "error", "head"]
    codes = [grpc.StatusCode.NOT_FOUND.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert [a.error.code for a in answers[1:3]] == codes
    done = answers[0].head
    assert done.parent == target.name
    assert [e.WhichOneof("geometry") for e in done.edits] == ["strokes", None]
    assert np.array_equal(segment(done)[0], segment(last)[0])  # the same portrait
    history = runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=done.name))
    assert list(history.heads) == [target.name, ""]
    assert answers[3].head.parent not in (target.name, source.name, "")
    again = list(runtime.edits.ReplayEdits(request, timeout=120))
    assert [a.head.name for a in again] == [a.head.name for a in answers]


@ONCE
def test_a_patch_is_done_again_only_where_it_was_painted(runtime, edit, segment):
    wide, small = face(), face()
    small[8:14] = 0
    first = edit("", "patching", map=raw(wide), style=words("red hair"))
    target = edit("", "patching", map=raw(small), style=words("red hair"))
    with_hat = face()
    with_hat[2:8, 20:44] = 16
    source = edit(first, "patching", map=raw(with_hat))
    request = pb.ReplayEditsRequest(
        parent="tenants/patching", edits=source.edits, targets=[pb.ReplayTarget(head=target.name)]
    )
    (answer,) = runtime.edits.ReplayEdits(request)
    expected = small.copy()
    expected[2:8, 20:44] = 16
    assert np.array_equal(segment(answer.head)[0], expected)


@ONCE
def test_a_target_that_fails_leaves_no_head(runtime, edit, portrait_png):
    source = edit("", "replayfail", map=raw(face()), style=words("red hair"))
    # Paints everything away.
    gone = edit_pb2.Edit(map=raw(np.zeros((SIDE, SIDE))))
    request = pb.ReplayEditsRequest(
        parent="tenants/replayfail", edits=[gone], targets=[pb.ReplayTarget(picture=portrait_png)]
    )
    (answer,) = runtime.edits.ReplayEdits(request, timeout=60)
    assert "EMPTY_MAP" in str(answer.error.details[0])
    heads = runtime.stub.ListHeads(head_pb.ListHeadsRequest(parent="tenants/replayfail")).heads
    assert [h.name for h in heads] == [source.name]


# -- deletion ---------------------------------------------------------------------------------------------------------


def test_a_child_survives_its_parents_and_can_be_edited_and_replayed(runtime, create, edit, segment, exported):
    head = create("orphans")
    child = edit(head, "orphans", strokes=strokes(stroke()))
    before, labels = exported(child), segment(child)[0]
    runtime.stub.DeleteHead(head_pb.DeleteHeadRequest(name=head.name))
    assert exported(child) == before
    assert np.array_equal(segment(child)[0], labels)
    grandchild = edit(child, "orphans", style=words("red hair"))
    assert (grandchild.parent, grandchild.origin) == (child.name, head.name)
    runtime.stub.DeleteHead(head_pb.DeleteHeadRequest(name=child.name))
    history = runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=grandchild.name))
    assert len(history.edits) == 2
    assert np.array_equal(segment(grandchild)[0], labels)
    runtime.stub.DeleteHead(head_pb.DeleteHeadRequest(name=grandchild.name))
    assert runtime.blob_keys("tenants/orphans") == []


def test_deleting_an_edit_leaves_its_parent_as_it_was(runtime, create, edit, segment, exported):
    head = create("keeping")
    segment(head)
    keys, before = set(runtime.blob_keys("tenants/keeping")), exported(head)
    request_id = str(uuid.uuid4())
    child = edit(head, "keeping", strokes=strokes(stroke()), style=words("red hair"), request_id=request_id)
    runtime.stub.DeleteHead(head_pb.DeleteHeadRequest(name=child.name))
    # All that is left over is the style of the parent's own portrait, which goes with the parent.
    left = set(runtime.blob_keys("tenants/keeping")) - keys
    assert all(f"derived/{head.input_sha256}/embed" in key for key in left)
    assert exported(head) == before


# -- refusals ---------------------------------------------------------------------------------------------------------

UNKNOWN = np.full((SIDE, SIDE), 19)
BAD_EDITS = [
    ({"parent": "tenants/UPPER"}, "INVALID_INPUT", "parent"),
    ({"head": "heads/1"}, "INVALID_INPUT", "head"),
    ({"parent": "tenants/stranger"}, "INVALID_INPUT", "head"),
    ({"style": edit_pb2.Style(terms=[{"head": "x"}])}, "INVALID_INPUT", "style.terms[0].head"),
    ({"style": edit_pb2.Style(terms=[{"head": GONE}])}, "INVALID_INPUT", "style.terms[0].head"),
    ({"style": None}, "NOTHING_TO_EDIT", "style"),
    ({"style": edit_pb2.Style()}, "BAD_STYLE", "style"),
    ({"style": words(*["red"] * 9)}, "TOO_MANY_STYLES", "style.terms"),
    ({"style": words("red", weights=[0.0])}, "BAD_STYLE", "style.terms[0].weight"),
    ({"style": words("red", weights=[float("nan")])}, "BAD_STYLE", "style.terms[0].weight"),
    ({"style": words("x" * 201)}, "BAD_STYLE", "style.terms[0].text"),
    ({"style": words("red", "xyzzy plugh")}, "UNKNOWN_WORDS", "style.terms[1].text"),
    ({"style": edit_pb2.Style(terms=[{"picture": b"x"}])}, "UNREADABLE_PICTURE", "style.terms[0].picture"),
    ({"style": edit_pb2.Style(terms=[{}])}, "BAD_STYLE", "style.terms[0]"),
    ({"style": edit_pb2.Style(terms=[{"embedding": {"data": bytes(64)}}])}, "BAD_STYLE", "style.terms[0].embedding"),
    ({"strength": 1.5}, "INVALID_INPUT", "strength"),
    ({"strength": float("nan")}, "INVALID_INPUT", "strength"),
    ({"map": edit_pb2.LabelMap(data=b"x")}, "BAD_MAP", "map"),
    ({"map": edit_pb2.LabelMap(data=png(face()).data[:-30])}, "BAD_MAP", "map"),
    ({"map": png(face(), "RGB")}, "BAD_MAP", "map"),
    ({"map": raw(face()[:, :9][:9])}, "WRONG_SIZE", "map"),
    ({"map": edit_pb2.LabelMap(data=bytes(70), format=2, side_px=64)}, "WRONG_SIZE", "map"),
    ({"map": png(face()[:32])}, "WRONG_SIZE", "map"),
    ({"map": edit_pb2.LabelMap(data=bytes((4 << 20) + 1), format=2, side_px=2048)}, "WRONG_SIZE", "map"),
    ({"map": raw(UNKNOWN)}, "UNKNOWN_LABEL", "map"),
    ({"map": raw(face() * 0)}, "EMPTY_MAP", "map"),
    ({"strokes": strokes()}, "BAD_STROKE", "strokes"),
    ({"strokes": strokes(*[stroke()] * 257)}, "BAD_STROKE", "strokes"),
    ({"strokes": strokes(stroke(label=19))}, "BAD_STROKE", "strokes.strokes[0].label"),
    ({"strokes": strokes(stroke(), stroke(points=[1]))}, "BAD_STROKE", "strokes.strokes[1]"),
    ({"strokes": strokes(stroke(points=[99999, 0]))}, "BAD_STROKE", "strokes.strokes[0].points"),
    ({"strokes": strokes(stroke(radius=5000))}, "BAD_STROKE", "strokes.strokes[0].radius"),
    ({"strokes": strokes(stroke(shape=9))}, "BAD_STROKE", "strokes.strokes[0].shape"),
    ({"strokes": strokes(stroke(points=[8192, 0], shape=FILL))}, "BAD_STROKE", "strokes.strokes[0].points"),
    ({"request_id": "1"}, "INVALID_INPUT", "request_id"),
    ({"durability": 9}, "INVALID_INPUT", "durability"),
    ({"head": ""}, "NOTHING_TO_EDIT", "head"),
    ({"head": "", "map": raw(face()), "strength": 0.5}, "INVALID_INPUT", "strength"),
    ({"head": "", "map": raw(np.where(face(), face(), 255))}, "UNKNOWN_LABEL", "map"),
]


@pytest.fixture(scope="module")
def subject(create):
    return create("refusing")


@ONCE
@pytest.mark.parametrize(("change", "reason", "field"), BAD_EDITS)
def test_a_bad_edit_is_refused_with_its_field(runtime, refused, subject, change, reason, field):
    asked = {"parent": "tenants/refusing", "head": subject.name, "style": words("red hair")} | change
    request = pb.EditHeadRequest(**{k: v for k, v in asked.items() if v is not None})
    answer = refused(lambda: runtime.edits.EditHead(request))
    assert (answer.code, answer.reason, answer.fields) == ("INVALID_ARGUMENT", reason, [field])
    assert len(answer.message) > 20


@ONCE
def test_another_networks_style_is_refused(runtime, refused, subject):
    embedding = embed(runtime, words("red"))[1].embedding
    embedding.fingerprint = "another"
    request = pb.EditHeadRequest(
        parent="tenants/refusing", head=subject.name, style={"terms": [{"embedding": embedding}]}
    )
    assert refused(lambda: runtime.edits.EditHead(request)).reason == "BAD_STYLE"


@ONCE
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"targets": []}, "targets"),
        ({"targets": [pb.ReplayTarget(head=GONE)] * 65}, "targets"),
        ({"targets": [pb.ReplayTarget()]}, "targets[0]"),
        ({"source": ""}, "source"),
        ({"source": "x"}, "source"),
        ({"edits": [edit_pb2.Edit(style=words("red"))]}, "source"),
        ({"source": "", "edits": [edit_pb2.Edit()]}, "edits[0].style"),
        ({}, "source"),  # was never edited
    ],
)
def test_a_bad_replay_is_refused_with_its_field(runtime, refused, subject, change, field):
    targets = [pb.ReplayTarget(head=subject.name)]
    asked = {"parent": "tenants/refusing", "source": subject.name, "targets": targets} | change
    answer = refused(lambda: runtime.edits.ReplayEdits(pb.ReplayEditsRequest(**asked)))
    assert (answer.code, answer.fields) == ("INVALID_ARGUMENT", [field])


@ONCE
def test_heads_that_are_not_there_are_not_found(runtime, refused):
    style = edit_pb2.Style(terms=[edit_pb2.StyleTerm(head=GONE)])
    asks = [
        lambda: runtime.edits.SegmentPortrait(pb.SegmentPortraitRequest(parent="tenants/shared", head=GONE)),
        lambda: runtime.edits.EmbedStyle(pb.EmbedStyleRequest(parent="tenants/shared", style=style)),
        lambda: runtime.edits.EditHead(pb.EditHeadRequest(parent="tenants/shared", head=GONE, style=words("red"))),
        lambda: runtime.edits.GetEditHistory(pb.GetEditHistoryRequest(head=GONE)),
        lambda: runtime.edits.ReplayEdits(
            pb.ReplayEditsRequest(parent="tenants/shared", source=GONE, targets=[pb.ReplayTarget(head=GONE)])
        ),
    ]
    assert len(asks) == len(METHODS)
    for ask in asks:
        assert refused(ask).code == "NOT_FOUND"


@ONCE
def test_without_weights_editing_says_so_and_all_else_works(start, settings, refused, portrait_png, tmp_path):
    with start(replace(settings, data_dir=tmp_path, edit_weights=tmp_path / "none.safetensors")) as bare:
        request = head_pb.CreateHeadRequest(parent="tenants/a", picture=portrait_png)
        head = bare.stub.CreateHead(request, timeout=60).head
        edit = pb.EditHeadRequest(parent="tenants/a", head=head.name, style=words("red"))
        answer = refused(lambda: bare.edits.EditHead(edit))
        assert (answer.code, answer.reason) == ("FAILED_PRECONDITION", "MISSING_WEIGHTS")
        assert str(tmp_path) not in answer.message
        assert not bare.edits.GetEditHistory(pb.GetEditHistoryRequest(head=head.name)).edits


# -- giving up --------------------------------------------------------------------------------------------------------


def test_a_deadline_ends_an_edit_and_nothing_is_stored(runtime, refused, create):
    head = create("hurry")
    keys = set(runtime.blob_keys("tenants/hurry/heads"))
    request = pb.EditHeadRequest(parent="tenants/hurry", head=head.name, style=words("red hair"))
    assert refused(lambda: runtime.edits.EditHead(request, timeout=0.001)).code == "DEADLINE_EXCEEDED"
    assert set(runtime.blob_keys("tenants/hurry/heads")) == keys


def test_a_cancelled_edit_stores_nothing_and_the_next_one_is_served(runtime, create, edit):
    head = create("superseded")
    request = pb.EditHeadRequest(parent="tenants/superseded", head=head.name, style=words("red hair"))
    for text in ("red", "long", "black", "hat"):
        request.style.terms[0].text = text
        runtime.edits.EditHead.future(request).cancel()
    last = edit(head, "superseded", style=words("red hair"))
    time.sleep(0.2)
    heads = runtime.stub.ListHeads(head_pb.ListHeadsRequest(parent="tenants/superseded")).heads
    assert [h.name for h in heads] == [head.name, last.name]


@ONCE
def test_stored_gaussians_of_edits_are_a_head(create, edit, exported):
    made = edit(create(), style=words("long black hair"))
    gaussians = formats.read(exported(made), "wire").validate()
    assert len(gaussians) == made.gaussian_count
    assert made.size_bytes == len(exported(made))

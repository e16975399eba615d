"""From bytes to portrait: framing, matte, quality, options, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from headlift.errors import InvalidInputError, NoFaceError, SeveralFacesError, UnreadablePictureError
from headlift.stages.preprocess import PictureLimits, Preprocess, PreprocessOptions, QualityReason, SeveralFaces
from headlift.stages.preprocess.detect.haar import HaarFaceDetector
from headlift.stages.preprocess.geometry.crop import EYES_IN_CROP
from headlift.stages.preprocess.geometry.resample import apply, similarity, warp
from headlift.stages.preprocess.interfaces import Face

EYES = np.array([[202.7, 100.9], [246.5, 103.3]])  # of the astronaut, by hand
SIZE = 256


@pytest.fixture(scope="module")
def preprocess():
    return Preprocess(size=SIZE)


@pytest.fixture(scope="module")
def result(preprocess, astronaut, encode):
    return preprocess(encode(astronaut))


def eyes_in(result) -> np.ndarray:
    return apply(result.portrait.crop_from_source.numpy(), EYES) / result.portrait.size


def test_the_astronaut_is_framed(result):
    portrait, quality = result.portrait, result.quality
    assert portrait.image.shape == (3, SIZE, SIZE)
    assert portrait.alpha.shape == (1, SIZE, SIZE)
    assert portrait.image.dtype == portrait.alpha.dtype == torch.float32
    assert portrait.crop_from_source.dtype == torch.float64
    assert portrait.camera is None
    assert np.abs(eyes_in(result) - np.array(EYES_IN_CROP)).max() < 0.04
    assert np.allclose(quality.face_box, (176, 65, 274, 163), atol=8)
    assert quality.face_count == 1
    assert quality.reasons == ()
    assert quality.score == 1.0
    assert set(result.timings_ms) == {"decode", "detect", "matte", "crop", "judge"}


def test_the_matte_covers_the_face_and_not_the_corners(result):
    image, alpha = result.portrait.image, result.portrait.alpha[0]
    face = alpha[round(0.35 * SIZE) : round(0.65 * SIZE), round(0.40 * SIZE) : round(0.60 * SIZE)]
    assert face.min() > 0.99
    assert alpha[: SIZE // 3, : SIZE // 8].max() < 0.05
    assert alpha[: SIZE // 3, -SIZE // 8 :].max() < 0.05
    assert bool((image <= alpha + 1e-3).all())
    assert float(image.min()) >= 0.0
    assert result.quality.matte_confidence > 0.8


@pytest.mark.parametrize("turn", [30, 90, 180])
def test_a_rotated_picture_gives_nearly_the_same_portrait(preprocess, astronaut, encode, result, turn):
    onto = similarity((256, 256), (360, 360), turn_deg=turn)
    turned = preprocess(encode(warp(astronaut, onto, (720, 720), replicate=True)))
    eyes = apply(turned.portrait.crop_from_source.numpy(), apply(onto, EYES)) / SIZE
    assert np.abs(eyes - eyes_in(result)).max() < 0.02
    middle = np.s_[..., SIZE // 4 : 3 * SIZE // 4, SIZE // 4 : 3 * SIZE // 4]
    assert float((turned.portrait.image - result.portrait.image)[middle].abs().mean()) < 0.06
    roll = turned.quality.roll_deg - result.quality.roll_deg - turn
    assert (roll + 180) % 360 - 180 == pytest.approx(0, abs=4)


def test_source_coordinates_survive_shrinking(astronaut, encode):
    big = cv2.resize(astronaut, (2048, 2048), interpolation=cv2.INTER_CUBIC)
    result = Preprocess(size=SIZE, limits=PictureLimits(working_side=700))(encode(big, "JPEG", quality=92))
    eyes = apply(result.portrait.crop_from_source.numpy(), EYES * 4) / SIZE
    assert np.abs(eyes - np.array(EYES_IN_CROP)).max() < 0.04
    assert np.allclose(result.quality.face_box, np.array([176, 65, 274, 163]) * 4, atol=32)


@pytest.fixture(scope="module")
def couple(astronaut):
    small = cv2.resize(astronaut, (340, 340), interpolation=cv2.INTER_AREA)
    picture = np.full((512, 860, 3), 200, np.uint8)
    picture[:, :512] = astronaut
    picture[100:440, 515:855] = small
    return picture


def test_of_several_faces_the_largest_is_taken_and_said(preprocess, couple, encode):
    result = preprocess(encode(couple))
    assert result.quality.face_count == 2
    assert QualityReason.SEVERAL_FACES in result.quality.reasons
    assert np.allclose(result.quality.face_box, (176, 65, 274, 163), atol=8)
    other = preprocess(encode(couple), PreprocessOptions(face_index=1))
    assert other.quality.face_box[0] > 512
    assert QualityReason.SEVERAL_FACES not in other.quality.reasons


def test_several_faces_are_refused_on_request(preprocess, couple, result, encode):
    with pytest.raises(SeveralFacesError, match="2 faces"):
        preprocess(encode(couple), PreprocessOptions(several_faces=SeveralFaces.REFUSE))
    with pytest.raises(InvalidInputError, match="face_index is 2"):
        preprocess(encode(couple), PreprocessOptions(face_index=2))


def test_no_face_is_an_error_and_so_is_one_of_few_pixels(preprocess, astronaut, encode):
    with pytest.raises(NoFaceError, match="No face"):
        preprocess(encode(np.full((300, 400, 3), 128, np.uint8)))

    class HalfSize:
        """A detector of faces that are too small to use."""

        def detect(self, rgb):
            return [face.scaled(0.2) for face in preprocess.detector.detect(rgb)]

    with pytest.raises(NoFaceError, match="20 pixels wide; at least 24"):
        Preprocess(HalfSize(), size=SIZE)(encode(astronaut))


def test_damaged_bytes_and_a_wrong_size_are_typed_errors(preprocess):
    with pytest.raises(UnreadablePictureError):
        preprocess(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="size is 8"):
        Preprocess(size=8)


def test_the_picture_own_alpha_is_the_matte(preprocess, astronaut, encode):
    rows, columns = np.mgrid[:512, :512]
    head = (((columns - 225) / 70) ** 2 + ((rows - 105) / 95) ** 2 < 1).astype(np.uint8) * 255
    junk = astronaut.copy()
    junk[head == 0] = (255, 0, 255)
    rgba = np.dstack([junk, head])
    result = preprocess(encode(rgba))
    expected = warp(head.astype(np.float32) / 255, result.portrait.crop_from_source.numpy(), (SIZE, SIZE))
    assert np.abs(result.portrait.alpha[0].numpy() - np.clip(expected, 0, 1)).max() < 1e-5
    magenta = (result.portrait.image[0] > 0.6) & (result.portrait.image[1] < 0.1)
    assert not bool(magenta.any())
    assert bool((result.portrait.image.amax(0) <= result.portrait.alpha[0] + 1e-5).all())


def test_alpha_that_leaves_the_background_in_is_not_trusted(preprocess, astronaut, encode):
    rounded = np.full((512, 512), 255, np.uint8)
    rounded[:40, :40] = 0
    result = preprocess(encode(np.dstack([astronaut, rounded])))
    assert QualityReason.ALPHA_NOT_A_MATTE in result.quality.reasons
    assert result.portrait.alpha[0, : SIZE // 3, -SIZE // 8 :].max() < 0.05
    ignored = preprocess(encode(np.dstack([astronaut, rounded])), PreprocessOptions(use_alpha=False))
    assert QualityReason.ALPHA_NOT_A_MATTE not in ignored.quality.reasons


def test_bad_pictures_are_reported_rather_than_refused(preprocess, astronaut, encode):
    image = Image.fromarray(astronaut)
    blurred = np.array(image.filter(ImageFilter.GaussianBlur(2.5)))
    small = np.array(image.resize((220, 220), Image.Resampling.LANCZOS))
    dark = (astronaut * 0.15).astype(np.uint8)
    bright = np.clip(astronaut * 0.12 + 228, 0, 255).astype(np.uint8)
    cut = astronaut[35:]
    for picture, reason in (
        (blurred, QualityReason.BLURRED),
        (small, QualityReason.SMALL_FACE),
        (dark, QualityReason.TOO_DARK),
        (bright, QualityReason.TOO_BRIGHT),
        (cut, QualityReason.CUT_OFF),
    ):
        quality = preprocess(encode(np.ascontiguousarray(picture))).quality
        assert reason in quality.reasons
        assert 0 < quality.score < 1
    assert preprocess(encode(np.ascontiguousarray(cut))).quality.cut_off == ("top",)


def test_the_same_bytes_give_the_same_portrait_in_every_thread(preprocess, astronaut, encode, result):
    data = encode(astronaut)
    with ThreadPoolExecutor(4) as pool:
        others = list(pool.map(preprocess, [data] * 4))
    for other in others:
        assert torch.equal(other.portrait.image, result.portrait.image)
        assert torch.equal(other.portrait.alpha, result.portrait.alpha)
        assert torch.equal(other.portrait.crop_from_source, result.portrait.crop_from_source)
        assert other.quality == result.quality


class Tracks(HaarFaceDetector):
    """A detector that remembers what it was asked to find again, and finds what it is told."""

    def __init__(self, found) -> None:
        super().__init__()
        object.__setattr__(self, "found", found)
        object.__setattr__(self, "asked", [])

    def track(self, rgb, frame):
        self.asked.append(frame)
        return self.found


def boxes_of(result):
    return [face.box for face in result.faces]


NEAR = (0.004, 0.0, -0.5, 0.0, 0.004, 0.1)


def test_a_head_is_sought_first_where_it_was(astronaut, encode, result):
    box = (170.0, 60.0, 270.0, 160.0)
    stage = Preprocess(Tracks(Face(box, 0.9)), size=SIZE)
    assert boxes_of(stage(encode(astronaut), PreprocessOptions(near=NEAR))) == [box]
    assert stage.detector.asked[0].flatten().tolist() == pytest.approx(NEAR)
    gone = Preprocess(Tracks(None), size=SIZE)
    assert boxes_of(gone(encode(astronaut), PreprocessOptions(near=NEAR))) == boxes_of(result)


def test_a_choice_among_faces_needs_all_of_them(astronaut, encode, result):
    stage = Preprocess(Tracks(Face((0.0, 0.0, 90.0, 90.0), 0.9)), size=SIZE)
    for options in (PreprocessOptions(SeveralFaces.REFUSE, near=NEAR), PreprocessOptions(face_index=0, near=NEAR)):
        assert boxes_of(stage(encode(astronaut), options)) == boxes_of(result)
    assert stage.detector.asked == []


@pytest.mark.parametrize("near", [(1.0, 2.0), (float("nan"),) * 6, (1.0, 2.0, 0.0, 2.0, 4.0, 0.0)])
def test_a_place_that_is_none_is_refused(preprocess, astronaut, encode, near):
    with pytest.raises(InvalidInputError) as caught:
        preprocess(encode(astronaut), PreprocessOptions(near=near))
    assert caught.value.field == "near"

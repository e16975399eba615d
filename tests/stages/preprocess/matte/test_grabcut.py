"""The matte keeps the person and leaves the background out."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from headlift.stages.preprocess.geometry.crop import face_box_in_crop
from headlift.stages.preprocess.interfaces import Matter
from headlift.stages.preprocess.matte.filters import decontaminate, guided_filter, spread
from headlift.stages.preprocess.matte.grabcut import GrabCutMatter

SIDE = 480
MARGIN = 80  # the window is 1.5 crops of 320


def drawn_person(background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A head, neck and shoulders of flat colours before ``background``, and the true matte."""
    true = Image.new("L", (SIDE * 2, SIDE * 2))
    person = Image.new("RGB", (SIDE * 2, SIDE * 2))
    for box, colour, is_ellipse in (
        ((400, 560, 560, 800), (190, 140, 115), False),  # neck
        ((200, 700, 760, 1200), (30, 60, 150), True),  # shoulders
        ((330, 250, 630, 560), (70, 40, 20), True),  # hair
        ((370, 320, 590, 640), (205, 155, 130), True),  # face
    ):
        for image, fill in ((true, 255), (person, colour)):
            draw = ImageDraw.Draw(image)
            (draw.ellipse if is_ellipse else draw.rectangle)(box, fill=fill)
    alpha = np.asarray(true.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(np.float32) / 255
    colours = np.asarray(person.filter(ImageFilter.MaxFilter(5)).resize((SIDE, SIDE))).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 4, colours.shape)
    picture = colours * alpha[..., None] + background * (1 - alpha[..., None]) + noise
    return picture.clip(0, 255).astype(np.uint8), alpha


BACKGROUNDS = {
    "plain": np.full((SIDE, SIDE, 3), (90, 170, 100), np.float32),
    "gradient": np.linspace(60, 230, SIDE, dtype=np.float32)[:, None, None] * np.ones((1, SIDE, 3), np.float32),
    "stripes": np.where((np.arange(SIDE) // 30 % 2 == 0)[None, :, None], (230, 220, 90), (60, 150, 160)).astype(
        np.float32
    )
    * np.ones((SIDE, 1, 1), np.float32),
}


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_drawn_person_is_cut_out(name):
    picture, true = drawn_person(BACKGROUNDS[name])
    box = tuple(v + MARGIN for v in face_box_in_crop(320))
    matter = GrabCutMatter()
    assert isinstance(matter, Matter)
    alpha = matter.matte(picture, box)
    assert alpha.dtype == np.float32
    assert alpha.shape == true.shape
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    crop = np.s_[MARGIN : MARGIN + 320, MARGIN : MARGIN + 320]
    overlap = np.minimum(alpha, true)[crop].sum() / np.maximum(alpha, true)[crop].sum()
    assert overlap > 0.93
    assert alpha[crop][true[crop] == 0].mean() < 0.03


def test_the_same_picture_gives_the_same_matte():
    picture, _ = drawn_person(BACKGROUNDS["stripes"])
    box = tuple(v + MARGIN for v in face_box_in_crop(320))
    assert np.array_equal(GrabCutMatter().matte(picture, box), GrabCutMatter().matte(picture, box))


def test_a_picture_of_one_colour_does_not_fail():
    alpha = GrabCutMatter().matte(np.full((90, 120, 3), 77, np.uint8), (40, 20, 80, 60))
    assert np.isfinite(alpha).all()


def test_guided_filter_keeps_constants_and_edges():
    guide = np.zeros((40, 40), np.float32)
    guide[:, 20:] = 1.0
    assert np.allclose(guided_filter(guide, np.full_like(guide, 0.3), 4, 1e-4), 0.3, atol=1e-5)
    assert np.abs(guided_filter(guide, guide, 4, 1e-4) - guide).max() < 1e-2


def test_spread_continues_what_is_known():
    colours = np.zeros((60, 60, 3), np.float32)
    colours[:, :20] = (0.9, 0.2, 0.1)
    known = np.zeros((60, 60), np.float32)
    known[:, :20] = 1.0
    assert np.allclose(spread(colours, known, 3), (0.9, 0.2, 0.1), atol=1e-3)


def test_background_colour_does_not_stay_in_a_soft_edge():
    alpha = np.tile(np.clip((40 - np.arange(80, dtype=np.float32)) / 10 + 0.5, 0, 1), (60, 1))
    person, ground = np.array([0.8, 0.5, 0.4], np.float32), np.array([0.0, 1.0, 0.0], np.float32)
    photographed = alpha[..., None] * person + (1 - alpha[..., None]) * ground
    cleaned = decontaminate(photographed, alpha, 6)
    edge = (alpha > 0.05) & (alpha < 0.95)
    before, after = (np.abs(x - person)[edge] * alpha[edge][:, None] for x in (photographed, cleaned))
    assert after.mean() < 0.5 * before.mean()
    assert np.array_equal(cleaned[alpha == 1], photographed[alpha == 1])

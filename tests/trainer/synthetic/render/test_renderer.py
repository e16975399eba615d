"""Scene and renderer against what can be worked out by hand."""

import numpy as np
import pytest

from headlift.model.types import DISTANCE, FOCAL, HEAD_CENTER
from headlift_trainer.synthetic.render.compiled import ALPHA_FADE
from headlift_trainer.synthetic.render.lighting import Light
from headlift_trainer.synthetic.render.renderer import Material, Renderer
from headlift_trainer.synthetic.render.scene import Part, Scene, vertex_normals
from headlift_trainer.synthetic.render.views import orbit_view

TEXELS = np.full((1, 4), 32768, np.uint16)
SIZE = 64


def quad(name, side, z, label, **more):
    """A square that faces +Z, its middle at HEAD_CENTER shifted to z."""
    x = side / 2
    corners = np.array([[-x, -x, 0], [x, -x, 0], [x, x, 0], [-x, x, 0]]) + np.array(HEAD_CENTER) + [0, 0, z]
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return Part(
        name,
        corners.astype(np.float32),
        triangles,
        np.zeros((2, 3, 2), np.float32),
        np.full(4, label, np.uint8),
        **more,
    )


def sphere(radius=0.1, steps=40):
    polar, around = np.meshgrid(np.linspace(0, np.pi, steps), np.linspace(0, 2 * np.pi, 2 * steps), indexing="ij")
    unit = np.stack([np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], -1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(steps - 1), np.arange(2 * steps - 1), indexing="ij")
    a = (row * 2 * steps + column).ravel()
    triangles = np.concatenate(
        [np.stack([a, a + 2 * steps, a + 1], 1), np.stack([a + 1, a + 2 * steps, a + 2 * steps + 1], 1)]
    )
    points = (radius * unit + np.array(HEAD_CENTER)).astype(np.float32)
    uvs = np.zeros((len(triangles), 3, 2), np.float32)
    return Part(
        "ball",
        points,
        triangles.astype(np.int32),
        uvs,
        np.full(len(points), 2, np.uint8),
        normals=unit.astype(np.float32),
    )


def even_light(radiance=0.5):
    sh = np.zeros((9, 3), np.float32)
    sh[0] = radiance / 0.282095
    return Light(sh, np.array([[0, 0, 1]], np.float32), np.zeros((1, 3), np.float32), 0.02)


def renderer_of(parts, light=None, color=1.0):
    scene = Scene(parts)
    textures = np.zeros((len(parts), 3), np.int32)
    scene.bake(textures, TEXELS)
    colors = np.full((len(scene.positions), 3), color, np.float32)
    return Renderer.of(scene, colors, [Material() for _ in parts], textures, TEXELS, light or even_light())


def linear(value):
    value = np.asarray(value, float) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_a_square_covers_its_pixels_at_its_depth_in_its_class():
    picture = renderer_of([quad("a", 0.1, 0.05, 10)]).draw(orbit_view(0, 0, SIZE), SIZE)
    half = FOCAL * SIZE * 0.05 / (DISTANCE - 0.05)
    expected = (2 * half) ** 2
    assert picture.rgba[..., 3].sum() / 255 == pytest.approx(expected, rel=0.06)
    middle = SIZE // 2
    assert picture.depth[middle, middle] == pytest.approx(DISTANCE - 0.05, rel=1e-4)
    assert picture.classes[middle, middle] == 10
    empty = picture.rgba[..., 3] == 0
    assert (picture.rgba[empty] == 0).all()
    assert (picture.depth[empty] == 0).all()
    assert (picture.classes[empty] == 0).all()


def test_the_nearer_surface_wins_from_either_side():
    renderer = renderer_of([quad("near", 0.1, 0.05, 10), quad("far", 0.1, -0.05, 3)])
    middle = SIZE // 2
    assert renderer.draw(orbit_view(0, 0, SIZE), SIZE).classes[middle, middle] == 10
    assert renderer.draw(orbit_view(180, 0, SIZE), SIZE).classes[middle, middle] == 3


@pytest.mark.parametrize("opacity", [0.25, 0.5, 0.75])
def test_a_translucent_surface_covers_its_share_of_the_samples(opacity):
    veil = quad("veil", 0.3, 0.0, 14, alpha=ALPHA_FADE, fade=np.full(4, opacity, np.float32))
    alpha = renderer_of([veil]).draw(orbit_view(0, 0, 128), 128).rgba[40:88, 40:88, 3] / 255
    assert alpha.mean() == pytest.approx(opacity, abs=0.03)
    # stratified: far less noise than four independent samples would give
    assert alpha.std() < 0.7 * np.sqrt(opacity * (1 - opacity) / 4)


def test_a_convex_body_in_even_light_has_the_radiance_of_its_albedo():
    renderer = renderer_of([sphere()], even_light(0.5), color=0.4)
    assert np.median(renderer.scene.transfer[:, 9]) == pytest.approx(1, abs=0.08)
    picture = renderer.draw(orbit_view(30, 10, SIZE), SIZE)
    full = picture.rgba[..., 3] == 255
    assert np.median(linear(picture.rgba[full][:, :3])) == pytest.approx(0.4 * 0.5, rel=0.1)


def test_a_key_light_lights_what_faces_it_and_casts_a_shadow():
    light = Light(
        np.zeros((9, 3), np.float32), np.array([[0, 0, 1]], np.float32), np.full((1, 3), 0.5, np.float32), 0.005
    )
    renderer = renderer_of([quad("wall", 0.36, -0.1, 2), quad("blind", 0.1, 0.1, 3)], light)
    # seen from the side, the blind no longer hides the middle of the wall, but its shadow stays there
    picture = renderer.draw(orbit_view(40, 0, SIZE), SIZE)
    wall = (picture.classes == 2) & (picture.rgba[..., 3] == 255)
    values = linear(picture.rgba[wall][:, 0])
    assert np.quantile(values, 0.95) == pytest.approx(0.5, rel=0.06)
    assert 0.02 < (values < 0.05).mean() < 0.4


def test_normals_are_unit_and_outward_on_a_ball():
    ball = sphere()
    normals = vertex_normals(ball.vertices, ball.triangles)
    used = np.linalg.norm(normals, axis=1) > 0.5
    assert np.allclose(np.linalg.norm(normals[used], axis=1), 1, atol=1e-4)
    outward = ball.vertices - np.array(HEAD_CENTER, np.float32)
    assert ((normals * outward).sum(1)[used] > 0.09).all()


def test_compacting_keeps_the_surface():
    part = quad("a", 0.1, 0.0, 1)
    half = Part(
        "a", part.vertices, part.triangles[:1], part.uvs[:1], part.classes, fade=np.arange(4, dtype=np.float32)
    ).compact()
    assert len(half.vertices) == 3
    assert np.array_equal(half.vertices[half.triangles], part.vertices[part.triangles[:1]])
    assert half.fade is not None
    assert half.fade.tolist() == [0, 1, 2]


def test_points_behind_the_camera_draw_nothing():
    picture = renderer_of([quad("behind", 0.1, 2 * DISTANCE, 2)]).draw(orbit_view(0, 0, SIZE), SIZE)
    assert picture.rgba.max() == 0

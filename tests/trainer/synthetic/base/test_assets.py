"""The readers of MakeHuman's files."""

import numpy as np
import pytest

from headlift.errors import FormatError, NotFoundError
from headlift_trainer.synthetic.base.assets import MakeHumanAssets, load_image, load_obj, load_proxy, load_target


def test_polygons_become_fans_and_keep_their_group(tmp_path):
    path = tmp_path / "a.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0 0\nvt 1 1\ng body\nf 1/1 2/2 3/1 4/2\ng other\nf 1 2 3\n")
    mesh = load_obj(path)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]
    assert mesh.groups.tolist() == ["body", "body", "other"]
    assert mesh.corner_uvs.shape == (3, 3, 2)


@pytest.mark.parametrize("text", ["v 0 0 zero\n", "v 0 0 0\nf 1 2 9\n", "v 0 0 0\nf 1 x 2\n"])
def test_a_broken_obj_is_refused_with_its_name(tmp_path, text):
    path = tmp_path / "broken.obj"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"broken\.obj"):
        load_obj(path)


def test_a_target_is_sparse_and_ignores_comments(tmp_path):
    path = tmp_path / "a.target"
    path.write_text("# c\n3 .1 -.2 0\n\n7 0 0 1\n")
    target = load_target(path)
    assert target.indices.tolist() == [3, 7]
    assert np.allclose(target.offsets, [[0.1, -0.2, 0], [0, 0, 1]])
    path.write_text("3 a b c\n")
    with pytest.raises(FormatError):
        load_target(path)


def test_missing_files_say_what_to_give(tmp_path):
    with pytest.raises(NotFoundError, match=r"base\.obj"):
        MakeHumanAssets(tmp_path)
    with pytest.raises(NotFoundError, match=r"x\.target"):
        load_target(tmp_path / "x.target")
    with pytest.raises(NotFoundError, match=r"x\.png"):
        load_image(tmp_path / "x.png", 8)


def test_a_proxy_follows_its_anchors_and_scales_its_offsets(tmp_path):
    (tmp_path / "p.obj").write_text("v 0 0 0\nv 0 0 0\nf 1 2 1\n")
    mhclo = tmp_path / "p.mhclo"
    mhclo.write_text("x_scale 0 1 2.0\nverts 0\n2\n0 1 2 0.5 0.25 0.25 1 0 0\n\ndelete_verts\n5 6\n")
    proxy = load_proxy(mhclo, tmp_path / "p.obj")
    body = np.array([[0, 0, 0], [2, 0, 0], [0, 4, 0]], np.float32)
    assert np.allclose(proxy.fit(body), [[0, 4, 0], [1.5, 1, 0]])
    assert np.allclose(proxy.fit(2 * body), 2 * proxy.fit(body))


def test_a_proxy_whose_files_disagree_is_refused(tmp_path):
    (tmp_path / "p.obj").write_text("v 0 0 0\n")
    (tmp_path / "p.mhclo").write_text("verts 0\n1\n2\n")
    with pytest.raises(FormatError, match="ties 2 vertices"):
        load_proxy(tmp_path / "p.mhclo", tmp_path / "p.obj")


def test_proxies_of_the_folder_return_to_their_own_shape(assets):
    makehuman = assets.makehuman
    for kind in ("eyes", "hair", "eyebrows", "teeth"):
        for name in makehuman.proxy_names(kind):
            proxy = makehuman.proxy(kind, name)
            assert np.allclose(proxy.fit(makehuman.base.vertices), proxy.mesh.vertices, atol=1e-4)


def test_offsets_add_up_linearly(assets):
    makehuman = assets.makehuman
    once, twice = makehuman.base.vertices.copy(), makehuman.base.vertices.copy()
    makehuman.offset(once, "nose/nose-scale-depth-incr", 0.5)
    for _ in range(2):
        makehuman.offset(twice, "nose/nose-scale-depth-incr", 0.25)
    assert np.allclose(once, twice, atol=1e-6)
    assert (once != makehuman.base.vertices).any()

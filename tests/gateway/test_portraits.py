import torch

from headlift.gateway.portraits import pack_portrait, unpack_portrait
from headlift.model.cameras import orbit_camera
from headlift.model.types import Portrait


def test_a_remembered_portrait_is_the_same_to_the_last_bit():
    for camera in (None, orbit_camera(20.0, size=32)):
        crop = torch.rand(2, 3, dtype=torch.float64)
        size = None if camera is None else (640, 480)
        portrait = Portrait(torch.rand(3, 32, 32), torch.rand(1, 32, 32), crop, camera, size)
        back = unpack_portrait(pack_portrait(portrait))
        for name in ("image", "alpha", "crop_from_source"):
            assert torch.equal(getattr(back, name), getattr(portrait, name))
            assert getattr(back, name).dtype == getattr(portrait, name).dtype
        assert back.source_size == size
        assert (back.camera is None) == (camera is None)
        if camera is not None and back.camera is not None:
            assert torch.equal(back.camera.viewmats, camera.viewmats)
            assert torch.equal(back.camera.Ks, camera.Ks)
            assert (back.camera.width, back.camera.height) == (32, 32)

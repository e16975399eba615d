import av
import numpy as np
import pytest

from headlift.errors import InvalidInputError
from headlift.media.video import write_video


def frames(count, width=64, height=48):
    for i in range(count):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[...] = (200, 120, 90)
        picture[:, : 4 + i] = (30, 60, 200)
        yield picture


def test_a_film_has_every_frame_and_plays_everywhere(tmp_path):
    path = tmp_path / "film.mp4"
    assert write_video(frames(25), path, fps=25) == 25
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert float(stream.average_rate) == 25
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(stream)]
    assert len(shown) == 25
    assert np.abs(shown[10][:, 40:].reshape(-1, 3).mean(0) - (200, 120, 90)).max() < 6
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # plays while it loads
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


@pytest.mark.parametrize("pictures", [[], [np.zeros((49, 64, 3), np.uint8)], [*frames(1), *frames(1, width=32)]])
def test_what_cannot_be_filmed_is_refused_and_leaves_no_file(tmp_path, pictures):
    with pytest.raises(InvalidInputError):
        write_video(iter(pictures), tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="cannot be written"):
        write_video(frames(2), tmp_path / "no" / "film.mp4")

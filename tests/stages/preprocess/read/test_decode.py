"""Decoding: every variant gives the same picture, everything else a typed error."""

from __future__ import annotations

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from headlift.errors import PictureTooLargeError, UnreadablePictureError
from headlift.stages.preprocess.read.decode import Picture, PictureLimits, decode_picture, sniff_format

STORED_FROM_UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.fixture(scope="module")
def small(astronaut):
    return Image.fromarray(astronaut[:300, 100:340]).resize((80, 100), Image.Resampling.LANCZOS)


def close(picture: Picture, expected: np.ndarray, mean: float) -> bool:
    return picture.rgb.shape == expected.shape and np.abs(picture.rgb.astype(float) - expected).mean() <= mean


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "AVIF"])
def test_every_exif_orientation_comes_out_upright(small, encode, orientation, file_format):
    method = STORED_FROM_UPRIGHT[orientation]
    stored = small if method is None else small.transpose(method)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}
    picture = decode_picture(encode(stored, file_format, exif=exif, **options.get(file_format, {})))
    assert picture.exif_orientation == orientation
    assert picture.source_size == small.size
    assert close(picture, np.asarray(small), 0.0 if file_format in ("PNG", "WEBP") else 4.0)


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" %s</rdf:RDF></x:xmpmeta>'
)
XMP_FORMS = [
    b'tiff:Orientation="6"/>',
    b"tiff:Orientation='6'/>",
    b"><tiff:Orientation>6</tiff:Orientation></rdf:Description>",
]


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments behind its start marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # what Pillow tells the log
@pytest.mark.parametrize("form", XMP_FORMS)
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0http://ns.adobe.com"])
def test_the_orientation_of_xmp_counts_where_exif_has_none(small, encode, form, exif):
    jpeg = encode(small.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, subsampling=0)
    notes = [segment(0xE1, exif)] if exif else []
    picture = decode_picture(with_segments(jpeg, *notes, segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP % form)))
    assert picture.exif_orientation == 6
    assert close(picture, np.asarray(small), 3.0)


def test_the_orientation_of_xmp_counts_in_webp_and_png(small, encode):
    turned, xmp = small.transpose(Image.Transpose.ROTATE_90), XMP % XMP_FORMS[0]
    webp = decode_picture(encode(turned, "WEBP", lossless=True, xmp=xmp))
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    png = decode_picture(encode(turned, "PNG", pnginfo=text))
    for picture in (webp, png):
        assert close(picture, np.asarray(small), 0.0)


def tiff(*entries: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


UPRIGHT_6 = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # what Pillow tells the log
@pytest.mark.parametrize(
    ("name", "exif", "orientation"),
    [
        ("a resolution of 0/0", tiff(UPRIGHT_6, struct.pack("<HHII", 0x11A, 5, 1, 38)) + bytes(8), 6),
        ("an offset past the end", b"Exif\0\0II*\0\xff\xff\xff\x7f", 1),
        ("more entries than bytes", tiff(UPRIGHT_6)[:14] + b"\xff\xff" + UPRIGHT_6, 6),
        ("an orientation of 0", tiff(struct.pack("<HHIHH", 0x112, 3, 1, 0, 0)), 1),
        ("an orientation of 9", tiff(struct.pack("<HHIHH", 0x112, 3, 1, 9, 0)), 1),
        ("an orientation that is text", tiff(struct.pack("<HHI4s", 0x112, 2, 4, b"top\0")), 1),
        ("no byte order", b"Exif\0\0XX*\0\x08\0\0\0", 1),
        ("nothing", b"Exif\0\0", 1),
        ("an address", b"Exif\0\0http://n", 1),
    ],
)
def test_broken_exif_is_no_reason_to_refuse(small, encode, name, exif, orientation):
    stored = small if orientation == 1 else small.transpose(STORED_FROM_UPRIGHT[orientation])
    jpeg = encode(stored, "JPEG", quality=95, subsampling=0)
    picture = decode_picture(with_segments(jpeg, segment(0xE1, exif)))
    assert picture.exif_orientation == orientation
    assert close(picture, np.asarray(small), 3.0)


FILM = b"MotionPhoto_Data\0\0\0\x18ftypmp42\0\0\0\0isommp42" + np.random.default_rng(1).bytes(4 << 20)


def beside(jpeg: bytes, other: bytes) -> dict[str, bytes]:
    """A JPEG with things that cameras and programs put into and behind it, by name."""
    index = b"MPF\0II*\0\x08\0\0\0\3\0" + b"".join(
        [
            struct.pack("<HHI4s", 0xB000, 7, 4, b"0100"),
            struct.pack("<HHII", 0xB001, 4, 1, 2),
            struct.pack("<HHII", 0xB002, 7, 32, 50),
            bytes(4),
            struct.pack("<IIIHH", 0x030000, len(jpeg), 0, 0, 0),
            struct.pack("<IIIHH", 0, 1 << 30, 1 << 30, 0, 0),  # the second picture stands past the end, and is too long
        ]
    )
    gain = b'http://ns.adobe.com/xap/1.0/\0<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'
    return {
        "a film behind": jpeg + FILM,
        "a picture behind": jpeg + other,
        "zeros behind": jpeg + bytes(1000),
        "half a picture behind": jpeg + other[: len(other) // 2],
        "scan markers in a note": with_segments(jpeg, segment(0xE4, b"\xff\xda" * 150)),
        "scan markers in a comment": with_segments(jpeg, segment(0xFE, b"\xff\xda" * 150)),
        "an end marker in a note": with_segments(jpeg, segment(0xE4, b"\xff\xd9" * 10)),
        "a thumbnail in EXIF": with_segments(jpeg, segment(0xE1, tiff() + other[:60_000])),
        "an index of further pictures": with_segments(jpeg, segment(0xE2, index)) + other,
        "an index cut short": with_segments(jpeg, segment(0xE2, index[:40])) + other,
        "an index of nothing": with_segments(jpeg, segment(0xE2, b"MPF\0")),
        "a gain map": with_segments(jpeg, segment(0xE1, gain), segment(0xE2, index)) + other,
        "fill before a marker": with_segments(jpeg, b"\xff\xff\xff"),
        "no end marker": jpeg[:-2],
        "half an end marker": jpeg[:-1],
    }


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 3}], ids=str)
@pytest.mark.parametrize("name", list(beside(b"", b"")))
def test_what_stands_in_and_behind_a_jpeg_does_not_matter(small, encode, name, options):
    plain = encode(small, "JPEG", quality=95, **options)
    other = encode(small.rotate(180), "JPEG", quality=50)
    picture = decode_picture(beside(plain, other)[name])
    assert np.array_equal(picture.rgb, decode_picture(plain).rgb)
    assert picture.source_format == "JPEG"


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}], ids=str
)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_jpeg_that_lacks_pixels_is_refused_with_how_much_is_missing(encode, astronaut, options, share):
    data = encode(Image.fromarray(astronaut), "JPEG", quality=90, **options)
    with pytest.raises(UnreadablePictureError, match=r"\d % of the picture is missing|before its last pass") as caught:
        decode_picture(data[: int(len(data) * share)])
    if not options.get("progressive"):
        missing = int(re.search(r"about (\d+) %", caught.value.message)[1])
        assert abs(missing - 100 * (1 - share)) < 25  # rows cost different numbers of bytes


@pytest.mark.parametrize("end", range(-40, -2))
def test_pixels_of_the_last_rows_are_missed_or_not_needed(small, encode, end):
    data = encode(small, "JPEG", quality=95)
    try:
        picture = decode_picture(data[:end])
    except UnreadablePictureError:
        return
    assert np.array_equal(picture.rgb, decode_picture(data).rgb)  # what went was not needed


def test_a_mpo_shows_its_first_picture(small, encode):
    data = encode(small, "MPO", save_all=True, append_images=[small.rotate(180)], quality=95)
    assert close(decode_picture(data), np.asarray(small), 4.0)


def test_a_jpeg_of_nothing_but_markers_ends_soon():
    with pytest.raises(UnreadablePictureError):
        decode_picture(b"\xff\xd8" + b"\xff\xfe\0\2" * 6_000_000)


@pytest.mark.parametrize(
    ("file_format", "options", "mean"),
    [
        ("JPEG", {"quality": 95}, 4.0),
        ("JPEG", {"quality": 95, "progressive": True}, 4.0),
        ("PNG", {}, 0.0),
        ("WEBP", {"lossless": True}, 0.0),
        ("WEBP", {"quality": 95}, 5.0),
        ("AVIF", {"quality": 95, "speed": 8}, 4.0),
    ],
)
def test_every_format_gives_the_picture(small, encode, file_format, options, mean):
    picture = decode_picture(encode(small, file_format, **options))
    assert picture.source_format == file_format
    assert picture.alpha is None
    assert close(picture, np.asarray(small), mean)


def test_heic_is_read_where_the_library_is_there(small, encode):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    assert close(decode_picture(encode(small, "HEIF", quality=95)), np.asarray(small), 4.0)


def cmyk_jpegs(small: Image.Image, encode) -> dict[str, bytes]:
    """JPEGs of four inks, by name; all of them inverted, as every program writes them."""
    marked = encode(small.convert("CMYK"), "JPEG", quality=97, subsampling=0)
    at = marked.index(b"\xff\xee")
    # YCCK: the decoder takes three of the planes for luma and chroma of the inks' complements.
    inks = np.asarray(small.convert("CMYK"))
    luma = np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    planes = np.concatenate([255 - luma, inks[..., 3:]], -1)
    mixed = bytearray(encode(Image.fromarray(planes, "CMYK"), "JPEG", quality=97, subsampling=0))
    mixed[mixed.index(b"Adobe") + 11] = 2
    cut = srgb_profile()[:200]
    return {
        "with Adobe's marker": marked,
        "without Adobe's marker": marked[:at] + marked[at + 16 :],
        "YCCK": bytes(mixed),
        "a profile cut short": with_segments(marked, segment(0xE2, b"ICC_PROFILE\0\1\1" + cut)),
    }


@pytest.mark.parametrize("name", ["with Adobe's marker", "without Adobe's marker", "YCCK", "a profile cut short"])
def test_cmyk_is_not_inverted(small, encode, name):
    assert close(decode_picture(cmyk_jpegs(small, encode)[name]), np.asarray(small), 6.0)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_grey_and_grey_with_alpha(small, encode):
    grey = small.convert("L")
    expected = np.repeat(np.asarray(grey)[..., None], 3, 2)
    assert close(decode_picture(encode(grey)), expected, 0.0)
    both = Image.merge("LA", (grey, Image.linear_gradient("L").resize(grey.size)))
    picture = decode_picture(encode(both))
    assert close(picture, expected, 0.0)
    assert np.array_equal(picture.alpha, np.asarray(both)[..., 1])


def test_sixteen_bits_keep_their_brightness(small):
    rgb = np.asarray(small).astype(np.uint16) * 257
    grey = rgb[..., 1]
    for stored, expected in ((rgb, rgb), (grey, np.repeat(grey[..., None], 3, 2))):
        data = cv2.imencode(".png", np.ascontiguousarray(stored[..., ::-1] if stored.ndim == 3 else stored))[
            1
        ].tobytes()
        difference = decode_picture(data).rgb.astype(int) - (expected >> 8)
        assert np.abs(difference).max() <= 1


def test_palettes_with_and_without_transparency(small, encode):
    palette = small.quantize(64)
    expected = np.asarray(palette.convert("RGB"))
    assert close(decode_picture(encode(palette)), expected, 0.0)
    hidden = int(np.asarray(palette)[0, 0])
    picture = decode_picture(encode(palette, transparency=hidden))
    assert np.array_equal(picture.alpha == 0, np.asarray(palette) == hidden)


def test_alpha_is_kept_and_opaque_alpha_is_none(small, encode):
    alpha = Image.linear_gradient("L").resize(small.size)
    rgba = small.copy()
    rgba.putalpha(alpha)
    assert np.array_equal(decode_picture(encode(rgba)).alpha, np.asarray(alpha))
    rgba.putalpha(255)
    assert decode_picture(encode(rgba)).alpha is None
    rgba.putalpha(0)
    with pytest.raises(UnreadablePictureError, match="transparent"):
        decode_picture(encode(rgba))


def rotated_primaries_profile() -> bytes:
    """A small valid RGB profile in which red is shown by sRGB's green, green by blue and blue by red."""

    def s15(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(v * 65536)) for v in values)

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + s15(*values)

    primaries = {"red": (0.4360, 0.2225, 0.0139), "green": (0.3851, 0.7169, 0.0971), "blue": (0.1431, 0.0606, 0.7139)}
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"spin\0" + bytes(78 + 1)
    tags = {
        b"desc": text,
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": xyz(*primaries["green"]),
        b"gXYZ": xyz(*primaries["blue"]),
        b"bXYZ": xyz(*primaries["red"]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        padded = value + bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(body), len(value))
        body += padded
    size = start + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + s15(0.9642, 1.0, 0.8249)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_colour_profiles_are_applied(encode, file_format):
    red = np.zeros((40, 40, 3), np.uint8)
    red[..., 0] = 255
    picture = decode_picture(encode(red, file_format, icc_profile=rotated_primaries_profile()))
    assert picture.notes == ()
    assert np.abs(picture.rgb.reshape(-1, 3).mean(0) - [0, 255, 0]).max() < 12


@pytest.mark.parametrize("profile", [b"not a profile at all", "LAB", bytes(4_100_000)])
def test_a_useless_profile_is_ignored_and_noted(small, encode, profile):
    if profile == "LAB":
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    picture = decode_picture(encode(small, "WEBP", lossless=True, icc_profile=profile))
    assert "ICC profile" in picture.notes[0]
    assert close(picture, np.asarray(small), 0.0)


def test_large_pictures_are_shrunk_and_remember_their_size(astronaut, encode):
    big = cv2.resize(astronaut, (3000, 2000))
    for file_format in ("JPEG", "PNG"):
        picture = decode_picture(encode(big, file_format), PictureLimits(working_side=1000))
        assert max(picture.rgb.shape[:2]) <= 1000
        assert picture.source_size == (3000, 2000)
        assert picture.picture_from_source == pytest.approx((1 / 3, 1 / 3), rel=0.02)
        expected = cv2.resize(astronaut, picture.rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(picture.rgb.astype(float) - expected).mean() < 6


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8000, 8000), (12000, 12000), (60000, 60000), (17000, 40)])
def test_bombs_are_refused_by_their_header(size):
    with pytest.raises(PictureTooLargeError, match="pixels"):
        decode_picture(png_header(*size))


def test_limits_on_bytes_time_and_least_size(small, encode):
    data = encode(small)
    with pytest.raises(PictureTooLargeError, match="limit is 100"):
        decode_picture(data, PictureLimits(max_bytes=100))
    with pytest.raises(PictureTooLargeError, match="Decoding took longer"):
        decode_picture(data, PictureLimits(max_seconds=1e-9))
    with pytest.raises(UnreadablePictureError, match="16x16"):
        decode_picture(encode(small.resize((16, 16))))
    with pytest.raises(ValueError, match="max_side"):
        PictureLimits(max_side=0)


def test_a_jpeg_of_countless_scans_is_refused(small, encode):
    data = encode(small, "JPEG", progressive=True)
    with pytest.raises(UnreadablePictureError, match="scans"):
        decode_picture(data[:-2] + b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" * 200 + data[-2:])


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "AVIF"])
def test_animations_are_refused(small, encode, file_format):
    frames = [small.rotate(10 * i) for i in range(1, 3)]
    with pytest.raises(UnreadablePictureError, match="3 frames"):
        decode_picture(encode(small, file_format, save_all=True, append_images=frames))


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "BMP", "PDF", "ICO"])
def test_other_formats_are_refused_by_name(small, encode, file_format):
    with pytest.raises(UnreadablePictureError, match=file_format):
        decode_picture(encode(small, file_format))


def test_svg_text_and_nothing_are_refused():
    with pytest.raises(UnreadablePictureError, match="SVG"):
        sniff_format(b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>")
    with pytest.raises(UnreadablePictureError, match="known format"):
        sniff_format(b"hello, this is not a picture")
    with pytest.raises(UnreadablePictureError, match="empty"):
        sniff_format(b"")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_files_are_refused(small, encode, file_format, share):
    data = encode(small, file_format)
    with pytest.raises(UnreadablePictureError):
        decode_picture(data[: int(len(data) * share)])


def _seeds() -> list[bytes]:
    image = Image.fromarray(skimage.data.astronaut()[:240, 120:360]).resize((48, 48))
    rgba = image.copy()
    rgba.putalpha(Image.linear_gradient("L").resize((48, 48)))
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = rotated_primaries_profile()
    made = []
    for picture, file_format, options in (
        (image, "JPEG", {"exif": exif, "icc_profile": profile}),
        (image.convert("CMYK"), "JPEG", {"progressive": True}),
        (rgba, "PNG", {"exif": exif, "icc_profile": profile}),
        (image.quantize(16), "PNG", {"transparency": 3}),
        (rgba, "WEBP", {"lossless": True, "exif": exif, "icc_profile": profile}),
        (image, "AVIF", {"speed": 10, "exif": exif}),
    ):
        buffer = io.BytesIO()
        picture.save(buffer, file_format, **options)
        made.append(buffer.getvalue())
    return made


SEEDS = _seeds()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.sampled_from(SEEDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=0, max_size=6), st.integers(0, 6)), max_size=6),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
def test_hostile_bytes_give_a_picture_or_a_typed_error(data, edits, cut):
    for place, inserted, removed in edits:
        at = int(place * len(data))
        data = data[:at] + inserted + data[at + removed :]
    if cut is not None:
        data = data[: int(cut * len(data))]
    try:
        picture = decode_picture(data, PictureLimits(max_pixels=1_000_000))
    except (UnreadablePictureError, PictureTooLargeError):
        return
    assert picture.rgb.dtype == np.uint8
    assert picture.rgb.ndim == 3
    assert picture.alpha is None or picture.alpha.shape == picture.rgb.shape[:2]

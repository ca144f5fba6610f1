"""What stands beside and behind the picture of a file is carried over, or named."""

import io
import struct

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from photo_files import SRGB, XMP, exif_block, exif_tags, file_bytes, smooth_pixels, to_pillow
from photo_raw import make_dng, quarters
from PIL import Image

from deblur_cli.photo import png
from deblur_cli.photo.bmff import XMP_UUID, with_items
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.photo.header import probe
from deblur_cli.photo.metadata import iptc_of

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(12) + b"\0\0\0\x0cmdatabcd"
SECOND = "a second picture behind the first"
MOTION = "the video of its motion photo"
XMP_TAIL = b"\1" + bytes(range(255, -1, -1)) + b"\0"


def read(folder, content, name="photo"):
    path = folder / name
    path.write_bytes(content)
    return decode(path)


def heic_bytes(pixels, **options):
    stream = io.BytesIO()
    pillow_heif.from_pillow(to_pillow(pixels)).save(stream, **options)
    return stream.getvalue()


def picture(kind, channels=3):
    pixels = smooth_pixels(24, 32, channels)
    if kind == "HEIC":
        return heic_bytes(pixels)
    if kind == "JXL":
        return bytes(imagecodecs.jpegxl_encode(pixels, usecontainer=True))
    if kind == "JP2":
        return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="jp2"))
    return file_bytes(to_pillow(pixels), kind)


def box(name, content):
    return struct.pack(">I4s", len(content) + 8, name) + content


def chunk(name, content):
    """Of a WebP."""
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def blocks(content):
    """Of a GIF."""
    parts = [content[start : start + 255] for start in range(0, len(content), 255)]
    return b"".join(bytes([len(part)]) + part for part in parts) + b"\0"


@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "JXL", "JP2", "PNG", "WEBP", "GIF", "BMP"])
@pytest.mark.parametrize(
    ("behind", "name"),
    [
        (b"", None),
        (bytes(9), None),
        (VIDEO, MOTION),
        (file_bytes(to_pillow(smooth_pixels(8, 8)), "JPEG"), SECOND),
        (b"\xff\xfeabc", "5 bytes of an unknown kind behind the picture"),
    ],
)
def test_what_stands_behind_a_picture_is_named(tmp_path, kind, behind, name):
    plain = picture(kind)
    photo = read(tmp_path, plain + behind)
    assert photo.left_out == (() if name is None else (name,))
    assert np.array_equal(photo.pixels, read(tmp_path, plain, "plain").pixels)


@pytest.mark.parametrize("kind", ["HEIC", "AVIF", "JXL", "JP2"])
@pytest.mark.parametrize(
    ("extra", "name"),
    [
        (box(b"abcd", b"12345"), "its box abcd"),
        (box(b"jhgm", b"12345"), "its gain map for HDR screens"),
        (box(b"uuid", bytes(16) + b"12345"), "its box uuid"),
        (
            box(b"jumb", box(b"jumd", b"c2pa") + b"12345"),
            "its C2PA credentials, which would not match the restored picture",
        ),
    ],
)
def test_unknown_boxes_are_named(tmp_path, kind, extra, name):
    assert read(tmp_path, picture(kind) + extra).left_out == (name,)


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (b"", b"", None),
        (b"auxiliary:alpha", b"auxiliary:depth", "its depth map"),
        (
            b"auxiliary:alpha",
            b"auxiliary:other",
            "its auxiliary image urn:mpeg:mpegB:cicp:systems:auxiliary:other",
        ),
        (b"rdf+xml", b"rdf+yml", "its metadata of the type application/rdf+yml"),
        (b"auxl", b"pred", "further images"),
        (b"cdsc", b"xdsc", "its XMP block, which is tied to no picture"),
    ],
)
def test_items_that_no_result_carries_are_named(tmp_path, before, after, name):
    content = with_items(
        bytes(imagecodecs.avif_encode(smooth_pixels(24, 32, 4))), exif=None, xmp=XMP, icc=None
    )
    assert content.count(before) or not before
    photo = read(tmp_path, content.replace(before, after))
    assert photo.left_out == (() if name is None else (name,))


def test_thumbnails_and_metadata_of_a_heic_are_not_named(tmp_path):
    content = heic_bytes(smooth_pixels(128, 128, 4), exif=exif_block(), xmp=XMP, thumbnails=[64])
    photo = read(tmp_path, content)
    assert (photo.left_out, photo.metadata.xmp is None, photo.metadata.exif is None) == ((), False, False)


@pytest.mark.parametrize("offset", [b"", bytes(4)])
def test_exif_of_jpeg_xl_needs_no_offset(tmp_path, offset):
    content = (
        picture("JXL") + box(b"Exif", offset + exif_block(6)) + box(b"xml ", XMP) + box(b"xml ", b"<a/>")
    )
    photo = read(tmp_path, content)
    assert exif_tags(photo.metadata.exif)["main"][274] == 1
    assert photo.left_out == ("a further XMP block",)


def test_a_further_packet_of_jpeg_2000_is_named(tmp_path):
    photo = read(tmp_path, picture("JP2") + box(b"uuid", XMP_UUID + XMP) + box(b"uuid", XMP_UUID + b"<a/>"))
    assert photo.metadata.xmp.startswith(XMP[:100])
    assert photo.left_out == ("a further XMP block",)


@pytest.mark.parametrize("extended", [False, True])
def test_blocks_that_a_webp_does_not_announce_are_read(tmp_path, extended):
    plain = picture("WEBP")[12:]
    head = (
        chunk(b"VP8X", bytes(4) + struct.pack("<I", 31)[:3] + struct.pack("<I", 23)[:3]) if extended else b""
    )
    more = (
        chunk(b"EXIF", exif_block(6)) + chunk(b"XMP ", XMP) + chunk(b"XMP ", b"<a/>") + chunk(b"ab\0c", b"1")
    )
    body = b"WEBP" + head + plain + more + chunk(b"ICCP", SRGB)
    photo = read(tmp_path, b"RIFF" + struct.pack("<I", len(body)) + body)
    assert photo.pixels.shape[:2] == (32, 24)
    assert photo.metadata.icc is None
    assert b'Orientation="1"' in photo.metadata.xmp
    assert probe(tmp_path / "photo") == ("WEBP", 24, 32)
    named = (
        "a further XMP block",
        "its chunk 0x61620063",
        "its color profile, which its header does not announce",
    )
    assert photo.left_out == named


def test_extensions_of_a_gif(tmp_path):
    plain = picture("GIF")[:-1]
    icc = b"\x21\xff\x0bICCRGBG1012" + blocks(SRGB)
    xmp = b"\x21\xff\x0bXMP DataXMP" + XMP + XMP_TAIL
    other = b"\x21\xff\x0bNETSCAPE2.0\3\1\0\0\0" + b"\x21\xff\x0bSOMEBODY1.0" + blocks(b"abc")
    photo = read(tmp_path, plain + icc + xmp + other + b"\x21\xfe" + blocks(b"a lake") + b";")
    assert photo.metadata.icc == SRGB
    assert photo.metadata.xmp == XMP
    assert photo.metadata.comment == b"a lake"
    assert photo.left_out == ("its extension SOMEBODY1.0",)


def tiff_bytes(*pages):
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as tiff:
        for pixels, options in pages:
            tiff.write(pixels, **({"photometric": "rgb", "metadata": None, "software": False} | options))
    return stream.getvalue()


XMP_TAG = (700, 1, len(XMP), XMP)
ARTIST = (315, 2, 4, "Ann")


def test_a_tiff_takes_tags_from_the_thumbnail_before_it(tmp_path):
    small, full = smooth_pixels(12, 16), smooth_pixels(48, 64)
    iptc = b"\x1c\x02\x05\0\x04lake"
    tags = [XMP_TAG, ARTIST, (33723, 7, len(iptc), iptc), (274, 3, 1, 6)]
    for extra in ([], [(315, 2, 4, "Bob")]):
        content = tiff_bytes(
            (small, {"subfiletype": 1, "extratags": tags}), (full, {"subfiletype": 0, "extratags": extra})
        )
        photo = read(tmp_path, content)
        assert photo.pixels.shape == full.shape  # the thumbnail's orientation is its own
        assert photo.metadata.xmp.startswith(XMP[:50])
        assert iptc_of(photo.metadata.photoshop) == iptc
        assert exif_tags(photo.metadata.exif)["main"][315] == ("Bob" if extra else "Ann")
        assert photo.left_out == (("tags of its smaller pages (Artist)",) if extra else ())


@pytest.mark.parametrize(
    ("further", "name"),
    [
        ({"subfiletype": 1}, None),
        ({"subfiletype": 1, "extratags": [XMP_TAG, ARTIST]}, "tags of its smaller pages (Artist, XMP)"),
        ({"subfiletype": 4, "photometric": 4}, "its mask page"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_what_further_pages_of_a_tiff_hold_is_named(tmp_path, inside, further, name):
    first = {"subifds": 1} if inside else {}
    pixels = smooth_pixels(12, 16) if "photometric" not in further else np.zeros((12, 16), bool)
    content = tiff_bytes((smooth_pixels(48, 64), first), (pixels, further))
    assert read(tmp_path, content).left_out == (() if name is None else (name,))


def test_a_picture_within_a_page_and_bytes_behind_a_tiff_are_named(tmp_path):
    content = tiff_bytes((smooth_pixels(48, 64), {"subifds": 1}), (smooth_pixels(48, 64)[::-1], {}))
    names = ("1 further picture inside it", "a second picture behind the first")
    behind = file_bytes(to_pillow(smooth_pixels(8, 8)), "JPEG")
    assert read(tmp_path, content + bytes(4) + behind).left_out == names


def test_bytes_behind_a_dng_are_named(tmp_path):
    assert read(tmp_path, make_dng(quarters())).left_out == ()
    assert read(tmp_path, make_dng(quarters()) + VIDEO).left_out == (MOTION,)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ((281, 3, 3, (255, 255, 255)), None),
        ((281, 3, 3, (250, 250, 250)), "MaxSampleValue"),
        ((301, 3, 256, tuple(range(256))), "TransferFunction"),
        ((333, 2, 4, "Red"), "InkNames"),
    ],
)
def test_tags_on_what_samples_mean_are_named(tmp_path, tag, name):
    photo = read(tmp_path, tiff_bytes((smooth_pixels(12, 16), {"extratags": [tag]})))
    assert photo.left_out == (() if name is None else (f"its tags on what samples mean ({name})",))


@pytest.mark.parametrize(
    ("suffix", "names"), [(".png", ()), (".jpg", ("abCd", "sBIT")), (".tif", ("abCd", "sBIT"))]
)
def test_chunks_of_a_png_that_fit_no_other_format_are_named(tmp_path, suffix, names):
    content = file_bytes(to_pillow(smooth_pixels(12, 16)), "PNG")
    own = b"".join(png.with_chunks(content, [(b"abCd", b"x"), (b"sBIT", bytes([5, 6, 5]))]))
    assert encode(read(tmp_path, own), tmp_path / f"result{suffix}") == tuple(
        f"its PNG chunk {name}" for name in names
    )


def segment(content):
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


def test_a_second_exif_block_of_a_jpeg_is_named(tmp_path):
    plain = picture("JPEG")
    first, second = b"Exif\0\0" + exif_block(6), b"Exif\0\0" + exif_block(3)
    photo = read(tmp_path, plain[:2] + segment(first) + segment(first) + segment(second) + plain[2:])
    assert photo.orientation == 6
    assert len(photo.metadata.exif) == len(exif_block())
    assert photo.left_out == ("a further EXIF block",)
    halves = segment(first[:60]) + segment(b"Exif\0\0" + first[60:])
    assert (
        exif_tags(read(tmp_path, plain[:2] + halves + plain[2:]).metadata.exif)["main"][271] == "Lens & Sons"
    )


@pytest.mark.parametrize("orientation", [1, 6])
def test_dots_per_centimeter_of_a_jpeg_stay(tmp_path, orientation):
    plain = picture("JPEG")
    content = plain[:13] + struct.pack(">BHH", 2, 119, 71) + plain[18:]
    exif = segment(b"Exif\0\0" + exif_block(orientation))
    encode(read(tmp_path, content[:20] + exif + content[20:]), tmp_path / "result.jpg")
    with Image.open(tmp_path / "result.jpg") as image:
        density = (119, 71) if orientation == 1 else (71, 119)
        assert (image.info["jfif_unit"], image.info["jfif_density"]) == (2, density)

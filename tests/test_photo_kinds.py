"""What files hold and are, whatever their kind: each case a fault that programs like this one have had."""

import io
import struct
from contextlib import suppress

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import tifffile
from photo_files import SRGB, XMP, exif_block, exif_tags, file_bytes, random_pixels, smooth_pixels, to_pillow
from photo_raw import make_dng, quarters
from PIL import Image

from deblur_cli.errors import DecodeError, PhotoError, PhotoTooLargeError
from deblur_cli.photo import png
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.photo.header import identify, probe
from deblur_cli.photo.metadata import iptc_of

IPTC = b"\x1c\x02\x05\0\x04lake"


def write(folder, content, name):
    path = folder / name
    path.write_bytes(content)
    return path


def tiff_bytes(*pages, **options):
    stream = io.BytesIO()
    with tifffile.TiffWriter(
        stream, bigtiff=options.pop("bigtiff", False), byteorder=options.pop("order", "<")
    ) as tiff:
        for array, extra in pages:
            tiff.write(array, photometric="rgb", metadata=None, **options, **extra)
    return stream.getvalue()


@pytest.mark.parametrize("depth", [8, 12, 16])
@pytest.mark.parametrize("kind", ["jxl", "jp2"])
def test_jpeg_xl_and_jpeg_2000_are_read_as_deep_as_they_are(tmp_path, kind, depth):
    pixels = (
        np.random.default_rng(0).integers(0, 1 << depth, (20, 31, 3)).astype("u1" if depth == 8 else "u2")
    )
    encoder = imagecodecs.jpegxl_encode if kind == "jxl" else imagecodecs.jpeg2k_encode
    options = {"lossless": True} if kind == "jxl" else {"level": 0, "codecformat": "jp2"}
    path = write(tmp_path, bytes(encoder(pixels, bitspersample=depth, **options)), "photo.jpg")
    photo = decode(path)
    assert (photo.format, photo.bits) == (kind.upper(), depth)
    samples = photo.pixels if photo.stored is None else photo.stored  # deep JPEG XL is linear light
    assert np.array_equal(samples >> (16 - depth if depth > 8 else 0), pixels)
    assert probe(path) == (kind.upper(), 31, 20)


def test_boxes_of_jpeg_xl_are_carried_over(tmp_path):
    def box(name, content):
        return struct.pack(">I4s", len(content) + 8, name) + content

    stream = bytes(imagecodecs.jpegxl_encode(random_pixels(8, 12, 3), lossless=True))
    packed = bytes(imagecodecs.brotli_encode(XMP))
    boxes = box(b"Exif", bytes(4) + exif_block()) + box(b"brob", b"xml " + packed) + box(b"jxlc", stream)
    head = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    photo = decode(write(tmp_path, head + boxes, "photo.jxl"))
    assert exif_tags(photo.metadata.exif)["main"][271] == "Lens & Sons"
    assert b"\xc3\xa9" in photo.metadata.xmp
    assert photo.metadata.icc
    assert encode(photo, tmp_path / "result.avif") == ()


@pytest.mark.parametrize(("bits", "lossless"), [(8, True), (16, True), (12, False)])
def test_lossless_and_12_bit_jpeg_are_read(tmp_path, bits, lossless):
    pixels = (smooth_pixels(32, 48).astype("u2") << (bits - 8)).astype("u1" if bits == 8 else "u2")
    content = bytes(imagecodecs.jpeg8_encode(pixels, 98, lossless=lossless or None, bitspersample=bits))
    path = write(tmp_path, content, "photo.jpg")
    photo = decode(path)
    assert probe(path) == ("LJPEG", 48, 32)
    read = photo.pixels.astype(int) >> (16 - bits if bits > 8 else 0)
    assert np.abs(read - pixels).max() <= (0 if lossless else 200)


def test_a_bmp_keeps_its_profile(tmp_path):
    plain = file_bytes(to_pillow(random_pixels(6, 8, 3)), "BMP")
    pixels = plain[54:]
    header = struct.pack("<IiiHHIIiiII", 124, 8, 6, 1, 24, 0, len(pixels), 0, 0, 0, 0)
    header += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 0, 124 + len(pixels), len(SRGB), 0)
    content = b"BM" + struct.pack("<IHHI", 14 + 124 + len(pixels) + len(SRGB), 0, 0, 14 + 124) + header
    assert decode(write(tmp_path, content + pixels + SRGB, "photo.bmp")).metadata.icc == SRGB


def test_the_full_size_page_of_a_tiff_is_read(tmp_path, caplog):
    caplog.set_level("INFO")
    full, small = random_pixels(24, 32, 3), random_pixels(6, 8, 3)
    marked = tiff_bytes((small, {"subfiletype": 1}), (full, {}))
    unmarked = tiff_bytes((full, {}), (small, {}))
    for content in (marked, unmarked):
        assert np.array_equal(decode(write(tmp_path, content, "photo.tif")).pixels, full)
    assert "page 2 is the photo" in caplog.text
    with pytest.raises(DecodeError, match="has 2 pages"):
        decode(write(tmp_path, tiff_bytes((full, {}), (full, {})), "photo.tif"))


def test_a_bigtiff_keeps_the_tags_that_a_classic_tiff_keeps(tmp_path):
    tags = [(271, 2, 0, "Lens & Sons", True), (33432, 2, 0, "(c) me", True), (274, 3, 1, 6, True)]
    kept = []
    for big in (False, True):
        content = tiff_bytes((random_pixels(6, 8, 3), {"extratags": tags}), bigtiff=big, software=False)
        photo = decode(write(tmp_path, content, "photo.tif"))
        assert photo.left_out == ()
        kept.append(exif_tags(photo.metadata.exif)["main"])
    assert kept[0] == kept[1]
    assert kept[1][33432] == "(c) me"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("swapped", [False, True])
def test_iptc_that_a_tiff_stores_as_numbers_is_not_shifted(tmp_path, order, swapped):
    padded = IPTC + bytes(-len(IPTC) % 4)
    foreign = {"<": ">", ">": "<"}[order] if swapped else order
    words = struct.unpack(f"{foreign}{len(padded) // 4}I", padded)
    tags = [(33723, 4, len(words), words, True)]
    content = tiff_bytes((random_pixels(6, 8, 3), {"extratags": tags}), order=order)
    photo = decode(write(tmp_path, content, "photo.tif"))
    assert iptc_of(photo.metadata.photoshop) == IPTC
    encode(photo, tmp_path / "result.jpg")
    assert iptc_of(decode(tmp_path / "result.jpg").metadata.photoshop) == IPTC
    encode(photo, tmp_path / "again.tif")
    assert iptc_of(decode(tmp_path / "again.tif").metadata.photoshop) == IPTC


def test_a_resolution_without_unit_gets_none(tmp_path):
    tiff = tiff_bytes((random_pixels(6, 8, 3), {"resolution": (2, 3), "resolutionunit": 1}))
    encode(decode(write(tmp_path, tiff, "photo.tif")), tmp_path / "result.tif")
    with tifffile.TiffFile(tmp_path / "result.tif") as file:
        tags = file.pages.first.tags
        assert (int(tags[296].value), tags[282].value, tags[283].value) == (1, (2, 1), (3, 1))
    jpeg = file_bytes(to_pillow(random_pixels(8, 8, 3)), "JPEG")
    jpeg = jpeg[:13] + struct.pack(">BHH", 0, 4, 3) + jpeg[18:]
    encode(decode(write(tmp_path, jpeg, "photo.jpg")), tmp_path / "result.jpg")
    assert (tmp_path / "result.jpg").read_bytes()[13:18] == struct.pack(">BHH", 0, 4, 3)


@pytest.mark.parametrize("deep", [False, True])
def test_chunks_of_a_png_survive_whatever_its_depth(tmp_path, deep):
    light = {
        b"cICP": b"\x09\x10\0\1",
        b"mDCV": bytes(range(24)),
        b"cLLI": bytes(range(8)),
        b"sBIT": b"\5\6\5",
    }
    body = bytes(imagecodecs.png_encode(np.zeros((6, 8, 3), "u2" if deep else "u1")))
    content = b"".join(png.with_chunks(body, [*light.items(), (b"teST", b"private")]))
    photo = decode(write(tmp_path, content, "photo.png"))
    assert encode(photo, tmp_path / "result.png") == ("its PNG chunk teST",)
    assert dict(decode(tmp_path / "result.png").metadata.png_chunks) == light
    assert "its HDR chunks (mDCV, cLLI)" in encode(photo, tmp_path / "result.webp")


@pytest.mark.parametrize("mode", ["L;10", "L;12", "RGB;12"])
def test_deep_heic_keeps_its_bits(tmp_path, mode):
    channels = 3 if mode.startswith("RGB") else 1
    bits = int(mode[-2:])
    values = np.ascontiguousarray(smooth_pixels(32, 48, channels).astype("u2") << (bits - 8))
    kind = mode.replace("L;", "I;") if channels == 1 else mode
    pillow_heif.from_bytes(kind, (48, 32), values.tobytes()).save(tmp_path / "photo.heic", quality=-1)
    photo = decode(tmp_path / "photo.heic")
    assert (photo.bits, photo.pixels.shape) == (bits, (32, 48, channels))
    lost = encode(photo, tmp_path / "result.avif")
    assert lost == ()
    assert decode(tmp_path / "result.avif").bits == bits


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_dng_keeps_xmp_and_iptc_and_is_cropped_as_it_asks(tmp_path, orientation):
    further = {700: ("B", list(XMP)), 33723: ("B", list(IPTC)), 50719: ("H", [8, 4]), 50720: ("H", [80, 56])}
    path = write(tmp_path, make_dng(quarters(), orientation=orientation, further=further), "photo.dng")
    photo, plain = decode(path), decode(write(tmp_path, make_dng(quarters()), "plain.dng"))
    cropped = plain.pixels[4:60, 8:88]
    assert np.array_equal(photo.pixels, cropped if orientation == 1 else np.rot90(cropped, -1))
    assert probe(path) == ("RAW", photo.width, photo.height)
    assert b"\xc3\xa9" in photo.metadata.xmp
    assert iptc_of(photo.metadata.photoshop) == IPTC


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"8BPS\0\1" + bytes(40), "a Photoshop document"),
        (b"%PDF-1.7" + bytes(40), "a PDF document"),
        (b"\0\0\0\x18ftypmp42" + bytes(40), "a video"),
        (b"\x76\x2f\x31\x01" + bytes(40), "an OpenEXR picture"),
    ],
)
def test_other_kinds_are_told_by_name(tmp_path, content, kind):
    with pytest.raises(DecodeError, match=f"is {kind}, which deblur does not read"):
        identify(write(tmp_path, content, "photo.jpg"))


def test_a_huge_avif_is_too_large_and_not_damaged(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "AVIF")
    content = stream.getvalue().replace(struct.pack(">II", 64, 64), struct.pack(">II", 60_000, 60_000))
    with pytest.raises(PhotoTooLargeError, match="has 3600 megapixels, the limit is 250"):
        decode(write(tmp_path, content, "photo.avif"))


@pytest.mark.parametrize(
    ("marker", "kind"), [(0xF7, "a JPEG-LS picture"), (0xC5, "a hierarchical JPEG"), (0xC0, "damaged")]
)
def test_a_jpeg_of_a_rare_kind_is_told_by_name(tmp_path, marker, kind):
    content = file_bytes(to_pillow(random_pixels(16, 16, 3)), "JPEG")
    frame = content.index(b"\xff\xc0")
    content = (
        content[: frame + 1]
        + bytes([marker])
        + content[frame + 2 : frame + 4]
        + b"\x09"
        + content[frame + 5 :]
    )
    with pytest.raises(DecodeError, match=f"is {kind}"):
        decode(write(tmp_path, content, "photo.jpg"))


def test_a_file_that_cannot_be_followed_is_an_error_of_its_own(tmp_path):
    content = bytearray(tiff_bytes((random_pixels(8, 8, 3), {"subifds": 1}), (random_pixels(4, 4, 3), {})))
    for at in range(8, len(content), 4):
        changed = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        path = write(tmp_path, changed, "photo.tif")
        with suppress(PhotoError):
            identify(path)
        with suppress(PhotoError):
            decode(path)

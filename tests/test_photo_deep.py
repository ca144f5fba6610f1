import io
import logging
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_files import (
    CAMERA,
    MAKER_NOTE,
    SRGB,
    SUFFIXES,
    XMP,
    check_photo_or_known_error,
    damaged,
    exif_block,
    exif_tags,
    full_metadata,
    make_photo,
    needs_camera,
    stored,
    to_pillow,
)
from PIL import ExifTags, Image, PngImagePlugin

from deblur_cli.errors import DecodeError, PhotoTooLargeError
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import copy_unchanged, encode, is_copy_possible
from deblur_cli.photo.header import probe
from deblur_cli.photo.photo import Metadata
from deblur_cli.photo.samples import gather_bits, spread_bits

in_one_folder = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def random_deep(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 65536, shape, dtype=np.uint16)


def write(folder, content, suffix):
    path = folder / f"photo{suffix}"
    path.write_bytes(content)
    return path


def tiff_bytes(array, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


@in_one_folder
@given(
    format=st.sampled_from(["PNG", "TIFF"]),
    gray=st.booleans(),
    with_alpha=st.booleans(),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_16_bits_go_out_and_in_again_exactly(tmp_path, *, format, gray, with_alpha, height, width):
    pixels = random_deep(height, width, 1 if gray else 3)
    alpha = random_deep(height, width, seed=1) // 32768 * 50_000 if with_alpha else None
    path = tmp_path / f"result{SUFFIXES[format]}"
    encode(make_photo(pixels, tmp_path / "source.png", alpha=alpha), path, overwrite=True)
    back = decode(path)
    assert np.array_equal(back.pixels, pixels)
    assert back.pixels.dtype == np.uint16
    assert back.alpha is None if alpha is None else np.array_equal(back.alpha, alpha)
    # and for programs that are not this one
    other = (imagecodecs.png_decode if format == "PNG" else imagecodecs.tiff_decode)(path.read_bytes())
    whole = pixels if alpha is None else np.dstack([pixels, alpha])
    assert np.array_equal(np.atleast_3d(other).reshape(whole.shape), whole)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True, "rowsperstrip": 5},
        {"compression": "lzw", "tile": (16, 16)},
        {"planarconfig": "separate"},
        {"bigtiff": True},
    ],
)
def test_tiffs_of_other_programs(tmp_path, order, channels, options):
    pixels = random_deep(23, 37, channels)
    kind = {1: "minisblack", 3: "rgb", 4: "rgb"}[channels]
    extra = ["unassalpha"] if channels == 4 else None
    if channels == 1:
        options = {key: value for key, value in options.items() if key != "planarconfig"}
    given = pixels[:, :, 0] if channels == 1 else pixels
    if "planarconfig" in options:
        given = np.moveaxis(given, -1, 0)
    content = tiff_bytes(
        given, photometric=kind, extrasamples=extra, byteorder=order, metadata=None, **options
    )
    photo = decode(write(tmp_path, content, ".tif"))
    got = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_16_bit_files_are_upright(tmp_path, format, orientation):
    upright = random_deep(5, 7, 3)
    halves = [(upright >> 8).astype(np.uint8), (upright & 255).astype(np.uint8)]
    high, low = (np.asarray(stored(to_pillow(half), orientation)) for half in halves)
    turned = high.astype(np.uint16) << 8 | low
    if format == "TIFF":
        tags = [(274, "H", 1, orientation, True)]
        content = tiff_bytes(turned, photometric="rgb", extratags=tags, metadata=None)
    else:
        block = b"eXIf" + exif_block(orientation, 7, 5)
        chunk = struct.pack(">I", len(block) - 4) + block + struct.pack(">I", zlib.crc32(block))
        content = bytes(imagecodecs.png_encode(turned))
        content = content[:-12] + chunk + content[-12:]  # behind the pixels, where it is easily missed
    photo = decode(write(tmp_path, content, SUFFIXES[format]))
    assert np.array_equal(photo.pixels, upright)
    assert photo.orientation == orientation
    assert probe(tmp_path / f"photo{SUFFIXES[format]}") == (format, 7, 5)
    assert exif_tags(photo.metadata.exif)["main"][ExifTags.Base.Orientation] == 1


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_all_blocks_survive_in_16_bits(tmp_path, format):
    path = tmp_path / f"result{SUFFIXES[format]}"
    source = make_photo(random_deep(6, 8, 3), tmp_path / "source.png", metadata=full_metadata())
    encode(source, path)
    back = decode(path).metadata
    assert (back.icc, back.xmp) == (SRGB, XMP)
    assert back.dpi == pytest.approx((300.0, 300.0), abs=0.01)
    tags = exif_tags(back.exif)
    assert tags["exposure"] == exif_tags(exif_block())["exposure"]
    assert tags["exposure"][ExifTags.Base.MakerNote] == MAKER_NOTE
    if format == "PNG":
        assert back.exif == exif_block()
        with Image.open(path) as image:  # another reader
            assert image.info["icc_profile"] == SRGB
            assert image.info["xmp"] == XMP
    else:
        with tifffile.TiffFile(path) as tiff:
            assert tiff.pages[0].tags[34675].value == SRGB
            assert tiff.pages[0].tags[700].value == XMP


def test_text_of_a_16_bit_png_survives(tmp_path):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Title", "By the lake")
    stream = io.BytesIO()
    Image.fromarray(random_deep(4, 5)).save(stream, "PNG", pnginfo=chunks)
    photo = decode(write(tmp_path, stream.getvalue(), ".png"))
    encode(photo, tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as image:
        assert image.text == {"Title": "By the lake"}
        assert image.mode == "I;16"


def test_one_transparent_color_of_16_bits_becomes_alpha(tmp_path):
    pixels = np.array([[[1, 2, 3], [1, 2, 4]]], np.uint16)
    content = bytes(imagecodecs.png_encode(pixels))
    chunk = b"tRNS" + struct.pack(">3H", 1, 2, 3)
    chunk = struct.pack(">I", 6) + chunk + struct.pack(">I", zlib.crc32(chunk))
    photo = decode(write(tmp_path, content[:33] + chunk + content[33:], ".png"))
    assert np.array_equal(photo.pixels, pixels)
    assert photo.alpha.tolist() == [[0, 65535]]


def test_white_is_zero_and_associated_alpha_are_undone(tmp_path):
    gray = random_deep(4, 5)
    photo = decode(write(tmp_path, tiff_bytes(gray, photometric="miniswhite"), ".tif"))
    assert np.array_equal(photo.pixels[..., 0], 65535 - gray)
    colors, alpha = random_deep(40, 50, 3), random_deep(40, 50, seed=1) | 32768
    mixed = np.rint(colors * (alpha[..., np.newaxis] / 65535)).astype(np.uint16)
    content = tiff_bytes(np.dstack([mixed, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    photo = decode(write(tmp_path, content, ".tif"))
    assert np.array_equal(photo.alpha, alpha)
    assert np.abs(photo.pixels.astype(int) - colors).max() <= 2


@pytest.mark.parametrize("kinds", [("unspecified",), ("unassalpha", "unspecified"), ("unspecified",) * 3])
@pytest.mark.parametrize("depth", ["uint8", "uint16"])
def test_further_channels_of_a_tiff_survive_in_tiff_and_are_named_elsewhere(tmp_path, kinds, depth):
    pixels = random_deep(4, 5, 3 + len(kinds)).astype(depth)
    orientation = [(274, "H", 1, 6, True)]
    content = tiff_bytes(
        pixels, photometric="rgb", extrasamples=kinds, planarconfig="contig", extratags=orientation
    )
    photo = decode(write(tmp_path, content, ".tif"))
    assert encode(photo, tmp_path / "result.tif") == ()
    with tifffile.TiffFile(tmp_path / "result.tif") as file:
        page = file.pages.first
        assert np.array_equal(page.asarray(), np.rot90(pixels, -1))
        assert [kind.name.lower() for kind in page.extrasamples] == list(kinds)
    (lost,) = [phrase for phrase in encode(photo, tmp_path / "result.png") if "channel" in phrase]
    assert lost == ("its 3 extra channels" if len(kinds) == 3 else "its extra channel")


@given(bits=st.integers(9, 15))
def test_fewer_bits_are_spread_evenly_and_gathered_exactly(bits):
    values = np.arange(1 << bits, dtype=np.uint16)
    spread = values.copy()
    spread_bits(spread, bits)
    assert np.abs(spread - values * (65535 / (2**bits - 1))).max() < 2 ** (16 - bits)
    assert (spread[0], spread[-1]) == (0, 65535)
    assert np.array_equal(gather_bits(spread, bits), values)


def test_12_bit_tiffs_fill_16_bits_with_a_word(tmp_path, caplog):
    values = np.array([[0, 2048, 4095, 1]], np.uint16)
    packed = imagecodecs.packints_encode(values, 12) if imagecodecs.PACKINTS.available else None
    packed = packed or bytes([0x00, 0x08, 0x00, 0xFF, 0xF0, 0x01])
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 6}
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    content = b"MM\0*" + struct.pack(">I", 14) + packed + struct.pack(">H", len(tags)) + entries + bytes(4)
    with caplog.at_level(logging.INFO):
        photo = decode(write(tmp_path, content, ".tif"))
    assert photo.pixels[0, :, 0].tolist() == [0, 0x8008, 65535, 16]
    assert "12 bits per channel are spread over 16" in caplog.text


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((4, 5, 3), np.float32),
            "32-bit floating-point samples, which deblur does not read; save it as 16-bit",
        ),
        (np.zeros((4, 5), np.float16), "16-bit floating-point"),
        (np.zeros((4, 5, 3), np.uint32), "32 bits per channel of a kind that deblur does not read"),
        (np.zeros((4, 5), np.int16), "16 bits per channel of a kind"),
    ],
)
def test_other_samples_are_refused_in_one_line(tmp_path, array, message):
    kind = "rgb" if array.ndim == 3 else "minisblack"
    with pytest.raises(DecodeError, match=message) as caught:
        decode(write(tmp_path, tiff_bytes(array, photometric=kind), ".tif"))
    assert "\n" not in str(caught.value)


def test_several_pages_of_16_bits_are_refused(tmp_path):
    content = tiff_bytes(random_deep(3, 4, 5), photometric="minisblack")
    with pytest.raises(DecodeError, match="has 3 pages, and deblur reads single"):
        decode(write(tmp_path, content, ".tif"))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_too_many_megapixels_of_16_bits(tmp_path, format):
    array = random_deep(100, 300)
    content = bytes(imagecodecs.png_encode(array)) if format == "PNG" else tiff_bytes(array)
    with pytest.raises(PhotoTooLargeError, match=r"0\.03 megapixels, the limit is 0\.02; .*--max-megapixels"):
        decode(write(tmp_path, content, SUFFIXES[format]), max_megapixels=0.02)


@pytest.mark.parametrize("kind", ["PNG", "plain", "zlib"])
@in_one_folder
@given(share=st.floats(0.02, 0.97))
def test_cut_files_are_errors(tmp_path, kind, share):
    array = random_deep(40, 50, 3)
    content = bytes(imagecodecs.png_encode(array)) if kind == "PNG" else None
    content = content or tiff_bytes(array, photometric="rgb", compression=None if kind == "plain" else kind)
    path = write(tmp_path, content[: int(len(content) * share)], ".png" if kind == "PNG" else ".tif")
    with pytest.raises(DecodeError):
        decode(path)


@settings(in_one_folder, max_examples=150)
@given(
    kind=st.sampled_from(["PNG", "TIFF"]),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
    ),
)
def test_damaged_bytes_give_a_photo_or_a_known_error(tmp_path, kind, changes):
    array = random_deep(10, 12, 3)
    whole = imagecodecs.png_encode(array) if kind == "PNG" else tiff_bytes(array, photometric="rgb")
    check_photo_or_known_error(write(tmp_path, damaged(whole, changes), SUFFIXES[kind]))


def test_maker_notes_of_a_tiff_stay_byte_for_byte(tmp_path):
    metadata = Metadata(exif=exif_block(), photoshop=b"8BIM\x04\x04\0\0\0\0\0\x06\x1c\x02\0\0\1a")
    encode(make_photo(random_deep(6, 8, 3), tmp_path / "s.png", metadata=metadata), tmp_path / "1.tif")
    assert exif_block()[8:] in (tmp_path / "1.tif").read_bytes()
    encode(decode(tmp_path / "1.tif"), tmp_path / "2.tif")
    first, second = decode(tmp_path / "1.tif").metadata, decode(tmp_path / "2.tif").metadata
    assert exif_tags(first.exif) == exif_tags(second.exif)
    assert first.photoshop == second.photoshop == metadata.photoshop


def test_8_bit_formats_round_16_bits_with_a_word(tmp_path, caplog):
    pixels = random_deep(6, 8, 3)
    with caplog.at_level(logging.INFO):
        encode(make_photo(pixels, tmp_path / "source.png"), tmp_path / "result.webp")
    assert np.array_equal(decode(tmp_path / "result.webp").pixels, np.rint(pixels / 257))
    assert "WebP holds 8 bits per channel" in caplog.text


def test_an_unchanged_16_bit_photo_is_copied_verbatim(tmp_path):
    path = write(tmp_path, tiff_bytes(random_deep(4, 5, 3), photometric="rgb"), ".tif")
    photo = decode(path)
    assert is_copy_possible(photo, "tiff")
    assert not is_copy_possible(photo, "tiff", strip=True)
    copy_unchanged(photo, tmp_path / "copy.tif")
    assert (tmp_path / "copy.tif").read_bytes() == path.read_bytes()


@needs_camera
@pytest.mark.parametrize("name", ["rgb16.png", "rgb16_adobergb.tiff"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_camera_files_of_16_bits_survive(tmp_path, name, suffix):
    path = CAMERA / name
    photo = decode(path)
    reference = (
        imagecodecs.png_decode(path.read_bytes()) if suffix == ".png" and name.endswith("png") else None
    )
    reference = tifffile.imread(path) if name.endswith("tiff") else reference
    assert reference is None or np.array_equal(photo.pixels, reference)
    encode(photo, tmp_path / f"result{suffix}")
    back = decode(tmp_path / f"result{suffix}")
    assert np.array_equal(back.pixels, photo.pixels)
    assert back.metadata.icc == photo.metadata.icc
    assert back.metadata.xmp == photo.metadata.xmp


@pytest.mark.parametrize("side", [256, 257])
def test_a_side_of_no_pixels_is_damage(tmp_path, side):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 9, 3), np.uint16))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags[side].overwrite(0)
    with pytest.raises(DecodeError, match="damaged"):
        decode(path)

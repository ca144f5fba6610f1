import io
import logging
import os
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_files import (
    CAMERA,
    MAKER_NOTE,
    SUFFIXES,
    XMP,
    check_photo_or_known_error,
    damaged,
    exif_block,
    exif_tags,
    file_bytes,
    needs_camera,
    random_pixels,
    smooth_pixels,
    stored,
    to_pillow,
)
from PIL import ExifTags, Image

from deblur_cli.errors import DecodeError, PhotoTooLargeError
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.photo.names import is_picture_name, is_unread_name

in_one_folder = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def write(folder, content, suffix):
    path = folder / f"photo{suffix}"
    path.write_bytes(content)
    return path


@in_one_folder
@given(
    orientation=st.integers(1, 8),
    format=st.sampled_from(["PNG", "WEBP", "TIFF"]),
    channels=st.sampled_from([1, 3, 4]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_pixels_and_alpha_are_upright(tmp_path, *, orientation, format, channels, height, width):
    upright = random_pixels(height, width, channels)
    image = stored(to_pillow(upright), orientation)
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    photo = decode(write(tmp_path, file_bytes(image, format, exif=block), SUFFIXES[format]))
    if channels == 1 and format == "WEBP":  # which knows no gray
        upright = np.repeat(upright, 3, axis=2)
    got = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    if channels == 4 and photo.alpha is None:  # WebP drops alpha that is opaque everywhere
        assert (upright[..., 3] == 255).all()
        upright = upright[..., :3]
    assert np.array_equal(got, upright)
    assert photo.orientation == orientation
    if photo.metadata.exif is not None:
        assert exif_tags(photo.metadata.exif)["main"].get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_is_upright(tmp_path, orientation, mode):
    upright = to_pillow(smooth_pixels(24, 40)).convert(mode)
    content = file_bytes(
        stored(upright, orientation), "JPEG", quality=98, exif=b"Exif\0\0" + exif_block(orientation)
    )
    photo = decode(write(tmp_path, content, ".jpg"))
    samples = photo.stored if mode == "CMYK" else photo.pixels
    expected = np.asarray(upright).reshape(samples.shape).astype(int)
    assert np.abs(samples - expected).mean() < 3


@needs_camera
@pytest.mark.parametrize("orientation", range(2, 9))
def test_camera_orientations_show_the_same_picture(orientation):
    expected = decode(CAMERA / "orientation_1.jpg").pixels.astype(np.int16)
    got = decode(CAMERA / f"orientation_{orientation}.jpg").pixels
    assert np.abs(got - expected).mean() < 6  # each was compressed anew; turned wrongly it is above 70


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_changes_in_orientation_and_sides_only(tmp_path, orientation):
    block = exif_block(orientation, width=40, height=24)
    content = file_bytes(to_pillow(smooth_pixels(24, 40)), "JPEG", exif=b"Exif\0\0" + block, xmp=XMP)
    metadata = decode(write(tmp_path, content, ".jpg")).metadata
    tags, before = exif_tags(metadata.exif), exif_tags(block)
    sides = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
    assert [tags["exposure"].pop(side) for side in sides] == ([24, 40] if orientation >= 5 else [40, 24])
    assert [before["exposure"].pop(side) for side in sides] == [40, 24]
    assert tags["main"].pop(ExifTags.Base.Orientation) == 1
    before["main"].pop(ExifTags.Base.Orientation)
    assert tags == before
    assert tags["exposure"][ExifTags.Base.MakerNote] == MAKER_NOTE
    assert len(metadata.exif) == len(block)
    assert sum(a != b for a, b in zip(metadata.exif, block, strict=True)) <= (3 if orientation >= 5 else 1)
    # XMP repeats the orientation: viewers that read it there must not turn the picture twice.
    assert metadata.xmp == (XMP if orientation == 1 else XMP.replace(b'"6"', b'"1"'))


def test_a_thumbnail_of_the_photo_as_it_was_is_left_out(tmp_path):
    thumbnail = io.BytesIO()
    to_pillow(smooth_pixels(6, 8)).save(thumbnail, "JPEG")
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Lens & Sons"
    block = bytearray(exif.tobytes()[6:])
    second = len(block)  # where the first directory's last four bytes shall lead
    entries = [(513, 4, 1, second + 30), (514, 4, 1, len(thumbnail.getvalue()))]
    block += struct.pack(">H", 2) + b"".join(struct.pack(">HHII", *entry) for entry in entries)
    block += b"\0\0\0\0" + thumbnail.getvalue()
    (first,) = struct.unpack_from(">I", block, 4)
    struct.pack_into(">I", block, first + 2 + 12, second)
    content = file_bytes(to_pillow(smooth_pixels(24, 40)), "JPEG", exif=b"Exif\0\0" + bytes(block))
    with Image.open(io.BytesIO(content)) as stored:
        assert stored.getexif().get_ifd(ExifTags.IFD.IFD1)
    metadata = decode(write(tmp_path, content, ".jpg")).metadata
    kept = Image.Exif()
    kept.load(metadata.exif)
    assert kept[ExifTags.Base.Make] == "Lens & Sons"
    assert not kept.get_ifd(ExifTags.IFD.IFD1)


def test_a_motion_photos_video_is_named_and_nothing_points_to_it(tmp_path):
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:cam="http://ns.google.com/photos/1.0/camera/">'
        b'<a cam:MotionPhoto="1"/></x:xmpmeta>'
    )
    video = b"\0\0\0\x18ftypmp42" + bytes(100)
    content = file_bytes(to_pillow(smooth_pixels(24, 40)), "JPEG", xmp=xmp) + video
    photo = decode(write(tmp_path, content, ".jpg"))
    assert photo.left_out == ("the video of its motion photo",)
    assert b"MotionPhoto" not in photo.metadata.xmp


@in_one_folder
@given(block=st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"II*\0\x08\0\0\0" + tail))
def test_broken_exif_never_costs_the_photo(tmp_path, block):
    pixels = smooth_pixels(8, 12)
    content = file_bytes(to_pillow(pixels), "PNG", exif=block or b"\0")
    photo = decode(write(tmp_path, content, ".png"))
    assert sorted(photo.pixels.shape) == [3, 8, 12]


def test_broken_exif_is_named(tmp_path):
    content = file_bytes(to_pillow(smooth_pixels(8, 12)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\0\0")
    photo = decode(write(tmp_path, content, ".jpg"))
    assert photo.metadata.exif is None
    assert "its EXIF block, which is broken" in photo.left_out[0]


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        *[(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
        *[(mode, "TIFF") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")],
        *[(mode, "BMP") for mode in ("1", "L", "P", "RGB")],
        ("P", "GIF"),
    ],
)
def test_every_mode_shows_what_pillow_shows(tmp_path, mode, format):
    image = to_pillow(random_pixels(7, 5, 4)).convert(mode)
    content = file_bytes(image, format)
    photo = decode(write(tmp_path, content, f".{format.lower()}"))
    gray = mode in ("1", "L", "LA")
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")).astype(int)
    assert photo.pixels.shape == (7, 5, 1 if gray else 3)
    assert np.array_equal(np.broadcast_to(photo.pixels, (7, 5, 3)), expected[..., :3])
    assert np.array_equal(
        255 if photo.alpha is None else photo.alpha, expected[..., 3] * np.ones(1, int)
    ) or (photo.alpha is None and (expected[..., 3] == 255).all())
    assert (photo.stored is not None) == (mode == "CMYK")
    if mode == "CMYK":
        assert np.array_equal(photo.stored, np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "key", "transparent"),
    [("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3)), ("P", bytes([0, 128, 255]), None), ("1", 255, 255)],
)
def test_transparent_color_becomes_alpha(tmp_path, mode, key, transparent):
    array = np.array([[0, 1, 2]], dtype=np.uint8)
    if mode == "P":
        image = Image.frombytes("P", (3, 1), array.tobytes())
        image.putpalette([9, 9, 9, 50, 60, 70, 1, 2, 3])
    else:
        image = Image.new(mode, (3, 1))
        image.putpixel((1, 0), transparent)
    content = file_bytes(image, "PNG", transparency=1 if mode == "1" else key)
    photo = decode(write(tmp_path, content, ".png"))
    assert photo.alpha.tolist() == ([[0, 128, 255]] if mode == "P" else [[255, 0, 255]])
    if mode == "P":
        assert photo.pixels[0, 0].tolist() == [9, 9, 9]  # the color stays under full transparency


def test_transparent_gray_of_a_4_bit_png_is_found(tmp_path):
    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 2, 1, 4, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", b"\0\x05")
    content += chunk(b"IDAT", zlib.compress(b"\0\x5a")) + chunk(b"IEND", b"")
    photo = decode(write(tmp_path, content, ".png"))
    assert photo.pixels[..., 0].tolist() == [[85, 170]]
    assert photo.alpha.tolist() == [[0, 255]]


@needs_camera
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("animated.gif", "has 30 frames"),
        ("multipage_bilevel.tif", "has 2 pages"),
        ("truncated.jpg", "is damaged or cut short"),
        ("corrupt_header.jpg", "is damaged or cut short"),
        ("README.md", "is not a picture"),
    ],
)
def test_camera_files_that_are_refused(name, message):
    with pytest.raises(DecodeError) as caught:
        decode(CAMERA / name)
    assert message in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@needs_camera
@pytest.mark.parametrize(
    ("name", "message"),
    [("two_frames.mpo", "second picture"), ("gain_map.jpg", "its gain map for HDR screens")],
)
def test_images_behind_the_first_are_named(name, message):
    photo = decode(CAMERA / name)
    assert photo.format == "JPEG"
    assert message in "; ".join(photo.left_out)


@needs_camera
def test_cmyk_camera_files_look_right(caplog):
    photo = decode(CAMERA / "cmyk_swop.jpg")
    assert "no usable CMYK profile" not in caplog.text
    lawn = photo.pixels[240:290, 20:120].reshape(-1, 3).mean(axis=0)
    assert lawn[1] > lawn[0] > lawn[2]  # inverted ink would make it purple
    sky = decode(CAMERA / "cmyk_no_profile.jpg").pixels[:50, :50].reshape(-1, 3).mean(axis=0)
    assert sky[2] > 150 > sky[0]
    assert "no usable CMYK profile" in caplog.text


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(tmp_path, format):
    frames = [to_pillow(random_pixels(6, 6, 3, seed)) for seed in range(3)]
    content = file_bytes(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(DecodeError, match=r"has 3 (frames|pages), and deblur reads single"):
        decode(write(tmp_path, content, f".{format.lower()}"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@in_one_folder
@given(share=st.floats(0.02, 0.97))
def test_cut_files_are_errors(tmp_path, format, share):
    content = file_bytes(to_pillow(random_pixels(40, 50, 3)), format)
    path = write(tmp_path, content[: int(len(content) * share)], SUFFIXES[format])
    with pytest.raises(DecodeError) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def fuzz_seeds():
    rgba = to_pillow(random_pixels(12, 10, 4))
    rgb = rgba.convert("RGB")
    exif = b"Exif\0\0" + exif_block(6)
    return {
        "jpg": file_bytes(rgb, "JPEG", exif=exif, xmp=XMP, progressive=True),
        "cmyk.jpg": file_bytes(rgb.convert("CMYK"), "JPEG"),
        "png": file_bytes(rgb.quantize(8), "PNG", exif=exif, dpi=(72, 72)),
        "webp": file_bytes(rgba, "WEBP", exif=exif, xmp=XMP),
        "tif": file_bytes(rgb, "TIFF", compression="tiff_lzw"),
        "raw.tif": file_bytes(rgba, "TIFF", exif=exif),
        "bmp": file_bytes(rgb, "BMP"),
        "gif": file_bytes(rgb.quantize(8), "GIF"),
    }


@settings(in_one_folder, max_examples=400)
@given(
    seed=st.sampled_from(sorted(fuzz_seeds().items())),
    changes=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6
    ),
    towards_header=st.booleans(),
)
def test_damaged_bytes_give_a_photo_or_a_known_error(tmp_path, seed, changes, towards_header):
    content = damaged(seed[1], changes, towards_start=3 if towards_header else 1)
    check_photo_or_known_error(write(tmp_path, content, f".{seed[0]}"))


def test_what_is_no_file(tmp_path):
    with pytest.raises(DecodeError, match=r"nowhere\.jpg: there is no such file"):
        decode(tmp_path / "nowhere.jpg")
    with pytest.raises(DecodeError, match="is a folder"):
        decode(tmp_path)
    with pytest.raises(DecodeError, match="is empty"):
        decode(write(tmp_path, b"", ".jpg"))
    with pytest.raises(DecodeError, match="is not a picture that deblur knows; it reads JPEG"):
        decode(write(tmp_path, b"Dear diary,\nno photo today", ".jpg"))
    with pytest.raises(DecodeError, match="starts like a PNG but its header is damaged"):
        content = file_bytes(Image.new("L", (4, 4)), "PNG")
        decode(write(tmp_path, content.replace(b"\0\0\0\4", b"\0\0\0\5", 1), ".png"))


def test_pixels_of_an_unknown_kind_are_named(tmp_path):
    lab = Image.new("LAB", (4, 4))
    with pytest.raises(DecodeError, match=r"photo\.tif: .* kind LAB"):
        decode(write(tmp_path, file_bytes(lab, "TIFF"), ".tif"))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_too_many_megapixels_are_named_with_the_option(tmp_path, format):
    path = write(tmp_path, file_bytes(Image.new("RGB", (300, 100)), format), SUFFIXES[format])
    limit_before = Image.MAX_IMAGE_PIXELS
    with pytest.raises(PhotoTooLargeError, match=r"0\.03 megapixels, the limit is 0\.02; .*--max-megapixels"):
        decode(path, max_megapixels=0.02)
    for limit in (0.01, 0.0001):  # Pillow has a limit of its own, which knows no sizes
        with pytest.raises(PhotoTooLargeError, match=rf"has 0\.03 megapixels, the limit is {limit:g}; "):
            decode(path, max_megapixels=limit)
    assert decode(path, max_megapixels=0.03).megapixels == pytest.approx(0.03)
    assert limit_before == Image.MAX_IMAGE_PIXELS


def test_a_photo_just_too_large_is_not_rounded_to_the_limit(tmp_path):
    path = write(tmp_path, file_bytes(Image.new("L", (301, 101)), "PNG"), ".png")
    with pytest.raises(PhotoTooLargeError, match=r"has 0\.030401 megapixels, the limit is 0\.0304; "):
        decode(path, max_megapixels=0.0304)


def test_a_raised_limit_rules_over_pillows_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(write(tmp_path, file_bytes(Image.new("L", (90, 90)), "PNG"), ".png")).width == 90


def test_a_tiff_with_a_reduced_copy_behind_is_one_picture(tmp_path):
    pixels = random_pixels(16, 16, 3)
    preview = to_pillow(pixels).resize((4, 4))
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    content = file_bytes(to_pillow(pixels), "TIFF", save_all=True, append_images=[preview])
    assert np.array_equal(decode(write(tmp_path, content, ".tif")).pixels, pixels)


def test_pillows_warnings_go_to_the_log(tmp_path, monkeypatch, caplog):
    content = file_bytes(to_pillow(smooth_pixels(8, 8)), "PNG")
    real_load = Image.Image.load

    def warn_and_load(image):
        import warnings

        warnings.warn("metadata looks odd", UserWarning, stacklevel=1)
        return real_load(image)

    monkeypatch.setattr(Image.Image, "load", warn_and_load)
    with caplog.at_level(logging.WARNING):
        decode(write(tmp_path, content, ".png"))
    assert "metadata looks odd" in caplog.text


def test_names_for_folder_walks(tmp_path):
    assert all(is_picture_name(tmp_path / name) for name in ("a.JPG", "b.jpeg", "c.Tif", "d.webp", "e.png"))
    assert all(
        is_picture_name(tmp_path / name) for name in ("a.NEF", "b.cr3", "c.dng", "d.HEIC", "e.avif", "f.jxl")
    )
    assert all(is_unread_name(tmp_path / name) for name in ("a.exr", "b.PSD"))
    assert not any(is_picture_name(tmp_path / name) for name in ("a.txt", "jpg", "b.jpg.part", "._IMG_1.JPG"))


@pytest.mark.parametrize(("change", "is_read"), [("touched", True), ("grown", False), ("rewritten", False)])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, monkeypatch, change, is_read):
    path = tmp_path / "photo.png"
    content = file_bytes(to_pillow(random_pixels(6, 8, 3)), "PNG")
    path.write_bytes(content)

    def changed_meanwhile(path):
        path.write_bytes({"touched": content, "grown": content + b"more"}.get(change, content[:-1] + b"?"))
        os.utime(path, ns=(1, 1))
        return "PNG"

    monkeypatch.setattr("deblur_cli.photo.decode.identify", changed_meanwhile)
    if is_read:
        assert decode(path).stamp.size == len(content)
        return
    with pytest.raises(DecodeError, match="was changed while it was read"):
        decode(path)


RAW_EXIF = b"Raw profile type exif"
EXIF_TEXT = b"\nexif\n%8d\n%b\n" % (len(exif_block()), exif_block().hex().encode())


def text_chunk(kind, text, keyword=RAW_EXIF):
    between = {b"tEXt": b"\0", b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    content = keyword + between + (text if kind == b"tEXt" else zlib.compress(text))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_with(chunk, deep=False):
    pixels = smooth_pixels(6, 8)
    plain = imagecodecs.png_encode(pixels.astype(np.uint16) * 257) if deep else None
    content = bytes(plain) if plain else file_bytes(to_pillow(pixels), "PNG")
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (EXIF_TEXT, None),
        (b"", None),
        (b"\nexif\n  4\nzzzz\n", "not in hexadecimal digits"),
        (EXIF_TEXT.rstrip()[:-1], "not in hexadecimal digits"),
        ("\nexif\n 4\n１２３４".encode(), "not in hexadecimal digits"),
        (b"\nexif\n 4\n\xe9\xff", "not in hexadecimal digits"),
        (b"\nexif\n 4\ndeadbeef", "no classic TIFF header"),
        (b"abcd", "nothing but a heading"),
        (b"\nexif\n 4\n" + b"00" * 600_000, "no classic TIFF header"),  # more than Pillow unpacks
    ],
)
def test_exif_in_a_text_of_a_png_is_read_or_named_as_broken(tmp_path, deep, kind, text, reason):
    photo = decode(write(tmp_path, png_with(text_chunk(kind, text), deep), ".png"))
    lost = () if reason is None else (f"its EXIF block, which is broken ({reason})",)
    assert photo.left_out == lost
    assert (photo.metadata.exif is not None) == (text == EXIF_TEXT)
    assert photo.metadata.png_chunks == ()
    assert encode(photo, tmp_path / "r.png") == lost
    assert np.array_equal(decode(tmp_path / "r.png").pixels, photo.pixels)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(
    ("name", "content", "lost"),
    [
        (
            b"zTXt",
            b"Raw profile type exif\0\0rubbish",
            "its EXIF block, which is broken (it cannot be unpacked)",
        ),
        (
            b"zTXt",
            b"Raw profile type exif\0\7x",
            "its EXIF block, which is broken (packed in an unknown way)",
        ),
        (b"iCCP", b"sRGB\0\0rubbish", "its color profile, which is broken (it cannot be unpacked)"),
        (b"gAMA", b"1", "its PNG chunk gAMA, which is cut short"),
        (b"pHYs", b"1", "its resolution, which is cut short"),
    ],
)
def test_a_png_is_read_and_written_without_its_damaged_chunks(tmp_path, deep, name, content, lost):
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    photo = decode(write(tmp_path, png_with(chunk, deep), ".png"))
    assert encode(photo, tmp_path / "r.png") == (lost,)
    assert decode(tmp_path / "r.png").left_out == ()


def test_long_texts_of_a_png_stay(tmp_path):
    text = b"lake " * 300_000  # more than Pillow unpacks
    chunk = text_chunk(b"zTXt", text, b"Comment")
    encode(decode(write(tmp_path, png_with(chunk), ".png")), tmp_path / "r.png")
    assert chunk in (tmp_path / "r.png").read_bytes()


@pytest.mark.parametrize("deep", [False, True])
def test_hdr_colors_of_a_png_are_known_and_reach_an_avif(tmp_path, deep, caplog):
    content = bytes([9, 16, 0, 1])  # BT.2020, PQ
    chunk = struct.pack(">I", 4) + b"cICP" + content + struct.pack(">I", zlib.crc32(b"cICP" + content))
    photo = decode(write(tmp_path, png_with(chunk, deep), ".png"))
    assert "is HDR" in caplog.text
    bits = ("its 16-bit depth (reduced to 10 bits per channel)",) if deep else ()
    assert encode(photo, tmp_path / "r.avif") == bits
    assert decode(tmp_path / "r.avif").metadata.cicp[:2] == (9, 16)
    assert encode(photo, tmp_path / "r.png") == ()
    assert decode(tmp_path / "r.png").metadata.cicp == (9, 16, 0)
    assert "HDR colors" in "".join(encode(photo, tmp_path / "r.webp"))


def test_a_wide_gamut_that_a_png_names_by_number_becomes_a_profile(tmp_path):
    content = bytes([12, 13, 0, 1])  # Display P3
    chunk = struct.pack(">I", 4) + b"cICP" + content + struct.pack(">I", zlib.crc32(b"cICP" + content))
    photo = decode(write(tmp_path, png_with(chunk), ".png"))
    assert b"P3" in photo.metadata.icc.replace(b"\0", b"")
    assert encode(photo, tmp_path / "r.jpg") == ()
    assert decode(tmp_path / "r.jpg").metadata.icc == photo.metadata.icc

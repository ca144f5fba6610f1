import errno
import hashlib
import os
import stat
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_files import (
    CAMERA,
    LOSSLESS,
    SUFFIXES,
    exif_block,
    exif_tags,
    file_bytes,
    full_metadata,
    make_photo,
    needs_camera,
    random_pixels,
    smooth_pixels,
    stored,
    to_pillow,
)
from PIL import Image

from deblur_cli.errors import EncodeError
from deblur_cli.photo import exif
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import copy_unchanged, encode, format_of, is_copy_possible, output_suffix
from deblur_cli.photo.photo import Metadata

in_one_folder = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def photo(tmp_path):
    return make_photo(random_pixels(6, 8, 3), tmp_path / "source.png")


def jpeg_source(folder, pixels, **options):
    path = folder / "source.jpg"
    path.write_bytes(file_bytes(to_pillow(pixels), "JPEG", **options))
    return path


def failing(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


@in_one_folder
@given(
    format=st.sampled_from(LOSSLESS),
    gray=st.booleans(),
    with_alpha=st.booleans(),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_lossless_formats_return_the_very_same_pixels(
    tmp_path, *, format, gray, with_alpha, height, width, seed
):
    pixels = random_pixels(height, width, 1 if gray else 3, seed)
    # Half of the pixels are fully transparent: their hidden colors have to stay as well.
    alpha = random_pixels(height, width, 1, seed + 1)[..., 0] // 128 * 200 if with_alpha else None
    path = tmp_path / f"result{SUFFIXES[format]}"
    encode(make_photo(pixels, tmp_path / "source.png", alpha=alpha), path, overwrite=True)
    back = decode(path)
    assert back.format == format
    assert np.array_equal(back.pixels, np.repeat(pixels, 3, axis=2) if gray and format == "WEBP" else pixels)
    assert back.alpha is None if alpha is None else np.array_equal(back.alpha, alpha)


def test_a_tiff_of_several_strips_comes_back(tmp_path, photo):
    pixels = random_pixels(700, 900, 3)
    encode(replace(photo, pixels=pixels), tmp_path / "result.tif")
    assert np.array_equal(decode(tmp_path / "result.tif").pixels, pixels)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profile_exif_xmp_and_resolution_survive(tmp_path, photo, format):
    metadata = full_metadata()
    path = tmp_path / f"result{SUFFIXES[format]}"
    encode(replace(photo, metadata=metadata), path)
    back = decode(path).metadata
    assert back.icc == metadata.icc
    assert back.xmp == metadata.xmp
    if format in ("TIFF", "WEBP"):  # which keep resolutions in EXIF, TIFF the picture's own tags too
        before, after = exif_tags(metadata.exif), exif_tags(back.exif)
        assert after["main"].items() >= before.pop("main").items()
        assert {name: after[name] for name in before} == before
        assert [float(after["main"][tag]) for tag in (282, 283)] == pytest.approx(metadata.dpi)
        assert after["main"][296] == 2  # inches
    else:
        assert back.exif == metadata.exif
    if format != "WEBP":
        assert back.dpi == pytest.approx(metadata.dpi, abs=0.01)


def extended_xmp():
    """An XMP packet of 150 KB as a JPEG holds it: the main packet, and segments that it points to."""
    text = b"<x:xmpmeta>" + b"long " * 30_000 + b"</x:xmpmeta>"
    digest = hashlib.md5(text).hexdigest().upper().encode()
    main = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmpNote:HasExtendedXMP="' + digest + b'"/></x:xmpmeta>'
    parts = tuple(
        b"http://ns.adobe.com/xmp/extension/\0"
        + digest
        + struct.pack(">II", len(text), start)
        + text[start : start + 65_000]
        for start in range(0, len(text), 65_000)
    )
    return main, parts


def test_xmp_above_64_kb_survives_in_jpeg_and_is_named_elsewhere(tmp_path, photo):
    main, parts = extended_xmp()
    assert encode(replace(photo, metadata=Metadata(xmp=main, xmp_extension=parts)), tmp_path / "a.jpg") == ()
    again = decode(tmp_path / "a.jpg")
    assert (again.metadata.xmp, again.metadata.xmp_extension) == (main, parts)
    assert encode(again, tmp_path / "a.webp") == ("the part of its XMP block above 64 KB",)
    assert decode(tmp_path / "a.webp").metadata.xmp == main.split(b" xmpNote")[0] + b"/></x:xmpmeta>"


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_to_tiff_keeps_its_tags_again_and_again(tmp_path, photo, order):
    block = Image.Exif()
    block.endian = order
    block[271], block[305], block[33432] = "Lens & Sons", "scanner 3", "(c) me"
    block[34665] = {34855: 400, 37500: b"\x01\x02\x03" * 30}
    metadata = Metadata(exif=block.tobytes()[6:], photoshop=b"8BIM\x04\x04" + bytes(30))
    encode(replace(photo, metadata=metadata), tmp_path / "1.tif")
    encode(decode(tmp_path / "1.tif"), tmp_path / "2.tif")
    once, twice = decode(tmp_path / "1.tif").metadata, decode(tmp_path / "2.tif").metadata
    assert exif_tags(once.exif) == exif_tags(metadata.exif)
    assert twice == once
    assert once.photoshop == metadata.photoshop


def test_png_text_and_color_chunks_survive(tmp_path, photo):
    chunks = ((b"gAMA", b"\0\0\xb1\x8f"), (b"tEXt", b"Author\0me"), (b"iTXt", b"Title\0\0\0\0\0\xc3\xa9"))
    with_chunks = replace(photo, metadata=Metadata(png_chunks=chunks))
    assert encode(with_chunks, tmp_path / "result.png") == ()
    assert decode(tmp_path / "result.png").metadata.png_chunks == chunks
    lost = encode(with_chunks, tmp_path / "result.webp")
    assert lost == ("its text chunks", "its color chunks (gAMA, cHRM, cICP)")


def test_jpeg_captions_and_comment_survive(tmp_path, photo):
    resources = b"8BIM" + bytes(range(256)) * 600  # longer than one segment
    metadata = Metadata(comment=b"by the lake", photoshop=resources)
    encode(replace(photo, metadata=metadata), tmp_path / "result.jpg")
    back = decode(tmp_path / "result.jpg").metadata
    assert (back.comment, back.photoshop) == (b"by the lake", resources)
    lost = encode(replace(photo, metadata=metadata), tmp_path / "result.png")
    assert lost == ("its IPTC captions and Photoshop blocks",)
    assert (b"tEXt", b"Comment\0by the lake") in decode(tmp_path / "result.png").metadata.png_chunks


def test_blocks_too_long_for_jpeg_are_named(tmp_path, photo):
    block = Image.Exif()
    block[37510] = bytes(70_000)
    metadata = Metadata(exif=block.tobytes()[6:], xmp=b"x" * 70_000, icc=bytes(70_000))
    lost = encode(replace(photo, metadata=metadata), tmp_path / "result.jpg")
    back = decode(tmp_path / "result.jpg").metadata
    assert (back.exif, back.xmp, back.icc) == (None, None, metadata.icc)
    assert lost == ("its EXIF block above 64 KB", "its XMP block above 64 KB")


TABLES = [[min(255, 3 + 4 * column + 13 * row) for row in range(8) for column in range(8)]]
TABLES.append([value + 1 for value in TABLES[0]])


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_is_written_as_its_source_was(tmp_path, subsampling, progressive):
    source = jpeg_source(
        tmp_path, smooth_pixels(32, 48), qtables=TABLES, subsampling=subsampling, progressive=progressive
    )
    encode(decode(source), tmp_path / "result.jpg")
    with Image.open(source) as before, Image.open(tmp_path / "result.jpg") as after:
        assert after.quantization == before.quantization
        assert [layer[1:] for layer in after.layer] == [layer[1:] for layer in before.layer]
        assert after.info.get("progressive", 0) == progressive
        assert np.abs(np.asarray(after).astype(int) - np.asarray(before)).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_is_requantized_nearly_without_loss(tmp_path, orientation):
    upright = to_pillow(smooth_pixels(48, 64, 1))
    image = stored(upright, orientation)
    exif = b"Exif\0\0" + exif_block(orientation)
    source = tmp_path / "source.jpg"
    source.write_bytes(file_bytes(image, "JPEG", qtables=TABLES[:1], exif=exif))
    photo = decode(source)
    encode(photo, tmp_path / "result.jpg")
    back = decode(tmp_path / "result.jpg")
    assert back.orientation == 1
    # Rounding alone; with tables that were not turned it is above 1.
    assert np.abs(back.pixels.astype(int) - photo.pixels).mean() < 0.1


@pytest.mark.parametrize(("stored_as", "turned"), [(0, 0), (1, 0), (2, 2)])
def test_subsampling_of_a_turned_jpeg(tmp_path, stored_as, turned):
    exif = b"Exif\0\0" + exif_block(6)
    photo = decode(jpeg_source(tmp_path, smooth_pixels(32, 48), subsampling=stored_as, exif=exif))
    encode(photo, tmp_path / "result.jpg")
    assert decode(tmp_path / "result.jpg").jpeg.subsampling == turned


def test_jpeg_of_rgb_components_stays_one(tmp_path):
    pixels = random_pixels(16, 16, 3)
    source = jpeg_source(tmp_path, pixels, keep_rgb=True, qtables=[[1] * 64], subsampling=0)
    encode(decode(source), tmp_path / "result.jpg")
    back = decode(tmp_path / "result.jpg")
    assert back.jpeg.rgb
    # YCbCr would round the colors; here only the cosine transform does.
    assert np.abs(back.pixels.astype(int) - decode(source).pixels).max() <= 1


def test_noise_at_the_finest_quantization_fits(tmp_path):
    source = jpeg_source(tmp_path, random_pixels(300, 400, 3), qtables=[[1] * 64], subsampling=0)
    encode(decode(source), tmp_path / "result.jpg")
    assert decode(tmp_path / "result.jpg").width == 400


def test_quality_of_jpegs(tmp_path, photo):
    smooth = replace(photo, pixels=smooth_pixels(64, 64))
    for name, quality in (("low", 20), ("default", None), ("high", 95)):
        encode(smooth, tmp_path / f"{name}.jpg", quality=quality)
    settings = [decode(tmp_path / f"{name}.jpg").jpeg for name in ("low", "default", "high")]
    assert settings[1] == settings[2]
    assert settings[0].quantization[0][0] > settings[2].quantization[0][0]
    assert settings[1].subsampling == 0


def test_webp_is_lossless_unless_source_or_quality_say_otherwise(tmp_path, photo):
    encode(photo, tmp_path / "lossy.webp", quality=80)
    lossy = decode(tmp_path / "lossy.webp")
    encode(lossy, tmp_path / "again.webp")
    encode(replace(lossy, lossless=True), tmp_path / "lossless.webp")
    assert not lossy.lossless
    assert not decode(tmp_path / "again.webp").lossless
    assert decode(tmp_path / "lossless.webp").lossless


def test_cmyk_stays_cmyk_where_the_format_has_it(tmp_path):
    pixels = random_pixels(8, 8, 4)
    source = tmp_path / "source.tif"
    source.write_bytes(file_bytes(Image.frombytes("CMYK", (8, 8), pixels.tobytes()), "TIFF"))
    photo = replace(decode(source), metadata=Metadata(icc=bytes(16) + b"CMYK" + bytes(108)))
    assert encode(photo, tmp_path / "result.tif") == ()
    assert encode(photo, tmp_path / "result.jpg", quality=100) == ()
    assert encode(photo, tmp_path / "result.png") == ("its inks and their profile, as PNG holds RGB",)
    back = decode(tmp_path / "result.tif")
    assert np.array_equal(back.stored, pixels)
    assert back.metadata.icc == photo.metadata.icc
    assert np.abs(decode(tmp_path / "result.jpg").stored.astype(int) - pixels).mean() < 3
    png = decode(tmp_path / "result.png")
    assert np.array_equal(png.pixels, photo.pixels)
    assert png.metadata.icc is None


def test_a_gray_jpeg_stays_gray(tmp_path):
    encode(decode(jpeg_source(tmp_path, smooth_pixels(16, 16, 1))), tmp_path / "result.jpg")
    assert decode(tmp_path / "result.jpg").pixels.shape == (16, 16, 1)


def test_alpha_is_never_dropped_silently(tmp_path, photo):
    with pytest.raises(EncodeError, match="cannot hold transparency; choose PNG, WebP, TIFF or AVIF"):
        encode(replace(photo, alpha=photo.pixels[..., 0]), tmp_path / "result.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("format", "side"), [("JPEG", 65_501), ("WEBP", 16_384)])
def test_sides_beyond_the_format(tmp_path, photo, format, side):
    with pytest.raises(EncodeError, match=f"{side}x1 pixels are more than {format} can hold"):
        encode(
            replace(photo, pixels=np.zeros((1, side, 3), np.uint8)), tmp_path / f"result{SUFFIXES[format]}"
        )


def test_what_is_unknown_or_out_of_range(tmp_path, photo):
    with pytest.raises(EncodeError, match="quality 101 is out of range"):
        encode(photo, tmp_path / "result.jpg", quality=101)
    with pytest.raises(EncodeError, match=r"result\.gif: deblur does not write this format"):
        encode(photo, tmp_path / "result.gif")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "device trouble")])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path, photo, monkeypatch, error, call):
    target = tmp_path / "result.png"
    target.write_bytes(b"an older result")

    def fail(*_):
        assert [path.name[0] for path in tmp_path.glob("*.part")] == ["."]
        raise error

    monkeypatch.setattr("os.fsync" if call == "fsync" else "pathlib.Path.replace", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else EncodeError):
        encode(photo, target, overwrite=True)
    assert target.read_bytes() == b"an older result"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "there is no permission to write here"),
        (errno.EROFS, "this disk is read-only"),
    ],
)
def test_failures_of_the_disk_are_named(tmp_path, photo, monkeypatch, number, message):
    monkeypatch.setattr("os.fsync", failing(number))
    with pytest.raises(EncodeError, match=rf"result\.png: cannot be written: {message}"):
        encode(photo, tmp_path / "result.png")
    assert list(tmp_path.iterdir()) == []


def test_targets_that_cannot_be(tmp_path, photo):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for target, message in [
        (tmp_path / "file" / "result.png", "a part of its folder's path is a file"),
        (tmp_path / "folder.png", "is a folder"),
        (tmp_path / ("n" * 300 + ".png"), "the name is too long"),
    ]:
        with pytest.raises(EncodeError, match=message) as caught:
            encode(photo, target, overwrite=True)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


def test_lacking_folders_are_made(tmp_path, photo):
    encode(photo, tmp_path / "a" / "b" / "result.png")
    assert decode(tmp_path / "a" / "b" / "result.png").width == photo.width


@pytest.mark.parametrize("disguise", ["same", "dots", "symlink", "hardlink"])
@pytest.mark.parametrize("write", [encode, copy_unchanged])
def test_the_source_is_never_written(tmp_path, photo, disguise, write):
    photo.source.write_bytes(b"precious")
    target = tmp_path / "other.png"
    if disguise == "same":
        target = photo.source
    elif disguise == "dots":
        (tmp_path / "sub").mkdir()
        target = tmp_path / "sub" / ".." / "source.png"
    elif disguise == "symlink":
        target.symlink_to(photo.source)
    else:
        target.hardlink_to(photo.source)
    with pytest.raises(EncodeError, match="is the source photo"):
        write(photo, target, overwrite=True)
    assert photo.source.read_bytes() == b"precious"


def test_existing_files_need_overwrite(tmp_path, photo):
    target = tmp_path / "result.png"
    target.write_bytes(b"an older result")
    with pytest.raises(EncodeError, match=r"result\.png: already exists; .*--overwrite"):
        encode(photo, target)
    assert target.read_bytes() == b"an older result"
    encode(photo, target, overwrite=True)
    assert np.array_equal(decode(target).pixels, photo.pixels)


@pytest.mark.parametrize("hard_links", [True, False])
def test_a_file_that_appears_meanwhile_is_not_clobbered(tmp_path, photo, monkeypatch, hard_links):
    target = tmp_path / "result.png"
    monkeypatch.setattr("os.fsync", lambda _: target.write_bytes(b"from another run"))
    if not hard_links:
        monkeypatch.setattr("os.link", failing(errno.EPERM))
    with pytest.raises(EncodeError, match="already exists"):
        encode(photo, target)
    assert target.read_bytes() == b"from another run"
    assert list(tmp_path.iterdir()) == [target]


def test_disks_without_hard_links_work(tmp_path, photo, monkeypatch):
    monkeypatch.setattr("os.link", failing(errno.ENOTSUP))
    encode(photo, tmp_path / "result.png")
    assert np.array_equal(decode(tmp_path / "result.png").pixels, photo.pixels)
    monkeypatch.setattr("pathlib.Path.replace", failing(errno.EIO))
    with pytest.raises(EncodeError):
        encode(photo, tmp_path / "second.png")
    assert [path.name for path in tmp_path.iterdir()] == ["result.png"]


@pytest.mark.skipif(os.name != "posix", reason="access rights of POSIX")
def test_access_rights_are_those_of_any_new_file(tmp_path, photo):
    before = os.umask(0o027)
    try:
        encode(photo, tmp_path / "result.png")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "result.png").stat().st_mode) == 0o640


def test_copies_are_verbatim(tmp_path):
    source = jpeg_source(tmp_path, smooth_pixels(16, 16))
    source.write_bytes(source.read_bytes() + b"whatever stands behind the picture")
    photo = decode(source)
    copy_unchanged(photo, tmp_path / "copy.jpg")
    assert (tmp_path / "copy.jpg").read_bytes() == source.read_bytes()
    with pytest.raises(EncodeError, match="already exists"):
        copy_unchanged(photo, tmp_path / "copy.jpg")
    source.unlink()
    with pytest.raises(EncodeError, match=r"source\.jpg: cannot be read any more"):
        copy_unchanged(photo, tmp_path / "copy2.jpg")


def test_when_a_copy_is_the_result(photo):
    assert is_copy_possible(photo, "png")
    assert not is_copy_possible(photo, "tiff")
    assert not is_copy_possible(replace(photo, orientation=3), "png")  # turned without loss
    assert is_copy_possible(replace(photo, format="JPEG", orientation=3, lossless=False), "jpg")
    assert is_copy_possible(replace(photo, format="JPEG"), "jpg")


def test_names_of_formats():
    names = ["photo.JPG", "jpeg", ".png", "webp", "a.tif", "TIFF"]
    assert [format_of(name) for name in names] == ["JPEG", "JPEG", "PNG", "WEBP", "TIFF", "TIFF"]
    suffixes = {"JPEG": ".jpg", "TIFF": ".tif", "AVIF": ".avif", "BMP": ".png", ".gif": ".png", "": ".png"}
    suffixes |= {"RAW": ".tif", ".NEF": ".tif", ".dng": ".tif", "HEIF": ".avif", ".heic": ".avif"}
    assert {name: output_suffix(name) for name in suffixes} == suffixes


@needs_camera
@pytest.mark.parametrize("name", ["adobe_rgb.jpg", "cmyk_swop.jpg", "grey_orientation6.jpg", "alpha.png"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_camera_files_survive_lossless_formats(tmp_path, name, suffix):
    photo = decode(CAMERA / name)
    encode(photo, tmp_path / f"result{suffix}")
    back = decode(tmp_path / f"result{suffix}")
    assert np.array_equal(np.broadcast_to(photo.pixels, back.pixels.shape), back.pixels)
    assert (back.alpha is None) == (photo.alpha is None)
    assert back.alpha is None or np.array_equal(back.alpha, photo.alpha)
    assert back.metadata.xmp == photo.metadata.xmp
    if photo.stored is None:
        assert back.metadata.icc == photo.metadata.icc


@needs_camera
@pytest.mark.parametrize("name", ["adobe_rgb.jpg", "orientation_1.jpg", "grey_orientation6.jpg"])
def test_camera_jpegs_are_nearly_unchanged_by_a_round_trip(tmp_path, name):
    photo = decode(CAMERA / name)
    encode(photo, tmp_path / "result.jpg")
    back = decode(tmp_path / "result.jpg")
    assert np.abs(back.pixels.astype(int) - photo.pixels).mean() < 0.2
    assert back.metadata == photo.metadata


def test_a_note_never_costs_the_exif_of_a_jpeg(tmp_path):
    block = exif.with_software(None, "x" * 65_420)
    photo = make_photo(random_pixels(6, 8, 3), tmp_path / "source.png", metadata=Metadata(exif=block))
    assert encode(photo, tmp_path / "photo.jpg", note="deblur " * 20) == ()
    assert decode(tmp_path / "photo.jpg").metadata.exif == block

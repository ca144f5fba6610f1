import io
import sys

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from photo_files import (
    CAMERA,
    SRGB,
    XMP,
    check_photo_or_known_error,
    damaged,
    exif_block,
    exif_tags,
    file_bytes,
    full_metadata,
    make_photo,
    needs_camera,
    smooth_pixels,
    stored,
    to_pillow,
)
from PIL import ExifTags, Image, ImageCms

from deblur_cli.errors import DecodeError, PhotoTooLargeError
from deblur_cli.photo.bmff import read_primary, with_items
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode, is_copy_possible
from deblur_cli.photo.exif import with_resolution
from deblur_cli.photo.header import probe
from deblur_cli.photo.photo import Metadata

in_one_folder = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def smooth_deep(height, width, channels=3):
    """Waves of 10 bits, spread over 16."""
    values = smooth_pixels(height, width, channels).astype(np.uint16) * 4 + 2
    return values << 6 | values >> 4


def heic_bytes(pixels, **options):
    """HEIC of uint8, or of uint16 with 10 bits; without loss."""
    stream = io.BytesIO()
    mode = MODES[pixels.shape[2]] + (";16" if pixels.dtype == np.uint16 else "")
    size = (pixels.shape[1], pixels.shape[0])
    pillow_heif.encode(mode, size, pixels.tobytes(), stream, **(LOSSLESS | options))
    return stream.getvalue()


def write(folder, content, suffix):
    path = folder / f"photo{suffix}"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("channels", [3, 4])
def test_heic_of_8_bits(tmp_path, channels):
    pixels = smooth_pixels(40, 56, channels)
    photo = decode(write(tmp_path, heic_bytes(pixels), ".heic"))
    got = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    assert np.array_equal(got, pixels)
    assert (photo.format, photo.lossless) == ("HEIF", False)


@pytest.mark.parametrize("channels", [3, 4])
def test_heic_of_10_bits_fills_16(tmp_path, channels):
    pixels = smooth_deep(40, 56, channels)
    photo = decode(write(tmp_path, heic_bytes(pixels), ".heic"))
    got = photo.pixels if photo.alpha is None else np.dstack([photo.pixels, photo.alpha])
    assert np.array_equal(got, pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_pictures_are_turned_once(tmp_path, kind, orientation):
    upright = to_pillow(smooth_pixels(32, 48))
    turned = stored(upright, orientation)
    block = b"Exif\0\0" + exif_block(orientation, 48, 32)
    if kind == "HEIC":  # pillow-heif makes irot and imir boxes of the EXIF orientation, as phones do
        stream = io.BytesIO()
        pillow_heif.from_pillow(turned).save(stream, exif=block, **LOSSLESS)
        content = stream.getvalue()
    else:
        content = file_bytes(turned, "AVIF", exif=block, quality=98, subsampling="4:4:4")
    path = write(tmp_path, content, "." + kind.lower())
    photo = decode(path)
    assert probe(path) == ("HEIF" if kind == "HEIC" else "AVIF", 48, 32)
    assert photo.pixels.shape == (32, 48, 3)
    assert np.abs(photo.pixels.astype(int) - np.asarray(upright)).mean() < 2
    tags = exif_tags(photo.metadata.exif)
    assert tags["main"].get(ExifTags.Base.Orientation, 1) == 1
    assert tags["exposure"][ExifTags.Base.ISOSpeedRatings] == 400
    assert tags["gps"][1] == "N"


@pytest.mark.parametrize("suffix", [".avif", ".jpg", ".tif"])
def test_blocks_of_heic_survive(tmp_path, suffix):
    content = heic_bytes(smooth_pixels(24, 32), exif=b"Exif\0\0" + exif_block(), xmp=XMP, icc_profile=SRGB)
    encode(decode(write(tmp_path, content, ".heic")), tmp_path / f"result{suffix}")
    back = decode(tmp_path / f"result{suffix}").metadata
    assert back.icc == SRGB
    assert back.xmp == XMP.replace(b'"6"', b'"1"')
    before, after = exif_tags(exif_block()), exif_tags(back.exif)
    assert {name: after[name] for name in ("exposure", "gps")} == {
        name: before[name] for name in ("exposure", "gps")
    }


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
@pytest.mark.parametrize("deep", [False, True])
def test_an_nclx_tag_of_p3_becomes_a_profile(tmp_path, kind, deep):
    pixels = smooth_deep(24, 32) if deep else smooth_pixels(24, 32)
    if kind == "HEIC":
        tag = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6}
        content = heic_bytes(pixels, **tag)
    else:
        bits = 10 if deep else 8
        values = pixels >> 6 if deep else pixels
        options = {"primaries": 12, "transfer": 13, "matrix": 6, "pixelformat": "444"}
        content = bytes(imagecodecs.avif_encode(values, 95, bitspersample=bits, **options))
    photo = decode(write(tmp_path, content, "." + kind.lower()))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.metadata.icc))
    assert ImageCms.getProfileDescription(profile).strip() == "Display P3"
    red = profile.profile.red_primary[1]  # adapted to D50, as Apple's own profile has it
    assert red[:2] == pytest.approx((0.6820, 0.3194), abs=0.001)
    assert photo.metadata.cicp is None


def test_hdr_keeps_its_tag_in_avif_and_png_and_loses_it_aloud(tmp_path, caplog):
    values = smooth_deep(24, 32) >> 6
    options = {"primaries": 9, "transfer": 16, "matrix": 9, "pixelformat": "444"}
    content = bytes(imagecodecs.avif_encode(values, 95, bitspersample=10, **options))
    photo = decode(write(tmp_path, content, ".avif"))
    assert photo.metadata.cicp == (9, 16, 9)
    assert "is HDR" in caplog.text
    encode(photo, tmp_path / "result.avif")
    assert read_primary((tmp_path / "result.avif").read_bytes()).nclx == (9, 16, 9)
    encode(photo, tmp_path / "result.png")
    assert b"cICP\x09\x10\x00\x01" in (tmp_path / "result.png").read_bytes()
    (lost,) = encode(photo, tmp_path / "result.tif")
    assert lost == "the tag of its HDR colors, so that it will look wrong"


def test_light_levels_of_hdr_stay_in_avif_and_are_named_elsewhere(tmp_path):
    light = ((b"mdcv", bytes(range(24))), (b"clli", b"\3\xe8\1\x90"))
    values = smooth_deep(24, 32) >> 6
    options = {"primaries": 9, "transfer": 16, "matrix": 9, "pixelformat": "444"}
    content = bytes(imagecodecs.avif_encode(values, 95, bitspersample=10, **options))
    photo = decode(write(tmp_path, with_items(content, exif=None, xmp=None, icc=None, light=light), ".avif"))
    assert photo.metadata.light == light
    for strip in (False, True):
        assert encode(photo, tmp_path / "result.avif", overwrite=True, strip=strip) == ()
        back = decode(tmp_path / "result.avif")
        assert back.metadata.light == light
        assert np.abs(back.pixels.astype(int) - photo.pixels).mean() < 300
    assert "its HDR light levels" in encode(photo, tmp_path / "result.png")


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_avif_goes_out_and_in_again(tmp_path, deep, channels):
    whole = smooth_deep(40, 56, channels) if deep else smooth_pixels(40, 56, channels)
    alpha = whole[..., 3] if channels == 4 else None
    photo = make_photo(whole[..., :3], tmp_path / "s.png", alpha=alpha, metadata=full_metadata())
    encode(photo, tmp_path / "result.avif")
    back = decode(tmp_path / "result.avif")
    assert back.pixels.dtype == photo.pixels.dtype
    full = 65535 if deep else 255
    assert np.abs(back.pixels / full - photo.pixels / full).mean() < 0.01
    assert back.alpha is None if alpha is None else np.abs(back.alpha / full - alpha / full).mean() < 0.01
    noted = with_resolution(exif_block(), full_metadata().dpi)
    assert (back.metadata.icc, back.metadata.exif, back.metadata.xmp) == (SRGB, noted, XMP)
    # libavif has been asked; this is libheif's reading of what stands around the pixels
    info = pillow_heif.open_heif(tmp_path / "result.avif").info
    assert info["exif"].endswith(noted)
    assert info["xmp"] == XMP
    assert is_copy_possible(back, "avif")


def test_quality_of_avif_counts(tmp_path):
    photo = make_photo(smooth_pixels(64, 64), tmp_path / "s.png")
    for quality in (20, 90):
        encode(photo, tmp_path / f"{quality}.avif", quality=quality)
    assert (tmp_path / "20.avif").stat().st_size < (tmp_path / "90.avif").stat().st_size


def test_without_pillow_heif_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path, heic_bytes(smooth_pixels(24, 32)), ".heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DecodeError, match=r'photo\.heic: .*pip install "\.\[heif\]"') as caught:
        decode(path)
    assert "\n" not in str(caught.value)


def test_kinds_are_told_by_content(tmp_path):
    heic = heic_bytes(smooth_pixels(24, 32))
    assert decode(write(tmp_path, heic, ".jpg")).format == "HEIF"
    avif = file_bytes(to_pillow(smooth_pixels(24, 32)), "AVIF")
    assert decode(write(tmp_path, avif, ".heic")).format == "AVIF"


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
def test_too_many_megapixels(tmp_path, kind):
    pixels = smooth_pixels(100, 200)
    content = heic_bytes(pixels) if kind == "HEIC" else file_bytes(to_pillow(pixels), "AVIF")
    with pytest.raises(PhotoTooLargeError, match=r"the limit is 0\.019; raise it with --max-megapixels"):
        decode(write(tmp_path, content, "." + kind.lower()), max_megapixels=0.019)


def test_an_animated_avif_is_refused(tmp_path):
    frames = [to_pillow(smooth_pixels(24, 32) // part) for part in (1, 2)]
    content = file_bytes(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(DecodeError, match="has 2 frames, and deblur reads single"):
        decode(write(tmp_path, content, ".avif"))


def test_further_images_behind_the_first_are_named(tmp_path):
    file = pillow_heif.from_pillow(to_pillow(smooth_pixels(24, 32)))
    file.add_from_pillow(to_pillow(smooth_pixels(24, 32) // 2))
    file.save(tmp_path / "photo.heic", **LOSSLESS)
    photo = decode(tmp_path / "photo.heic")
    assert np.array_equal(photo.pixels, smooth_pixels(24, 32))
    assert photo.left_out == ("further images",)


FUZZED = {
    ".heic": heic_bytes(smooth_pixels(24, 32), exif=b"Exif\0\0" + exif_block(), icc_profile=SRGB),
    ".avif": file_bytes(to_pillow(smooth_pixels(24, 32)), "AVIF", exif=b"Exif\0\0" + exif_block(6)),
    ".10.avif": bytes(imagecodecs.avif_encode(smooth_deep(24, 32) >> 6, 90, bitspersample=10)),
}


@settings(in_one_folder, max_examples=150)
@given(
    kind=st.sampled_from(sorted(FUZZED)),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.02, 1),
)
def test_damaged_bytes_give_a_photo_or_a_known_error(tmp_path, kind, changes, kept):
    check_photo_or_known_error(write(tmp_path, damaged(FUZZED[kind], changes, kept), kind))


@needs_camera
@pytest.mark.parametrize(
    ("name", "size", "deep"),
    [
        ("flower_p3.heic", (2566, 3313), False),
        ("hdr_10bit_p3.avif", (3681, 5594), True),
    ],
)
def test_camera_files(name, size, deep):
    photo = decode(CAMERA / name)
    assert (photo.width, photo.height) == size
    assert photo.pixels.dtype == (np.uint16 if deep else np.uint8)
    if deep:
        assert photo.metadata.cicp == (12, 16, 6)
    else:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.metadata.icc))
        assert ImageCms.getProfileDescription(profile).strip() == "Display P3"
        with Image.open(CAMERA / "display_p3.jpg") as image:
            assert photo.metadata.icc[:4] == image.info["icc_profile"][:4]
        assert exif_tags(photo.metadata.exif)["main"][ExifTags.Base.Make] == "Apple"


def test_colors_without_a_tag_need_no_profile(tmp_path):
    photo = decode(write(tmp_path, heic_bytes(smooth_pixels(24, 32)), ".heic"))
    assert photo.metadata == Metadata()

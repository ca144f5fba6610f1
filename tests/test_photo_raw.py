import io
from dataclasses import replace

import exifread
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import (
    CAMERA,
    check_photo_or_known_error,
    damaged,
    exif_tags,
    file_bytes,
    needs_camera,
    random_pixels,
    smooth_pixels,
    to_pillow,
)
from photo_raw import CAMERA as MADE_BY
from photo_raw import LENS, QUARTERS, TIME, make_dng, quarters, srgb_curve
from PIL import Image, ImageCms
from PIL.ExifTags import Base

from deblur_cli.errors import DecodeError, PhotoTooLargeError, UsageError
from deblur_cli.photo.decode import RawOptions, decode
from deblur_cli.photo.encode import encode, is_copy_possible
from deblur_cli.photo.header import probe
from deblur_cli.photo.raw import raw_size


def write(folder, content, name="photo.dng"):
    path = folder / name
    path.write_bytes(content)
    return path


def quarter_means(pixels):
    """The mean of the inner part of each quarter, 4 3, in 0-1."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    corners = [(0, 0), (0, width), (height, 0), (height, width)]
    inner = [pixels[y + 8 : y + height - 8, x + 8 : x + width - 8] for y, x in corners]
    return np.array([part.reshape(-1, 3).mean(axis=0) for part in inner]) / 65535


def test_plain_colors_come_out_as_worked_out_by_hand(tmp_path):
    photo = decode(write(tmp_path, make_dng(quarters())))
    assert photo.pixels.dtype == np.uint16
    assert photo.pixels.shape == (64, 96, 3)
    assert photo.format == "RAW"
    assert np.abs(quarter_means(photo.pixels) - srgb_curve(QUARTERS)).max() < 0.004


def test_the_cameras_white_balance_is_the_default(tmp_path):
    neutral = (0.5, 1.0, 0.8)
    path = write(tmp_path, make_dng(quarters(), neutral))
    assert np.abs(quarter_means(decode(path).pixels) - srgb_curve(QUARTERS)).max() < 0.004
    daylight = decode(path, raw=RawOptions(white_balance="daylight")).pixels
    assert np.abs(quarter_means(daylight) - srgb_curve(QUARTERS * neutral)).max() < 0.004


def test_automatic_white_balance_makes_the_picture_gray_on_average(tmp_path):
    linear = np.full((64, 96, 3), (0.2, 0.4, 0.3))
    means = quarter_means(decode(write(tmp_path, make_dng(linear)), raw=RawOptions("auto")).pixels)
    assert np.ptp(means, axis=1).max() < 0.01


@pytest.mark.parametrize("stops", [-2.0, 0.5, 1.0])
def test_exposure_counts_in_stops(tmp_path, stops):
    photo = decode(write(tmp_path, make_dng(quarters())), raw=RawOptions(exposure=stops))
    assert np.abs(quarter_means(photo.pixels) - srgb_curve(QUARTERS * 2**stops)).max() < 0.004


@pytest.mark.parametrize("space", ["srgb", "adobe", "prophoto", "p3"])
def test_colors_of_all_spaces_are_the_same_through_their_profiles(tmp_path, space):
    photo = decode(write(tmp_path, make_dng(quarters())), raw=RawOptions(color_space=space))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(photo.metadata.icc))
    means = np.rint(quarter_means(photo.pixels) * 255).astype(np.uint8)[np.newaxis]
    seen = ImageCms.profileToProfile(Image.fromarray(means), profile, ImageCms.createProfile("sRGB"))
    assert np.abs(np.asarray(seen)[0] / 255 - srgb_curve(QUARTERS)).max() < 0.012
    if space != "srgb":  # its values differ, or the profile would say nothing
        assert np.abs(means[0] / 255 - srgb_curve(QUARTERS)).max() > 0.03


# How the quarters lie when an upright picture was stored under each orientation that cameras write
@pytest.mark.parametrize(
    ("orientation", "order"), [(1, [0, 1, 2, 3]), (3, [3, 2, 1, 0]), (6, [2, 0, 3, 1]), (8, [1, 3, 0, 2])]
)
def test_pixels_are_turned_once_and_exif_says_upright(tmp_path, orientation, order):
    path = write(tmp_path, make_dng(quarters(), orientation=orientation))
    photo = decode(path)
    assert photo.pixels.shape == ((96, 64, 3) if orientation >= 5 else (64, 96, 3))
    assert raw_size(path) == (photo.width, photo.height)
    assert photo.orientation == orientation
    assert np.abs(quarter_means(photo.pixels) - srgb_curve(QUARTERS[order])).max() < 0.004
    assert exif_tags(photo.metadata.exif)["main"][Base.Orientation] == 1


def test_camera_lens_time_exposure_and_place_reach_the_16_bit_tiff(tmp_path):
    photo = decode(write(tmp_path, make_dng(quarters())))
    encode(photo, tmp_path / "result.tif")
    with (tmp_path / "result.tif").open("rb") as file:
        tags = exifread.process_file(file)
    found = {name: str(tag) for name, tag in tags.items()}
    assert [found["Image Make"], found["Image Model"]] == list(MADE_BY.values())
    assert found["Image DateTime"] == found["EXIF DateTimeOriginal"] == TIME
    assert found["EXIF ExposureTime"] == "1/250"
    assert found["EXIF FNumber"] == "14/5"
    assert found["EXIF ISOSpeedRatings"] == "400"
    assert found["EXIF LensModel"] == LENS
    assert found["GPS GPSLatitude"] == "[48, 30, 3/2]"
    # What made the file a RAW must not make programs take the result for one.
    assert not {50706, 33422, 50721} & {tag.tag for tag in tags.values() if hasattr(tag, "tag")}
    assert np.array_equal(tifffile.imread(tmp_path / "result.tif"), photo.pixels)
    assert decode(tmp_path / "result.tif").format == "TIFF"


def test_no_other_format_is_a_copy_of_raw(tmp_path):
    photo = decode(write(tmp_path, make_dng(quarters())))
    assert not any(is_copy_possible(photo, name) for name in ("TIFF", "PNG", "JPEG", "WEBP", "AVIF"))
    encode(photo, tmp_path / "result.jpg")
    back = decode(tmp_path / "result.jpg")
    assert np.abs(back.pixels / 255 - photo.pixels / 65535).mean() < 0.01
    assert back.metadata.icc == photo.metadata.icc


def test_without_exif_the_photo_is_developed_all_the_same(tmp_path):
    photo = decode(write(tmp_path, make_dng(quarters(), exif=False)))
    tags = exif_tags(photo.metadata.exif)
    assert tags["main"][Base.Model] == MADE_BY["model"]


@pytest.mark.parametrize(
    ("name", "content", "header"),
    [
        ("a.dng", make_dng(quarters(), orientation=6), ("RAW", 64, 96)),
        ("a.tif", make_dng(quarters()), ("RAW", 96, 64)),
        ("a.cr2", file_bytes(to_pillow(random_pixels(6, 8, 3)), "TIFF"), ("TIFF", 8, 6)),
        ("a.png", file_bytes(to_pillow(random_pixels(6, 8, 3)), "PNG"), ("PNG", 8, 6)),
    ],
)
def test_headers_are_read_without_pixels(tmp_path, name, content, header):
    assert probe(write(tmp_path, content, name)) == header
    with pytest.raises(DecodeError, match=r"nowhere\.heic: its header cannot be read"):
        probe(tmp_path / "nowhere.heic")


def test_raw_is_told_by_content(tmp_path):
    as_tiff = decode(write(tmp_path, make_dng(quarters()), "photo.tif"))
    assert as_tiff.format == "RAW"
    pixels = random_pixels(6, 8, 3)
    assert decode(write(tmp_path, file_bytes(to_pillow(pixels), "PNG"), "photo.nef")).format == "PNG"
    tiff = decode(write(tmp_path, file_bytes(to_pillow(pixels), "TIFF"), "photo.cr2"))
    assert np.array_equal(tiff.pixels, pixels)
    with pytest.raises(DecodeError, match=r"photo\.cr3: is not a camera RAW that LibRaw \d"):
        decode(write(tmp_path, b"nothing of the kind" * 50, "photo.cr3"))


def test_too_many_megapixels_are_refused_before_developing(tmp_path):
    path = write(tmp_path, make_dng(quarters()))
    with pytest.raises(PhotoTooLargeError, match=r"has 0\.006144 megapixels.*--max-megapixels"):
        decode(path, max_megapixels=0.006)


@pytest.mark.parametrize(
    "wrong",
    [{"white_balance": "cloudy"}, {"color_space": "cmyk"}, {"exposure": 6.0}, {"exposure": float("nan")}],
)
def test_options_out_of_range(wrong):
    with pytest.raises(UsageError):
        replace(RawOptions(), **wrong)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_cut_file_is_an_error(tmp_path, kept):
    content = make_dng(quarters())
    with pytest.raises(DecodeError, match=r"damaged or cut short|is not a camera RAW"):
        decode(write(tmp_path, content[: int(len(content) * kept)]))


@settings(max_examples=60)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.01, 1),
)
def test_damaged_raw_gives_a_photo_or_a_known_error(tmp_path_factory, changes, kept):
    content = damaged(make_dng(quarters(16)), changes, kept, towards_start=4)  # the tags come first
    check_photo_or_known_error(write(tmp_path_factory.getbasetemp(), content))


@needs_camera
@pytest.mark.parametrize(
    ("name", "size", "make"),
    [
        ("colorchart.dng", (1734, 1156), "Canon"),
        ("kodak_dc50.kdc", (768, 512), "Eastman Kodak Company"),
        ("canon_300d.crw", (2176, 1448), "Canon"),
    ],
)
def test_camera_raw_is_developed(name, size, make, caplog):
    photo = decode(CAMERA / name)
    assert (photo.width, photo.height) == size == raw_size(CAMERA / name)
    assert 0.1 < photo.pixels.mean() / 65535 < 0.6
    assert exif_tags(photo.metadata.exif)["main"].get(Base.Make) == make
    assert ("names no white balance" in caplog.text) == (name == "canon_300d.crw")


@needs_camera
def test_raw_with_a_preview_in_front_is_developed_under_any_name(tmp_path):
    # Pillow would open the 96x64 preview as if it were the photo.
    photo = decode(write(tmp_path, (CAMERA / "kodak_dc50.kdc").read_bytes(), "photo.tif"))
    assert photo.width == 768


def test_a_preview_without_sensor_values_is_no_raw(tmp_path):
    content = file_bytes(to_pillow(smooth_pixels(8, 8)), "TIFF", tiffinfo={254: 1})
    assert decode(write(tmp_path, content, "photo.tif")).format == "TIFF"


def test_maker_notes_of_a_raw_file_are_named_and_its_comment_is_kept(tmp_path):
    notes = {37500: ("B", [0] * 300), 37510: ("B", list(b"ASCII\0\0\0by the lake"))}
    photo = decode(write(tmp_path, make_dng(quarters(), notes=notes)))
    assert photo.left_out == ("its maker notes, whose offsets hold in the RAW file alone",)
    assert b"by the lake" in photo.metadata.exif
    assert decode(write(tmp_path, make_dng(quarters()))).left_out == ()


@pytest.mark.parametrize("orientation", [1, 6])
def test_trying_out_a_raw_file_tells_all_but_its_pixels(tmp_path, orientation):
    path = write(tmp_path, make_dng(quarters(), orientation=orientation, notes={37500: ("B", [0] * 300)}))
    developed, tried = decode(path), decode(path, develop=False)
    assert tried.pixels.shape == developed.pixels.shape
    assert tried.pixels.strides == (0, 0, 0)  # 50 megapixels would take 300 MB otherwise
    assert not tried.pixels.any()
    fields = ("format", "orientation", "bits", "metadata", "left_out", "stamp")
    assert [getattr(tried, name) for name in fields] == [getattr(developed, name) for name in fields]


@settings(max_examples=60)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.floats(0.01, 1),
)
def test_trying_out_a_raw_file_fails_as_developing_it_does(tmp_path_factory, changes, kept):
    path = write(tmp_path_factory.getbasetemp(), damaged(make_dng(quarters(16)), changes, kept, 4))

    def outcome(**options):
        try:
            photo = decode(path, max_megapixels=1, **options)
        except DecodeError as error:
            return str(error)
        return photo.pixels.shape, photo.left_out

    assert outcome() == outcome(develop=False)


@needs_camera
def test_trying_out_cameras_raw_files(caplog):
    for name in ("colorchart.dng", "kodak_dc50.kdc", "canon_300d.crw"):
        developed = decode(CAMERA / name)
        said = caplog.messages.copy()
        caplog.clear()
        tried = decode(CAMERA / name, develop=False)
        assert caplog.messages == said
        caplog.clear()
        assert (tried.width, tried.height) == (developed.width, developed.height)
        assert tried.left_out == developed.left_out

"""Options of `deblur run` on how files are read and written: camera RAW, HEIC, metadata, the note."""

import io
import json

import exifread
import numpy as np
import pillow_heif
import pytest
import tifffile
from cli_helpers import deblur, install, make_photo
from photo_raw import make_dng, quarters, srgb_curve
from PIL import ExifTags, Image, ImageCms
from typer.testing import CliRunner

from deblur_cli import __version__
from deblur_cli.cli.app import app
from deblur_cli.photo.decode import decode
from deblur_cli.photo.raw import RawOptions

NOTE = f"deblur {__version__} (m2aenet-guided abababab, epsilon 0.5)"


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "calm.dng"
    path.write_bytes(make_dng(quarters()))
    return path


@pytest.fixture
def tagged(tmp_path):
    """A photo whose maker said who took it, with a profile."""
    path = make_photo(tmp_path / "photo.jpg")
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Ada"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with Image.open(path) as image:
        image.save(path, exif=exif, icc_profile=profile, quality=90)
    return path


def software(path):
    with path.open("rb") as file:
        return str(exifread.process_file(file, truncate_tags=False).get("Image Software"))


def test_raw_becomes_16_bit_tiff_in_srgb(raw, tmp_path):
    result = deblur("run", raw, "-o", tmp_path / "out")
    written = tmp_path / "out" / "calm_deblurred.tif"
    assert (result.exit_code, result.stdout) == (0, f"{written}\n")
    picture = tifffile.imread(written)
    height, width = picture.shape[:2]
    assert picture.dtype == np.uint16
    gray = picture[height * 3 // 4, width * 3 // 4] / 65535
    assert gray == pytest.approx(srgb_curve(np.full(3, 0.18)), abs=0.02)


def test_options_for_raw_reach_its_development(raw, tmp_path):
    words = ("--raw-exposure", "1", "--raw-color-space", "prophoto", "--raw-white-balance", "daylight")
    assert deblur("run", raw, "-o", tmp_path / "out", *words, "--format", "png").exit_code == 0
    written = decode(tmp_path / "out" / "calm_deblurred.png")
    np.testing.assert_array_equal(
        written.pixels, decode(raw, raw=RawOptions("daylight", 1, "prophoto")).pixels
    )


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--raw-exposure", value) for value in ("6", "nan")),
        *(("--raw-white-balance", "moon"), ("--raw-color-space", "cmyk"), ("--format", "gif")),
    ],
)
def test_impossible_values_are_wrong_usage(raw, option, value):
    result = deblur("run", raw, option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr
    assert list(raw.parent.iterdir()) == [raw]


def test_heic_becomes_avif_or_what_is_asked_for(tmp_path):
    photo = tmp_path / "photo.heic"
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), "teal")).save(photo)
    for words in ((), ("--format", "jpeg")):
        assert deblur("run", photo, "-o", tmp_path / "out", *words).exit_code == 0
    formats = {}
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as image:
            formats[path.name] = (image.format, image.size)
    assert formats == {
        "photo_deblurred.avif": ("AVIF", (64, 48)),
        "photo_deblurred.jpg": ("JPEG", (64, 48)),
    }


def test_a_dry_run_knows_sizes_of_raw_and_heic(raw, tmp_path):
    pillow_heif.from_pillow(Image.new("RGB", (64, 48))).save(tmp_path / "b.heic")
    result = deblur("run", tmp_path, "--dry-run", "--json")
    photos = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(photo["width"], photo["height"]) for photo in photos[:2]] == [(64, 48), (96, 64)]


def test_raw_from_a_pipe_is_told_by_its_content(raw):
    result = CliRunner().invoke(app, ["run", "-", "-o", "-"], input=raw.read_bytes())
    assert result.exit_code == 0
    assert tifffile.imread(io.BytesIO(result.stdout_bytes)).dtype == np.uint16


def test_a_restored_photo_says_what_was_done(tagged, tmp_path):
    deblur("run", tagged, "-o", tmp_path / "out")
    written = tmp_path / "out" / "photo_deblurred.jpg"
    assert software(written) == NOTE
    with Image.open(written) as image:
        assert image.getexif()[ExifTags.Base.Artist] == "Ada"
    deblur("run", tagged, "-o", tmp_path / "out", "--no-note", "--overwrite")
    assert software(written) == "None"


@pytest.mark.parametrize("name", ["photo.jpg", "calm.jpg"])
def test_stripped_photos_keep_their_profile_alone(tagged, tmp_path, name):
    photo = tagged.rename(tmp_path / name)
    deblur("run", photo, "-o", tmp_path / "out", "--strip-metadata")
    (written,) = (tmp_path / "out").iterdir()
    with Image.open(photo) as before, Image.open(written) as after:
        assert not after.getexif()
        assert after.info["icc_profile"] == before.info["icc_profile"]
    assert b"Ada" not in written.read_bytes()

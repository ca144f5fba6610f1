import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import CAMERA, full_metadata, make_photo, needs_camera, random_pixels
from PIL import Image

from deblur_cli.photo.color import icc_space, replace_pixels, rgb_view, with_network_view
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.photo.photo import Metadata
from deblur_cli.photo.profiles import space_profile


def cmyk_photo(folder, seed=0, **fields):
    cmyk = random_pixels(9, 7, 4, seed)
    return make_photo(rgb_view(folder, cmyk, None), folder / "source.jpg", stored=cmyk, **fields)


def test_other_pixels_leave_the_rest_of_the_photo(tmp_path):
    photo = make_photo(random_pixels(4, 5, 3), tmp_path, alpha=random_pixels(4, 5, 1)[..., 0])
    changed = replace_pixels(photo, photo.pixels // 2)
    assert np.array_equal(changed.pixels, photo.pixels // 2)
    assert changed.alpha is photo.alpha
    assert changed.metadata is photo.metadata


@pytest.mark.parametrize(
    "wrong", [np.zeros((5, 4, 3), np.uint8), np.zeros((4, 5, 1), np.uint8), np.zeros((4, 5, 3), np.float32)]
)
def test_pixels_of_another_shape_or_type_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=r"expected \(4, 5, 3\) uint8, got"):
        replace_pixels(make_photo(random_pixels(4, 5, 3), tmp_path), wrong)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000))
def test_plain_inks_show_the_new_colors(tmp_path_factory, seed):
    folder = tmp_path_factory.getbasetemp()
    photo = cmyk_photo(folder, seed)
    wanted = random_pixels(9, 7, 3, seed + 1)
    seen = rgb_view(folder, replace_pixels(photo, wanted).stored, None)
    assert np.abs(seen.astype(int) - wanted).max() <= 2


def test_ink_of_unchanged_pixels_stays(tmp_path):
    photo = cmyk_photo(tmp_path)
    new = photo.pixels.copy()
    new[2, 3] = 255 - new[2, 3]
    changed = replace_pixels(photo, new)
    differs = np.any(changed.stored != photo.stored, axis=2)
    assert np.argwhere(differs).tolist() == [[2, 3]]
    assert replace_pixels(photo, photo.pixels.copy()).stored.tolist() == photo.stored.tolist()


@needs_camera
def test_ink_comes_from_the_files_profile():
    photo = decode(CAMERA / "cmyk_swop.jpg")
    new = photo.pixels.copy()
    new[100:200, 100:200] = new[200:300, 100:200]
    changed = replace_pixels(photo, new)
    assert np.array_equal(changed.stored[:100], photo.stored[:100])
    seen = rgb_view(photo.source, changed.stored, photo.metadata.icc)
    # The profile's tables are not exact inverses of each other; the plain formula misses by more than 10.
    assert np.abs(seen.astype(int) - new)[100:200, 100:200].mean() < 4


def test_an_unusable_profile_is_logged_and_the_plain_formula_used(tmp_path, caplog):
    photo = cmyk_photo(tmp_path, metadata=Metadata(icc=b"no profile at all"))
    wanted = random_pixels(9, 7, 3, 5)
    changed = replace_pixels(photo, wanted)
    assert "its CMYK profile cannot be used" in caplog.text
    assert np.abs(rgb_view(tmp_path, changed.stored, None).astype(int) - wanted).max() <= 2


def test_a_profile_of_another_space_is_not_applied(tmp_path, caplog):
    cmyk = random_pixels(3, 3, 4)
    assert np.array_equal(rgb_view(tmp_path, cmyk, full_metadata().icc), rgb_view(tmp_path, cmyk, None))
    assert "its CMYK profile cannot be used" in caplog.text


def test_spaces_of_profiles():
    assert icc_space(full_metadata().icc) == "RGB"
    assert icc_space(bytes(16) + b"GRAY") == "GRAY"


def linear_profile(space):
    """littleCMS's own profile of linear light, in wide primaries or for gray."""
    if space == "gray":
        return bytes(imagecodecs.cms_profile("gray", gamma=1.0))
    primaries = [0.68, 0.32, 1, 0.265, 0.69, 1, 0.15, 0.06, 1]
    return bytes(
        imagecodecs.cms_profile("rgb", whitepoint=[0.3127, 0.329, 1], primaries=primaries, gamma=1.0)
    )


def srgb_encoded(linear):
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_linear_light_is_seen_through_the_curve_of_srgb(tmp_path, channels, kind):
    full = np.iinfo(kind).max
    samples = np.random.default_rng(0).integers(0, full + 1, (40, 50, channels)).astype(kind)
    icc = linear_profile("gray" if channels == 1 else "rgb")
    path = tmp_path / "linear.tif"
    encode(make_photo(samples, tmp_path / "s.tif", metadata=Metadata(icc=icc)), path)
    photo = decode(path)
    assert np.array_equal(photo.stored, samples)
    assert np.abs(photo.pixels / full - srgb_encoded(samples / full)).max() < 1.5 / 255
    # Restoring one pixel changes that one sample in the file, to the light of the new value.
    new = photo.pixels.copy()
    new[3, 4] = full // 2
    assert not np.array_equal(new[3, 4], photo.pixels[3, 4])
    encode(replace_pixels(photo, new), tmp_path / "result.tif")
    back = decode(tmp_path / "result.tif")
    assert back.metadata.icc == icc
    differs = np.any(back.stored != samples, axis=2)
    assert np.argwhere(differs).tolist() == [[3, 4]]
    assert np.abs(back.stored[3, 4] / full - ((0.5 + 0.055) / 1.055) ** 2.4).max() < 1.5 / 255


@settings(max_examples=20)
@given(seed=st.integers(0, 1000))
def test_values_of_16_bit_linear_light_come_back_from_their_view(tmp_path_factory, seed):
    source = tmp_path_factory.getbasetemp() / "s.tif"
    samples = np.random.default_rng(seed).integers(0, 65536, (20, 20, 3)).astype(np.uint16)
    plain = make_photo(samples, source, metadata=Metadata(icc=linear_profile("rgb")))
    photo = with_network_view(plain)
    black = replace_pixels(photo, np.zeros_like(photo.pixels))
    again = replace_pixels(black, photo.pixels)
    # The view is coarser than the samples in the lights, by at most 2.3 steps.
    assert np.abs(again.stored.astype(int) - samples).max() <= 3


@pytest.mark.parametrize("name", ["srgb", "adobe", "prophoto", "p3"])
def test_encoded_wide_gamuts_stay_in_their_own_space(tmp_path, name):
    samples = random_pixels(8, 9, 3)
    metadata = Metadata(icc=space_profile(name))
    encode(make_photo(samples, tmp_path / "s.tif", metadata=metadata), tmp_path / "result.tif")
    photo = decode(tmp_path / "result.tif")
    assert photo.stored is None
    assert np.array_equal(photo.pixels, samples)
    assert photo.metadata.icc == metadata.icc


def test_a_broken_rgb_profile_is_kept_and_logged(tmp_path, caplog):
    icc = bytes(16) + b"RGB " + bytes(200)
    encode(
        make_photo(random_pixels(4, 5, 3), tmp_path / "s.tif", metadata=Metadata(icc=icc)), tmp_path / "r.tif"
    )
    photo = decode(tmp_path / "r.tif")
    assert photo.metadata.icc == icc
    assert "its profile cannot be used" in caplog.text


@needs_camera
def test_cmyk_of_16_bits_is_seen_as_that_of_8(tmp_path):
    eight = decode(CAMERA / "cmyk_swop.jpg")
    path = tmp_path / "deep.tif"
    deep = eight.stored.astype(np.uint16) * 257
    tifffile.imwrite(path, deep, photometric="separated", iccprofile=eight.metadata.icc, metadata=None)
    photo = decode(path)
    assert photo.is_cmyk
    assert np.abs(photo.pixels / 257 - eight.pixels).max() < 1
    new = photo.pixels.copy()
    new[10:20, 10:20] = new[110:120, 10:20]
    encode(replace_pixels(photo, new), tmp_path / "result.tif")
    back = tifffile.imread(tmp_path / "result.tif")
    changed = np.any(back != deep, axis=2)
    assert changed[10:20, 10:20].any()
    changed[10:20, 10:20] = False
    assert not changed.any()


@needs_camera
@pytest.mark.parametrize("name", ["adobe_rgb.jpg", "display_p3.jpg"])
def test_wide_gamut_photos_keep_their_pixels_and_profile(tmp_path, name):
    photo = decode(CAMERA / name)
    assert photo.stored is None
    new = photo.pixels.copy()
    new[100:110, 100:110] //= 2
    encode(replace_pixels(photo, new), tmp_path / "result.png")
    with Image.open(tmp_path / "result.png") as image, Image.open(CAMERA / name) as source:
        assert image.info["icc_profile"] == source.info["icc_profile"]
        differs = np.any(np.asarray(image) != np.asarray(source), axis=2)
    assert differs[100:110, 100:110].any()
    differs[100:110, 100:110] = False
    assert not differs.any()

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_files import CAMERA, full_metadata, make_photo, needs_camera, random_pixels

from deblur_cli.photo.color import icc_space, replace_pixels, rgb_view
from deblur_cli.photo.decode import decode
from deblur_cli.photo.photo import Metadata


def cmyk_photo(folder, seed=0, **fields):
    cmyk = random_pixels(9, 7, 4, seed)
    return make_photo(rgb_view(folder, cmyk, None), folder / "source.jpg", cmyk=cmyk, **fields)


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
def test_plain_inks_show_the_new_colours(tmp_path_factory, seed):
    folder = tmp_path_factory.getbasetemp()
    photo = cmyk_photo(folder, seed)
    wanted = random_pixels(9, 7, 3, seed + 1)
    seen = rgb_view(folder, replace_pixels(photo, wanted).cmyk, None)
    assert np.abs(seen.astype(int) - wanted).max() <= 2


def test_ink_of_unchanged_pixels_stays(tmp_path):
    photo = cmyk_photo(tmp_path)
    new = photo.pixels.copy()
    new[2, 3] = 255 - new[2, 3]
    changed = replace_pixels(photo, new)
    differs = np.any(changed.cmyk != photo.cmyk, axis=2)
    assert np.argwhere(differs).tolist() == [[2, 3]]
    assert replace_pixels(photo, photo.pixels.copy()).cmyk.tolist() == photo.cmyk.tolist()


@needs_camera
def test_ink_comes_from_the_files_profile():
    photo = decode(CAMERA / "cmyk_swop.jpg")
    new = photo.pixels.copy()
    new[100:200, 100:200] = new[200:300, 100:200]
    changed = replace_pixels(photo, new)
    assert np.array_equal(changed.cmyk[:100], photo.cmyk[:100])
    seen = rgb_view(photo.source, changed.cmyk, photo.metadata.icc)
    # The profile's tables are not exact inverses of each other; the plain formula misses by more than 10.
    assert np.abs(seen.astype(int) - new)[100:200, 100:200].mean() < 4


def test_an_unusable_profile_is_logged_and_the_plain_formula_used(tmp_path, caplog):
    photo = cmyk_photo(tmp_path, metadata=Metadata(icc=b"no profile at all"))
    wanted = random_pixels(9, 7, 3, 5)
    changed = replace_pixels(photo, wanted)
    assert "its CMYK profile cannot be used" in caplog.text
    assert np.abs(rgb_view(tmp_path, changed.cmyk, None).astype(int) - wanted).max() <= 2


def test_a_profile_of_another_space_is_not_applied(tmp_path, caplog):
    cmyk = random_pixels(3, 3, 4)
    assert np.array_equal(rgb_view(tmp_path, cmyk, full_metadata().icc), rgb_view(tmp_path, cmyk, None))
    assert "its CMYK profile cannot be used" in caplog.text


def test_spaces_of_profiles():
    assert icc_space(full_metadata().icc) == "RGB"
    assert icc_space(bytes(16) + b"GRAY") == "GRAY"

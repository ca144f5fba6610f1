import io

import imagecodecs
import numpy as np
import pytest
from photo_files import SRGB
from PIL import ImageCms

from deblur_cli.photo.profiles import cicp_profile, space_profile


def seen_as_srgb(icc, values):
    """uint16 values N 3 of a space, as littleCMS's own sRGB."""
    options = {"colorspace": "rgb", "outcolorspace": "rgb", "outdtype": "uint16", "intent": 1}
    return np.asarray(imagecodecs.cms_transform(values[np.newaxis], icc, SRGB, **options))[0]


def test_srgb_is_that_of_littlecms():
    values = np.random.default_rng(0).integers(0, 65536, (2000, 3)).astype(np.uint16)
    assert np.abs(seen_as_srgb(space_profile("srgb"), values).astype(int) - values).max() <= 16


@pytest.mark.parametrize(
    ("name", "title"),
    [("adobe", "Compatible with Adobe RGB (1998)"), ("p3", "Display P3"), ("prophoto", "ProPhoto RGB")],
)
def test_profiles_are_opened_and_named(name, title):
    profile = ImageCms.ImageCmsProfile(io.BytesIO(space_profile(name)))
    assert ImageCms.getProfileDescription(profile).strip() == title
    assert profile.profile.media_white_point[0] == pytest.approx((0.9642, 1.0, 0.8249), abs=1e-4)
    grays = np.full((1, 3), 32768, np.uint16)
    assert np.ptp(seen_as_srgb(space_profile(name), grays).astype(int)) < 30  # neutral stays neutral


def test_primaries_are_those_of_the_standards():
    # Colorants adapted to D50: Adobe RGB (1998) 4.3.5.3 and Apple's Display P3 profile
    adobe = ImageCms.ImageCmsProfile(io.BytesIO(space_profile("adobe"))).profile
    assert adobe.red_primary[0] == pytest.approx((0.60974, 0.31111, 0.01947), abs=2e-4)
    assert adobe.green_primary[0] == pytest.approx((0.20528, 0.62567, 0.06087), abs=2e-4)
    p3 = ImageCms.ImageCmsProfile(io.BytesIO(space_profile("p3"))).profile
    assert p3.red_primary[0] == pytest.approx((0.51512, 0.24120, -0.00105), abs=2e-4)
    assert p3.blue_primary[0] == pytest.approx((0.15710, 0.06657, 0.78407), abs=2e-4)


def test_tags_of_nclx():
    assert cicp_profile(1, 13) is None  # sRGB
    assert cicp_profile(2, 2) is None  # unspecified
    assert cicp_profile(12, 16) is None  # HDR, which a profile cannot say
    assert cicp_profile(22, 13) is None
    assert cicp_profile(12, 13) == cicp_profile(12, 1) == space_profile("p3")
    linear = cicp_profile(1, 8)
    values = np.full((1, 3), 14_027, np.uint16)  # 0.214 of light is the middle of sRGB
    assert seen_as_srgb(linear, values)[0] == pytest.approx([32768] * 3, abs=60)

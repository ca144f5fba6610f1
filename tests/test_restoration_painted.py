"""Control in the user's hand: a painted mask, the strength of the change, and eight orientations."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from restoration_helpers import RESTORERS, cells_of, deblurrer_of, findings_of, guided, photo_of, picture

from deblur_cli.errors import DecodeError, UsageError
from deblur_cli.nets.motion import TURNS
from deblur_cli.restoration.deblurrer import Request, Restoration
from deblur_cli.restoration.findings import Findings
from deblur_cli.restoration.mask import feather_weights
from deblur_cli.restoration.painted import MaskMode, PaintedMask, read_mask

SIZE = (101, 150)


@pytest.fixture(scope="module")
def deblurrer():
    return deblurrer_of(guided("m2aenet"), size=128)


def brushed(seed=0):
    """Paint on a few cells, some of it gray."""
    rng = np.random.default_rng(seed)
    opacity = np.zeros(cells_of(*SIZE), np.float32)
    for _ in range(3):
        top, left = rng.integers(0, 12), rng.integers(0, 18)
        opacity[top : top + 5, left : left + 5] = rng.choice([0.25, 1])
    return opacity


def whole(opacity):
    return feather_weights(opacity, slice(0, SIZE[0]), slice(0, SIZE[1]))


@given(st.integers(0, 99), st.sampled_from(MaskMode))
@settings(max_examples=10)
def test_what_changes_is_what_the_mode_says(deblurrer, seed, mode):
    photo, findings, opacity = photo_of(picture(*SIZE)), findings_of(*SIZE, seed=seed), brushed(seed)
    result = deblurrer.restore(photo, findings, Request(painted=PaintedMask(opacity, mode)))
    found = deblurrer.restore(photo, findings, Request()).mask > 0
    painted = opacity > 0
    expected = {"only": painted, "add": painted | found, "limit": painted & found}[mode]
    assert np.array_equal(result.mask > 0, expected)
    differs = (result.photo.pixels != photo.pixels).any(axis=2)
    weights = whole(expected.astype(np.float32))
    assert not differs[weights == 0].any()
    in_full = whole((result.opacity == 1).astype(np.float32)) == 1
    if in_full.sum() > 500:
        assert differs[in_full].mean() > 0.2


@given(st.integers(0, 99))
@settings(max_examples=10)
def test_nothing_black_changes_within_a_limit(deblurrer, tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "limit.png"
    rng = np.random.default_rng(seed)
    paint = np.zeros(SIZE, np.uint8)
    top, left = rng.integers(0, 60), rng.integers(0, 100)
    paint[top : top + rng.integers(20, 80), left : left + rng.integers(20, 80)] = 255
    Image.fromarray(paint).save(path)
    photo, findings = photo_of(picture(*SIZE)), findings_of(*SIZE, seed=seed)
    findings.probability[:] = 0.95
    painted = read_mask(path, *SIZE, 250, MaskMode.limit)
    result = deblurrer.restore(photo, findings, Request(painted=painted))
    differs = (result.photo.pixels != photo.pixels).any(axis=2)
    assert not differs[paint == 0].any()
    inner = np.zeros(SIZE, bool)
    inner[top + 24 : top + 56, left + 24 : left + 56] = True
    inner &= (np.roll(paint, (-24, -24), (0, 1)) > 0) & (np.roll(paint, (24, 24), (0, 1)) > 0)
    if inner.sum() > 300:
        assert differs[inner].mean() > 0.2


def test_gray_paint_lays_in_as_much_of_the_change(deblurrer):
    photo, findings = photo_of(picture(*SIZE, dtype=np.uint16)), findings_of(*SIZE, scale=1)
    full, quarter = (
        deblurrer.restore(
            photo, findings, Request(painted=PaintedMask(np.full(cells_of(*SIZE), gray, np.float32)))
        ).photo.pixels.astype(np.float64)
        for gray in (1, 0.25)
    )
    assert np.abs((quarter - photo.pixels) - (full - photo.pixels) / 4).max() <= 0.75
    assert np.abs(full - photo.pixels).max() > 1000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_another_strength_needs_no_network_and_gives_the_same_bits(deblurrer, dtype):
    photo, findings = photo_of(picture(400, 420, dtype=dtype)), findings_of(400, 420)
    kept = Restoration(deblurrer, photo, findings, Request(), keep=True)
    assert kept.run().changed
    for strength in (0.0, 0.3, 1.5, 1.0):
        again = kept.with_strength(strength)
        expected = deblurrer.restore(photo, findings, Request(strength=strength))
        assert np.array_equal(again.photo.pixels, expected.photo.pixels)
        assert (again.request, again.changed) == (expected.request, expected.changed)
        assert again.tiles_restored == expected.tiles_restored or not strength
        assert again.notes == expected.notes


@pytest.mark.parametrize("keep_sharp", [True, False])
@pytest.mark.parametrize("scale", [1, 2.5])
def test_strength_multiplies_the_change(deblurrer, keep_sharp, scale):
    pixels = picture(*SIZE, dtype=np.uint16) // 2 + 10000  # far from black and white, which cut changes off
    photo, findings = photo_of(pixels), findings_of(*SIZE, scale=scale)
    before = pixels.astype(np.float64)

    def change(strength):
        request = Request(keep_sharp=keep_sharp, strength=strength)
        return deblurrer.restore(photo, findings, request).photo.pixels - before

    usual = change(1.0)
    assert np.abs(usual).max() > 1000
    inside = (before + 1.5 * usual > 0) & (before + 1.5 * usual < 65535)
    for strength in (0.3, 1.5):
        assert np.abs(change(strength) - strength * usual)[inside].max() <= 1.3  # both are rounded
    nothing = deblurrer.restore(photo, findings, Request(keep_sharp=keep_sharp, strength=0.0))
    assert nothing.photo is photo and not nothing.changed and nothing.blurred_share > 0


def test_what_cannot_be_wanted_is_refused():
    with pytest.raises(UsageError, match=r"strength is 2: it must be between 0 and 1\.5"):
        Request(strength=2)
    with pytest.raises(UsageError, match="needs keep_sharp"):
        Request(keep_sharp=False, painted=PaintedMask(brushed()))


@pytest.mark.parametrize("kind", RESTORERS)
def test_thorough_is_the_mean_over_photos_that_are_turned(kind):
    size = (64, 128)  # whole cells and multiples, so that turned photos are padded alike
    deblurrer, photo = deblurrer_of(guided(kind), scales=(1,)), photo_of(picture(*size, dtype=np.uint16))
    findings = findings_of(*size, seed=1, scale=1)
    expected = np.zeros((*size, 3))
    for turn in range(TURNS):
        turned = photo_of(np.ascontiguousarray(turn_pixels(photo.pixels, turn)))
        result = deblurrer.restore(turned, turn_findings(findings, turn), Request())
        expected += turn_pixels(result.photo.pixels, turn, back=True) / TURNS
    result = deblurrer.restore(photo, findings, Request(thorough=True))
    assert np.abs(result.photo.pixels - expected).max() < 8  # of 65535
    plain = deblurrer.restore(photo, findings, Request())
    assert np.abs(result.photo.pixels - plain.photo.pixels.astype(float)).max() > 50


def test_thorough_leaves_sides_of_any_length_as_they_are(deblurrer):
    photo, findings = photo_of(picture(*SIZE)), findings_of(*SIZE)
    result = deblurrer.restore(photo, findings, Request(thorough=True))
    assert result.photo.pixels.shape == photo.pixels.shape
    assert not (result.photo.pixels != photo.pixels).any(axis=2)[whole(result.mask) == 0].any()
    assert not result.tiles_kept


def turn_pixels(pixels, turn, back=False):
    """Pixels H W C in one of eight orientations, by NumPy's own words."""
    mirror = pixels[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
    if not turn & 4:
        return mirror
    if not back:
        return mirror.transpose(1, 0, 2)
    return pixels.transpose(1, 0, 2)[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def turn_findings(findings, turn):
    def cells(values):
        return turn_pixels(values[..., None], turn)[..., 0]

    def moved(field):
        down, right = cells(field[0]), cells(field[1])
        down, right = (-down if turn & 2 else down), (-right if turn & 1 else right)
        return np.stack([right, down] if turn & 4 else [down, right])

    height, width = findings.size
    return Findings(
        (width, height) if turn & 4 else findings.size,
        cells(findings.probability),
        moved(findings.start),
        moved(findings.end),
        cells(findings.scale),
    )


@given(st.integers(20, 400), st.integers(20, 400), st.floats(0.05, 4))
def test_masks_of_any_size_fit_photos_of_their_shape(tmp_path_factory, height, width, scale):
    path = tmp_path_factory.getbasetemp() / "mask.png"
    size = round(width * scale), round(height * scale)
    Image.new("L", size, 255).save(path)
    opacity = read_mask(path, height, width, 250).opacity
    assert opacity.shape == cells_of(height, width)
    assert (opacity == 1).all()


def test_a_thin_stroke_counts_in_full_and_noise_for_nothing(tmp_path):
    pixels = np.full((80, 120), 12, np.uint8)
    pixels[41, :] = 255
    pixels[60, 60] = 128
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    opacity = read_mask(tmp_path / "mask.png", 80, 120, 250).opacity
    assert (opacity[5] == 1).all()
    assert opacity[7, 7] == pytest.approx(128 / 255)
    assert np.count_nonzero(opacity) == 15 + 1
    doubled = read_mask(tmp_path / "mask.png", 160, 240, 250).opacity
    assert (doubled[10] == 1).all() and doubled.shape == (20, 30)


def test_transparent_paint_is_none_and_orientation_counts(tmp_path):
    layer = np.zeros((40, 64, 2), np.uint8)
    layer[..., 0] = 255
    layer[:16, :, 1] = 255
    Image.fromarray(layer, "LA").save(tmp_path / "layer.png")
    assert np.array_equal(read_mask(tmp_path / "layer.png", 40, 64, 250).opacity.max(1), [1, 1, 0, 0, 0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees to the right
    Image.fromarray(layer[..., 1]).save(tmp_path / "turned.png", exif=exif)
    opacity = read_mask(tmp_path / "turned.png", 64, 40, 250).opacity
    assert np.array_equal(opacity.max(0), [0, 0, 0, 1, 1])


def test_what_is_no_mask_of_the_photo_is_refused(tmp_path):
    Image.new("L", (90, 60)).save(tmp_path / "mask.png")
    with pytest.raises(DecodeError, match="90 x 60 pixels, which is not the shape of the photo with 60 x 90"):
        read_mask(tmp_path / "mask.png", 90, 60, 250)
    Image.new("RGB", (90, 60), "red").save(tmp_path / "red.png")
    with pytest.raises(DecodeError, match="is in color, but a mask is gray"):
        read_mask(tmp_path / "red.png", 60, 90, 250)
    Image.new("RGB", (90, 60), "white").save(tmp_path / "white.jpg")
    assert (read_mask(tmp_path / "white.jpg", 60, 90, 250).opacity == 1).all()


def test_findings_stay_as_they_were_detected(deblurrer):
    findings = findings_of(*SIZE)
    kept = replace(findings, probability=findings.probability.copy())
    deblurrer.restore(photo_of(picture(*SIZE)), findings, Request(painted=PaintedMask(brushed())))
    assert np.array_equal(findings.probability, kept.probability)

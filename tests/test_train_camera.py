"""What the synthetic camera does to light: each step against what it promises."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from train_helpers import picture, tensors

from deblur_cli.nets.richardson_lucy import to_encoded, to_linear
from deblur_cli.train import camera
from deblur_cli.train.camera import (
    Lens,
    apply_tone,
    as_soft_as_mosaic,
    brighten_highlights,
    compress,
    denoise,
    gaussian_blur,
    out_of_focus,
    record,
    sharpen,
    through_mosaic,
)
from deblur_cli.train.settings import CameraSettings
from deblur_cli.train.trajectory import Motion, expose

PLAIN = {
    "highlights": 0.0,
    "noise": 0.0,
    "mosaic": 0.0,
    "softness": 0.0,
    "tone": 0.0,
    "denoising": 0.0,
    "sharpening": 0.0,
    "quality": (100.0, 100.0),
}
MIDDLE_GREY = 0.214  # linear, half of white once encoded
levels = st.floats(0, 1, width=32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain(**changes):
    return CameraSettings(**{**PLAIN, **changes})


def flat(*color, count=1, size=16):
    return torch.tensor(color).view(1, -1, 1, 1).expand(count, 3, size, size).clone()


def each(value, count=1):
    return torch.full((count, 1, 1, 1), value)


@pytest.fixture
def no_jpeg(monkeypatch):
    monkeypatch.setattr(camera, "compress", lambda image, quality: image)


def test_encoding_is_undone_by_its_inverse():
    values = torch.linspace(0, 1, 1001)
    assert (to_encoded(to_linear(values)) - values).abs().max() < 1e-5
    assert (to_linear(to_encoded(values)) - values).abs().max() < 1e-5
    assert to_linear(torch.tensor(0.5)).item() == pytest.approx(MIDDLE_GREY, abs=1e-4)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), share=levels, brightest=st.floats(1, 10, width=32))
def test_only_what_is_nearly_white_becomes_brighter(seed, share, brightest):
    light = torch.rand(4, 3, 16, 16, generator=seeded(seed))
    light[..., 0] = 1.0
    lit = brighten_highlights(light, CameraSettings(highlights=share, brightest=brightest), seeded(seed))
    dim = (light.mean(1, keepdim=True) < 0.69).expand_as(light)
    assert torch.equal(lit[dim], light[dim])
    assert (lit >= light - 1e-6).all() and lit.max() <= brightest + 1e-4


def test_lamps_shine_in_the_share_of_pictures_asked_for():
    white = flat(1.0, 1.0, 1.0, count=400, size=2)
    lit = brighten_highlights(white, CameraSettings(highlights=0.25, brightest=6.0), seeded())
    brightest = lit.amax((1, 2, 3))
    assert 0.18 < (brightest > 1.001).float().mean() < 0.32
    assert brightest.max() > 5 and brightest[brightest > 1.001].min() < 2  # of any strength


def streak(highlights):
    """A lamp that moves 12 pixels over black, as a camera with a soft lens stores it: 1 3 48 48."""
    lamp = torch.zeros(1, 3, 48, 48)
    lamp[..., 22:26, 22:26] = 1
    camera_settings = plain(highlights=highlights, brightest=30.0, softness=2.0)
    bright = brighten_highlights(lamp, camera_settings, seeded(1))
    way = torch.tensor([[0.0, 6.0]])
    motion = Motion(-way, way, torch.full((1, 2), 24.0), torch.zeros(1), torch.zeros(1))
    blurred = expose(bright, motion, torch.full((1, 13), 1 / 13))
    return record(blurred, lamp, camera_settings, seeded(2))[0]


def test_a_moving_lamp_leaves_a_streak_as_white_as_the_lamp_and_thicker_than_clipped_light_would():
    clipped, lit = streak(0.0), streak(1.0)
    assert clipped.max() < 0.95  # once clipped, light that is spread out is gray
    assert (lit[0, 0, 23, 18:30] > 0.99).all()  # burnt out all along its way
    thickness = [int((image[0, 0, :, 23] > 0.5).sum()) for image in (clipped, lit)]
    assert thickness[1] > thickness[0]


@settings(max_examples=10)
@given(st.tuples(levels, levels, levels))
def test_a_color_mosaic_keeps_an_even_color_up_to_the_border(color):
    even = flat(*color)
    assert torch.allclose(through_mosaic(even), even, atol=1e-6)


def test_each_pixel_keeps_what_its_filter_lets_through_and_gets_the_rest_from_its_neighbors():
    light = torch.rand(1, 3, 8, 10, generator=seeded())
    seen = through_mosaic(light)
    red, green, blue = light[0]
    assert torch.allclose(seen[0, 0, ::2, ::2], red[::2, ::2])
    assert torch.allclose(seen[0, 1, ::2, 1::2], green[::2, 1::2])
    assert torch.allclose(seen[0, 1, 1::2, ::2], green[1::2, ::2])
    assert torch.allclose(seen[0, 2, 1::2, 1::2], blue[1::2, 1::2])
    corners = [red[y, x] for y in (2, 4) for x in (4, 6)]
    assert torch.allclose(seen[0, 0, 3, 5], torch.stack(corners).mean())  # red of a blue pixel
    cross = [green[3, 4], green[5, 4], green[4, 3], green[4, 5]]
    assert torch.allclose(seen[0, 1, 4, 4], torch.stack(cross).mean())  # green of a red pixel


@settings(max_examples=10)
@given(gamma=st.floats(0.5, 2, width=32), contrast=levels)
def test_a_tone_curve_keeps_black_white_and_order(gamma, contrast):
    ramp = torch.linspace(0, 1, 256).view(1, 1, 1, -1)
    curved = apply_tone(ramp, each(gamma), each(contrast))[0, 0, 0]
    assert curved[0].item() == pytest.approx(0, abs=1e-6)
    assert curved[-1].item() == pytest.approx(1, abs=1e-6)
    assert (curved.diff() >= -1e-6).all()


def noise_of(level, **changes):
    """Deviation of the noise in each of 64 even pictures, in linear light."""
    gray = flat(level, level, level, count=64, size=32)
    stored, _ = record(gray, gray, plain(**changes), seeded())
    return (to_linear(stored) - gray).std((1, 2, 3))


def test_noise_at_mid_gray_has_up_to_the_deviation_asked_for(no_jpeg):
    found = noise_of(MIDDLE_GREY, noise=0.02)
    assert found.max() < 0.02 * 1.1 and found.max() > 0.02 * 0.85
    assert found.min() < 0.02 * 0.15  # some pictures have next to none
    assert noise_of(MIDDLE_GREY, noise=0.0).max() < 1e-6


def test_the_truth_has_neither_noise_nor_denoising_nor_jpeg():
    light = to_linear(torch.stack(tensors(3, (32, 32))) / 255)
    harsh = plain(noise=0.1, denoising=1.0, quality=(10.0, 10.0))
    stored, truth = record(light, light, harsh, seeded())
    assert torch.allclose(truth, to_encoded(light), atol=1e-5)
    assert (stored - truth).abs().mean() > 0.02


def test_what_did_not_move_is_stored_as_its_truth_whatever_lens_and_processing():
    # Grey, as JPEG's halved chroma alone would change colors.
    light = to_linear(torch.stack(tensors(4, (32, 32), gray=True)) / 255)
    processed = plain(softness=1.3, tone=0.3, sharpening=1.0)
    stored, truth = record(light, light, processed, seeded())
    assert (stored - truth).abs().max() < 2.01 / 255  # best JPEG quality: steps of one level
    assert ((truth - to_encoded(light)).abs().mean((1, 2, 3)) > 0.002).all()  # it did act


def test_lenses_are_soft_in_truth_and_picture_up_to_the_deviation_asked_for(no_jpeg):
    light = torch.rand(1, 3, 32, 32, generator=seeded()).expand(200, 3, 32, 32)
    stored, truth = record(light, light, plain(softness=1.3), seeded())
    assert torch.equal(stored, truth)
    rough = to_linear(truth).diff(dim=3).abs().mean((1, 2, 3)) / light.diff(dim=3).abs().mean()
    assert rough.max() > 0.98 and rough.min() < 0.25  # from none to 1.3 pixels
    assert rough.median() > 0.7  # most are slight


def test_the_truth_of_a_mosaic_is_as_soft_without_its_pattern():
    light = torch.rand(4, 3, 64, 64, generator=seeded())
    seen = torch.stack(
        [through_mosaic(light.roll((y, x), (2, 3))).roll((-y, -x), (2, 3)) for y in (0, 1) for x in (0, 1)]
    )
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(as_soft_as_mosaic(light)[inner], seen.mean(0)[inner], atol=1e-5)
    assert torch.allclose(
        as_soft_as_mosaic(flat(0.2, 0.5, 0.9)), flat(0.2, 0.5, 0.9)
    )  # nor does the border darken


def step(grain):
    """An edge between dark and bright with noise of a deviation: 1 3 32 32."""
    edge = torch.full((1, 3, 32, 32), 0.2)
    edge[..., 16:] = 0.8
    return edge + grain * torch.randn(edge.shape, generator=seeded())


def test_denoising_smooths_what_is_flat_and_keeps_edges():
    noisy = step(0.02)
    clean = denoise(noisy, each(0.03))
    assert clean[..., :11].std() < 0.5 * noisy[..., :11].std()
    rise = (clean[..., 16] - clean[..., 15]).mean()
    assert rise > 0.95 * 0.6
    assert torch.allclose(denoise(noisy, each(0.0)), noisy, atol=1e-3)


def test_sharpening_leaves_halos_as_strong_as_asked_and_nothing_where_it_is_flat():
    edge = step(0.0)
    assert torch.equal(sharpen(edge, each(1.0), each(0.0)), edge)
    weak, strong = (sharpen(edge, each(1.0), each(amount)) for amount in (0.4, 0.8))
    assert 0.8 < weak[..., 16].mean() < strong[..., 16].mean()
    assert 0.2 > weak[..., 15].mean() > strong[..., 15].mean()
    assert torch.allclose(strong[..., :8], edge[..., :8], atol=1e-6)


def test_processing_comes_in_the_shares_asked_for(no_jpeg):
    light = torch.rand(1, 3, 16, 16, generator=seeded()).expand(300, 3, 16, 16)
    for setting in ("denoising", "sharpening"):
        stored, _ = record(light, light, plain(**{setting: 0.3}), seeded())
        changed = (stored - to_encoded(light)).abs().amax((1, 2, 3)) > 1e-5
        assert 0.22 < changed.float().mean() < 0.38


def test_worse_jpeg_quality_is_drawn_within_its_bounds(monkeypatch):
    asked = []
    monkeypatch.setattr(camera, "compress", lambda image, quality: asked.append(quality) or image)
    light = flat(0.5, 0.5, 0.5, count=200, size=2)
    record(light, light, plain(quality=(40.0, 90.0)), seeded())
    (quality,) = asked
    assert quality.shape == (200,) and quality.min() >= 40 and quality.max() <= 90
    assert quality.min() < 45 and quality.max() > 85


@settings(max_examples=8)
@given(
    seed=st.integers(0, 99),
    size=st.sampled_from([16, 32]),
    noise=st.floats(0, 0.5, width=32),
    share=levels,
    quality=st.floats(1, 100, width=32),
)
def test_any_light_becomes_a_picture_and_the_same_one_again(seed, size, noise, share, quality):
    light = 8 * torch.rand(2, 3, size, size, generator=seeded(seed)) ** 4
    camera_settings = CameraSettings(
        noise=noise,
        mosaic=share,
        softness=5 * share,
        tone=share,
        denoising=share,
        sharpening=share,
        quality=(1.0, quality),
    )
    first, second = (record(light, light.flip(3), camera_settings, seeded(seed)) for _ in range(2))
    for stored, again in zip(first, second, strict=True):
        assert stored.shape == light.shape and stored.dtype == torch.float32
        assert stored.min() >= 0 and stored.max() <= 1  # not-a-number fails this too
        assert torch.equal(stored, again)


SIZE = 33


def point(count=1, channels=1):
    image = torch.zeros(count, channels, SIZE, SIZE)
    image[..., SIZE // 2, SIZE // 2] = 1
    return image


def width(spread):
    """Standard deviation of a spot in pixels, down and across."""
    place = torch.arange(SIZE) - SIZE // 2
    return [float((spread.sum(axis) * place**2).sum().clamp(min=0).sqrt()) for axis in (1, 0)]


@settings(max_examples=8)
@given(deviation=st.floats(0.625, 2, width=32))
def test_a_gaussian_spreads_a_point_by_its_deviation(deviation):
    spot = gaussian_blur(point(), torch.full((1, 1, 1, 1), deviation), 2.0)[0, 0]
    assert width(spot) == pytest.approx([deviation] * 2, rel=0.03)
    assert spot.sum().item() == pytest.approx(1, abs=1e-5)


@settings(max_examples=8)
@given(radius=st.floats(0.75, 8, width=32))
def test_out_of_focus_a_point_is_a_disc_or_as_soft_a_bell(radius):
    discs = torch.tensor([True, False])
    disc, bell = out_of_focus(point(2), torch.full((2,), radius), Lens.plain(discs), 8.0)[:, 0]
    assert disc.sum().item() == pytest.approx(1, abs=1e-4) and bell.sum().item() == pytest.approx(1, abs=1e-4)
    if radius > 2:
        assert 1 / disc.max().item() == pytest.approx(math.pi * radius**2, rel=0.1)  # its area
        assert width(disc) == pytest.approx([radius / 2] * 2, rel=0.15)
        assert width(bell) == pytest.approx([radius / 2] * 2, rel=0.15)
        assert disc.max() < bell.max()


@pytest.mark.parametrize("blades", [5, 6, 8])
def test_an_aperture_has_as_many_sides_a_width_and_a_rim_as_its_lens_says(blades):
    sided, narrow, rimmed = torch.eye(3)
    across = torch.full((3,), math.pi / 2)  # from above
    lens = Lens(torch.ones(3) > 0, 1 - 0.5 * narrow, across, blades * sided, rimmed)
    polygon, slit, ring = out_of_focus(point(3), torch.full((3,), 8.0), lens, 8.0)[:, 0]
    area = blades / 2 * 8**2 * math.sin(2 * math.pi / blades)
    assert 1 / polygon.max().item() == pytest.approx(area, rel=0.15)
    assert width(slit) == pytest.approx([2, 4], rel=0.15)
    assert ring[SIZE // 2, SIZE // 2 + 7] > 1.5 * ring[SIZE // 2, SIZE // 2] > 0


@pytest.mark.parametrize("value", [0.0, 0.3, 4.0])
def test_an_even_picture_is_in_focus_everywhere_up_to_the_border(value):
    even = torch.full((1, 4, 16, 32), value)
    assert torch.allclose(
        out_of_focus(even, torch.tensor([7.0]), Lens.plain(torch.tensor([True])), 8.0), even, atol=1e-5
    )
    assert torch.allclose(gaussian_blur(even, torch.ones(1, 1, 1, 1), 1.0), even, atol=1e-5)


def through_a_file(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def as_tensor(pixels):
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 255


def levels_apart(found, pixels):
    return float((found[0].permute(1, 2, 0) * 255 - torch.from_numpy(pixels.copy())).abs().mean())


@pytest.mark.parametrize("quality", [20, 50, 75, 90, 98])
def test_loss_is_that_of_a_jpeg_file(quality):
    # A file's colors are rounded to whole levels before and after its cosine transform, ours are not,
    # which makes about one level; what JPEG itself changes is three to seven.
    pixels = picture((96, 128))
    found, real = compress(as_tensor(pixels), torch.tensor([float(quality)])), through_a_file(pixels, quality)
    assert levels_apart(found, real) < 1.25
    assert levels_apart(found, real) < 0.5 * levels_apart(as_tensor(pixels), real)


def test_each_picture_of_a_batch_has_its_own_quality():
    image = as_tensor(picture((32, 32))).repeat(2, 1, 1, 1)
    both = compress(image, torch.tensor([10.0, 95.0]))
    assert torch.equal(both[:1], compress(image[:1], torch.tensor([10.0])))
    first, second = (both - image).abs().mean((1, 2, 3))
    assert first > 3 * second

"""Where little can be restored, the user learns why, and what to try."""

from dataclasses import replace

import numpy as np
import pytest
from restoration_helpers import photo_of

from deblur_cli.restoration.advice import advice, densest
from deblur_cli.restoration.deblurrer import Request, untouched
from deblur_cli.restoration.findings import everywhere

SIZE = (203, 306)


def restored(pixels, change, length=20.0, **request):
    """A photo whose lower right part moved by so many pixels, and what became of it: `change` more there."""
    findings = everywhere(*pixels.shape[:2], 0.0)
    findings.probability[10:, 16:] = 1
    findings.end[0] = length
    photo = photo_of(pixels)
    result = untouched(photo, findings, Request(**request))
    after = pixels.copy()
    after[80:, 128:] += np.asarray(change, pixels.dtype)
    return photo, replace(result, photo=photo_of(after), changed=True)


def smooth(dtype=np.uint8, channels=3):
    """A picture without noise, and with room to be lighter."""
    ramp = np.linspace(20, 120, SIZE[1]) * (np.iinfo(dtype).max / 255)
    return np.broadcast_to(ramp[None, :, None], (*SIZE, channels)).astype(dtype)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_nothing_is_said_where_all_is_well(dtype, channels):
    largest = np.iinfo(dtype).max
    assert advice(*restored(smooth(dtype, channels), 5 * largest / 255)) == ()


def test_each_reason_has_its_line():
    (line,) = advice(*restored(smooth(), 5, length=140.0))
    assert "most of the blur is about 140 pixels long, and beyond 88" in line and "half the size" in line
    noise = np.random.default_rng(0).normal(0, 25, (*SIZE, 3))
    (line,) = advice(*restored((smooth() + 60 + noise).clip(0, 240).astype(np.uint8), 9))
    assert "noise (about 2" in line and "reduce it with another program" in line
    (line,) = advice(*restored(smooth(), 1))
    assert "hardly any detail" in line and "--strength 150" in line


def test_a_low_strength_is_the_user_s_own_choice():
    assert advice(*restored(smooth(), 1, strength=0.3)) == ()
    assert advice(*restored(smooth(np.uint16), 300, strength=1.0))


def test_noise_that_hides_the_blur_itself_is_told():
    noise = np.random.default_rng(0).normal(0, 40, (*SIZE, 3))
    photo = photo_of((smooth() + 60 + noise).clip(0, 255).astype(np.uint8))
    (line,) = advice(photo, untouched(photo, everywhere(*SIZE, 0.0), Request()))
    assert "whether anything moved is hard to tell: noise (about " in line


def test_a_photo_that_came_out_as_it_was_needs_no_advice():
    photo = photo_of(smooth())
    assert advice(photo, untouched(photo, everywhere(*SIZE, 0.0), Request())) == ()


@pytest.mark.parametrize("place", [(0, 0), (70, 3), (99, 149), (40, 100)])
def test_the_densest_window_holds_what_there_is(place):
    mask = np.zeros((100, 150), np.float32)
    mask[place] = 1
    rows, columns = densest(mask)
    assert mask[rows, columns].sum() == 1 and mask[rows, columns].shape == (64, 64)
    small = np.ones((5, 7), np.float32)
    assert small[densest(small)].shape == (5, 7)

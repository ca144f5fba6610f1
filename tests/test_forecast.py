"""Forecasts against runs, with a clock that only networks drive: so many seconds for each pixel they see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import guided_by, lively, lively_detector, weights_of

from deblur_cli.photo.photo import Photo
from deblur_cli.restoration import engine, forecast
from deblur_cli.restoration.deblurrer import Deblurrer, Request
from deblur_cli.restoration.findings import everywhere
from deblur_cli.restoration.limits import Tiling

LOOKING, RESTORING = 1e-6, 7e-6  # seconds for each pixel


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def since(self, action):
        before = self.now
        result = action()
        return result, self.now - before


@pytest.fixture
def clock(monkeypatch):
    ticking = Clock()
    find, attempt = engine.Engine.detect_tile, engine.Engine.restore_part

    def slow_find(self, network, image):
        ticking.now += LOOKING * image[0, 0].numel()
        return find(self, network, image)

    def slow_attempt(self, network, image, told, epsilon):
        ticking.now += RESTORING * image[0, 0].numel()
        return attempt(self, network, image, told, epsilon)

    monkeypatch.setattr(engine.Engine, "detect_tile", slow_find)
    monkeypatch.setattr(engine.Engine, "restore_part", slow_attempt)
    monkeypatch.setattr(forecast, "time", ticking)
    return ticking


def deblurrer(network=None, scales=(1, 2, 4, 8), tile=128):
    loaded = guided_by(lively_detector(), lively(pooling=64)) if network is None else weights_of(network)
    return Deblurrer(loaded, "cpu", "fp32", Tiling(tile), scales)


def noise(height, width):
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return Photo(pixels=pixels, source=Path("x.png"), format="PNG")


@pytest.mark.parametrize("keep_sharp", [True, False])
@pytest.mark.parametrize("scales", [(1, 2, 4, 8), (1,), (2, 4)])
def test_one_look_foretells_what_each_run_does_and_takes(clock, keep_sharp, scales):
    both, photo = deblurrer(scales=scales), noise(280, 400)
    requests = [Request(epsilon, keep_sharp) for epsilon in (0.2, 0.5, 0.9, 1.0)]
    for outlook, request in zip(forecast.forecast(both, photo, requests), requests, strict=True):
        findings, looking = clock.since(lambda: both.detect(photo))
        run, restoring = clock.since(lambda: both.restore(photo, findings, request))  # noqa: B023
        assert outlook.result.epsilon == request.epsilon
        assert outlook.result.blurred_share == pytest.approx(run.blurred_share)
        assert outlook.result.scale_shares == pytest.approx(run.scale_shares)
        assert (outlook.result.tiles, outlook.tiles_restored) == (run.tiles, run.tiles_restored)
        np.testing.assert_array_equal(outlook.result.findings.probability, run.findings.probability)
        assert outlook.seconds == pytest.approx(looking + restoring)
        assert not outlook.result.changed and outlook.result.photo is photo


def test_nothing_blurred_costs_no_more_than_looking(clock):
    both, photo = deblurrer(), noise(160, 160)
    (outlook,) = forecast.forecast(both, photo, [Request(1.0)])
    assert (outlook.tiles_restored, outlook.result.blurred_share) == (0, 0)
    assert outlook.seconds == pytest.approx(clock.since(lambda: both.detect(photo))[1])


SIDES = st.integers(20, 500)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=2), st.floats(1, 8))
def test_the_estimate_lies_around_what_runs_take(sizes, scale):
    with pytest.MonkeyPatch.context() as monkeypatch:
        ticking = clock.__wrapped__(monkeypatch)
        both = deblurrer()
        told = forecast.estimate(both, Request(), sizes)
        looking = restoring = 0.0
        for width, height in sizes:
            photo = noise(height, width)
            looking += ticking.since(lambda: both.detect(photo))[1]  # noqa: B023
            blurred = everywhere(height, width, scale=scale)
            restoring += ticking.since(lambda: both.restore(photo, blurred, Request()))[1]  # noqa: B023
        assert told.least == pytest.approx(looking)
        assert told.least <= looking + restoring <= told.most * 1.001
        at_full_size = RESTORING / LOOKING * looking  # detection sees the same tiles at the same scales
        assert told.most - told.least == pytest.approx(at_full_size)


def test_a_network_that_marks_nothing_restores_all_in_any_case(clock):
    told = forecast.estimate(deblurrer(lively("nafnet", pooling=64)), Request(), [(200, 300)])
    assert told.least == told.most > 0


def test_estimates_are_told_as_roughly_as_they_are_known():
    told = forecast.Estimate(3.3, 200.0, "cpu")
    assert str(told).startswith("3 s to 3 min, depending on how much is blurred, on cpu")
    assert str(replace(told, most=3.4)).startswith("about 3 s on cpu")

"""Forecasts against runs: seconds on a clock that only networks drive, macs against what torch counts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import guided_by, lively, lively_detector, lively_lmd_vit, weights_of
from restoration_helpers import photo_of
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.nets.macs import count_restoration, count_spared
from deblur_cli.restoration import Tiling, engine, forecast
from deblur_cli.restoration.deblurrer import Deblurrer, Request
from deblur_cli.restoration.findings import Findings, everywhere
from deblur_cli.restoration.forecast import detection_macs, parts_macs, restored_parts

DETECTING, RESTORING = 1e-6, 7e-6  # seconds for each pixel


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
    detect, restore = engine.Engine.detect_tile, engine.Engine.restore_part

    def slow_detect(self, network, image):
        ticking.now += DETECTING * image[0, 0].numel()
        return detect(self, network, image)

    def slow_restore(self, network, image, maps, epsilon):
        ticking.now += RESTORING * image[0, 0].numel()
        return restore(self, network, image, maps, epsilon)

    monkeypatch.setattr(engine.Engine, "detect_tile", slow_detect)
    monkeypatch.setattr(engine.Engine, "restore_part", slow_restore)
    monkeypatch.setattr(forecast, "time", ticking)
    return ticking


def deblurrer(network=None, scales=(1, 2, 4, 8), tile=128):
    loaded = (
        guided_by(lively_detector(wide=0), lively(pooling=64)) if network is None else weights_of(network)
    )
    return Deblurrer(loaded, "cpu", "fp32", Tiling(tile), scales)


def noise(height, width):
    return photo_of(np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize(("scales", "keep_sharp"), [((1, 2, 4, 8), True), ((1,), False), ((2, 4), True)])
def test_one_detection_foretells_what_each_run_does_and_takes(clock, scales, keep_sharp):
    both, photo = deblurrer(scales=scales), noise(280, 400)
    requests = [Request(epsilon, keep_sharp) for epsilon in (0.2, 0.5, 0.9, 1.0)]
    for outlook, request in zip(forecast.forecast(both, photo, requests), requests, strict=True):
        findings, detecting = clock.since(lambda: both.detect(photo))
        run, restoring = clock.since(lambda: both.restore(photo, findings, request))  # noqa: B023
        assert outlook.result.epsilon == request.epsilon
        assert outlook.result.blurred_share == pytest.approx(run.blurred_share)
        assert outlook.result.scale_shares == pytest.approx(run.scale_shares)
        assert (outlook.result.tiles, outlook.tiles_restored) == (run.tiles, run.tiles_restored)
        np.testing.assert_array_equal(outlook.result.findings.probability, run.findings.probability)
        assert outlook.seconds == pytest.approx(detecting + restoring)
        assert not outlook.result.changed and outlook.result.photo is photo


def test_nothing_blurred_costs_no_more_than_detection(clock):
    both, photo = deblurrer(), noise(160, 160)
    (outlook,) = forecast.forecast(both, photo, [Request(1.0)])
    assert (outlook.tiles_restored, outlook.result.blurred_share) == (0, 0)
    assert outlook.seconds == pytest.approx(clock.since(lambda: both.detect(photo))[1])


SIDES = st.integers(20, 500)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=2), st.floats(1, 8))
@settings(max_examples=5)
def test_the_estimate_lies_around_what_runs_take(sizes, scale):
    with pytest.MonkeyPatch.context() as monkeypatch:
        ticking = clock.__wrapped__(monkeypatch)
        both = deblurrer()
        estimate = forecast.estimate(both, Request(), sizes)
        detecting = restoring = 0.0
        for width, height in sizes:
            photo = noise(height, width)
            detecting += ticking.since(lambda: both.detect(photo))[1]  # noqa: B023
            blurred = everywhere(height, width, scale=scale)
            restoring += ticking.since(lambda: both.restore(photo, blurred, Request()))[1]  # noqa: B023
        assert estimate.least == pytest.approx(detecting)
        assert estimate.least <= detecting + restoring <= estimate.most * 1.001
        at_full_size = RESTORING / DETECTING * detecting  # detection sees the same tiles at the same scales
        assert estimate.most - estimate.least == pytest.approx(at_full_size)


def test_photos_side_by_side_each_have_their_share_of_the_cores(clock, monkeypatch):
    counts, given = [], torch.get_num_threads()
    monkeypatch.setattr(forecast, "_time_sample", lambda *_: counts.append(torch.get_num_threads()) or (2, 3))
    one, many = (forecast.estimate(deblurrer(), Request(), [(200, 300)] * 4, count) for count in (1, 2))
    assert many.most == pytest.approx(one.most / 2)
    assert counts == [given, given, max(1, given // 2), max(1, given // 2)]
    single = forecast.estimate(deblurrer(), Request(), [(200, 300)], at_once=2)
    assert single.most == pytest.approx(one.most / 4) and torch.get_num_threads() == given


def test_a_network_that_marks_nothing_restores_all_in_any_case(clock):
    estimate = forecast.estimate(deblurrer(lively("nafnet", pooling=64)), Request(), [(200, 300)])
    assert estimate.least == estimate.most > 0


def test_estimates_are_as_rough_as_they_are_known():
    estimate = forecast.Estimate(3.3, 200.0, "cpu")
    assert str(estimate).startswith("3 s to 3 min, depending on how much is blurred, on cpu")
    assert str(replace(estimate, most=3.4)).startswith("about 3 s on cpu")


def counted(action):
    """Macs of matrix products and convolutions, two operations each."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        action()
    return counter.get_total_flops() // 2


def half_moved(height, width, scale):
    """Findings of a photo of which the upper half moved."""
    cells = (-(-height // 8), -(-width // 8))
    probability, still = np.zeros(cells, np.float32), np.zeros((2, *cells), np.float32)
    probability[: cells[0] // 2] = 1
    return Findings((height, width), probability, still, still, np.full(cells, scale, np.float32))


@pytest.mark.parametrize(("scales", "keep_sharp"), [((1,), False), ((1, 2, 4), True)])
def test_a_run_is_counted_as_torch_counts_it_over_all_scales(scales, keep_sharp):
    # NAFNet, as torch counts neither deformable convolution nor what is gathered
    weights = guided_by(lively_detector(pooling=48), lively("nafnet", pooling=48))
    deblurrer, photo = Deblurrer(weights, "cpu", "fp32", Tiling(128), scales), noise(260, 330)
    assert counted(lambda: deblurrer.detect(photo)) == detection_macs(deblurrer, 260, 330)
    findings, request = half_moved(260, 330, 1.5), Request(0.5, keep_sharp)
    results = []
    found = counted(lambda: results.append(deblurrer.restore(photo, findings, request)))
    parts = restored_parts(deblurrer, photo, findings, request)
    assert parts_macs(deblurrer, parts) == found > 0
    assert len(parts) == results[0].tiles_restored
    assert {scale for scale, *_ in parts} <= set(scales)


def test_a_run_with_pruning_is_cheaper_than_without():
    deblurrer = Deblurrer(weights_of(lively(pooling=64)), "cpu", "fp32", Tiling(128), (1,))
    photo, findings = noise(128, 128), half_moved(128, 128, 1.0)
    network, mask = deblurrer.restorer.network, torch.from_numpy(findings.probability)[None, None]
    found = parts_macs(deblurrer, restored_parts(deblurrer, photo, findings, Request(0.5, keep_sharp=False)))
    spared = count_spared(network, 128, 128, mask)
    assert found == count_restoration(network, 128, 128) - spared
    assert spared > 0


def test_windows_of_a_run_are_not_counted():
    deblurrer = Deblurrer(weights_of(lively_lmd_vit()), "cpu", "fp32", Tiling(128), (1,))
    assert detection_macs(deblurrer, 128, 128) is None
    parts = restored_parts(deblurrer, noise(128, 128), half_moved(128, 128, 1.0), Request())
    assert parts_macs(deblurrer, parts) is None

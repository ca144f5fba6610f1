"""The epsilon that weights recommend."""

import pytest
import torch

from deblur_cli.train.samples import Sample
from deblur_cli.train.scores import CANDIDATES, ENOUGH, MOST_TOUCHED, calibrate

SIDE = 64


def sample():
    """A picture whose left half is blurred: restoring that is right, restoring more is wrong."""
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[..., : SIDE // 2] = 1
    sharp = torch.full((1, 3, SIDE, SIDE), 0.5)
    still = torch.zeros(1, 2, SIDE, SIDE)
    return Sample(sharp + 0.1 * mask, sharp, mask, still, still)


def outcome_of(blurred, sharp):
    """A network that is so sure of the blurred half, and of a quarter of any picture that is sharp."""

    def outcome(picture):
        cells = SIDE // 8
        confidence = torch.zeros(1, 1, cells, cells)
        if picture.std() > 0.01:
            confidence[..., : cells // 2] = blurred
        else:
            confidence[..., : cells // 2, : cells // 2] = sharp
        return confidence, torch.full_like(picture, 0.501)

    return outcome


SHARP = [torch.full((1, 3, SIDE, SIDE), 0.2)]


def test_the_threshold_lies_between_what_is_blurred_and_what_is_sharp():
    found = calibrate(outcome_of(blurred=0.62, sharp=0.33), [sample()], SHARP)
    assert 0.33**5 < found.epsilon < 0.62  # a region counts from the fifth root of epsilon somewhere
    assert found.sharp_touched <= MOST_TOUCHED and found.kept_gain > 20


def test_a_network_that_is_never_wrong_gets_the_threshold_of_largest_gain():
    found = calibrate(outcome_of(blurred=0.9, sharp=0.0), [sample()], SHARP)
    every = [
        calibrate(outcome_of(blurred=0.9, sharp=0.0), [sample()], []).kept_gain,
        found.kept_gain,
    ]
    assert every[0] == pytest.approx(every[1]) and found.sharp_touched == 0


def test_where_all_thresholds_touch_sharp_photos_the_one_that_touches_least_is_taken():
    found = calibrate(outcome_of(blurred=1.0, sharp=1.0), [sample()], SHARP)
    assert found.sharp_touched > MOST_TOUCHED and found.epsilon in CANDIDATES


def test_the_epsilon_of_a_detector_stays_unless_another_is_clearly_better_on_enough_pictures():
    sure = outcome_of(blurred=0.75, sharp=0.0)  # nothing is restored with 0.8, everything with 0.2
    assert calibrate(sure, [sample()] * ENOUGH, SHARP, own=0.2).epsilon == 0.2
    assert calibrate(sure, [sample()] * (ENOUGH - 1), SHARP, own=0.8).epsilon == 0.8
    assert calibrate(sure, [sample()] * ENOUGH, SHARP, own=0.8).epsilon < 0.75

    def useless(picture):
        return sure(picture)[0], picture

    assert calibrate(useless, [sample()] * ENOUGH, SHARP, own=0.8).epsilon == 0.8

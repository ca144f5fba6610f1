"""The course of a run: its rate and its blur over steps and time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.train.course import blur_now, learning_rate, progress
from deblur_cli.train.settings import TrainSettings
from deblur_cli.train.synthetic import BlurSettings


def wsd(**changes):
    return TrainSettings(
        schedule="wsd", learning_rate=1e-2, final_rate=1e-5, warmup=0, **{"cooldown": 0.2, **changes}
    )


def test_progress_is_by_steps_or_by_time_whichever_is_farther():
    settings = TrainSettings(steps=1000, time_limit=60.0)
    assert progress(settings, 0, 30.0) == 0.5
    assert progress(settings, 750, 30.0) == 0.75
    assert progress(settings, 0, 90.0) == 1
    assert progress(TrainSettings(steps=1000), 250, 1e9) == 0.25


def test_a_stable_rate_cools_down_at_the_end():
    assert [learning_rate(wsd(), 500, done) for done in (0, 0.4, 0.8)] == pytest.approx([1e-2] * 3)
    assert learning_rate(wsd(), 500, 0.9) == pytest.approx((1e-2 + 1e-5) / 2)
    assert learning_rate(wsd(), 500, 1.0) == pytest.approx(1e-5)


def test_without_a_cool_down_the_rate_stays():
    assert learning_rate(wsd(cooldown=0.0), 500, 1.0) == 1e-2


@given(st.sampled_from(["cosine", "wsd"]), st.floats(0, 1), st.floats(0, 1))
def test_after_the_warm_up_the_rate_never_rises(schedule, one, other):
    settings = TrainSettings(schedule=schedule, warmup=0)
    early, late = sorted([one, other])
    assert learning_rate(settings, 9, early) >= learning_rate(settings, 9, late) - 1e-18


def test_longer_blur_comes_step_by_step():
    settings = TrainSettings(curriculum=0.5, blur=BlurSettings(shortest=1, longest=64))
    longest = [blur_now(settings, done).longest for done in (0, 0.25, 0.5, 1)]
    assert longest == pytest.approx([8, 8**1.5, 64, 64])
    assert blur_now(settings, 0).shortest == 1


def test_without_a_curriculum_the_blur_is_that_of_the_settings():
    settings = TrainSettings()
    assert blur_now(settings, 0) is settings.blur

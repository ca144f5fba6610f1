"""Settings: what is read, what is refused before any work, and the course of a run that they describe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from train_helpers import changed

from deblur_cli import weights
from deblur_cli.errors import TrainingError
from deblur_cli.nets import create
from deblur_cli.train.settings import (
    SHIPPED,
    BlurSettings,
    TrainSettings,
    blur_settings,
    find_config,
    read_settings,
)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text)
        return path

    return write


def test_values_replace_defaults_and_overrides_replace_values(write):
    path = write("patch = 64\nlearning_rate = 1\n[blur]\nlongest = 20\n[network]\nencoder = [1, 1, 1, 4]\n")
    settings = read_settings(path, {"blur.longest": 24, "loss.mask": 0.5})
    assert (settings.patch, settings.learning_rate) == (64, 1.0)
    assert (settings.blur.longest, settings.loss.mask) == (24.0, 0.5)
    assert settings.network.encoder == (1, 1, 1, 4)
    assert settings.batch == TrainSettings().batch


def test_paper_settings_are_those_of_the_paper():
    settings = read_settings(find_config("paper"))
    assert (settings.patch, settings.batch, settings.betas) == (256, 8, (0.9, 0.9))
    assert (settings.learning_rate, settings.final_rate, settings.weight_decay) == (1e-3, 1e-6, 1e-3)
    assert settings.network.width == 32 and settings.network.encoder == (1, 1, 1, 28)
    assert (settings.loss.mask, settings.loss.fft) == (0.01, 0.1)


def test_the_settings_that_come_along_go_by_these_names():
    names = [path.stem for path in SHIPPED.glob("*.toml")]
    ablations = [name for name in names if name.startswith("ablation-")]
    others = ["base-gpu", "detector", "paper", "small", "small-cpu", "small-cpu-further"]
    assert sorted(set(names) - set(ablations)) == others
    assert len(ablations) == 6


def test_a_config_is_a_shipped_name_or_a_path(write):
    path = write("")
    assert find_config(str(path)) == path
    with pytest.raises(
        TrainingError, match=r"no settings file small-gpu: .*paper, small, small-cpu, small-cpu-further"
    ):
        find_config("small-gpu")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patch = ", "not valid TOML"),
        ("ptach = 64", r"unknown setting 'ptach': did you mean patch\?"),
        ("longest = 64", r"unknown setting 'longest': did you mean blur\.longest\?"),
        ("[blur]\nlongets = 64", r"unknown setting 'blur.longets': did you mean blur\.longest\?"),
        ("[blurr]\nlongest = 64", r"unknown setting 'blurr.longest': did you mean blur\.longest\?"),
        ("xyzzy = 64", r"did you mean \S+\?$"),
        ("patch = 'large'", "'patch' must be a whole number, not 'large'"),
        ("patch = 64.5", "'patch' must be a whole number"),
        ("batch = true", "'batch' must be a whole number"),
        ("clip = true", "'clip' must be a number"),
        ("guidance_gradient = 1", "'guidance_gradient' must be true or false"),
        ("photos = 3", "'photos' must be text"),
        ("pairs = 'GoPro'", "'pairs' must be a list, not 'GoPro'"),
        ("blur = 3", "'blur' must be a section with settings of its own, not 3"),
        ("betas = [0.9]", "'betas' must be a list of 2 numbers"),
        ("betas = [0.9, 0.9, 0.9]", "'betas' must be a list of 2 numbers"),
        ("betas = ['a', 'b']", "'betas' must be a number, not 'a'"),
        ("betas = [0.9, 1]", "'betas' must be below 1, not 1"),
        ("patch = 40", "'patch' must be a multiple of 16, not 40"),
        ("patch = 0", "'patch' must be above 0"),
        ("steps = -1", "'steps' must be at least 1, not -1"),
        ("learning_rate = nan", "'learning_rate' must be a finite number, not nan"),
        ("ema = 1.5", "'ema' must be at most 1, not 1.5"),
        ("seed = 9000000000000000000", "'seed' must be below 4294967296"),
        ("schedule = 'linear'", "'schedule' must be 'cosine' or 'wsd', not 'linear'"),
        ("[blur.camera]\nmosaic = 2", "'blur.camera.mosaic' must be at most 1"),
        ("[blur.camera]\nquality = [90, 101]", "'blur.camera.quality' must be at most 100"),
        ("[blur.camera]\nquality = [90, 80]", "of 'blur.camera': quality must be two rising numbers"),
        ("[network]\narchitecture = 'unet'", "must be 'm2aenet', 'nafnet' or 'detector', not 'unet'"),
        ("[network]\nencoder = [1, 1, 1, 0]", "'network.encoder' must be at least 1"),
        ("[network]\nencoder = [1, 1, 1]", "of 'network': .*stem 1 needs 4 stages"),
        ("[network]\nstem = 3", "of 'network': stem is 3: it must be 1, 2 or 4"),
        ("[network]\nmask = false\nmask_conv3 = true", "of 'network': mask_conv3 and mask_conv4 need a mask"),
        ("[network]\nguided = true", "network.guided and follows go together: name the detector"),
        (
            "[detector_loss]\nshortest_marked = 30",
            "of 'detector_loss': shortest_marked must be at most",
        ),
        ("[patches]\ncount = 4", "settings: patches.count must be 0 or at least a batch, not 4"),
        ("curriculum = 0.5\n[patches]\ncount = 64", "know no curriculum"),
        ("patch = 32\n[blur]\nlongest = 1e9", "blur.longest must be at most 4 times a picture's 32 pixels"),
        (
            "patch = 32\n[blur]\ndefocus_radius = 17",
            "blur.defocus_radius must be at most half of a",
        ),
        ("[blur]\nshortest = 9\nlongest = 4", "shortest must be at most longest, not 9 and 4"),
        ("[blur]\nsharp = 1", "nothing would ever move"),
        ("[blur]\nobjects = 0", "nothing would ever move"),
        ("[blur]\nstill = 0.5\nabsent = 0.5", "nothing would ever move"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(write, text, message):
    with pytest.raises(TrainingError, match=message) as caught:
        read_settings(write(text))
    assert "\n" not in str(caught.value)


def test_unreadable_files_and_overrides_of_nothing_are_refused(tmp_path, write):
    with pytest.raises(TrainingError, match="cannot read"):
        read_settings(tmp_path / "gone.toml")
    with pytest.raises(TrainingError, match=r"'batch\.size' does not exist"):
        read_settings(write("batch = 4"), {"batch.size": 3})
    path = write("")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(TrainingError, match="not valid TOML"):
        read_settings(path)


def test_settings_of_the_synthesis_go_by_their_own_names():
    found = blur_settings({"longest": 24, "camera.quality": [60, 70]}, 64)
    assert (found.longest, found.camera.quality, found.shortest) == (24.0, (60.0, 70.0), 4.0)
    for name, value, message in (
        ("blur.longest", 8, r"did you mean longest\?"),
        ("longest", 1000, "longest must be at most 4 times a picture's 64 pixels"),
        ("camera", 3, "'camera' must be a section"),
    ):
        with pytest.raises(TrainingError, match=message):
            blur_settings({name: value}, 64)


def test_ablations_are_the_paper_but_for_their_switches_and_can_be_kept(tmp_path):
    paper, seen = read_settings(find_config("paper")), []
    for path in sorted(SHIPPED.glob("ablation-*.toml")):
        settings = read_settings(path)
        assert changed(settings, network=paper.network) == paper
        network = create(**{**settings.network.model_dump(), "width": 4})
        weights.save(tmp_path / "w.safetensors", network, {})
        again = weights.load(str(tmp_path / "w.safetensors")).network
        assert again.config == network.config
        seen.append(again.config)
    assert len(set(seen)) == 6
    assert create("m2aenet", width=4).config not in seen


def wsd(**changes):
    return TrainSettings(
        schedule="wsd", learning_rate=1e-2, final_rate=1e-5, warmup=0, **{"cooldown": 0.2, **changes}
    )


def test_progress_is_by_steps_or_by_time_whichever_is_farther():
    settings = TrainSettings(steps=1000, time_limit=60.0)
    assert settings.progress(0, 30.0) == 0.5
    assert settings.progress(750, 30.0) == 0.75
    assert settings.progress(0, 90.0) == 1
    assert TrainSettings(steps=1000).progress(250, 1e9) == 0.25


def test_a_stable_rate_cools_down_at_the_end():
    assert [wsd().rate_at(500, done) for done in (0, 0.4, 0.8)] == pytest.approx([1e-2] * 3)
    assert wsd().rate_at(500, 0.9) == pytest.approx((1e-2 + 1e-5) / 2)
    assert wsd().rate_at(500, 1.0) == pytest.approx(1e-5)


def test_without_a_cool_down_the_rate_stays():
    assert wsd(cooldown=0.0).rate_at(500, 1.0) == 1e-2


@given(st.sampled_from(["cosine", "wsd"]), st.floats(0, 1), st.floats(0, 1))
def test_after_the_warm_up_the_rate_never_rises(schedule, one, other):
    settings = TrainSettings(schedule=schedule, warmup=0)
    early, late = sorted([one, other])
    assert settings.rate_at(9, early) >= settings.rate_at(9, late) - 1e-18


def test_longer_blur_comes_step_by_step():
    settings = TrainSettings(curriculum=0.5, blur=BlurSettings(shortest=1, longest=64))
    longest = [settings.blur_at(done).longest for done in (0, 0.25, 0.5, 1)]
    assert longest == pytest.approx([8, 8**1.5, 64, 64])
    assert settings.blur_at(0).shortest == 1


def test_without_a_curriculum_the_blur_is_that_of_the_settings():
    settings = TrainSettings()
    assert settings.blur_at(0) is settings.blur

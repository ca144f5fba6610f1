"""Settings files: what is read, and what is refused before any work."""

from dataclasses import asdict, replace

import pytest

from deblur_cli import weights
from deblur_cli.errors import TrainingError
from deblur_cli.nets import create
from deblur_cli.train.settings import SHIPPED, TrainSettings, find_config, read_settings


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
        ("[blur]\nspread = 0.5", "'blur.spread' is 1 or more"),
        ("[blur]\ndefocus_radius = 0", "'blur.defocus_radius' is 1 or more"),
        ("patch = 32\n[blur]\ndefocus_radius = 17", "at most half of a picture's 32 pixels, not 17"),
        ("ptach = 64", r"unknown setting 'ptach': did you mean patch\?"),
        ("longest = 64", r"unknown setting 'longest': did you mean blur\.longest\?"),
        ("[blur]\nlongets = 64", r"unknown setting 'blur.longets': did you mean blur\.longest\?"),
        ("xyzzy = 64", r"did you mean (\S+ or ){4}\S+\?$"),
        ("patch = 32\n[blur]\nlongest = 1e9", "'blur.longest' is at most 4 times a picture's 32 pixels"),
        ("[blur]\nobjects = 100000", "'blur.objects' is at most 32, not 100000"),
        ("[blur]\nenlarge = 1e9", "'blur.enlarge' is at most 8"),
        ("[blur]\nlong = 3", "unknown setting 'blur.long'"),
        ("patch = 'large'", "'patch' is a whole number, not 'large'"),
        ("patch = 64.5", "'patch' is a whole number"),
        ("batch = true", "'batch' is a whole number"),
        ("clip = true", "'clip' is a number"),
        ("guidance_gradient = 1", "'guidance_gradient' is true or false"),
        ("photos = 3", "'photos' is text"),
        ("blur = 3", "'blur' is a section"),
        ("betas = [0.9]", "'betas' is a list of 2 numbers"),
        ("betas = ['a', 'b']", "'betas' is a number, not 'a'"),
        ("patch = 40", "'patch' is a multiple of 16 pixels, not 40"),
        ("patch = 0", "'patch' must be above zero"),
        ("batch = 0", "'batch' must be above zero"),
        ("steps = -1", "'steps' cannot be below zero"),
        ("learning_rate = nan", "'learning_rate' is a finite number"),
        ("time_limit = inf", "'time_limit' is a finite number"),
        ("ema = 1.5", "'ema' is a share"),
        ("betas = [0.9, 1]", "'betas' are shares below 1"),
        ("seed = 9000000000000000000", "'seed' is below"),
        ("schedule = 'linear'", "'schedule' is cosine or wsd, not 'linear'"),
        ("pairs = 'GoPro'", "'pairs' is a list of texts"),
        ("synthetic = 1.5", "'synthetic' is a share"),
        ("cooldown = 2", "'cooldown' is a share"),
        ("[blur]\ngaps = 2", "'blur.gaps' is a share"),
        ("[blur.camera]\nmosaic = 2", "'blur.camera.mosaic' is a share"),
        ("[blur.camera]\nbrightest = 0.5", "'blur.camera.brightest' is 1 or more"),
        ("[network]\narchitecture = 'unet'", "m2aenet or nafnet or detector, not 'unet'"),
        ("[network]\nwidth = 0", "'network.width'"),
        ("[network]\nencoder = [1, 1, 1]", "stem 1 needs 4 stages"),
        ("[network]\nstem = 3", "stem is 3: it must be 1, 2 or 4"),
        ("[network]\nguided = true", "'network.guided' and 'follows' go together"),
        ("[detector_loss]\nshortest_marked = 0", "lengths to mark need 0 <"),
        ("[detector_loss]\ndoubt = 0.5", "'detector_loss.doubt' is 1 or more"),
        ("[detector]\nwidth = 0", "'detector.width' must be above zero"),
        ("[patches]\ncount = 4", "'patches.count' is 0 or at least a batch, not 4"),
        ("curriculum = 0.5\n[patches]\ncount = 64", "know no 'curriculum'"),
        ("[network]\nencoder = [1, 1, 1, 0]", "at least one block"),
        ("[blur]\nshortest = 9\nlongest = 4", "shortest <= longest, not 9 and 4"),
        ("[blur]\nsharp = 1", "nothing would ever move"),
        ("[blur]\nobjects = 0", "nothing would ever move"),
        ("[blur]\nstill = 0.5\nabsent = 0.5", "nothing would ever move"),
        ("[blur]\nshake = 2", "'blur.shake' is a share"),
        ("[blur]\npanning = 1.1", "'blur.panning' is a share"),
        ("[blur]\npatterns = 2", "'blur.patterns' is a share"),
        ("[blur]\nparallax = 9", "'blur.parallax' is at most 8, not 9"),
        ("[blur]\nshortest = 0.1\nlongest = 0.5", "'blur.longest' is 1 pixel or more, not 0.5"),
        ("[blur.camera]\ndenoising = 2", "'blur.camera.denoising' is a share"),
        ("[blur.camera]\nsharpening = 2", "'blur.camera.sharpening' is a share"),
        ("[blur.camera]\nsoftness = 6", "'blur.camera.softness' is at most 5, not 6"),
        ("[blur.camera]\ncrispness = 5", "'blur.camera.crispness' is at most 4, not 5"),
        ("[blur.camera]\nquality = [90, 101]", "'blur.camera.quality'"),
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


def test_ablations_are_the_paper_but_for_their_switches_and_can_be_kept(tmp_path):
    paper, seen = read_settings(find_config("paper")), []
    for path in sorted(SHIPPED.glob("ablation-*.toml")):
        settings = read_settings(path)
        assert replace(settings, network=paper.network) == paper
        network = create(**{**asdict(settings.network), "width": 4})
        weights.save(tmp_path / "w.safetensors", network, {})
        again = weights.load(str(tmp_path / "w.safetensors")).network
        assert again.config == network.config
        seen.append(again.config)
    assert len(set(seen)) == 6
    assert create("m2aenet", width=4).config not in seen


def test_masked_convolutions_need_a_mask(write):
    with pytest.raises(TrainingError, match=r"need 'network\.mask'"):
        read_settings(write("[network]\nmask = false\nmask_conv3 = true\n"))

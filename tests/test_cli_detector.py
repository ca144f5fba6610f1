"""Detectors on the command line: chosen, recommended epsilon taken over, refused in one line, told apart."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cli_helpers import deblur, make_photo, pixels_of, stop_at
from networks import finds, lively, lively_detector
from safetensors.torch import load_file, save_file
from test_evaluation import dataset

from deblur_cli import weights
from deblur_cli.cli.run.journal import hashes_in, hashes_of
from deblur_cli.weights import catalog

TOLD = {"encoder": (1, 1, 2), "decoder": (1, 1, 1), "stem": 2, "guided": True}
CPU = ("--device", "cpu", "--precision", "fp32")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A restorer that finds blur nowhere, one that has to be told, detectors that are more or less sure.

    A region is blurred if its confidence is above the fifth root of epsilon: 0.9 up to 0.59, 0.8 up to 0.32.
    """
    folder = tmp_path_factory.mktemp("files")

    def save(name, network, **notes):
        weights.save(folder / f"{name}.safetensors", network, notes, half=False)
        return folder / f"{name}.safetensors"

    torch.manual_seed(0)
    return {
        "blind": save("blind", finds_nothing(lively(pooling=64)), epsilon="0.25"),
        "told": save("told", lively(pooling=64, **TOLD)),
        "sure": save("sure", finds(lively_detector(), 0.9), epsilon="0.4"),
        "unsure": save("unsure", finds(lively_detector(), 0.8)),
        "broken": save("broken", lively_detector(), epsilon="many"),
        "folder": folder,
    }


def finds_nothing(network):
    last = network.mask_predictor.out_conv[4]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([-9.0, 9.0]))
    return network


@pytest.fixture
def photo(tmp_path):
    return make_photo(tmp_path / "photos" / "photo.png", (150, 100))


def run(photo, *words):
    """What a run says of one photo, and its summary."""
    result = deblur("run", photo, *CPU, "--json", *words)
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def refused(*words):
    """The one line that a command says in the place of working."""
    result = deblur(*words)
    assert (result.exit_code in (1, 2), result.stdout, result.stderr.count("\n")) == (True, "", 1)
    return result.stderr


def test_a_detector_finds_what_the_weights_do_not(photo, files):
    (done, summary) = run(photo, "-w", files["blind"], "--detector", files["sure"])
    assert (done["blurred_share"], done["changed"], summary["restored"]) == (1, True, 1)
    assert done["weights_sha256"] == weights.sha256(files["blind"])
    assert done["detector"] == str(files["sure"])
    assert done["detector_sha256"] == weights.sha256(files["sure"])
    before, after = pixels_of(photo), pixels_of(photo.with_name("photo_deblurred.png"))
    assert 0 < np.abs(before.astype(int) - after).mean() < 40
    (done, _) = run(photo, "-w", files["blind"], "--suffix", "_own")
    assert (done["blurred_share"], done["detector"], done["detector_sha256"]) == (0, None, None)


@pytest.mark.parametrize(
    ("words", "epsilon", "marked"),
    [
        (["--detector", "sure"], 0.4, True),
        (["--detector", "sure", "-e", "0.7"], 0.7, False),
        (["--detector", "unsure"], 0.5, False),  # what the weights recommend is for their own mask
        (["--detector", "own"], 0.25, False),
    ],
)
def test_epsilon_is_as_asked_for_or_as_recommended(photo, files, words, epsilon, marked):
    words = [str(files.get(word, word)) for word in words]
    words = ["-w", files["blind"], *words, "--tile", "128"]
    done, summary = run(photo, *words, "--only-maps", "--mask", "-o", photo.parent / "out")
    assert (done["epsilon"], summary["epsilon"]) == (epsilon, epsilon)
    assert done["blurred_share"] == (1 if marked else 0)
    dry = deblur("run", photo, *CPU, *words, "--dry-run", "--json")
    assert json.loads(dry.stdout.splitlines()[-1])["epsilon"] == epsilon
    used = "blind.safetensors" if epsilon == 0.25 else "sure.safetensors"  # or unsure
    assert f"{used}, epsilon {epsilon:g}" in dry.stderr


def test_the_note_in_a_photo_names_both(photo, files):
    photo = make_photo(photo.with_name("photo.jpg"), (150, 100))
    run(photo, "-w", files["blind"], "--detector", files["sure"])
    text = photo.with_name("photo_deblurred.jpg").read_bytes()
    own, found = (weights.sha256(files[name])[:8] for name in ("blind", "sure"))
    label = f"blind.safetensors {own} + sure.safetensors {found}, epsilon 0.4"
    assert label.encode() in text


def test_weights_that_have_to_be_told_are_refused_alone(photo, files):
    for words in ([], ["--detector", "own"]):
        line = refused("run", photo, "-w", files["told"], *words)
        assert "restores what a detector finds: choose one with --detector, or --epsilon 0" in line
    (done, _) = run(photo, "-w", files["told"], "--detector", files["sure"], "--trajectory")
    assert done["changed"] and done["trajectory"]


def test_a_restorer_that_detects_nothing_stands_behind_the_detector(photo, files, monkeypatch):
    """NAFNet restores what was found and leaves the rest; with none it restores the whole frame, as ever."""
    make_photo(photo, (160, 96))  # whole multiples of what NAFNet halves: nothing is padded
    torch.manual_seed(1)
    nafnet = files["folder"] / "nafnet.safetensors"
    weights.save(nafnet, lively("nafnet"), {}, half=False)
    monkeypatch.setattr(catalog, "DEFAULT_DETECTOR", str(files["sure"]))
    (done, _) = run(photo, "-w", nafnet)
    assert (done["detector"], done["epsilon"], done["changed"]) == (str(files["sure"]), 0.4, True)
    monkeypatch.setattr(catalog, "DEFAULT_DETECTOR", str(files["unsure"]))
    (done, _) = run(photo, "-w", nafnet, "--suffix", "_unsure", "-e", "0.9")
    assert (done["blurred_share"], done["changed"]) == (0, False)
    (done, _) = run(photo, "-w", nafnet, "--suffix", "_whole", "--detector", "none")
    assert (done["blurred_share"], done["detector"], done["changed"]) == (1, None, True)
    whole = pixels_of(photo.with_name("photo_whole.png"))
    image = torch.from_numpy(pixels_of(photo) / np.float32(255)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        expected = weights.load(str(nafnet)).network(image).image[0].permute(1, 2, 0).clamp(0, 1)
    assert np.abs(whole - expected.numpy() * 255).max() < 0.6
    line = refused("run", photo, "-w", nafnet, "--detector", "own", "--suffix", "_own")
    assert "does not detect blur by itself: use --detector none to restore the whole photo" in line


def test_an_interrupted_run_goes_on_with_the_same_detector(files, monkeypatch):
    """Weights of another program do not say what they are: their tensors tell, also before they are used."""
    torch.manual_seed(1)
    nafnet = files["folder"] / "published.pth"
    torch.save({"params": lively("nafnet").state_dict()}, nafnet)
    monkeypatch.setattr(catalog, "DEFAULT_DETECTOR", str(files["sure"]))
    for words in ([], ["--detector", "none"]):
        options = SimpleNamespace(weights=str(nafnet), detector=(["auto", *words])[-1])
        loaded = weights.guide(weights.load(str(nafnet)), options.detector)
        assert hashes_of(options) == hashes_in(loaded)


def test_findings_carry_over_between_restorers(photo, files):
    words = ("-w", "richardson-lucy", "--detector", files["sure"])
    (done, _) = run(photo, *words, "--data", "npz")
    assert done["changed"]
    findings = photo.with_name("photo_motion.npz")
    made = []
    for name in ("told", "blind"):
        words = ("-w", files[name], "--detector", files["sure"], "--findings", findings)
        (again, _) = run(photo, *words, "--suffix", f"_{name}")
        assert (again["tiles"], again["blurred_share"]) == (0, done["blurred_share"])
        made.append(pixels_of(photo.with_name(f"photo_{name}.png")))
    assert not np.array_equal(*made)


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_what_is_no_detector_or_no_restorer_is_one_line(command, photo, files):
    words = (command, photo if command == "run" else dataset(photo.parent / "set", 1))
    assert "holds a detector, which restores nothing" in refused(*words, "-w", files["sure"])
    line = refused(*words, "-w", files["blind"], "--detector", files["told"])
    assert "told.safetensors holds a restorer, not a detector" in line
    assert "gone.safetensors" in refused(*words, "-w", files["blind"], "--detector", "gone.safetensors")
    choices = "choose one of detector-small, auto, own, none, or give a .safetensors or .pth file"
    for name, wrong in [
        ("nosuch", "unknown detector 'nosuch'"),
        ("nafnet-gopro-width32", "nafnet-gopro-width32 holds a restorer, not a detector"),  # no download
    ]:
        assert refused(*words, "--detector", name) == f"error: {wrong}: {choices}\n"
    assert not list(photo.parent.glob("photo_*"))


@pytest.mark.parametrize("text", ["many", "1.5"])
def test_a_damaged_recommendation_is_one_line_and_can_be_overridden(photo, files, text, tmp_path):
    path = tmp_path / "damaged.safetensors"
    weights.save(path, finds(lively_detector(), 0.6), {"epsilon": text})
    words = ("-w", files["blind"], "--detector", path)
    assert f"damaged.safetensors recommends {text!r} as epsilon" in refused("run", photo, *words)
    assert run(photo, *words, "-e", "0.3")[0]["epsilon"] == 0.3


def test_the_sheet_of_epsilons_shows_what_the_detector_found(photo, files):
    words = ("-w", files["blind"], "--detector", files["sure"], "--values", "0.5,0.7", "--json", *CPU)
    result = deblur("epsilon", photo, *words)
    assert result.exit_code == 0, result.stderr
    low, high, _ = (json.loads(line) for line in result.stdout.splitlines())
    assert (low["blurred_share"], high["blurred_share"]) == (1, 0)


def test_evaluate_takes_a_detector_and_its_recommendation(tmp_path, files):
    folder = dataset(tmp_path / "set", 1)
    words = ("evaluate", folder, *CPU, "-w", files["blind"], "--json", "-o", tmp_path / "out")
    (own,) = map(json.loads, deblur(*words).stdout.splitlines())
    (found,) = map(json.loads, deblur(*words, "--detector", files["sure"]).stdout.splitlines())
    assert (own["detector"], own["epsilon"]) == (None, 0.25)
    assert (found["detector"], found["epsilon"]) == (str(files["sure"]), 0.4)
    assert own["measures"]["marked_share"]["mean"] == 0
    assert found["measures"]["marked_share"]["mean"] == 1


def test_resuming_notices_another_detector_and_another_epsilon(photo, files, tmp_path):
    words = ("-w", files["blind"], "-o", tmp_path / "out")
    make_photo(photo.with_name("second.png"), (60, 50))
    stop_at("second_deblurred.png", photo.parent, *CPU, *words, "--detector", files["sure"])
    hashes = {name: weights.sha256(files[name])[:16] for name in ("sure", "unsure")}
    again = ("run", photo.parent, *CPU, *words, "--resume")
    other = refused(*again, "--detector", files["unsure"])
    assert f"detector {hashes['sure']}, now {hashes['unsure']}" in other
    assert f"detector {hashes['sure']}, now own" in refused(*again)
    assert "epsilon not given, now 0.3" in refused(*again, "--detector", files["sure"], "-e", "0.3")
    copy = tmp_path / "copy.safetensors"  # what counts is what the file holds
    copy.write_bytes(files["sure"].read_bytes())
    assert deblur(*again, "--detector", copy).exit_code == 0
    assert (tmp_path / "out" / "second_deblurred.png").is_file()


def test_the_catalog_names_the_detector_of_the_default_weights(photo):
    (done, _) = run(photo)
    assert (done["weights"], done["detector"]) == ("m2aenet-guided", "detector-small")
    told = json.loads(deblur("info", "--json").stdout)["used"]
    assert (told["detector"], told["epsilon"], told["problem"]) == ("detector-small", done["epsilon"], None)
    shown = deblur("info").stdout
    for line in ("restorer m2aenet-guided: ", "detector detector-small: ", f"epsilon {done['epsilon']:g}\n"):
        assert f"used      {line}" in shown
    entries = [json.loads(line) for line in deblur("weights", "list", "--json").stdout.splitlines()]
    detectors = {entry["name"]: entry["detector"] for entry in entries}
    assert (detectors["m2aenet-guided"], detectors["detector-small"]) == ("detector-small", None)
    sizes = [line.split()[2:4] for line in deblur("weights", "list").stdout.splitlines()]
    assert ["104", "bytes"] in sizes and ["4.0", "MB"] in sizes


def test_verify_notices_a_detector_that_computes_something_else(tmp_path):
    path = tmp_path / "finder.safetensors"
    network = lively_detector()
    notes = {"fingerprint": json.dumps(weights.loading.fingerprint(network))}
    weights.save(path, network, notes, half=False)
    assert "test output OK" in deblur("weights", "verify", path).stdout
    for name in ("head.weight", "read_cues.weight", "context.0.conv2.weight"):
        state = load_file(path)
        state[name] = state[name] * 1.1
        changed = tmp_path / "changed.safetensors"
        save_file(state, changed, {**weights.files.read_metadata(path)})
        assert "computes something else" in refused("weights", "verify", changed), name


def test_weights_note_the_detector_that_they_follow(photo, files, tmp_path):
    path = tmp_path / "follower.safetensors"
    weights.save(path, lively(pooling=64, **TOLD), {"detector": str(files["sure"])})
    (done, _) = run(photo, "-w", path)
    assert (done["detector"], done["epsilon"]) == (str(files["sure"]), 0.4)
    weights.save(path, lively(pooling=64, **TOLD), {"detector": "lost.safetensors"})
    line = refused("run", photo, "-w", path, "--suffix", "_x")
    assert "follower.safetensors follows the detector lost.safetensors" in line and "--detector" in line
    assert run(photo, "-w", path, "--detector", files["sure"], "--suffix", "_x")[0]["changed"]

"""LMD-ViT from a published checkpoint to a restored photo."""

import json

import numpy as np
import pytest
import torch
from cli_helpers import deblur, make_photo, pixels_of
from networks import lively_lmd_vit
from safetensors import safe_open

from deblur_cli import weights
from deblur_cli.errors import WeightsError

SIZES = {"depths": (1, 2, 2, 2, 1), "heads": (1, 2, 4, 2, 1), "window": 8}
IMAGE = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def network():
    return lively_lmd_vit(**SIZES)


def answer(network):
    with torch.inference_mode():
        return network(IMAGE, epsilon=0.4).image


def test_published_checkpoints_load_unchanged(tmp_path, network):
    torch.save(
        {"state_dict": {f"module.{name}": v for name, v in network.state_dict().items()}},
        tmp_path / "lmdvit.pth",
    )
    loaded = weights.load(str(tmp_path / "lmdvit.pth"))
    assert (loaded.architecture, loaded.network.config) == ("lmd_vit", network.config)
    assert torch.equal(answer(loaded.network), answer(network))


@pytest.mark.parametrize("full", [False, True])
def test_a_converted_checkpoint_is_the_same_network_and_says_where_it_is_from(tmp_path, network, full):
    torch.save({"state_dict": network.state_dict()}, tmp_path / "lmdvit.pth")
    options = ["--full"] * full
    done = deblur("weights", "convert", tmp_path / "lmdvit.pth", "-o", tmp_path / "out", *options)
    path = tmp_path / "out" / "lmdvit.safetensors"
    assert (done.exit_code, done.stdout.splitlines()[0]) == (0, str(path)), done.stderr
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    assert notes["converted_from"] == "lmdvit.pth, tensors under 'state_dict'"
    loaded = weights.load(str(path))
    assert loaded.network.config == network.config
    if full:
        assert torch.equal(answer(loaded.network), answer(network))
    assert "test output OK" in deblur("weights", "verify", path).stdout
    assert "LMD-ViT" in path.with_suffix(".md").read_text(encoding="utf-8")
    again = deblur("weights", "convert", path, "-o", tmp_path / "again", "--part-size", "1MB", *options)
    assert again.exit_code == 0, again.stderr  # whole numbers do not count as shortened ones


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv.blocks.0.attn.relative_position_bias_table"), r"conv\..* is missing"),
        (
            lambda state: state["conv.blocks.0.attn.relative_position_index"].add_(1),
            "relative_position_index is an index of something else",
        ),
        (
            lambda state: state.update(
                {"conv.blocks.0.attn.relative_position_bias_table": torch.zeros(225, 3)}
            ),
            "configuration that cannot be built: the channels of each layer must be a multiple of its heads",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, network, change, message):
    state = {name: value.clone() for name, value in network.state_dict().items()}
    change(state)
    torch.save(state, tmp_path / "lmdvit.pth")
    with pytest.raises(WeightsError, match=message) as caught:
        weights.load(str(tmp_path / "lmdvit.pth"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [("--as", "m2aenet"), ("--pooling", "384")])
def test_what_makes_no_sense_for_it_is_refused_in_one_line(tmp_path, network, words):
    torch.save(network.state_dict(), tmp_path / "lmdvit.pth")
    done = deblur("weights", "convert", tmp_path / "lmdvit.pth", "-o", tmp_path / "out", *words)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "lmd_vit" in done.stderr


def confident(network, probability):
    """Make all predictors find the same confidence everywhere."""
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "score_predictor.out_conv.4" in name:
                value.zero_()
                if name.endswith("bias"):
                    value[0] = torch.logit(torch.tensor(float(probability)))
    return network


def saved(path, network):
    weights.save(path, network, {}, half=False)
    return path


def test_a_blurred_photo_is_restored_in_tiles_and_its_mask_drawn(tmp_path, network):
    photo = make_photo(tmp_path / "photo.png", (200, 150))
    file = saved(tmp_path / "tiny.safetensors", confident(network, 0.9))
    done = deblur(
        *("run", photo, "--weights", file, "--device", "cpu", "--precision", "fp32", "--json", "--mask"),
        *("--tile", "128", "--data", "npz"),
    )
    record, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert (done.exit_code, summary["restored"]) == (0, 1), done.stderr
    assert (record["blurred_share"], record["changed"], record["tiles_kept"]) == (1, True, 0)
    assert record["tiles_restored"] > 1
    before, after = pixels_of(photo), pixels_of(tmp_path / "photo_deblurred.png")
    assert 0 < np.abs(before.astype(int) - after).mean() < 40
    with np.load(tmp_path / "photo_motion.npz") as maps:
        np.testing.assert_allclose(maps["probability"], 0.9, rtol=1e-4)


@pytest.mark.parametrize("epsilon", ["0.5", "0.9"])
def test_a_photo_without_a_kept_window_comes_out_bit_identical(tmp_path, network, epsilon):
    photo = make_photo(tmp_path / "photo.jpg", (200, 150))
    file = saved(tmp_path / "tiny.safetensors", confident(network, 0.4))
    done = deblur("run", photo, "--weights", file, "--device", "cpu", "--epsilon", epsilon, "--json")
    record = json.loads(done.stdout.splitlines()[0])
    assert (done.exit_code, record["blurred_share"], record["tiles_restored"]) == (0, 0, 0)
    assert (tmp_path / "photo_deblurred.jpg").read_bytes() == photo.read_bytes()


@pytest.mark.parametrize("words", [("--trajectory",), ("--trajectory-style", "flow"), ("--only-maps",)])
def test_motion_that_it_does_not_tell_is_refused_before_a_photo_is_opened(tmp_path, network, words):
    photo = make_photo(tmp_path / "photo.png")
    file = saved(tmp_path / "tiny.safetensors", network)
    done = deblur("run", photo, "--weights", file, *words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "does not estimate motion" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.png", "tiny.safetensors"]


def test_only_maps_draws_its_mask(tmp_path, network):
    photo = make_photo(tmp_path / "photo.png", (64, 64))
    file = saved(tmp_path / "tiny.safetensors", network)
    done = deblur("run", photo, "--weights", file, "--only-maps", "--mask")
    assert (done.exit_code, done.stdout.split()) == (0, [str(tmp_path / "photo_mask.png")])


def test_a_sheet_of_several_epsilon_shows_what_each_run_finds(tmp_path, network):
    photo = make_photo(tmp_path / "photo.png", (200, 150))
    file = saved(tmp_path / "tiny.safetensors", network)
    same = ("--weights", file, "--device", "cpu", "--no-keep-sharp", "--json")
    sheet = deblur("epsilon", photo, "--values", "0.3,0.6", *same)
    found = {record["epsilon"]: record for record in map(json.loads, sheet.stdout.splitlines()[:2])}
    for epsilon, record in found.items():
        looking = ("--overwrite", "--only-maps", "--mask", "--epsilon", str(epsilon))
        done = deblur("run", photo, *looking, *same)
        assert json.loads(done.stdout.splitlines()[0])["blurred_share"] == record["blurred_share"]
    assert found[0.3]["blurred_share"] > found[0.6]["blurred_share"]


def test_bench_times_it(tmp_path, network):
    file = saved(tmp_path / "tiny.safetensors", network)
    done = deblur("bench", "--size", "64x64", "--repeats", "1", "--device", "cpu", "--weights", file)
    assert done.exit_code == 0, done.stderr
    assert "times as fast as dense float32 (64x64" in done.stdout.splitlines()[0]

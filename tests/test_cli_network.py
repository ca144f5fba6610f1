"""`deblur run` with a real, if tiny, network: the whole way from file to file."""

import json

import numpy as np
import pytest
import torch
from cli_helpers import deblur, make_photo, pixels_of
from safetensors.torch import save_file

from deblur_cli import nets, weights


@pytest.fixture(autouse=True)
def no_catalog(monkeypatch):
    monkeypatch.setattr(weights, "installed", lambda: ())


def save_network(path, *, blurred):
    """Save a network that finds blur everywhere or nowhere, and changes a little what it finds."""
    torch.manual_seed(0)
    network = nets.create("m2aenet", width=8, encoder=(1, 1, 1, 2), pooling=384)
    last = [module for module in network.mask_predictor.out_conv if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        network.ending.weight.mul_(0.05)
        network.ending.bias.zero_()
        last.weight.zero_()
        last.bias.copy_(torch.tensor([4.0, -4.0] if blurred else [-4.0, 4.0]))
    weights.save(path, network, {})
    return path


def test_blurred_photo_is_restored_and_drawn(tmp_path):
    photo = make_photo(tmp_path / "photo.png", (200, 150))
    network = save_network(tmp_path / "tiny.safetensors", blurred=True)
    result = deblur(
        *("run", photo, "--weights", network, "--device", "cpu", "--precision", "fp32"),
        *("--tile", "128", "--overlap", "32", "--mask", "--trajectory", "--json"),
    )
    done, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert (result.exit_code, summary["restored"]) == (0, 1)
    assert (done["blurred_share"], done["changed"], done["tiles_kept"]) == (1, True, 0)
    assert done["tiles"] > 1 and done["tiles_restored"] > 1
    assert done["scales"].keys() == {"1", "2"} and sum(done["scales"].values()) == pytest.approx(1, abs=1e-5)
    assert done["weights_sha256"] == weights.sha256(network)
    before, after = pixels_of(photo), pixels_of(tmp_path / "photo_deblurred.png")
    assert 0 < np.abs(before.astype(int) - after).mean() < 40
    for name in ("mask", "trajectory"):
        assert pixels_of(tmp_path / f"photo_{name}.png").shape == before.shape


def test_photo_in_which_nothing_is_found_comes_out_bit_identical(tmp_path):
    photo = make_photo(tmp_path / "photo.jpg", (200, 150))
    network = save_network(tmp_path / "tiny.safetensors", blurred=False)
    result = deblur("run", photo, "--weights", network, "--device", "cpu", "--json")
    done = json.loads(result.stdout.splitlines()[0])
    assert (result.exit_code, done["blurred_share"], done["tiles_restored"]) == (0, 0, 0)
    assert (tmp_path / "photo_deblurred.jpg").read_bytes() == photo.read_bytes()


def test_weights_that_cannot_be_used_are_named_and_nothing_is_written(tmp_path):
    photo = make_photo(tmp_path / "photo.png")
    (tmp_path / "text.safetensors").write_text("no weights")
    save_file({"conv.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    for name in ("text.safetensors", "other.safetensors", "gone.safetensors"):
        result = deblur("run", photo, "--weights", tmp_path / name)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert name in result.stderr
    unknown = deblur("run", photo, "--weights", "best-ever")
    assert (unknown.exit_code, "'best-ever'" in unknown.stderr) == (2, True)
    assert not list(tmp_path.glob("photo_*"))

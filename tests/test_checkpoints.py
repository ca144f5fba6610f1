"""Checkpoints as others publish them: read without running them, the same network afterwards."""

import json

import pytest
import torch
from cli_helpers import deblur
from networks import lively
from safetensors import safe_open

from deblur_cli import weights
from deblur_cli.errors import WeightsError
from deblur_cli.nets import accelerate
from deblur_cli.weights import checkpoints
from deblur_cli.weights.loading import agrees, fingerprint

IMAGE = torch.rand(1, 3, 80, 96, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def nafnet():
    return lively("nafnet", encoder=(1, 2, 1, 3), decoder=(1, 1, 2, 1), pooling=384)


def answer(network, **more):
    with torch.inference_mode():
        return network.restore(network.detect(IMAGE), **more).image


WRAPPINGS = {
    "bare": lambda state: state,
    "params": lambda state: {"params": state},
    "params_ema": lambda state: {"params": {}, "params_ema": state},
    "state_dict": lambda state: {"epoch": 7, "state_dict": state, "optimizer": {"lr": [0.1]}},
    "model": lambda state: {"model": state},
    "module": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "compiled": lambda state: {"model": {f"module._orig_mod.{name}": v for name, v in state.items()}},
    "half": lambda state: {"params": {name: value.double() for name, value in state.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("old", [False, True])
def test_wrapped_checkpoints_are_the_same_network(tmp_path, nafnet, wrapping, old):
    path = tmp_path / "wild.pth"
    content = WRAPPINGS[wrapping](dict(nafnet.state_dict()))
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    loaded = weights.load(str(path))
    assert (loaded.architecture, loaded.network.config) == ("nafnet", nafnet.config)
    assert torch.equal(answer(loaded.network), answer(nafnet))
    assert loaded.notes["converted_from"].startswith("wild.pth")


def test_a_checkpoint_of_m2aenet_is_told_by_its_names(tmp_path):
    network = lively(pooling=384)
    torch.save({"params": network.state_dict()}, tmp_path / "wild.pth")
    loaded = weights.load(str(tmp_path / "wild.pth"))
    assert (loaded.architecture, loaded.network.config) == ("m2aenet", network.config)


def test_safetensors_of_others_need_no_configuration(tmp_path, nafnet):
    from safetensors.torch import save_file

    save_file(nafnet.state_dict(), tmp_path / "wild.safetensors")
    assert torch.equal(answer(weights.load(str(tmp_path / "wild.safetensors")).network), answer(nafnet))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("encoders.1.0.conv3.bias"), r"encoders\.1\.0\.conv3\.bias is missing"),
        (lambda state: state.update(stranger=torch.zeros(2)), "stranger is not part of it"),
        (
            lambda state: state.update({"ending.bias": torch.zeros(4)}),
            r"ending\.bias is \[4\], should be \[3\]",
        ),
        (lambda state: state.pop("intro.weight"), "holds neither NAFNet, M²AENet nor LMD-ViT"),
        (lambda state: state.update(epoch=3), "holds 'epoch', which is not a tensor"),
        (dict.clear, "holds no tensors"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, nafnet, change, message):
    state = dict(nafnet.state_dict())
    change(state)
    refused(tmp_path, state, message)


def refused(tmp_path, content, message):
    path = tmp_path / "wild.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(WeightsError, match=message) as caught:
        weights.load(str(path))
    assert "\n" not in str(caught.value)


class Bomb:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return exec, (f"open({str(self.target)!r}, 'w').close()",)


def test_a_bomb_in_a_checkpoint_does_not_go_off(tmp_path, nafnet):
    sign = tmp_path / "executed"
    refused(
        tmp_path, {"params": nafnet.state_dict(), "extra": Bomb(sign)}, "refused: it holds more than tensors"
    )
    assert not sign.exists()
    torch.load(tmp_path / "wild.pth", weights_only=False)  # the bomb itself is real
    assert sign.exists()


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (b"", "download or copy it again"),
        (b"hello", "download or copy it again"),
        (b"<!DOCTYPE html>", "it is a web page, download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "with `git lfs pull`"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content, cure):
    refused(tmp_path, content, f"is not a PyTorch checkpoint or is damaged: .*{cure}")
    path = tmp_path / "wild.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"is not a \.safetensors file or is damaged .*: .*{cure}"):
        weights.load(str(path))


def test_files_are_told_by_what_is_in_them_before_their_name(tmp_path, nafnet):
    torch.save(nafnet.state_dict(), tmp_path / "wild.safetensors")
    weights.save(tmp_path / "wild.pth", nafnet, {})
    for name in ("wild.safetensors", "wild.pth"):
        assert weights.load(str(tmp_path / name)).network.config == nafnet.config


def test_a_truncated_checkpoint_is_refused(tmp_path, nafnet):
    torch.save(nafnet.state_dict(), tmp_path / "whole.pth")
    refused(tmp_path, (tmp_path / "whole.pth").read_bytes()[:-5000], "not a PyTorch checkpoint or is damaged")


def test_a_checkpoint_that_holds_itself_is_refused(tmp_path):
    content = {}
    content["params"] = content
    refused(tmp_path, content, "holds no tensors")


@pytest.mark.parametrize(
    "odd",
    [
        torch.Tensor.to_sparse,
        lambda value: value.to("meta"),
        lambda value: value[:, :1].expand(8, 10**9, 3, 3),
    ],
)
def test_tensors_of_other_kinds_are_named(tmp_path, nafnet, odd):
    state = dict(nafnet.state_dict())
    state["intro.weight"] = odd(state["intro.weight"])
    refused(tmp_path, state, r"does not fit the network: intro\.weight is")


def test_a_block_beyond_all_others_is_refused_at_once(tmp_path, nafnet):
    state = dict(nafnet.state_dict()) | {"encoders.999.999.x": torch.zeros(1)}
    refused(tmp_path, state, "more blocks than the file has tensors")


def test_nafnet_as_m2aenet_computes_the_same_plain_and_accelerated(nafnet):
    network = checkpoints.as_m2aenet(nafnet)
    with torch.inference_mode():
        detection = network.detect(IMAGE)
    assert detection.probability.eq(1).all()
    assert not detection.start.any() and not detection.end.any()
    expected = answer(nafnet)
    for form in (lambda plain: plain, accelerate):
        network = form(network)
        for epsilon in (0.1, 0.5, 0.99):
            error = (answer(network, epsilon=epsilon) - expected).norm() / expected.norm()
            assert error < 1e-6, (epsilon, form)


def test_a_wild_checkpoint_is_converted_with_its_provenance(tmp_path, nafnet):
    torch.save({"params": nafnet.state_dict()}, tmp_path / "wild.pth")
    result = deblur(
        *("weights", "convert", tmp_path / "wild.pth", "-o", tmp_path / "out", "--as", "m2aenet", "--full")
    )
    path = tmp_path / "out" / "wild.safetensors"
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, str(path)), result.stderr
    loaded = weights.load(str(path))
    assert loaded.architecture == "m2aenet"
    expected = answer(nafnet)
    assert (answer(loaded.network) - expected).norm() / expected.norm() < 1e-6
    with safe_open(path, framework="pt") as file:
        notes = file.metadata()
    assert notes["converted_from"] == "wild.pth, tensors under 'params'"
    assert notes["converted_sha256"] == weights.sha256(tmp_path / "wild.pth")
    assert json.loads(notes["config"])["pooling"] == 384
    assert "test output OK" in deblur("weights", "verify", path).stdout


def test_the_averaging_window_can_be_told(tmp_path, nafnet):
    torch.save(nafnet.state_dict(), tmp_path / "wild.pth")
    words = ("weights", "convert", tmp_path / "wild.pth", "-o", tmp_path / "out")
    assert deblur(*words, "--pooling", "96").exit_code == 0
    assert weights.load(str(tmp_path / "out" / "wild.safetensors")).network.config.pooling == 96
    for wrong in (("--pooling", "3"), ("--as", "nafnet")):
        assert deblur(*words, "--overwrite", *wrong).exit_code == 2


def test_a_fingerprint_tells_networks_apart_but_not_their_precision(tmp_path):
    network, other = lively(), lively(seed=1)
    weights.save(tmp_path / "half.safetensors", network, {})
    found = fingerprint(network)
    assert agrees(fingerprint(weights.load(str(tmp_path / "half.safetensors")).network), found)
    assert not agrees(fingerprint(other), found)
    assert not agrees(found[:-1], found)


def test_weights_that_compute_something_else_are_told(tmp_path, nafnet):
    torch.save(nafnet.state_dict(), tmp_path / "wild.pth")
    loaded = weights.adapt(weights.load(str(tmp_path / "wild.pth")))
    with torch.no_grad():
        loaded.network.ending.bias.add_(0.01)
    weights.save(tmp_path / "changed.safetensors", loaded.network, loaded.notes)
    result = deblur("weights", "verify", tmp_path / "changed.safetensors")
    assert result.exit_code == 1 and "computes something else" in result.stderr

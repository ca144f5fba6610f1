"""Weights files: what is saved is loaded, and everything else is refused in one line."""

import hashlib
import json

import pytest
import torch
from networks import lively
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from deblur_cli import weights
from deblur_cli.errors import EncodeError, WeightsError
from deblur_cli.weights import catalog as catalog_module
from deblur_cli.weights.loading import agrees, fingerprint


@pytest.fixture
def catalog(tmp_path, monkeypatch):
    """A catalog with a single entry, whose file is intact."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    weights.save(folder / "small.safetensors", lively(), {})
    data = (folder / "small.safetensors").read_bytes()
    (folder / "catalog.toml").write_text(
        "[m2aenet-guided]\n"
        'architecture = "m2aenet"\n'
        'file = "small.safetensors"\n'
        f"bytes = {len(data)}\n"
        f'sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
        'training = "nothing at all"\n'
    )
    monkeypatch.setattr(catalog_module, "catalog_folder", lambda: folder)
    weights.installed.cache_clear()
    yield folder
    weights.installed.cache_clear()


@pytest.fixture
def saved(tmp_path):
    weights.save(tmp_path / "net.safetensors", lively(), {})
    return tmp_path / "net.safetensors"


def rewrite(path, change, **metadata):
    """Store a weights file again with its tensors or metadata changed."""
    state = load_file(path)
    with safe_open(path, framework="pt") as file:
        kept = {**file.metadata(), **metadata}
    change(state)
    save_file(state, path, metadata=kept)


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as caught:
        weights.load(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("architecture", ["m2aenet", "nafnet"])
def test_saved_weights_load_as_the_same_network_in_half_precision(tmp_path, architecture):
    network = lively(architecture, pooling=48)
    weights.save(tmp_path / "net.safetensors", network, {"steps": "7"})
    loaded = weights.load(str(tmp_path / "net.safetensors"))
    assert loaded.architecture == architecture
    assert loaded.network.config == network.config
    assert not loaded.network.training
    assert loaded.sha256 == hashlib.sha256((tmp_path / "net.safetensors").read_bytes()).hexdigest()
    state = loaded.network.state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(state[name], value.half().float()), name


def test_full_precision_keeps_every_bit_and_notes_travel_along(tmp_path):
    network, path = lively(), tmp_path / "net.safetensors"
    weights.save(path, network, {"steps": "7", "architecture": "a lie"}, half=False)
    state = weights.load(str(path)).network.state_dict()
    assert all(torch.equal(state[name], value) for name, value in network.state_dict().items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["steps"] == "7"
        assert file.metadata()["architecture"] == "m2aenet"


def test_the_same_weights_are_the_same_bytes(tmp_path):
    network, notes = lively(), {f"note {number}": "ä" * number for number in range(9)}
    for number in range(4):
        weights.save(tmp_path / f"{number}.safetensors", network, notes)
    assert len({weights.sha256(path) for path in tmp_path.iterdir()}) == 1
    assert weights.load(str(tmp_path / "0.safetensors")).notes == notes


def test_what_half_precision_cannot_hold_is_not_written(tmp_path):
    network = lively()
    with torch.no_grad():
        network.intro.bias[0] = 1e6
    with pytest.raises(WeightsError, match=r"intro\.bias .*full precision"):
        weights.save(tmp_path / "net.safetensors", network, {})
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path):
    (tmp_path / "taken.safetensors").mkdir()
    with pytest.raises(EncodeError, match="cannot be written"):
        weights.save(tmp_path / "taken.safetensors", lively(), {})
    assert [path.name for path in tmp_path.iterdir()] == ["taken.safetensors"]


def in_parts(folder, size=150_000, network=None):
    notes = {"source": "here"}
    return weights.save_in_parts(folder / "net.safetensors", network or lively(), notes, size)


def test_weights_in_parts_load_as_those_in_one_piece(tmp_path):
    network = lively()
    weights.save(tmp_path / "whole.safetensors", network, {})
    index = in_parts(tmp_path, network=network)
    files = weights.parts(index)
    assert len(files) > 1 and all(path.stat().st_size <= 150_000 for path in files)
    whole, split = weights.load(str(tmp_path / "whole.safetensors")), weights.load(str(index))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, split.network.state_dict()[name]), name
    assert split.notes == {"source": "here"}
    assert split.sha256 != whole.sha256


def test_a_missing_or_damaged_part_is_named(tmp_path):
    index = in_parts(tmp_path)
    part = weights.parts(index)[1]
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(WeightsError, match=f"{part.name} is not a .safetensors file or is damaged"):
        weights.load(str(index))
    part.unlink()
    with pytest.raises(WeightsError, match=f"cannot read .*{part.name}"):
        weights.load(str(index))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "[" * 10**5, '{"weight_map": {}}', '{"weight_map": {"a": "../b.safetensors"}}'),
        *('{"weight_map": {"a": "b\\u0000"}}', '{"metadata": [1], "weight_map": {"a": "b"}}'),
    ],
)
def test_what_is_no_index_is_refused(tmp_path, text):
    path = tmp_path / "net.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"is not an index of \.safetensors files"):
        weights.load(str(path))


def test_parts_too_small_for_a_tensor_write_nothing(tmp_path):
    with pytest.raises(WeightsError, match="parts of 20,000 bytes are too small"):
        in_parts(tmp_path, 20_000)
    assert not list(tmp_path.iterdir())


def test_weights_smaller_than_a_part_are_one_file(tmp_path):
    path = in_parts(tmp_path, 10**8)
    assert path == tmp_path / "net.safetensors"
    assert weights.load(str(path)).notes == {"source": "here"}


def test_a_file_of_another_architecture_is_refused(saved):
    rewrite(saved, lambda state: None, architecture="resnet")
    refused(saved, "architecture 'resnet'.*another program")


SIZES = {"width": 8, "encoder": [1, 1, 1, 2], "middle": 1, "decoder": [1, 1, 1, 1], "pooling": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 10**6}, "does not fit the network"),
        ({"encoder": [1, 1, 1, 10**7]}, "more blocks than the file has tensors"),
        ({"middle": 10**30}, "more blocks than the file has tensors"),
        ({"encoder": [1] * 60, "decoder": [1] * 60}, "cannot be built"),
        ({"encoder": [], "decoder": []}, "not all whole numbers"),
        ({"width": 8.0}, "not all whole numbers"),
        ({"width": -8}, "not all above zero"),
        ({"pooling": 0}, "not all above zero"),
        ({"mask": "no"}, "are true or false"),
        ({"guided": 1}, "are true or false"),
        ({"stem": 3}, "stem is 3"),
        ({"stem": True}, "not all whole numbers"),
        ({"stem": -2}, "not all above zero"),
        ({"stem": 4}, "1/8"),
    ],
)
def test_sizes_that_are_a_lie_cost_neither_time_nor_memory(saved, change, message):
    rewrite(saved, lambda state: None, config=json.dumps(SIZES | change))
    refused(saved, message)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda value: value * torch.nan, "is damaged: intro.bias holds values that are not numbers"),
        (lambda value: value.double() + 1e300, "is damaged: intro.bias holds values that are not numbers"),
        (lambda value: value.to(torch.int64), "intro.bias is not of plain floating-point numbers"),
        (lambda value: value.to(torch.complex64), "intro.bias is not of plain floating-point numbers"),
    ],
)
def test_numbers_that_no_network_has_are_refused(saved, damage, message):
    rewrite(saved, lambda state: state.update({"intro.bias": damage(state["intro.bias"])}))
    refused(saved, message)


def test_a_network_does_not_change_with_its_file(saved):
    network = weights.load(str(saved)).network
    before = network.ending.bias.clone()
    rewrite(saved, lambda state: state["ending.bias"].add_(1))
    saved.write_bytes(b"\0" * saved.stat().st_size)
    assert torch.equal(network.ending.bias, before)
    assert all(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("config", ["not json", "[1, 2]", '{"height": 3}', '{"encoder": [1], "decoder": []}'])
def test_a_configuration_that_cannot_be_built_is_refused(saved, config):
    rewrite(saved, lambda state: None, config=config)
    refused(saved, "configuration that cannot be built")


def test_plain_safetensors_without_a_configuration_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    refused(tmp_path / "plain.safetensors", "holds no deblur configuration")


def test_text_and_truncated_files_are_refused(tmp_path, saved):
    (tmp_path / "text.safetensors").write_text("hello, this is no weights file")
    refused(tmp_path / "text.safetensors", r"not a \.safetensors file or is damaged")
    saved.write_bytes(saved.read_bytes()[:-100])
    refused(saved, r"not a \.safetensors file or is damaged")


def test_catalog_names_load_and_are_told_by_what_they_learned_from(catalog):
    entry = weights.installed()[0]
    assert (entry.name, entry.architecture, entry.training) == ("m2aenet-guided", "m2aenet", "nothing at all")
    loaded = weights.load(weights.DEFAULT)
    assert (loaded.name, loaded.sha256) == ("m2aenet-guided", entry.sha256)


def test_unknown_names_and_missing_files_list_what_is_known(catalog, tmp_path):
    refused("m2aenet-huge", "unknown weights 'm2aenet-huge': choose one of m2aenet-guided")
    refused(tmp_path / "gone.safetensors", r"no weights file .*gone\.safetensors.*m2aenet-guided")


def test_a_damaged_embedded_file_is_refused(catalog):
    path = catalog / "small.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a single bit of the last weight: the file itself still reads
    path.write_bytes(data)
    refused("m2aenet-guided", "damaged .*install deblur again")


def test_a_missing_catalog_stands_in_nobodys_way_who_gives_a_file(saved, monkeypatch):
    def fail():
        raise WeightsError("the embedded weights are missing: install deblur again")

    monkeypatch.setattr(catalog_module, "installed", fail)
    assert weights.load(str(saved)).architecture == "m2aenet"
    refused("m2aenet-guided", "embedded weights are missing")


@pytest.mark.parametrize("part", ["told.weight", "intro.weight", "encoders.2.0.dconv.weight", "ending.bias"])
def test_the_fingerprint_of_a_network_that_is_told_is_its_own(part):
    network = lively(encoder=(1, 1, 2), decoder=(1, 1, 1), pooling=64, stem=2, guided=True)
    before = fingerprint(network)
    assert agrees(fingerprint(network), before)
    with torch.no_grad():
        network.get_parameter(part).mul_(1.5)
    assert not agrees(fingerprint(network), before)


def test_notes_are_read_without_tensors_and_refused_in_one_line(tmp_path, saved):
    notes = {"epsilon": "0.3", "detector": "other"}
    weights.save(tmp_path / "noted.safetensors", lively(), notes)
    assert weights.notes_of(str(tmp_path / "noted.safetensors")) == notes
    index = in_parts(tmp_path)
    assert weights.notes_of(str(index)) == {"source": "here"}
    (tmp_path / "pickle.pth").write_bytes(b"PK-something-else")
    with pytest.raises(WeightsError, match="is refused"):
        weights.notes_of(str(tmp_path / "pickle.pth"))
    saved.write_bytes(saved.read_bytes()[:100])
    with pytest.raises(WeightsError, match="damaged"):
        weights.notes_of(str(saved))


def test_configuration_in_the_file_is_what_create_takes(saved):
    with safe_open(saved, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    assert config == SIZES

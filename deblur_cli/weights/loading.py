"""Weights files turned into networks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import WeightsError
from deblur_cli.nets import ARCHITECTURES, LMD_VIT, M2AENet, Network, create, create_lmd_vit
from deblur_cli.weights import catalogue, checkpoints, files, sources
from deblur_cli.weights.fingerprint import fingerprint

RESERVED = ("architecture", "config", "format", "total_size")  # metadata that are not notes


@dataclass(frozen=True)
class LoadedWeights:
    """A network ready to run: float32, on the CPU, in evaluation mode.

    name: as asked for; sha256: of the file; architecture: "m2aenet", "nafnet" or "lmd_vit"
    notes: metadata of the file, of which `history` (JSON) lists the training runs
    """

    name: str
    architecture: str
    sha256: str
    network: Network
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and the beginning of the hash, without the folders of a user's own file."""
        return f"{Path(self.name).name} {self.sha256[:8]}"


def load(name: str = catalogue.DEFAULT) -> LoadedWeights:
    """The network of a catalogue name, a local file, or hf://owner/repo/file[@revision].

    Files of the Hub are downloaded where they are not there yet. Raises WeightsError, in one line, for a
    file that is missing, damaged or of another network.
    """
    path, expected = sources.find(name)
    found = files.sha256(path)
    source = sources.source_of(name)
    if expected and found != expected:
        cure = f"`deblur weights remove {name}` and pull it again" if source.hub else "install deblur again"
        raise WeightsError(f"{path} is damaged (its SHA-256 is not the one it must have): {cure}")
    network, metadata = read(path, source.entry.config if source.entry else {})
    notes = {key: value for key, value in metadata.items() if key not in RESERVED}
    return LoadedWeights(name, metadata["architecture"], found, network, notes)


def adapt(
    loaded: LoadedWeights, architecture: str | None = None, pooling: int | None = None
) -> LoadedWeights:
    """Weights as another architecture or with another averaging window; None leaves that as it is.

    NAFNet becomes the M²AENet that computes the same. Weights of other programs get the fingerprint of their
    network and the hash of their file into the notes. Raises WeightsError for what cannot be made.
    """
    network, notes = loaded.network, dict(loaded.notes)
    if pooling is not None and not isinstance(network, M2AENet):
        raise WeightsError(f"{loaded.architecture} has no averaging window: leave out --pooling")
    if pooling is not None:
        config = network.config
        network = M2AENet(replace(config, pooling=pooling))
        network.load_state_dict(loaded.network.state_dict())
        network.skip_identity_blocks()
    if architecture == "nafnet" and loaded.architecture != "nafnet":
        raise WeightsError("M²AENet holds more than NAFNet can: it cannot be converted into one")
    if architecture == "m2aenet":
        network = checkpoints.as_m2aenet(network)
        notes["network"] = "NAFNet as M²AENet: mask all ones, motion zero, deformable kernels identity"
    if "converted_from" in notes:
        notes["converted_sha256"] = notes.get("converted_sha256", loaded.sha256)
        notes["fingerprint"] = json.dumps(fingerprint(network.eval()))
    return replace(
        loaded, network=network.eval(), notes=notes, architecture=architecture or loaded.architecture
    )


def read(path: Path, known: Mapping[str, Any] | None = None) -> tuple[Network, dict[str, str]]:
    """Network and metadata of a weights file.

    Files of deblur hold their configuration; of others it is told by the names and shapes of their tensors
    and by `known`, arguments of `create`.
    """
    if checkpoints.is_pickle(path):
        state, origin = checkpoints.read_checkpoint(path)
        metadata = checkpoints.metadata_of(state, path, origin, known or {})
    else:
        state, metadata = files.read_tensors(path)
        if not {"architecture", "config"} & metadata.keys() and checkpoints.is_known_layout(state):
            state, origin = checkpoints.unwrap(state, path)
            metadata |= checkpoints.metadata_of(state, path, origin, known or {})
    network = build(metadata, path)
    fit(network, state, path)
    network.skip_identity_blocks()
    return network.eval(), metadata


def build(metadata: Mapping[str, str], path: Path) -> Network:
    """A fresh network as the metadata of a file describe it."""
    architecture = metadata.get("architecture", "")
    if architecture not in (*ARCHITECTURES, LMD_VIT) or "config" not in metadata:
        raise WeightsError(
            f"{path} holds no deblur configuration (architecture {architecture or 'not given'!r}): "
            "it belongs to another program"
        )
    try:
        config = json.loads(metadata["config"])
        if config.get("width", 1) < 1:
            raise ValueError("a width below 1")
        return create_lmd_vit(**config) if architecture == LMD_VIT else create(architecture, **config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError) as error:
        raise WeightsError(f"{path} holds a configuration that cannot be built: {error}") from error


def fit(network: Network, state: dict[str, torch.Tensor], path: Path) -> None:
    """Fill the network, or say which tensor is missing, surplus or misshapen."""
    wanted = network.state_dict()
    for name in wanted:
        if name not in state:
            raise WeightsError(f"{path} does not fit the network: {name} is missing")
        if wanted[name].shape != state[name].shape:
            have, want = list(state[name].shape), list(wanted[name].shape)
            raise WeightsError(f"{path} does not fit the network: {name} is {have}, should be {want}")
        if not wanted[name].is_floating_point() and not wanted[name].eq(state[name]).all():
            raise WeightsError(f"{path} does not fit the network: {name} is an index of something else")
    if surplus := sorted(set(state) - set(wanted)):
        raise WeightsError(f"{path} does not fit the network: {surplus[0]} is not part of it")
    network.load_state_dict(state)

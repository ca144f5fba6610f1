"""Weights: the catalogue, and files turned into networks."""

import hashlib
import json
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from deblur_cli.errors import WeightsError
from deblur_cli.nets import ARCHITECTURES, M2AENet, create

DEFAULT = "m2aenet-small"
SIZES = ("width", "encoder", "middle", "decoder", "pooling")  # arguments of `create` kept in a file


@dataclass(frozen=True)
class CatalogueEntry:
    """One line of the catalogue.

    name, architecture; path: the embedded file; bytes and sha256 of it; training: what it learned from
    """

    name: str
    architecture: str
    path: Path
    bytes: int
    sha256: str
    training: str


@dataclass(frozen=True)
class LoadedWeights:
    """A network ready to run: float32, on the CPU, in evaluation mode.

    name: as asked for; sha256: of the file; architecture: "m2aenet" or "nafnet"
    """

    name: str
    architecture: str
    sha256: str
    network: M2AENet


def catalogue_folder() -> Path:
    """Folder of the catalogue and the embedded weights: inside the package, or beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "catalogue.toml").is_file():
            return folder
    raise WeightsError("the embedded weights are missing: install deblur again")


@cache
def installed() -> tuple[CatalogueEntry, ...]:
    """Every entry of the catalogue."""
    folder = catalogue_folder()
    table = tomllib.loads((folder / "catalogue.toml").read_text(encoding="utf-8"))
    return tuple(
        CatalogueEntry(
            name,
            entry["architecture"],
            folder / entry["file"],
            entry["bytes"],
            entry["sha256"],
            entry["training"],
        )
        for name, entry in table.items()
    )


def find(name: str) -> tuple[Path, str | None]:
    """File of a catalogue name or of a path, and the hash it must have (None for a user's own file).

    Raises WeightsError where there is neither.
    """
    path = Path(name)
    looks_like_path = bool(path.suffix) or len(path.parts) > 1
    if looks_like_path and path.is_file():
        return path, None
    for entry in installed():
        if entry.name == name:
            return entry.path, entry.sha256
    if path.is_file():
        return path, None
    known = ", ".join(entry.name for entry in installed())
    if looks_like_path:
        raise WeightsError(f"no weights file {name}: give a .safetensors file or one of {known}")
    raise WeightsError(f"unknown weights {name!r}: choose one of {known}, or give a .safetensors file")


def load(name: str = DEFAULT) -> LoadedWeights:
    """The network of a catalogue name or of a .safetensors file.

    Raises WeightsError, in one line, for a file that is missing, damaged or of another network.
    """
    path, expected = find(name)
    found = sha256(path)
    if expected and found != expected:
        raise WeightsError(f"{path} is damaged (its SHA-256 is not the catalogue's): install deblur again")
    network, architecture = read(path)
    return LoadedWeights(name, architecture, found, network)


def sha256(path: Path) -> str:
    """Hash of a file, read in pieces. Raises WeightsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror}") from error


def read(path: Path) -> tuple[M2AENet, str]:
    """Network and architecture of a .safetensors file whose metadata holds its configuration."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a .safetensors file or is damaged: {error}") from error
    architecture = metadata.get("architecture", "")
    if architecture not in ARCHITECTURES or "config" not in metadata:
        raise WeightsError(
            f"{path} holds no deblur configuration (architecture {architecture or 'not given'!r}): "
            "it belongs to another program"
        )
    try:
        config = json.loads(metadata["config"])
        if config.get("width", 1) < 1:
            raise ValueError("a width below 1")
        network = create(architecture, **config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError, AttributeError) as error:
        raise WeightsError(f"{path} holds a configuration that cannot be built: {error}") from error
    fit(network, state, path)
    network.skip_identity_blocks()
    return network.eval(), architecture


def fit(network: M2AENet, state: dict[str, torch.Tensor], path: Path) -> None:
    """Fill the network, or say which tensor is missing, surplus or misshapen."""
    wanted = network.state_dict()
    for name in wanted:
        if name not in state:
            raise WeightsError(f"{path} does not fit the network: {name} is missing")
        if wanted[name].shape != state[name].shape:
            have, want = list(state[name].shape), list(wanted[name].shape)
            raise WeightsError(f"{path} does not fit the network: {name} is {have}, should be {want}")
    if surplus := sorted(set(state) - set(wanted)):
        raise WeightsError(f"{path} does not fit the network: {surplus[0]} is not part of it")
    network.load_state_dict(state)


def save(path: Path, network: M2AENet, notes: dict[str, str], *, half: bool = True) -> None:
    """Write a network with its configuration, in half precision unless told otherwise.

    `notes` (training data, scores ...) go into the metadata as they are. Raises WeightsError where a
    value does not fit into half precision or the file cannot be written.
    """
    dtype = torch.float16 if half else torch.float32
    state = {name: value.to(dtype).contiguous() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(f"{name} holds values that {dtype} cannot hold: save in full precision")
    config = network.config
    sizes = {name: getattr(config, name) for name in SIZES}
    architecture = "m2aenet" if config.mask else "nafnet"
    metadata = {**notes, "architecture": architecture, "config": json.dumps(sizes)}
    temporary = path.with_name(f".{path.name}.part")
    try:
        save_file(state, temporary, metadata=metadata)
        temporary.replace(path)
    except (SafetensorError, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise WeightsError(f"cannot write {path}: {error}") from error

"""Weights: the catalogue, and files turned into networks."""

import hashlib
import json
import os
import tomllib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise

from deblur_cli.errors import WeightsError
from deblur_cli.nets import ARCHITECTURES, M2AENet, create

DEFAULT = "m2aenet-small"
RESERVED = ("architecture", "config", "format", "total_size")  # metadata that are not notes
HEADER = 1 << 17  # bytes left for names and notes when weights are split
INDEX = ".safetensors.index.json"
SIZES = ("width", "encoder", "middle", "decoder", "pooling")  # arguments of `create` kept in a file
SWITCHES = {"mask": True, "motion": True, "mask_conv3": False, "mask_conv4": False}  # kept if they differ


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
    notes: metadata of the file, of which `history` (JSON) lists the training runs
    """

    name: str
    architecture: str
    sha256: str
    network: M2AENet
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name and the beginning of the hash, without the folders of a user's own file."""
        return f"{Path(self.name).name} {self.sha256[:8]}"


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
    network, metadata = read(path)
    notes = {key: value for key, value in metadata.items() if key not in RESERVED}
    return LoadedWeights(name, metadata["architecture"], found, network, notes)


def sha256(path: Path) -> str:
    """Hash of a weights file, of its parts one after another where it is an index.

    Raises WeightsError where it cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts(path):
        try:
            with part.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
        except OSError as error:
            raise WeightsError(f"cannot read {part}: {error.strerror}") from error
    return digest.hexdigest()


def parts(path: Path) -> list[Path]:
    """The .safetensors files that an index names, in order; a .safetensors file is its only part."""
    if not path.name.endswith(INDEX):
        return [path]
    return [path.with_name(name) for name in sorted(set(read_index(path)["weight_map"].values()))]


def read_index(path: Path) -> dict[str, dict[str, str]]:
    """Metadata and file of each tensor ("weight_map"), as Hugging Face writes them for weights in parts."""
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        files = index["weight_map"].values()
        if not files or any(Path(name).name != name for name in files):
            raise ValueError("it names files elsewhere, or none")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} is not an index of .safetensors files: {error}") from error
    return {"metadata": index.get("metadata", {}), "weight_map": index["weight_map"]}


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors in float32 and metadata of a .safetensors file or an index of several."""
    state: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for part in parts(path):
        try:
            with safe_open(part, framework="pt") as file:
                metadata |= file.metadata() or {}
                state |= {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{part} is not a .safetensors file or is damaged: {error}") from error
    if path.name.endswith(INDEX):
        metadata |= read_index(path)["metadata"]
    return state, metadata


def is_full(path: Path) -> bool:
    """Whether a file or an index that can be read keeps 32 bits or more for every number."""
    for part in parts(path):
        with safe_open(part, framework="pt") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        if not kinds <= {"F32", "F64"}:
            return False
    return True


def read(path: Path) -> tuple[M2AENet, dict[str, str]]:
    """Network and metadata of a file or an index whose metadata holds the configuration."""
    state, metadata = read_tensors(path)
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
    return network.eval(), metadata


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
    state, metadata = packed(network, notes, half)
    write(path, serialise(state, metadata))


def save_in_parts(
    path: Path, network: M2AENet, notes: dict[str, str], size: int, *, half: bool = True
) -> Path:
    """Write a network as several files of at most `size` bytes each, and return the index that names them.

    path: what the file would be called in one piece. Raises WeightsError as `save` does.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    state, metadata = packed(network, notes, half)
    pattern = f"{path.stem}{{suffix}}.safetensors"
    split = split_torch_state_dict_into_shards(state, filename_pattern=pattern, max_shard_size=size - HEADER)
    contents = {
        file: serialise({name: state[name] for name in names}, metadata)
        for file, names in split.filename_to_tensors.items()
    }
    if (largest := max(map(len, contents.values()))) > size:
        raise WeightsError(f"parts of {size:,} bytes are too small: one has to hold {largest:,}")
    for file, content in contents.items():
        write(path.with_name(file), content)
    if not split.is_sharded:
        return path
    index = {"metadata": metadata, "weight_map": split.tensor_to_filename}
    write(path.with_name(path.stem + INDEX), json.dumps(index, indent=2).encode())
    return path.with_name(path.stem + INDEX)


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. Raises WeightsError."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise WeightsError(f"cannot write {path}: {error.strerror}") from error


def packed(
    network: M2AENet, notes: dict[str, str], half: bool
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata as they are written."""
    dtype = torch.float16 if half else torch.float32
    state = {name: value.to(dtype).cpu().contiguous() for name, value in network.state_dict().items()}
    for name, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(f"{name} holds values that {dtype} cannot hold: save in full precision")
    config = network.config
    sizes = {name: getattr(config, name) for name in SIZES}
    architecture = config.architecture
    if architecture != "nafnet":
        sizes |= {
            key: getattr(config, key) for key, usual in SWITCHES.items() if getattr(config, key) != usual
        }
    return state, {**notes, "architecture": architecture, "config": json.dumps(sizes)}

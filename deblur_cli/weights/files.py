"""Weights as files: safetensors in one piece or in several, read, hashed and written."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from deblur_cli.errors import WeightsError
from deblur_cli.files import write_file
from deblur_cli.weights.hub import is_page

if TYPE_CHECKING:  # torch is heavy, and not needed to find and hash files
    from torch import Tensor

    from deblur_cli.nets import Network

HEADER = 1 << 17  # bytes left for names and notes when weights are split
INDEX = ".safetensors.index.json"


def sha256(path: Path) -> str:
    """Hash of a weights file, of its parts one after another where it is an index.

    Raises WeightsError where it cannot be read.
    """
    digest = hashlib.sha256()
    for part in parts(path):
        try:
            with part.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
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
        if not files or any(Path(name).name != name or not name.isprintable() for name in files):
            raise ValueError("it names files elsewhere, or none")
        notes = index.get("metadata", {}).items()  # values are text in .safetensors files
        notes = {key: value if isinstance(value, str) else json.dumps(value) for key, value in notes}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is not an index of .safetensors files: {error}") from error
    return {"metadata": notes, "weight_map": index["weight_map"]}


def read_tensors(path: Path) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Tensors and metadata of a .safetensors file or an index of several."""
    state: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for part in parts(path):
        try:
            with safe_open(part, framework="pt") as file:
                metadata |= file.metadata() or {}
                state |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise damaged(part, error) from error
    if path.name.endswith(INDEX):
        metadata |= read_index(path)["metadata"]
    return state, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """Metadata of a .safetensors file or an index, without its tensors; none for files of another kind."""
    if path.name.endswith(INDEX):
        return read_index(path)["metadata"]
    if beginning(path)[8:9] != b"{":  # safetensors: eight bytes of length, then JSON
        return {}
    try:
        with safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> WeightsError:
    """What to say of a file that does not read as its name promises."""
    return WeightsError(f"{path} is not a .safetensors file or is damaged ({error}): {cure(path)}")


def cure(path: Path) -> str:
    """What helps against a file that is no weights, as far as its beginning tells."""
    head = beginning(path)
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, get the file itself with `git lfs pull`"
    return "it is a web page, download the file itself" if is_page(head) else "download or copy it again"


def beginning(path: Path) -> bytes:
    """The first 64 bytes of a file; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError:
        return b""


def is_full(path: Path) -> bool:
    """Whether a file or an index that can be read keeps 32 bits or more for every number."""
    for part in parts(path):
        with safe_open(part, framework="pt") as file:
            kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        if not kinds <= {"F32", "F64", "I64"}:
            return False
    return True


def save(path: Path, network: "Network", notes: dict[str, str], *, half: bool = True) -> None:
    """Write a network with its configuration, in half precision unless told otherwise.

    `notes` (training data, scores ...) go into the metadata as they are. Raises WeightsError where a
    value does not fit into half precision, EncodeError where the file cannot be written.
    """
    state, metadata = packed(network, notes, half)
    write_file(path, [serialized(state, metadata)], overwrite=True)


def save_in_parts(
    path: Path, network: "Network", notes: dict[str, str], size: int, *, half: bool = True
) -> Path:
    """Write a network as several files of at most `size` bytes each, and return the index that names them.

    path: what the file would be called in one piece. Raises as `save` does.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    state, metadata = packed(network, notes, half)
    pattern = f"{path.stem}{{suffix}}.safetensors"
    split = split_torch_state_dict_into_shards(state, filename_pattern=pattern, max_shard_size=size - HEADER)
    contents = {
        file: serialized({name: state[name] for name in names}, metadata)
        for file, names in split.filename_to_tensors.items()
    }
    if (largest := max(map(len, contents.values()))) > size:
        raise WeightsError(f"parts of {size:,} bytes are too small: one has to hold {largest:,}")
    for file, content in contents.items():
        write_file(path.with_name(file), [content], overwrite=True)
    if not split.is_sharded:
        return path
    index = {"metadata": metadata, "weight_map": split.tensor_to_filename}
    named = path.with_name(path.stem + INDEX)
    write_file(named, [json.dumps(index, indent=2).encode()], overwrite=True)
    return named


def serialized(state: dict[str, "Tensor"], metadata: dict[str, str]) -> bytes:
    """The bytes of a .safetensors file, which repeat: the library would shuffle the metadata."""
    from safetensors.torch import save as serialize

    data = serialize(state, metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data[end:]


def packed(
    network: "Network", notes: dict[str, str], half: bool
) -> tuple[dict[str, "Tensor"], dict[str, str]]:
    """Tensors and metadata as they are written."""
    import torch

    dtype = torch.float16 if half else torch.float32
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).cpu().contiguous()
        for name, value in network.state_dict().items()
    }
    for name, value in state.items():
        if not value.isfinite().all():
            raise WeightsError(f"{name} holds values that {dtype} cannot hold: save in full precision")
    config = json.dumps(network.config_as_stored())
    return state, {**notes, "architecture": network.architecture, "config": config}

"""From what a user asks for to a file: a catalog name, a local file, or hf://owner/repo/file[@revision].

Also what weights note about their use, in the metadata of their file: the detector that they follow, and an
epsilon. Nothing here needs torch.
"""

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from deblur_cli import stores
from deblur_cli.errors import UnknownWeightsError, WeightsError
from deblur_cli.weights import files, hub
from deblur_cli.weights.hub import HubFile

logger = logging.getLogger(__name__)

DEFAULT = "m2aenet-guided"
DEFAULT_DETECTOR = "detector-small"  # of restorers that detect nothing and name no detector
AUTO, OWN, NONE = "auto", "own", "none"  # what may be asked for instead of a detector's name
_DETECTOR, _NAFNET = "detector", "nafnet"  # architectures; those of `nets` take torch
PLAIN = {"sha256", "training", "license", "config", "scores", "detector"}  # taken over as they stand
RESERVED = ("architecture", "config", "format", "total_size")  # metadata that are not notes


@dataclass(frozen=True)
class CatalogEntry:
    """One entry of the catalog.

    name, architecture; path: the embedded file, None for weights of the Hub
    bytes: size of the file, None where it is not known; sha256: its hash, by which it is pinned
    training: what it learned from; license; hub: file of the Hub, None for embedded weights
    config: arguments of `create` that the file does not tell by itself
    scores: measured results with their conditions, as shown to people
    fingerprint: what the network answers to a fixed picture, empty where it is not known
    detector: name of the detector that finds the blur for it, None where it finds that itself
    """

    name: str
    architecture: str
    path: Path | None
    bytes: int | None
    sha256: str
    training: str
    license: str = ""
    hub: HubFile | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, str] = field(default_factory=dict)
    fingerprint: tuple[float, ...] = ()
    detector: str | None = None


def catalog_folder() -> Path:
    """Folder of the catalog and the embedded weights: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "catalog.toml").is_file():
            return folder
    raise WeightsError("the embedded weights are missing: install deblur again")


@cache
def installed() -> tuple[CatalogEntry, ...]:
    """Every entry of the catalog. Raises WeightsError where there is none."""
    folder = catalog_folder()
    table = tomllib.loads((folder / "catalog.toml").read_text(encoding="utf-8"))
    return tuple(parse(name, entry, folder) for name, entry in table.items())


def parse(name: str, entry: Mapping[str, Any], folder: Path) -> CatalogEntry:
    """An entry as it stands in the file; `repository` makes it one of the Hub."""
    far = "repository" in entry
    return CatalogEntry(
        name=name,
        architecture=entry["architecture"],
        path=None if far else folder / entry["file"],
        hub=HubFile(entry["repository"], entry["file"], entry["revision"]) if far else None,
        bytes=entry.get("bytes"),
        fingerprint=tuple(entry.get("fingerprint", ())),
        **{key: entry[key] for key in PLAIN & entry.keys()},
    )


def entry_named(name: str) -> CatalogEntry | None:
    """The entry of that name, None where there is none."""
    return next((entry for entry in installed() if entry.name == name), None)


@dataclass(frozen=True)
class Source:
    """What a name stands for: an entry of the catalog, a file of the Hub, or a local file.

    path: the file on this machine; None for a file of the Hub that has to be downloaded
    """

    name: str
    entry: CatalogEntry | None
    hub: HubFile | None
    path: Path | None

    @property
    def sha256(self) -> str | None:
        """Hash that the file must have; None where it is not known."""
        if self.entry:
            return self.entry.sha256
        return hub.stored_hash(self.path) if self.hub and self.path else None


def source_of(name: str, *, detector: bool = False) -> Source:
    """What a name stands for. Makes no request. Raises UnknownWeightsError where that is nothing.

    detector: whether one is wanted, and a restorer of the catalog is as good as nothing
    """
    if name.startswith(hub.SCHEME):
        file = hub.parse(name)
        return Source(name, None, file, hub.cached(file))
    path = Path(name)
    looks_like_path = bool(path.suffix) or len(path.parts) > 1
    entry = None if looks_like_path and path.is_file() else entry_named(name)
    kinds = "a .safetensors or .pth file"
    if entry and detector and entry.architecture != _DETECTOR:
        choices = _choices(detector=True)
        raise UnknownWeightsError(
            f"{name} holds a restorer, not a detector: choose one of {choices}, or give {kinds}"
        )
    if entry:
        return Source(name, entry, entry.hub, local(entry))
    if path.is_file():
        return Source(name, None, None, path)
    if name.lower().startswith(("http:", "https:", "hf:")):
        raise UnknownWeightsError(
            f"{name} is not an address of weights: write hf://owner/repo/file or ...@revision"
        )
    if stores.is_address(name):
        only = "only `deblur run` takes addresses, for photos, masks, and results"
        raise UnknownWeightsError(f"{stores.parse(name)}: {only}")
    what, choices = "detector" if detector else "weights", _choices(detector=detector)
    if looks_like_path:
        raise UnknownWeightsError(f"no {what} file {name}: give {kinds} or one of {choices}")
    raise UnknownWeightsError(f"unknown {what} {name!r}: choose one of {choices}, or give {kinds}")


def _choices(*, detector: bool) -> str:
    """The names of the catalog; of detectors alone, and what else --detector takes, where one is wanted."""
    names = [entry.name for entry in installed() if not detector or entry.architecture == _DETECTOR]
    return ", ".join([*names, AUTO, OWN, NONE] if detector else names)


def is_remote(name: str) -> bool:
    """Whether a name stands for a file of the Hub, downloaded or not."""
    if name.startswith(hub.SCHEME):
        return True
    entry = entry_named(name)
    return entry is not None and entry.hub is not None


def local(entry: CatalogEntry) -> Path | None:
    """File of a catalog entry on this machine; None where it has to be downloaded. Makes no request."""
    return hub.cached(entry.hub) if entry.hub else entry.path


def pull(name: str) -> Path:
    """The file of a name, downloaded unless it is here and whole. Raises WeightsError."""
    source = source_of(name)
    if source.hub is None:
        assert source.path is not None  # whatever is not of the Hub has a path
        return source.path
    if source.path is not None:
        if source.sha256 in (None, files.sha256(source.path)):
            return source.path
        logger.warning("%s is damaged and is downloaded again", source.path)
        hub.delete(source.hub)
    entry = source.entry
    try:
        return hub.download(source.hub, entry.sha256 if entry else None, entry.bytes if entry else None)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error


def find(name: str) -> tuple[Path, str | None]:
    """File of a name, downloaded if need be, and the hash that it must have (None for a user's own file).

    Raises WeightsError where there is none.
    """
    source = source_of(name)
    if source.path is None:
        logger.warning("downloading weights %s from %s", name, source.hub)
        pull(name)
        source = source_of(name)
    if source.path is None:
        raise WeightsError(f"{name} was removed while it was in use: give the command again")
    return source.path, source.sha256


def remove(name: str) -> list[Path]:
    """Delete the downloaded file of a name and return what was deleted.

    Raises WeightsError for weights that deblur did not download, and for files that cannot be deleted.
    """
    source = source_of(name)
    if source.hub is None:
        what = "part of deblur" if source.entry else "your own file"
        raise WeightsError(f"{name} is {what}, which `deblur weights remove` does not delete")
    return hub.delete(source.hub)


def notes_of(name: str) -> dict[str, str]:
    """The notes of weights on this machine; of others what the catalog knows. Makes no request.

    Raises WeightsError for a name that stands for nothing, and for a damaged file.
    """
    source = source_of(name)
    metadata = files.read_metadata(source.path) if source.path else {}
    if source.path and source.entry is None and "architecture" not in metadata:
        from deblur_cli.weights.loading import read  # weights of another program: their tensors tell

        metadata = read(source.path)[1]
    return completed(metadata, source.entry)


def completed(metadata: Mapping[str, str], entry: CatalogEntry | None) -> dict[str, str]:
    """The notes among the metadata of a file, with the detector of a restorer that detects nothing itself.

    That is the one in the notes, else that of its catalog entry; any NAFNet has one.
    """
    architecture = entry.architecture if entry else metadata.get("architecture")
    known = entry.detector if entry else None
    detector = known or (DEFAULT_DETECTOR if architecture == _NAFNET else None)
    named = {"detector": detector} if detector else {}
    return named | {key: value for key, value in metadata.items() if key not in RESERVED}


def detector_for(notes: Mapping[str, str], asked: str = AUTO) -> str | None:
    """The name of the detector that weights with these notes use; None where there is none.

    asked: "auto" for the detector that they note, if any; "own" where they detect the blur themselves; "none"
    for the whole frame; or the name of another one.
    Raises UnknownWeightsError where that is nothing, or a restorer of the catalog.
    """
    if asked == AUTO:
        return notes.get("detector") or None
    if asked in (OWN, NONE):
        return None
    return source_of(asked, detector=True).name


def epsilon_in(notes: Mapping[str, str], name: str) -> float | None:
    """The epsilon that weights of that name recommend, None for none.

    Raises WeightsError where the note of it is damaged.
    """
    text = notes.get("epsilon")
    if text is None:
        return None
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = float("nan")
    if not 0 <= epsilon <= 1:
        raise WeightsError(f"{name} recommends {text[:40]!r} as epsilon, which is not a number from 0 to 1")
    return epsilon

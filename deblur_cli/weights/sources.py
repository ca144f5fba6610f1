"""From what a user asks for to a file: a catalogue name, a local file, or hf://owner/repo/file[@revision]."""

import logging
from dataclasses import dataclass
from pathlib import Path

from deblur_cli.errors import WeightsError
from deblur_cli.weights import catalogue, files, hub
from deblur_cli.weights.catalogue import CatalogueEntry
from deblur_cli.weights.hub import HubFile, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """What a name stands for: an entry of the catalogue, a file of the Hub, or a local file.

    path: the file where it lies already; None for a file of the Hub that has to be downloaded
    """

    name: str
    entry: CatalogueEntry | None
    hub: HubFile | None
    path: Path | None

    @property
    def sha256(self) -> str | None:
        """Hash that the file must have; None where nobody has told."""
        if self.entry:
            return self.entry.sha256
        return hub.stored_hash(self.path) if self.hub and self.path else None


def source_of(name: str) -> Source:
    """Tell what a name stands for, without any request. Raises WeightsError for what stands for nothing."""
    if name.startswith(hub.SCHEME):
        file = hub.parse(name)
        return Source(name, None, file, hub.cached(file))
    path = Path(name)
    looks_like_path = bool(path.suffix) or len(path.parts) > 1
    if looks_like_path and path.is_file():
        return Source(name, None, None, path)
    if entry := catalogue.entry_named(name):
        return Source(name, entry, entry.hub, local(entry))
    if path.is_file():
        return Source(name, None, None, path)
    if name.lower().startswith(("http:", "https:", "hf:")):
        raise WeightsError(f"{name} is no address of weights: write hf://owner/repo/file or ...@revision")
    known = ", ".join(entry.name for entry in catalogue.installed())
    kinds = "a .safetensors or .pth file"
    if looks_like_path:
        raise WeightsError(f"no weights file {name}: give {kinds} or one of {known}")
    raise WeightsError(f"unknown weights {name!r}: choose one of {known}, or give {kinds}")


def is_remote(name: str) -> bool:
    """Whether a name stands for a file of the Hub, downloaded or not."""
    entry = None if name.startswith(hub.SCHEME) else catalogue.entry_named(name)
    return name.startswith(hub.SCHEME) or (entry is not None and entry.hub is not None)


def local(entry: CatalogueEntry) -> Path | None:
    """File of a catalogue entry on this machine; None where it has to be downloaded. Makes no request."""
    return hub.cached(entry.hub) if entry.hub else entry.path


def pull(name: str, progress: Progress | None = None) -> Path:
    """Download what a name stands for, unless it is there; return the file.

    Raises WeightsError, in one line, for all that can go wrong.
    """
    source = source_of(name)
    expected, size = source.sha256, source.entry.bytes if source.entry else None
    if source.path is not None:
        if source.hub is None or expected is None or files.sha256(source.path) == expected:
            return source.path
        logger.warning("%s is damaged and is downloaded again", source.path)
        hub.remove(source.hub)
    assert source.hub is not None  # whatever is not of the Hub has a path
    try:
        return hub.fetch(source.hub, source.entry.sha256 if source.entry else None, size, progress)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error


def find(name: str) -> tuple[Path, str | None]:
    """File of a name, downloaded if need be, and the hash it must have (None for a user's own file).

    Raises WeightsError where there is neither.
    """
    source = source_of(name)
    if source.path is None:
        logger.warning("downloading weights %s from %s", name, source.hub)
        pull(name)
        source = source_of(name)
    if source.path is None:
        raise WeightsError(f"{name} was removed while it was used: give the command again")
    return source.path, source.sha256


def remove(name: str) -> list[Path]:
    """Delete the downloaded file of a name and return what was deleted.

    Raises WeightsError for weights that were not downloaded by deblur, and for files that cannot be deleted.
    """
    source = source_of(name)
    if source.hub is None:
        what = "part of deblur" if source.entry else "your own file"
        raise WeightsError(f"{name} is {what}, which `deblur weights remove` leaves alone")
    return hub.remove(source.hub)

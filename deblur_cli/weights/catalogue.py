"""The catalogue: weights that deblur knows by name."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from deblur_cli.errors import WeightsError
from deblur_cli.weights.hub import HubFile

DEFAULT = "m2aenet-guided"


@dataclass(frozen=True)
class CatalogueEntry:
    """One entry of the catalogue.

    name, architecture; path: the embedded file, None for weights of the Hub
    bytes: size of the file, None where nobody has told it; sha256: its hash, by which it is pinned
    training: what it learned from; licence; hub: file of the Hub, None for embedded weights
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
    licence: str = ""
    hub: HubFile | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, str] = field(default_factory=dict)
    fingerprint: tuple[float, ...] = ()
    detector: str | None = None


def catalogue_folder() -> Path:
    """Folder of the catalogue and the embedded weights: inside the package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "_weights", package.parent / "weights"):
        if (folder / "catalogue.toml").is_file():
            return folder
    raise WeightsError("the embedded weights are missing: install deblur again")


@cache
def installed() -> tuple[CatalogueEntry, ...]:
    """Every entry of the catalogue. Raises WeightsError where there is none."""
    folder = catalogue_folder()
    table = tomllib.loads((folder / "catalogue.toml").read_text(encoding="utf-8"))
    return tuple(parse(name, entry, folder) for name, entry in table.items())


def parse(name: str, entry: Mapping[str, Any], folder: Path) -> CatalogueEntry:
    """An entry as it stands in the file; `repository` makes it one of the Hub."""
    hub = None
    if "repository" in entry:
        hub = HubFile(entry["repository"], entry["file"], entry["revision"])
    return CatalogueEntry(
        name,
        entry["architecture"],
        None if hub else folder / entry["file"],
        entry.get("bytes"),
        entry["sha256"],
        entry["training"],
        entry.get("licence", ""),
        hub,
        entry.get("config", {}),
        entry.get("scores", {}),
        tuple(entry.get("fingerprint", ())),
        entry.get("detector"),
    )


def entry_named(name: str) -> CatalogueEntry | None:
    """The entry of that name, None where there is none."""
    return next((entry for entry in installed() if entry.name == name), None)

"""Weights: the catalogue, where they come from, and files turned into networks.

What turns files into networks is imported on its first use, with torch: finding and downloading do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deblur_cli.weights.catalogue import DEFAULT, CatalogueEntry, catalogue_folder, entry_named, installed
from deblur_cli.weights.files import (
    INDEX,
    is_full,
    parts,
    read_index,
    read_tensors,
    save,
    save_in_parts,
    sha256,
    write,
)
from deblur_cli.weights.hub import HubFile
from deblur_cli.weights.notes import AUTO, OWN, detector_for, epsilon_in, notes_of
from deblur_cli.weights.sources import Source, find, is_remote, local, pull, remove, source_of

if TYPE_CHECKING:
    from deblur_cli.weights.loading import LoadedWeights, adapt, fit, guide, load, read

__all__ = [
    "AUTO",
    "DEFAULT",
    "INDEX",
    "OWN",
    "CatalogueEntry",
    "HubFile",
    "LoadedWeights",
    "Source",
    "adapt",
    "catalogue_folder",
    "detector_for",
    "entry_named",
    "epsilon_in",
    "find",
    "fit",
    "guide",
    "installed",
    "is_full",
    "is_remote",
    "load",
    "local",
    "notes_of",
    "parts",
    "pull",
    "read",
    "read_index",
    "read_tensors",
    "remove",
    "save",
    "save_in_parts",
    "sha256",
    "source_of",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("deblur_cli.weights.loading"), name)

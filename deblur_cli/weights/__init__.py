"""Weights: the catalog, where they come from, and files turned into networks.

What turns files into networks is imported on its first use, with torch: finding and downloading do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deblur_cli.weights.catalog import (
    AUTO,
    DEFAULT,
    NONE,
    OWN,
    CatalogEntry,
    Source,
    catalog_folder,
    detector_for,
    entry_named,
    epsilon_in,
    find,
    installed,
    is_remote,
    local,
    notes_of,
    pull,
    remove,
    source_of,
)
from deblur_cli.weights.files import (
    is_full,
    parts,
    save,
    save_in_parts,
    sha256,
)
from deblur_cli.weights.hub import HubFile

if TYPE_CHECKING:
    from deblur_cli.weights.loading import LoadedWeights, adapt, fit, guide, load, read

LATER = ("LoadedWeights", "adapt", "fit", "guide", "load", "read")


def __getattr__(name: str) -> Any:
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("deblur_cli.weights.loading"), name)

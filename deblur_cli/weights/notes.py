"""What weights note about their use: the detector that finds the blur for them, and an epsilon.

Notes are metadata of the file, read here without its tensors and without torch.
"""

from collections.abc import Mapping

from deblur_cli.errors import WeightsError
from deblur_cli.weights import files, sources
from deblur_cli.weights.catalogue import CatalogueEntry

AUTO, OWN = "auto", "own"  # what may be asked for instead of a detector's name
RESERVED = ("architecture", "config", "format", "total_size")  # metadata that are not notes


def notes_of(name: str) -> dict[str, str]:
    """The notes of weights, as far as they are here; of others what the catalogue tells. Makes no request.

    Raises WeightsError for a name that stands for nothing, and for a damaged file.
    """
    source = sources.source_of(name)
    metadata = files.read_metadata(source.path) if source.path else {}
    return completed(metadata, source.entry)


def completed(metadata: Mapping[str, str], entry: CatalogueEntry | None) -> dict[str, str]:
    """The notes among the metadata of a file, and the detector that the catalogue names if they name none."""
    named = {"detector": entry.detector} if entry and entry.detector else {}
    return named | {key: value for key, value in metadata.items() if key not in RESERVED}


def detector_for(notes: Mapping[str, str], asked: str = AUTO) -> str | None:
    """The name of the detector that weights with these notes use; None where they find the blur themselves.

    asked: "auto" for the detector that they note, "own" for none, or the name of another one.
    """
    if asked == AUTO:
        return notes.get("detector") or None
    return None if asked == OWN else asked


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
        raise WeightsError(f"{name} recommends {text[:40]!r} as epsilon, which is no number from 0 to 1")
    return epsilon

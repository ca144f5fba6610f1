"""Weights for the commands that run a network: loaded by name, downloaded first where that is needed."""

from pathlib import Path
from typing import TYPE_CHECKING

from deblur_cli import weights
from deblur_cli.cli.options import wrong_usage
from deblur_cli.errors import WeightsError

if TYPE_CHECKING:
    from deblur_cli.cli.output import Output
    from deblur_cli.weights import LoadedWeights


def load_weights(name: str | None, detector: str, streams: "Output") -> "LoadedWeights":
    """Return the network of a run with its detector; what is not here is downloaded.

    name: None for the default; detector: as --detector gives it
    Raises UsageError for what cannot be used as such, WeightsError for what cannot be downloaded.
    """
    name = name or weights.DEFAULT
    if weights.is_remote(name):
        bring(name, streams)
    with wrong_usage(WeightsError):
        loaded = weights.load(name)
    detector_name = weights.detector_for(loaded.notes, detector)
    if detector_name is not None and weights.is_remote(detector_name):
        bring(detector_name, streams)
    with wrong_usage(WeightsError):
        return weights.guide(loaded, detector)


def epsilon_for(loaded: "LoadedWeights", asked: float | None) -> float:
    """Return the epsilon of a run: as asked for, else what is recommended, else one half.

    Raises WeightsError where the recommendation is damaged.
    """
    from deblur_cli.restoration.deblurrer import Request

    if asked is not None:
        return asked
    return Request.epsilon if loaded.epsilon is None else loaded.epsilon


def to_download_of_run(name: str | None, detector: str) -> str | None:
    """Say what a run would have to download before it starts; None where all is here.

    Raises WeightsError for names that stand for nothing.
    """
    name = name or weights.DEFAULT
    names = [name, weights.detector_for(weights.notes_of(name), detector)]
    missing = [to_download(wanted) for wanted in names if wanted is not None]
    return " and ".join(filter(None, missing)) or None


def to_download(name: str) -> str | None:
    """Say what has to be downloaded for weights; None where they are here.

    Raises WeightsError for a name that stands for nothing.
    """
    source = weights.source_of(name)
    if source.path is not None or source.hub is None:
        return None
    size = f" ({source.entry.bytes / 1e6:.1f} MB)" if source.entry and source.entry.bytes else ""
    return f"{source.name}{size} from {source.hub}"


def bring(name: str, streams: "Output") -> Path:
    """Return the path of weights; those that are not here are named and downloaded. Raises WeightsError."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if (missing := to_download(name)) is None:
        return weights.pull(name)
    streams.say(f"downloading {missing}")
    if streams.quiet:
        with disable_progress_bars():
            return weights.pull(name)
    return weights.pull(name)

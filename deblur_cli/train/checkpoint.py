"""The state of a training run, written so that a run killed at any moment can go on."""

import logging
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import TrainingError
from deblur_cli.files import PARTIAL, write_file
from deblur_cli.train.settings import NetworkSettings, TrainSettings, differences

NAME = "state.pt"
CONTENTS = {
    **{"settings": dict, "network": dict, "average": dict, "optimizer": dict},
    **{"step": int, "elapsed": float},
}
DAMAGE = (  # what torch and pickle raise for files that are not what they seem
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, pickle.UnpicklingError),
)

logger = logging.getLogger(__name__)


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state whole in the place of the old one, which stays where that fails.

    Raises EncodeError, or TrainingError where torch fails to write.
    """
    for partial in folder.glob(PARTIAL):  # of a run that was killed
        partial.unlink(missing_ok=True)
    try:
        write_file(folder / NAME, lambda file: torch.save(state, file), overwrite=True)
    except RuntimeError as error:  # so torch reports a failed write
        raise TrainingError(f"cannot write {folder / NAME} (is the disk full?): {error}") from error


def load(folder: Path) -> dict[str, Any] | None:
    """The last state, on the CPU, or None where there is none. Raises TrainingError for a damaged one."""
    path = folder / NAME
    if not path.exists():
        return None
    with refusing_damage(folder):
        if not zipfile.is_zipfile(path):  # torch's format; its reader trips over anything else in many ways
            raise ValueError("not a file of torch.save")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(state[name], kind) for name, kind in CONTENTS.items()):
            raise TypeError("not the state of a run")
    return state


@contextmanager
def refusing_damage(folder: Path) -> Iterator[None]:
    """Say in one line that a state cannot be used, whatever trips over it."""
    try:
        yield
    except DAMAGE as error:
        logger.debug("%s: %r", folder / NAME, error)
        raise TrainingError(
            f"{folder / NAME} is damaged: delete it to start again, or choose another folder"
        ) from error


def check_settings(folder: Path, state: dict[str, Any], settings: TrainSettings) -> None:
    """Raise TrainingError for the state of another network; log what else is set differently now."""
    before = state["settings"]
    network = {**NetworkSettings().model_dump(), **before.get("network", {})}  # older runs had fewer settings
    if network != settings.network.model_dump():
        raise TrainingError(f"{folder} holds a run of another network: choose another folder")
    if changes := differences(before, settings.model_dump()):
        logger.warning("settings differ from the run so far: %s", "; ".join(changes))

"""The state of a training run, written so that a run killed at any moment can go on."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import TrainingError

NAME = "state.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state beside the old one, then take its place at once.

    Raises TrainingError where it cannot be written (a full disk); the old state stays.
    """
    temporary = folder / f".{NAME}.part"
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / NAME)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise TrainingError(f"cannot write {folder / NAME} (is the disk full?): {error}") from error


def load(folder: Path) -> dict[str, Any] | None:
    """The last state, on the CPU, or None where there is none. Raises TrainingError for a damaged one."""
    path = folder / NAME
    if not path.exists():
        return None
    damaged = f"{path} is damaged: delete it to start again, or choose another folder"
    if not zipfile.is_zipfile(path):  # torch's format; its reader trips over anything else in many ways
        raise TrainingError(damaged)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise TrainingError(damaged) from error
    if not isinstance(state, dict):
        raise TrainingError(damaged)
    return state

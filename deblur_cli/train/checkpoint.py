"""The state of a training run, written so that a run killed at any moment can go on."""

import os
from pathlib import Path
from typing import Any

import torch

from deblur_cli.errors import TrainingError

NAME = "state.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the state beside the old one, then take its place at once."""
    temporary = folder / f".{NAME}.part"
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / NAME)


def load(folder: Path) -> dict[str, Any] | None:
    """The last state, on the CPU, or None where there is none. Raises TrainingError for a damaged one."""
    path = folder / NAME
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: delete it to start again ({error})") from error
    return state

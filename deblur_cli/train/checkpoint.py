"""The state of a training run, written so that a run killed at any moment can go on."""

import math
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli.errors import TrainingError

NAME = "state.pt"
TABLES = ("settings", "network", "average", "optimizer")
DAMAGE = (  # what torch and pickle raise for files that are not what they seem
    *(OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
    *(AssertionError, pickle.UnpicklingError),
)


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
    if not zipfile.is_zipfile(path):  # torch's format; its reader trips over anything else in many ways
        raise damaged(folder)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        raise damaged(folder) from error
    if not isinstance(state, dict) or not is_whole(state):
        raise damaged(folder)
    return state


def damaged(folder: Path) -> TrainingError:
    """What to say of a state that cannot be used."""
    return TrainingError(f"{folder / NAME} is damaged: delete it to start again, or choose another folder")


def is_whole(state: dict[str, Any]) -> bool:
    """Whether everything that a run needs is there, as far as can be told without its network."""
    elapsed, history = state.get("elapsed"), state.get("history", [])
    return (
        all(isinstance(state.get(name), dict) for name in TABLES)
        and type(state.get("step")) is int
        and isinstance(elapsed, float)
        and math.isfinite(elapsed)
        and min(state["step"], elapsed) >= 0
        and isinstance(history, list)
        and all(isinstance(run, dict) for run in history)
        and is_plain([state["settings"], history])
        and type(state["settings"].get("depth")) is int
    )


def is_plain(value: Any) -> bool:
    """Whether a value is made of texts, numbers and nothing else, in lists and tables with names."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(entry) for name, entry in value.items())
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, str | int | float)


def check_weights(folder: Path, state: dict[str, Any], network: nn.Module) -> None:
    """Raise TrainingError where the weights in a state are not those of a network."""
    wanted = {name: value.shape for name, value in network.state_dict().items()}
    for saved in (state["network"], state["average"]):
        whole = all(isinstance(value, Tensor) and value.is_floating_point() for value in saved.values())
        if not whole or {name: value.shape for name, value in saved.items()} != wanted:
            raise damaged(folder)


def check_optimizer(folder: Path, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise TrainingError where the moments in a state are not those of the parameters in training."""
    (group,) = optimizer.param_groups
    wanted = [parameter.shape for parameter in group["params"]]
    groups, moments = state["optimizer"].get("param_groups"), state["optimizer"].get("state")
    if not isinstance(moments, dict) or not isinstance(groups, list) or len(groups) != 1:
        raise damaged(folder)
    saved = groups[0] if isinstance(groups[0], dict) else {}
    numbers = all(isinstance(saved.get(name), float) for name in ("lr", "eps", "weight_decay"))
    if not numbers or saved.get("params") != list(range(len(wanted))):
        raise damaged(folder)
    for place, entry in moments.items():
        if type(place) is not int or not 0 <= place < len(wanted) or not isinstance(entry, dict):
            raise damaged(folder)
        kept = [entry.get(name) for name in ("exp_avg", "exp_avg_sq")]
        if not all(isinstance(value, Tensor) and value.shape == wanted[place] for value in kept):
            raise damaged(folder)
        if not isinstance(entry.get("step"), Tensor):
            raise damaged(folder)

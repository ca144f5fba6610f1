"""Tables of TOML and the settings objects made from them, whatever the settings are about."""

import math
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import SequenceMatcher
from typing import Any, TypeVar

from deblur_cli.errors import TrainingError

T = TypeVar("T")
NAMED = 5  # settings at most that a mistyped name is answered with


def override(table: dict[str, Any], name: str, parts: list[str], value: Any) -> dict[str, Any]:
    """The table with one value replaced, sections made as needed."""
    first, rest = parts[0], parts[1:]
    if not rest:
        return {**table, first: value}
    section = table.get(first, {})
    if not isinstance(section, dict):
        raise TrainingError(f"setting {name!r} does not exist: {first!r} is a single value")
    return {**table, first: override(section, name, rest, value)}


def build(settings: T, table: dict[str, Any], section: str = "", every: Sequence[str] = ()) -> T:
    """A settings object with the values of a table; sections fill the settings inside it.

    every: the full names of all settings there are; by default those of `settings`
    """
    every = every or [name for name, _ in flat(asdict(settings))]  # type: ignore[call-overload]
    known = {entry.name for entry in fields(settings)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - known):
        inside = flat({unknown[0]: table[unknown[0]]})  # of an unknown section what was set in it
        name = section + (inside[0][0] if inside else unknown[0])
        raise TrainingError(f"unknown setting {name!r}: did you mean {nearest(name, every)}?")
    values: dict[str, Any] = {}
    for name, value in table.items():
        current = getattr(settings, name)
        if not is_dataclass(current):
            values[name] = convert(section + name, value, current)
        elif isinstance(value, dict):
            values[name] = build(current, value, f"{section}{name}.", every)
        else:
            raise TrainingError(f"setting {section + name!r} is a section, not a single value")
    return replace(settings, **values)  # type: ignore[type-var]


def nearest(name: str, known: Sequence[str]) -> str:
    """The settings whose names, with or without their section, are most like a name, for a message."""
    last = name.rpartition(".")[2]
    like = {entry: SequenceMatcher(None, last, entry.rpartition(".")[2]).ratio() for entry in known}
    best = sorted(known, key=lambda entry: -like[entry])
    close = [entry for entry in best if like[entry] >= max(0.6, like[best[0]] - 0.1)]
    return " or ".join((close or best)[:NAMED])


def convert(name: str, value: Any, current: Any) -> Any:
    """The value in the type of the setting that it replaces. Raises TrainingError where it has another."""
    if isinstance(current, tuple) and not current:
        if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
            raise TrainingError(f"setting {name!r} is a list of texts, not {value!r}")
        return tuple(value)
    if isinstance(current, tuple):
        any_length = type(current[0]) is int and value  # blocks of each stage, of which there may be fewer
        if not isinstance(value, list | tuple) or (len(value) != len(current) and not any_length):
            raise TrainingError(f"setting {name!r} is a list of {len(current)} numbers, not {value!r}")
        return tuple(convert(name, entry, current[0]) for entry in value)
    if isinstance(current, float) and type(value) is int:
        return float(value)
    if type(value) is not type(current):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        raise TrainingError(f"setting {name!r} is {kinds[type(current)]}, not {value!r}")
    return value


def check_numbers(table: dict[str, Any]) -> None:
    """Raise TrainingError for numbers that no setting can have."""
    for name, value in flat(table):
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise TrainingError(f"setting {name!r} is a finite number, not {number}")
            if isinstance(number, int | float) and number < 0:
                raise TrainingError(f"setting {name!r} cannot be below zero, as {number} is")


def flat(table: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Every setting with its full name, sections resolved."""
    found = []
    for name, value in table.items():
        inside = isinstance(value, dict)
        found += flat(value, f"{prefix}{name}.") if inside else [(prefix + name, value)]
    return found

"""Results as rows of a CSV file, one for each picture, weights and epsilon, to be added to later."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from deblur_cli.errors import EvaluationError
from deblur_cli.evaluation.measures import MEASURES
from deblur_cli.files import explain, write_file

# What a result depends on. A row that is equal in all of them is not worked out again.
KEYS = (
    *("picture", "checksum", "weights", "sha256", "detector", "epsilon", "inference", "tile", "overlap"),
    *("scales", "keep_sharp", "device", "precision", "version"),
)
COLUMNS = (*KEYS, *MEASURES)

Key = tuple[str, ...]
Place = tuple[str, str]  # weights and epsilon
Row = dict[str, float]


class Results:
    """All rows so far, by key; those in a file are read first, and each new one is appended at once.

    Raises EvaluationError where the file is of another kind or cannot be read, EncodeError where it cannot
    be written.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.rows: dict[Key, Row] = {}
        if path is not None:
            self.read(path)

    def read(self, path: Path) -> None:
        """Take over the whole rows of a file; one that was cut off when a run was killed is dropped."""
        try:
            if not path.exists():
                return self.rewrite([])
            with path.open(newline="", encoding="utf-8") as file:
                text = file.read()
            lines = list(csv.reader(io.StringIO(text, newline="")))  # a name may hold a line break
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise EvaluationError(f"cannot use {path} for the results: {reason(error)}") from error
        if lines and tuple(lines[0]) != COLUMNS:
            raise EvaluationError(f"{path} is not of this version of deblur evaluate: choose another folder")
        rest = lines[1:] if text.endswith("\n") else lines[1:-1]
        whole = [line for line in rest if len(line) == len(COLUMNS)]
        if len(whole) + 1 != len(lines):
            self.rewrite(whole)
        for line in whole:
            values = {name: number(cell) for name, cell in zip(MEASURES, line[len(KEYS) :], strict=True)}
            self.rows[tuple(line[: len(KEYS)])] = values
        return None

    def add(self, rows: Mapping[Key, Row]) -> None:
        """Keep rows, in the file too. Raises EncodeError."""
        self.rows |= rows
        if self.path is None:
            return
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([*key, *map(cell, row.values())] for key, row in rows.items())
        except OSError as error:
            raise explain(self.path, error) from error

    def rewrite(self, lines: Iterable[Sequence[str]]) -> None:
        """Replace the file by a head and some lines, as a whole. Raises EncodeError."""
        assert self.path is not None
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
        write_file(self.path, [text.getvalue().encode()], overwrite=True)


def cell(value: float) -> str:
    """A number as text that reads back the same; nothing for NaN."""
    return "" if math.isnan(value) else repr(value)


def number(text: str) -> float:
    """The inverse of `cell`."""
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise EvaluationError(
            f"the results hold {text!r} where a number belongs: choose another folder"
        ) from error


def reason(error: Exception) -> str:
    """What the system says."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not text"

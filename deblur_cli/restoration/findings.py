"""Findings: what was detected in a photo, for restoration, pictures and forecasts; and their file."""

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import DecodeError
from deblur_cli.nets.network import CELL, cells_of
from deblur_cli.restoration import SCALES

Floats = NDArray[np.float32]

VERSION = 2  # of the file; 1 had no scales
# What reading a damaged zip may raise; RuntimeError where a bit says that it is encrypted.
DAMAGED: tuple[type[Exception], ...] = (OSError, ValueError, EOFError, RuntimeError, MemoryError)
DAMAGED += (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error)
FOREIGN = "it is not a file written by --data npz"
UPRIGHT = "upright, as the written photo; (row, column), displacements (dy, dx) in its pixels"


@dataclass(frozen=True, eq=False)
class Findings:
    """What was detected in a photo, one value for each cell of 8 x 8 pixels, float32. No epsilon is in it.

    size: height and width of the photo
    probability: h w, confidence that a cell is blurred by motion, 0-1
    start, end: 2 h w, displacement (dy, dx) from mid-exposure to its start and end, in photo pixels
    scale: h w, 1-8, how many times smaller the photo is when a cell is restored; between two scales both
        results are mixed
    tiles: how many tiles the detector went through; notes: what the user should know
    """

    size: tuple[int, int]
    probability: Floats
    start: Floats
    end: Floats
    scale: Floats
    tiles: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        cells = cells_of(self.size)
        maps = {"probability": cells, "start": (2, *cells), "end": (2, *cells), "scale": cells}
        for name, shape in maps.items():
            values = getattr(self, name)
            if values.shape != shape:
                raise ValueError(f"{name} has the shape {values.shape}, not {shape}")
            with np.errstate(over="ignore"):  # infinite is refused with what is no number
                values = np.ascontiguousarray(values, np.float32)
            object.__setattr__(self, name, values)
            if not np.isfinite(values).all():
                raise ValueError(f"{name} holds values that are not finite numbers")
        if self.probability.min() < 0 or self.probability.max() > 1:
            raise ValueError("probability must be 0 to 1")
        if self.scale.min() < 1 or self.scale.max() > max(SCALES):
            raise ValueError(f"scale must be 1 to {max(SCALES)}")

    def check_fits(self, height: int, width: int) -> None:
        """Raise DecodeError unless they are of a photo of that size."""
        if self.size != (height, width):
            own, other = f"{self.size[1]} x {self.size[0]}", f"{width} x {height}"
            raise DecodeError(f"the findings belong to a photo of {own} pixels, but this one has {other}")

    @property
    def length(self) -> Floats:
        """How far each cell moved from start to end of the exposure, h w, in photo pixels."""
        return np.asarray(np.hypot(*(self.end - self.start)), np.float32)


def everywhere(height: int, width: int, probability: float = 1.0, scale: float = 1.0) -> Findings:
    """Findings of one confidence, 0-1, in the whole photo, where the motion is unknown."""
    cells = cells_of((height, width))
    still = np.zeros((2, *cells), np.float32)
    confidence, scales = (np.full(cells, value, np.float32) for value in (probability, scale))
    return Findings((height, width), confidence, still, still.copy(), scales)


def to_npz(findings: Findings, epsilon: float) -> bytes:
    """Findings as NumPy's npz; docs/usage.md says what each array holds. epsilon is noted for the reader."""
    file = io.BytesIO()
    np.savez_compressed(
        file,
        version=np.int64(VERSION),
        probability=findings.probability,
        start=findings.start,
        end=findings.end,
        scale=findings.scale,
        cell=np.int64(CELL),
        size=np.array(findings.size, np.int64),
        epsilon=np.float64(epsilon),
        orientation=np.str_(UPRIGHT),
    )
    return file.getvalue()


def read_npz(path: Path) -> tuple[Findings, float | None]:
    """Findings of a file that `to_npz` made, edited or not, and the epsilon noted in it, if there is one.

    Raises DecodeError, in one line.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError(FOREIGN)
            with np.load(file, allow_pickle=False) as held:
                if "version" in held and _numbers(held, "version").max() > VERSION:
                    raise ValueError("a newer version of deblur wrote it")
                size = _numbers(held, "size")
                if size.shape != (2,) or not np.isfinite(size).all() or size.min() < 1:
                    raise ValueError("size must be height and width")
                probability, start, end = (_numbers(held, name) for name in ("probability", "start", "end"))
                scale = _numbers(held, "scale") if "scale" in held else np.ones_like(probability)
                epsilon = _numbers(held, "epsilon") if "epsilon" in held else np.array(np.nan)
        usable = not epsilon.shape and 0 <= epsilon <= 1
        height, width = map(int, size)
        return Findings((height, width), probability, start, end, scale), float(epsilon) if usable else None
    except DAMAGED as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        line = " ".join(why.split()) or FOREIGN
        raise DecodeError(f"cannot read the findings in {path}: {line}") from error


def _numbers(held: Mapping[str, Any], name: str) -> NDArray[Any]:
    """An array of real numbers. Raises ValueError for anything else."""
    if name not in held:
        raise ValueError(FOREIGN)
    values = held[name]
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iufb":
        raise ValueError(f"{name} is not numeric")
    return values

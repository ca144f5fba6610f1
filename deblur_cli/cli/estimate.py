"""How long photos will take: measured with one tile of the network, counted over all tiles."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deblur_cli.photo.photo import Photo

if TYPE_CHECKING:
    from deblur_cli.restore import Deblurrer, Settings
    from deblur_cli.restoration.tiles import Grid

_FIRST_SIDE = 256  # pixels
_LARGE = (4096, 4096)  # pixels; tiles of such a photo are as large as they get
_LONGEST_SIDE = 1024  # pixels; a larger sample would take too long


@dataclass(frozen=True)
class Estimate:
    """Seconds in the network: if nothing is blurred, and if everything is."""

    least: float
    most: float
    device: str

    def __str__(self) -> str:
        low, high = spoken(self.least), spoken(self.most)
        span = f"about {low}" if low == high else f"{low} to {high}, the more the more is blurred,"
        return f"{span} on {self.device}, reading and writing not counted"


def spoken(seconds: float) -> str:
    """Round a time to what an estimate is good for."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(network: "Deblurrer", settings: "Settings", sizes: Iterable[tuple[int, int]]) -> Estimate:
    """Measure a tile, only looked at and restored, and reckon by the pixels of all tiles of these photos."""
    network.run(_noise(_FIRST_SIDE), replace(settings, epsilon=0.0))  # takes what only a first run takes
    usual = network.grid(*_LARGE, settings).rows[0]
    side = min(usual.stop - usual.start, _LONGEST_SIDE)
    sample = _noise(side)
    # No confidence is above 1, and hardly any is not above 0.
    least, most = (network.run(sample, replace(settings, epsilon=epsilon)) for epsilon in (1.0, 0.0))
    pixels = sum(_pixels(network.grid(height, width, settings)) for width, height in sizes)
    share = pixels / _pixels(network.grid(side, side, settings))
    low, high = (share * result.seconds for result in (least, most))
    return Estimate(min(low, high), max(low, high), network.device)


def _pixels(grid: "Grid") -> int:
    """Pixels of all tiles together, those that they share counted in each."""
    rows, columns = (sum(span.stop - span.start for span in spans) for spans in (grid.rows, grid.columns))
    return rows * columns


def _noise(side: int) -> Photo:
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    return Photo(pixels=pixels, source=Path("sample"), format="PNG")

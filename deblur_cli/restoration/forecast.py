"""What a run would do with photos and how long that would take, without doing it."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Restoration, Result
from deblur_cli.restoration.engine import Progress
from deblur_cli.restoration.findings import everywhere
from deblur_cli.restoration.scales import pyramid
from deblur_cli.restoration.tiles import Grid, Tile

FIRST_SIDE = 256  # pixels of a photo that takes what only a first run takes
LARGE = (4096, 4096)  # pixels; tiles of such a photo are as large as they get
LONGEST_SIDE = 1024  # pixels; a larger sample would take too long


@dataclass(frozen=True, eq=False)
class Outlook:
    """What one request would do with a photo.

    seen: what a run finds; tiles_restored: over all scales; seconds: about what a run takes, reading and
    writing left out
    """

    seen: Result
    tiles_restored: int
    seconds: float


def foresee(
    deblurrer: Deblurrer, photo: Photo, requests: Sequence[Request], progress: Progress | None = None
) -> list[Outlook]:
    """Look at a photo once, and tell what each request would restore of it.

    The time for looking is measured; that for restoring too, with one part, and grows with the pixels of all.
    Raises OutOfMemoryError where even the smallest tile does not fit.
    """
    began = time.monotonic()
    findings = deblurrer.detect(photo, progress)
    looking = time.monotonic() - began
    grids = {scale: own for scale, (_, own) in deblurrer.grids(photo.height, photo.width).items()}
    tasks = [Restoration(deblurrer, photo, findings, request, None) for request in requests]
    parts = [{scale: _parts(task, scale, grids[scale]) for scale in task.shares} for task in tasks]
    work = [sum(part.weights.size for found in each.values() for part in found) for each in parts]
    each_pixel = 0.0
    if restoring := [index for index, pixels in enumerate(work) if pixels]:
        typical = restoring[len(restoring) // 2]
        each_pixel = _seconds_per_pixel(tasks[typical], parts[typical])
    return [
        Outlook(
            task.before,
            sum(len(found) for found in each.values()),
            looking + each_pixel * pixels,
        )
        for task, each, pixels in zip(tasks, parts, work, strict=True)
    ]


def _parts(task: Restoration, scale: int, grid: Grid) -> list[Tile]:
    return [part for _, part in task.parts(scale, grid)]


def _seconds_per_pixel(task: Restoration, parts: dict[int, list[Tile]]) -> float:
    """Measure the largest part; the smallest goes first, for what only a first run takes."""
    pairs = [(scale, part) for scale, found in parts.items() for part in found]
    smallest, *_, (scale, largest) = sorted([*pairs, *pairs], key=lambda pair: pair[1].weights.size)
    _seconds(task, *smallest)
    return _seconds(task, scale, largest) / largest.weights.size


def _seconds(task: Restoration, scale: int, part: Tile) -> float:
    (level,) = pyramid(task.photo.pixels, (scale,))
    began = time.monotonic()
    list(task.changes(level, [part]))
    return time.monotonic() - began


@dataclass(frozen=True)
class Estimate:
    """Seconds in the network: if nothing is blurred, and if everything is."""

    least: float
    most: float
    device: str

    def __str__(self) -> str:
        low, high = spoken(self.least), spoken(self.most)
        span = f"about {low}" if low == high else f"{low} to {high}, depending on how much is blurred,"
        return f"{span} on {self.device}, reading and writing not counted"


def spoken(seconds: float) -> str:
    """Round a time to what an estimate is good for."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(deblurrer: Deblurrer, request: Request, sizes: Iterable[tuple[int, int]]) -> Estimate:
    """Measure a tile, looked at and restored, and reckon by the pixels of all tiles of photos.

    sizes: width and height of each photo. A network that marks nothing itself restores all of every photo.
    """
    _spent(deblurrer, FIRST_SIDE, request)
    tile = deblurrer.restorer.grid(*LARGE).rows[0]
    side = min(tile.stop - tile.start, LONGEST_SIDE)
    looking, restoring = _spent(deblurrer, side, request)
    # The sample is restored at its finest scale alone, and photos at worst at all of theirs.
    looked_at, restored = _pixels(deblurrer, side, side)
    pixels = [_pixels(deblurrer, height, width) for width, height in sizes]
    looking *= sum(sum(found) for found, _ in pixels) / sum(looked_at)
    restoring *= sum(sum(found) for _, found in pixels) / restored[0]
    least = looking if deblurrer.detector.reference.detects else looking + restoring
    return Estimate(least, looking + restoring, deblurrer.device)


def _spent(deblurrer: Deblurrer, side: int, request: Request) -> tuple[float, float]:
    """Seconds to look at a square of noise, and to restore all of it at the finest scale."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    photo = Photo(pixels=pixels, source=Path("sample"), format="PNG")
    began = time.monotonic()
    deblurrer.detect(photo)
    between = time.monotonic()
    blurred = everywhere(side, side, scale=min(deblurrer.scales))
    deblurrer.restore(photo, blurred, replace(request, epsilon=0.0))
    return between - began, time.monotonic() - between


def _pixels(deblurrer: Deblurrer, height: int, width: int) -> tuple[list[int], list[int]]:
    """Pixels of all tiles that a photo is looked at and restored in, at each scale, the finest first.

    Pixels that tiles share are counted in each.
    """
    grids = deblurrer.grids(height, width).values()
    looked_at, restored = ([_area(pair[step]) for pair in grids] for step in (0, 1))
    return looked_at, restored


def _area(grid: Grid) -> int:
    rows, columns = (sum(span.stop - span.start for span in spans) for spans in (grid.rows, grid.columns))
    return rows * columns

"""What a run would do with photos: what it restores, how long it takes, its multiply-accumulates (macs).

Times are measured on samples and grow with the pixels of all tiles. Macs are counted from the layers, see
`nets/macs.py`; they are None for LMD-ViT, which computes other windows in every tile.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from deblur_cli.nets import M2AENet, Network
from deblur_cli.nets.macs import count_detection, count_restoration, count_spared
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Restoration, Result
from deblur_cli.restoration.engine import Progress
from deblur_cli.restoration.findings import Findings, Floats, everywhere
from deblur_cli.restoration.scales import pyramid
from deblur_cli.restoration.tiles import Tile

FIRST_SIDE = 256  # pixels of a sample that warms up the device
LARGE = (4096, 4096)  # pixels; tiles of such a photo are as large as they get
LONGEST_SIDE = 1024  # pixels; a larger sample would take too long

Part = tuple[int, Tile, Floats]  # scale, place in pixels of that scale, mask of its cells h w
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Outlook:
    """What one request would do with a photo.

    result: the photo as it is, with what a run detects; tiles_restored: over all scales
    seconds: about what a run takes, without reading and writing
    """

    result: Result
    tiles_restored: int
    seconds: float


def forecast(
    deblurrer: Deblurrer, photo: Photo, requests: Sequence[Request], progress: Progress | None = None
) -> list[Outlook]:
    """Detect blur in a photo once, and say what each request would restore of it.

    Detection is timed, and so is restoring one part; the time of all parts grows with their pixels.
    Raises OutOfMemoryError where even the smallest tile does not fit.
    """
    findings, detecting = timed(lambda: deblurrer.detect(photo, progress))
    tasks = [Restoration(deblurrer, photo, findings, request) for request in requests]
    parts = [planned_parts(task) for task in tasks]
    pixels = [sum(part.weights.size for _, part in each) for each in parts]
    restoring = [number for number, count in enumerate(pixels) if count]
    typical = restoring[len(restoring) // 2] if restoring else None
    each_pixel = 0.0 if typical is None else _seconds_per_pixel(tasks[typical], parts[typical])
    return [
        Outlook(task.before, len(each), detecting + each_pixel * count)
        for task, each, count in zip(tasks, parts, pixels, strict=True)
    ]


def planned_parts(task: Restoration) -> list[tuple[int, Tile]]:
    """Scale and place of each part that a task restores, in pixels of that scale."""
    return [(scale, part) for scale, parts in task.parts_now().items() for _, part in parts]


def timed(action: Callable[[], T]) -> tuple[T, float]:
    """What an action returns, and the seconds that it took."""
    began = time.monotonic()
    result = action()
    return result, time.monotonic() - began


def _seconds_per_pixel(task: Restoration, parts: list[tuple[int, Tile]]) -> float:
    """Time the largest part, after the smallest has warmed up the device."""

    def restore(scale: int, part: Tile) -> None:
        (photo,) = pyramid(task.photo.pixels, (scale,))
        list(task.changes(photo, [part]))

    smallest, *_, largest = sorted([*parts, *parts], key=lambda pair: pair[1].weights.size)
    restore(*smallest)
    _, seconds = timed(lambda: restore(*largest))
    return seconds / largest[1].weights.size


@dataclass(frozen=True)
class Estimate:
    """Seconds in the network: if nothing is blurred, and if everything is."""

    least: float
    most: float
    device: str

    def __str__(self) -> str:
        low, high = duration(self.least), duration(self.most)
        span = f"about {low}" if low == high else f"{low} to {high}, depending on how much is blurred,"
        return f"{span} on {self.device}, plus reading and writing"


def duration(seconds: float) -> str:
    """A time as text, as exact as an estimate can be."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(
    deblurrer: Deblurrer, request: Request, sizes: Collection[tuple[int, int]], at_once: int = 1
) -> Estimate:
    """Time detection and restoration of a sample tile, and multiply by the pixels of all tiles of photos.

    sizes: width and height of each photo; at_once: photos that are in the network side by side, each with
    its share of the cores. A network that detects nothing restores all of every photo.
    """
    tile = deblurrer.restorer.grid(*LARGE).rows[0]
    side = min(tile.stop - tile.start, LONGEST_SIDE)
    at_once = min(at_once, len(sizes))
    with share_of_cores(at_once):
        _time_sample(deblurrer, FIRST_SIDE, request)
        detecting, restoring = (taken / at_once for taken in _time_sample(deblurrer, side, request))
    # The sample is restored at its finest scale alone, and photos at worst at all of theirs.
    detected, restored = _pixels(deblurrer, side, side)
    pixels = [_pixels(deblurrer, height, width) for width, height in sizes]
    detecting *= sum(sum(each) for each, _ in pixels) / sum(detected)
    restoring *= sum(sum(each) for _, each in pixels) / restored[0]
    least = detecting if deblurrer.detector.reference.detects else detecting + restoring
    return Estimate(least, detecting + restoring, deblurrer.device)


@contextmanager
def share_of_cores(count: int) -> Iterator[None]:
    """Compute with one of so many shares of the cores."""
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // count))
    try:
        yield
    finally:
        torch.set_num_threads(cores)


def _time_sample(deblurrer: Deblurrer, side: int, request: Request) -> tuple[float, float]:
    """Seconds to detect blur in a square of noise, and to restore all of it at the finest scale."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    photo = Photo(pixels=pixels, source=Path("sample"), format="PNG")
    blurred = everywhere(side, side, scale=min(deblurrer.scales))
    _, detecting = timed(lambda: deblurrer.detect(photo))
    _, restoring = timed(lambda: deblurrer.restore(photo, blurred, replace(request, epsilon=0.0)))
    return detecting, restoring


def _pixels(deblurrer: Deblurrer, height: int, width: int) -> tuple[list[int], list[int]]:
    """Pixels of all tiles of detection and of restoration at each scale of a photo, the finest first.

    Pixels that tiles share are counted in each.
    """
    grids = zip(*deblurrer.grids(height, width).values(), strict=True)
    detecting, restoring = ([sum(prod(tile.size) for tile in grid) for grid in each] for each in grids)
    return detecting, restoring


def restored_parts(deblurrer: Deblurrer, photo: Photo, findings: Findings, request: Request) -> list[Part]:
    """All parts that are restored, over all scales."""
    task = Restoration(deblurrer, photo, findings, request)
    masks = {scale: task.mask_at(scale) for scale in task.shares}
    return [(scale, part, masks[scale][part.cells]) for scale, part in planned_parts(task)]


def parts_macs(deblurrer: Deblurrer, parts: Iterable[Part]) -> int | None:
    """Macs of restoring parts: both halves of the restorer, pruned by the mask."""
    network = deblurrer.restorer.network
    if not isinstance(network, M2AENet):
        return None
    return sum(
        count_restoration(network, *part.size)
        - count_spared(network, *part.size, torch.from_numpy(mask)[None, None])
        for _, part, mask in parts
    )


def detection_macs(deblurrer: Deblurrer, height: int, width: int) -> int | None:
    """Macs of detection in a photo of that size, at all of its scales."""
    network = deblurrer.detector.network
    if not network.detects:
        return 0
    tiles = [tile for detection, _ in deblurrer.grids(height, width).values() for tile in detection]
    counts = [macs for tile in tiles if (macs := count_detection(network, *tile.size)) is not None]
    return sum(counts) if len(counts) == len(tiles) else None


def dense_macs(network: Network, tiles: Iterable[Tile]) -> int:
    """Macs of all layers of a restorer on all pixels of tiles, without a detector."""
    return sum(count_restoration(network, *tile.size) for tile in tiles)

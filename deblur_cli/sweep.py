"""What several epsilon would do with a photo, told from one detection."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from deblur_cli.hysteresis import settle
from deblur_cli.nets import STAGE_SCALE
from deblur_cli.photo.photo import Photo
from deblur_cli.regions import changed_part, covered_share, masked_part
from deblur_cli.restore import Deblurrer, MotionMaps, Progress, Settings
from deblur_cli.tiles import Grid, Tile


@dataclass(frozen=True, eq=False)
class Outlook:
    """What one epsilon would do.

    maps: as a run with this epsilon finds them; blurred_share: of the photo's area, 0-1
    tiles_restored: of `tiles`; seconds: about what a run takes, reading and writing left out
    """

    epsilon: float
    maps: MotionMaps
    blurred_share: float
    tiles: int
    tiles_restored: int
    seconds: float


def sweep(
    network: Deblurrer,
    photo: Photo,
    settings: Settings,
    epsilons: Sequence[float],
    progress: Progress | None = None,
) -> list[Outlook]:
    """Detect once, and work out for each epsilon what it would restore; times are scaled from one tile.

    Raises OutOfMemoryError where even the smallest tile does not fit.
    """
    # Without keep_sharp the confidence is the network's own, which depends on no epsilon.
    seen = network.run(photo, replace(settings, restore=False, keep_sharp=False), progress)
    grid = Grid(photo.height, photo.width, seen.tile_size, settings.overlap)
    raw = seen.maps.probability
    part_of = masked_part if not settings.keep_sharp else partial(changed_part, least=None)
    found = []
    for epsilon in epsilons:
        probability = settle(raw, epsilon) if settings.keep_sharp else raw
        mask = (probability > epsilon).astype(np.float32)
        share = covered_share(mask, photo.height, photo.width)
        restored = sum(part_of(tile, mask) is not None for tile in grid)
        found.append((epsilon, replace(seen.maps, probability=probability), share, restored))
    each = 0.0
    if restoring := [epsilon for epsilon, *_, restored in found if restored]:
        likely = max(grid, key=lambda tile: float(raw[tile.scaled(STAGE_SCALE)].mean()))
        typical = restoring[len(restoring) // 2]
        each = _restoring(network, photo, replace(settings, epsilon=typical), likely, seen.tile_size)
    return [
        Outlook(epsilon, maps, share, len(grid), restored, seen.seconds + restored * each)
        for epsilon, maps, share, restored in found
    ]


def _restoring(network: Deblurrer, photo: Photo, settings: Settings, tile: Tile, size: int) -> float:
    """Measure the seconds that a tile takes to restore beside those to look at it."""
    part = replace(photo, pixels=photo.pixels[tile.index], alpha=None, stored=None)
    alone = replace(settings, tile=size)
    whole = network.run(part, alone)
    if not whole.tiles_restored:  # its blur is blur only beside what surrounds it
        whole = network.run(part, replace(alone, epsilon=0.0))
    looked = network.run(part, replace(alone, restore=False))
    return max(0.0, whole.seconds - looked.seconds)

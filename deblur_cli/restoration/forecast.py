"""What several epsilon would do with a photo, told from one detection."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from deblur_cli.restoration.mask import settle
from deblur_cli.photo.photo import Photo
from deblur_cli.regions import covered_share, restored_part
from deblur_cli.restore import Deblurrer, Floats, MotionMaps, Progress, Settings
from deblur_cli.restoration.tiles import Grid, Span, Tile


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

    A network whose detection depends on epsilon detects for each of them.
    Raises OutOfMemoryError where even the smallest tile does not fit.
    """
    # Without keep_sharp the confidence is the network's own.
    looking, own = replace(settings, restore=False, keep_sharp=False), network.weights.network
    seen = network.run(photo, looking, progress)
    grid = Grid(photo.height, photo.width, seen.tile_size, settings.overlap, own.multiple)
    part_of = partial(restored_part, least=own.smallest_part, keep_sharp=settings.keep_sharp)
    found: list[tuple[float, MotionMaps, float, list[tuple[Tile, Tile]]]] = []
    for epsilon in epsilons:
        if own.follows_epsilon and epsilon != seen.epsilon:
            seen = network.run(photo, replace(looking, tile=grid.size, epsilon=epsilon), progress)
        raw = seen.maps.probability
        probability = settle(raw, epsilon) if settings.keep_sharp else raw
        mask = (probability > epsilon).astype(np.float32)
        share = covered_share(mask, photo.height, photo.width)
        parts = [(tile, part) for tile in grid if (part := part_of(tile, mask))]
        found.append((epsilon, replace(seen.maps, probability=probability), share, parts))
    each = 0.0
    if restoring := [(epsilon, parts) for epsilon, *_, parts in found if parts]:
        typical, parts = restoring[len(restoring) // 2]
        tile, _ = max(parts, key=lambda pair: pair[1].weights.size)
        settled = replace(settings, tile=seen.tile_size, epsilon=typical)
        each = _restoring(network, photo, settled, tile, part_of)
    return [
        Outlook(
            epsilon,
            maps,
            share,
            len(grid),
            len(parts),
            seen.seconds + each * sum(part.weights.size for _, part in parts),
        )
        for epsilon, maps, share, parts in found
    ]


def _restoring(
    network: Deblurrer,
    photo: Photo,
    settings: Settings,
    tile: Tile,
    part_of: Callable[[Tile, Floats], Tile | None],
) -> float:
    """Measure the seconds for each pixel of a tile that is restored, beside those to look at it."""
    piece = replace(photo, pixels=photo.pixels[tile.index], alpha=None, stored=None)
    whole = network.run(piece, settings)
    if not whole.tiles_restored:  # its blur is blur only beside what surrounds it
        settings = replace(settings, epsilon=0.0)
        whole = network.run(piece, settings)
    alone = Tile(
        *(Span(0, len(side.weights), np.ones_like(side.weights)) for side in (tile.rows, tile.columns))
    )
    part = part_of(alone, (whole.maps.probability > settings.epsilon).astype(np.float32)) or alone
    looked = network.run(piece, replace(settings, restore=False))
    return max(0.0, whole.seconds - looked.seconds) / part.weights.size

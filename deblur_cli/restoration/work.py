"""How much a photo costs: multiply-accumulates of its tiles at all scales, see `nets/work.py`.

They are None for LMD-ViT, of which every tile computes other windows.
"""

from collections.abc import Iterable, Iterator

import torch

from deblur_cli.nets import CELL, M2AENet
from deblur_cli.nets.work import count_dense, count_detection, count_pruned
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Restoration
from deblur_cli.restoration.findings import Findings, Floats
from deblur_cli.restoration.tiles import Tile


def detection_work(deblurrer: Deblurrer, height: int, width: int) -> int | None:
    """Work of looking at a photo of that size, at all of its scales."""
    network = deblurrer.detector.network
    if not network.detects:
        return 0
    tiles = [tile for looked_at, _ in deblurrer.grids(height, width).values() for tile in looked_at]
    works = [work for tile in tiles if (work := count_detection(network, *tile.size)) is not None]
    return sum(works) if len(works) == len(tiles) else None


def restoration_work(deblurrer: Deblurrer, photo: Photo, findings: Findings, request: Request) -> int | None:
    """Work of restoring what was found, both halves of the restorer, under the mask that prunes it."""
    return parts_work(deblurrer, restored_parts(deblurrer, photo, findings, request))


def parts_work(deblurrer: Deblurrer, parts: Iterable[tuple[int, Tile, Floats]]) -> int | None:
    """Work of restoring parts, as of `restored_parts`."""
    network = deblurrer.restorer.network
    if not isinstance(network, M2AENet):
        return None
    return sum(
        count_pruned(network, part.size, torch.from_numpy(mask)[None, None]).total for _, part, mask in parts
    )


def restored_parts(
    deblurrer: Deblurrer, photo: Photo, findings: Findings, request: Request
) -> Iterator[tuple[int, Tile, Floats]]:
    """Scale and place of each part that is restored, in pixels of that scale, and the mask in it."""
    task = Restoration(deblurrer, photo, findings, request, None)
    grids = deblurrer.grids(photo.height, photo.width)
    for scale in task.shares:
        mask = task.wanted(scale)
        for _, part in task.parts(scale, grids[scale][1]):
            yield scale, part, mask[part.scaled(CELL)]


def dense_work(deblurrer: Deblurrer, height: int, width: int) -> int:
    """Work of the restorer with all its layers on all tiles of a photo of that size, without a detector."""
    network = deblurrer.restorer.network
    return sum(count_dense(network, *tile.size) for tile in deblurrer.restorer.grid(height, width))

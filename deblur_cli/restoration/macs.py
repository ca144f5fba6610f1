"""How much a photo costs: multiply-accumulates (macs) of its tiles at all scales, see `nets/macs.py`.

They are None for LMD-ViT, of which every tile computes other windows.
"""

from collections.abc import Iterable, Iterator

import torch

from deblur_cli.cells import CELL
from deblur_cli.nets import M2AENet, Network
from deblur_cli.nets.macs import count_detection, count_restoration, count_spared
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Deblurrer, Request, Restoration
from deblur_cli.restoration.findings import Findings, Floats
from deblur_cli.restoration.tiles import Tile


def detection_macs(deblurrer: Deblurrer, height: int, width: int) -> int | None:
    """Macs of detection in a photo of that size, at all of its scales."""
    network = deblurrer.detector.network
    if not network.detects:
        return 0
    tiles = [tile for detected, _ in deblurrer.grids(height, width).values() for tile in detected]
    counts = [macs for tile in tiles if (macs := count_detection(network, *tile.size)) is not None]
    return sum(counts) if len(counts) == len(tiles) else None


def restoration_macs(deblurrer: Deblurrer, photo: Photo, findings: Findings, request: Request) -> int | None:
    """Macs of restoring what was found, both halves of the restorer, under the mask that prunes it."""
    return parts_macs(deblurrer, restored_parts(deblurrer, photo, findings, request))


def parts_macs(deblurrer: Deblurrer, parts: Iterable[tuple[int, Tile, Floats]]) -> int | None:
    """Macs of restoring parts, as of `restored_parts`."""
    network = deblurrer.restorer.network
    if not isinstance(network, M2AENet):
        return None
    return sum(
        count_restoration(network, *part.size)
        - count_spared(network, *part.size, torch.from_numpy(mask)[None, None])
        for _, part, mask in parts
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


def dense_macs(network: Network, tiles: Iterable[Tile]) -> int:
    """Macs of all layers of a restorer on all pixels of tiles, without a detector."""
    return sum(count_restoration(network, *tile.size) for tile in tiles)

"""What to tell the user of a photo in which blur was found, and little of it could be undone."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from deblur_cli.nets.network import CELL
from deblur_cli.nets.richardson_lucy import noise_of
from deblur_cli.photo.photo import Photo, white
from deblur_cli.restoration import SCALES
from deblur_cli.restoration.deblurrer import Result
from deblur_cli.restoration.scales import BEST_LENGTH

WINDOW = 64  # cells, side of the part of a photo that is judged
TOO_LONG = BEST_LENGTH * max(SCALES)  # pixels of blur that are restored well at the coarsest scale
NOISY = 12 / 255  # standard deviation of the noise at which half of what can be gained is lost
LITTLE = 2 / 255  # mean change that is hardly seen

Floats = NDArray[np.float32]


def advice(photo: Photo, result: Result) -> tuple[str, ...]:
    """Why little of a photo could be restored, and what to try; nothing where all is well.

    result: what became of the photo. Judged where most was restored.
    """
    if not result.changed and result.blurred_share:
        return ()  # as little as was asked for
    cells = densest(result.mask)
    rows, columns = (slice(part.start * CELL, part.stop * CELL) for part in cells)
    before, after = (
        one.pixels[rows, columns].astype(np.float32) / white(one.pixels) for one in (photo, result.photo)
    )
    mask = torch.from_numpy(result.mask[cells])[None, None]
    noise = noise_of(torch.from_numpy(before).permute(2, 0, 1)[None], mask if result.changed else mask + 1)
    if noise > NOISY:
        hidden = "little could be restored" if result.changed else "whether anything moved is hard to tell"
        return (
            f"{hidden}: noise (about {noise * 255:.0f} of 255) hides the detail; reduce it with another "
            "program first",
        )
    if not result.changed:
        return ()
    length = float(np.median(result.findings.length[result.mask > 0]))
    if length > TOO_LONG:
        return (
            f"little could be restored: most of the blur is about {length:.0f} pixels long, and beyond "
            f"{TOO_LONG:.0f} hardly any is undone; try a copy of half the size",
        )
    inside = F.interpolate(mask, scale_factor=CELL)[0, 0].numpy()[: len(before), : before.shape[1]] > 0
    if np.abs(after - before)[inside].mean() < LITTLE * result.request.strength:
        return (
            "little could be restored: what is marked has hardly any detail; try --strength 150, or a higher "
            "--epsilon if nothing moved there",
        )
    return ()


def densest(mask: Floats) -> tuple[slice, slice]:
    """The window of the mask, at most WINDOW cells wide and high, in which most of it is one."""
    height, width = (min(WINDOW, side) for side in mask.shape)
    shares = F.avg_pool2d(F.avg_pool2d(torch.from_numpy(mask)[None, None], (height, 1), 1), (1, width), 1)
    top, left = divmod(int(shares.argmax()), shares.shape[-1])
    return slice(top, top + height), slice(left, left + width)

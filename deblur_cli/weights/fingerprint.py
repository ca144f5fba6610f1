"""What a network answers to one fixed picture: a few numbers that tell whether it still computes the same."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deblur_cli.nets import Network

SIZE = 64  # pixels, as high as wide
ABSOLUTE, RELATIVE = 2e-4, 2e-3  # rounding of other processors and versions stays far below


def picture() -> Tensor:
    """The picture, 1 3 SIZE SIZE in 0-1: stripes under noise, from whole numbers alone."""
    index = torch.arange(3 * SIZE * SIZE)
    noise = (index * 1103515245 + 12345) % 2147483648 // 65536 % 256  # the generator of ISO C's rand()
    stripes = index % SIZE // 8 % 2 * 255
    return ((noise + stripes) / 510).view(1, 3, SIZE, SIZE)


@torch.inference_mode()
def fingerprint(network: Network) -> tuple[float, ...]:
    """Means over the quarters of the change of each colour: 12 numbers; 1 more with a mask, 4 with motion.

    Those are the mean probability of blur and the mean displacements. All pixels count as blurred, so that
    no threshold makes a small difference a large one.
    """
    image = picture()
    detection = network.detect(image, epsilon=-1.0)
    change = network.restore(detection, epsilon=-1.0).image - image
    values = [change.view(3, 2, SIZE // 2, 2, SIZE // 2).mean((2, 4)).flatten()]
    maps = (detection.probability, detection.start, detection.end)
    values += [found.mean((0, 2, 3)) for found in maps if found is not None]
    return tuple(round(float(value), 6) for value in torch.cat(values))


def agrees(found: Sequence[float], stored: Sequence[float]) -> bool:
    """Whether two fingerprints are those of the same network."""
    close = (abs(a - b) <= ABSOLUTE + RELATIVE * abs(b) for a, b in zip(found, stored, strict=False))
    return len(found) == len(stored) and all(close)

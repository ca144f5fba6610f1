"""What a network answers to one fixed picture: a few numbers that tell whether it still computes the same."""

import json
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.cells import CELL
from deblur_cli.errors import WeightsError
from deblur_cli.nets import Detection, Detector, Network

SIZE = 64  # pixels, as high as wide
MOTION = (0.25, 0.5)  # cells down and to the right from the middle of the exposure to its end
ABSOLUTE, RELATIVE = 2e-4, 2e-3  # rounding of other processors and versions stays far below


def picture() -> Tensor:
    """The picture, 1 3 SIZE SIZE in 0-1: stripes under noise, from whole numbers alone."""
    index = torch.arange(3 * SIZE * SIZE)
    noise = (index * 1103515245 + 12345) % 2147483648 // 65536 % 256  # the generator of ISO C's rand()
    stripes = index % SIZE // 8 % 2 * 255
    return ((noise + stripes) / 510).view(1, 3, SIZE, SIZE)


@torch.inference_mode()
def fingerprint(network: Network) -> tuple[float, ...]:
    """Means over the quarters of the change of each color: 12 numbers; 1 more with a mask, 4 with motion.

    Those are the mean probability of blur and the mean displacements. All pixels count as blurred, so that
    no threshold makes a small difference a large one. A guided network has neither and is told of one motion
    everywhere. Of a detector: means over the quarters of the probability
    and of the motion as a double angle, 20 numbers; unlike displacements, that has no sign to flip.
    """
    image = picture()
    if isinstance(network, Detector):
        logit, field = network(image)
        found = F.adaptive_avg_pool2d(torch.cat([logit.sigmoid(), field], 1), 2)
        return tuple(round(float(value), 6) for value in found.flatten())
    detection = moved(network, image) if network.guided else network.detect(image, epsilon=-1.0)
    change = network.restore(detection, epsilon=-1.0).image - image
    values = [change.view(3, 2, SIZE // 2, 2, SIZE // 2).mean((2, 4)).flatten()]
    maps = () if network.guided else (detection.probability, detection.start, detection.end)
    values += [found.mean((0, 2, 3)) for found in maps if found is not None]
    return tuple(round(float(value), 6) for value in torch.cat(values))


def moved(network: Network, image: Tensor) -> Detection:
    """The first half of a guided network on the picture, all of which is said to have moved alike."""
    cells = SIZE // CELL
    end = torch.tensor(MOTION).view(1, 2, 1, 1).expand(1, 2, cells, cells)
    return network.follow(image, Detection(image, (SIZE, SIZE), start=-end, end=end), epsilon=-1.0)


def stored(notes: Mapping[str, str]) -> tuple[float, ...]:
    """The fingerprint that weights were saved with, empty for none. Raises WeightsError for a damaged one."""
    try:
        return tuple(float(value) for value in json.loads(notes.get("fingerprint", "[]")))
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError("the fingerprint in its metadata is damaged; download it again") from error


def agrees(found: Sequence[float], stored: Sequence[float]) -> bool:
    """Whether two fingerprints are those of the same network."""
    close = (abs(a - b) <= ABSOLUTE + RELATIVE * abs(b) for a, b in zip(found, stored, strict=False))
    return len(found) == len(stored) and all(close)

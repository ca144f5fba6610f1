"""A made-up photo of which a given share counts as blurred."""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import UsageError
from deblur_cli.nets import M2AENet, Network, restorer_of
from deblur_cli.photo.photo import Photo
from deblur_cli.restore import Deblurrer, Floats, Settings
from deblur_cli.task import Task
from deblur_cli.restoration.tiles import Tile


class ForcedBlur(Task):
    """A task that detects as usual and then takes a disc of a given share for blurred.

    What is found in a made-up picture depends on the weights; forcing it makes runs comparable.
    """

    share = 0.1

    def find_blur(self) -> Floats:
        maps = super().find_blur()
        maps[0] = self.forced
        return maps

    def likely_mask(self, tile: Tile, found: Floats) -> Floats:  # noqa: ARG002 - what is found does not count
        return self.forced

    @cached_property
    def forced(self) -> Floats:
        """Probability of blur over the whole photo."""
        return disc(*self.cells, self.share)


def stage(deblurrer: Deblurrer, size: tuple[int, int], share: float, settings: Settings) -> ForcedBlur:
    """A fresh task for a photo of size (width, height). Raises UsageError as `timed` does."""
    timed(deblurrer.weights.network)
    photo = Photo(pixels=test_picture(*size), source=Path("test picture"), format="PNG")
    tile = deblurrer.grid(photo.height, photo.width, settings).size
    task = ForcedBlur(deblurrer.runner, photo, settings, tile, lambda *_: None, [])
    task.share = share
    return task


def again(task: ForcedBlur, kind: type[ForcedBlur] = ForcedBlur) -> ForcedBlur:
    """The same task, or one of another kind for the same photo, before it has done anything."""
    fresh = kind(task.runner, task.photo, task.settings, task.grid.size, task.progress, [])
    fresh.share = task.share
    return fresh


def timed(network: Network) -> M2AENet:
    """What restores, without its detector, if its mask can be forced.

    Raises UsageError for networks that decide in each layer.
    """
    restorer = restorer_of(network)
    if not isinstance(restorer, M2AENet):
        raise UsageError(
            f"bench cannot force what {network.architecture} takes for blurred, as each layer decides by "
            "itself: `deblur run` and `deblur evaluate` tell what it costs"
        )
    return restorer


def disc(height: int, width: int, share: float) -> Floats:
    """Probability of blur: one in a disc (cut off at the borders) that covers the share, zero elsewhere."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
    covered = distance.argsort(axis=None)[: round(share * height * width)]
    probability = np.zeros(height * width, np.float32)
    probability[covered] = 1
    return probability.reshape(height, width)


def test_picture(width: int, height: int) -> NDArray[np.uint8]:
    """A picture H W 3 with detail at every scale, the same every time."""
    rng = np.random.default_rng(2026)
    picture = np.zeros((height, width, 3), np.float32)
    for scale in (1, 4, 16, 64, 256):
        shape = (-(-height // scale), -(-width // scale), 3)
        coarse = rng.random(shape, dtype=np.float32)
        picture += coarse.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    return np.asarray(picture / 5 * 255, np.uint8)

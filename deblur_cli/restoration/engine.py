"""A network on a device in a precision: tiles, padding, tiles that fail, and too little memory."""

import copy
import gc
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import OutOfMemoryError
from deblur_cli.nets import Detection, Network, accelerate, place
from deblur_cli.nets.motion import TURNS, turn_back, turn_field, turn_picture
from deblur_cli.nets.network import CELL, cells_of, fit, pad_to
from deblur_cli.nets.pieces import piece
from deblur_cli.restoration import ALIGNMENT, Tiling
from deblur_cli.restoration.device import (
    Precision,
    free_memory,
    memory_errors,
    to_cpu,
    to_device,
    whole_float32,
)
from deblur_cli.restoration.tiles import Grid, Tile, cell_weights, round_up

logger = logging.getLogger(__name__)

AUTOMATIC_SIDES = (1024, 768, 512, 384, 256)  # pixels; the largest that fits is chosen
# What a tile may take on a CPU, where larger ones gain no time: 1024 pixels at width 16, 512 at width 32.
CPU_BYTES = 1_100_000_000
MEMORY_SHARE = 0.5  # of the free memory that the tile may take
DRIFT_BLOCK = 64  # pixels: over a block this large, motion blur hardly moves the mean of a picture
DRIFT_LIMIT = 0.25  # of the value range; farther apart, the network has failed, whatever it shows

Floats = NDArray[np.float32]
Progress = Callable[[int, int, str], None]  # tiles done, tiles in all, "detect" or "restore"
T = TypeVar("T")


class Picture(Protocol):
    """What tiles are cut from: 3 channels in 0-1, float32."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def cut(self, tile: Tile) -> Tensor:
        """The picture in a tile, 1 3 h w."""


class Engine:
    """Runs one network over pictures of any size, tile by tile.

    A tile whose result is not finite, or whose local mean drifts from the input's, is run again in
    float32. Where memory runs out, tiles are halved.
    """

    def __init__(self, network: Network, device: str, precision: Precision, tiling: Tiling) -> None:
        self.device, self.precision, self.tiling = device, precision, tiling
        self.reference = network.eval()  # float32, where it was built
        self.network = self.build(precision.dtype)
        self.exact: Network | None = self.network if precision.name == "fp32" else None

    def build(self, dtype: torch.dtype) -> Network:
        """A copy of the network on the device, in a precision, set up for speed."""
        return place(accelerate(copy.deepcopy(self.reference)), self.device, dtype)

    def grid(self, height: int, width: int, largest: int | None = None) -> Grid:
        """The tiles of a picture of that size, no larger than `largest` where memory ran out before."""
        size = self.tiling.size or self.tile_for(height, width)
        return Grid(height, width, min(size, largest or size), self.tiling.overlap, self.reference.multiple)

    def tile_for(self, height: int, width: int) -> int:
        """Tile size for a picture: the automatic one, or on a CPU that of the whole picture if it fits.

        Detection depends on the surroundings of a pixel, and its confidence jumps where tiles meet.
        """
        if self.device == "cpu" and self.fits(height * width):
            return round_up(max(height, width, self.tiling.least))
        fitting = (side for side in AUTOMATIC_SIDES if self.fits(side * side) and side >= self.tiling.least)
        return next(fitting, max(AUTOMATIC_SIDES[-1], self.tiling.least))

    def fits(self, pixels: int) -> bool:
        """Whether a tile of so many pixels fits comfortably."""
        scale = 1 if self.precision.name == "fp32" else 0.5
        room = free_memory(self.device) * MEMORY_SHARE
        room = min(room, CPU_BYTES) if self.device == "cpu" else room
        return pixels * self.reference.bytes_per_pixel * scale <= room

    def with_fitting_tiles(self, size: tuple[int, int], notes: list[str], work: Callable[[Grid], T]) -> T:
        """Do the work with the grid of a picture of that size; where memory runs out, halve tiles.

        Raises OutOfMemoryError where even the smallest tile does not fit.
        """
        largest: int | None = None
        while True:
            grid = self.grid(*size, largest)
            try:
                with memory_errors():
                    return work(grid)
            except OutOfMemoryError:
                logger.debug("out of memory with tiles of %d pixels", grid.size)
            largest = self.smaller(grid.size)  # the error no longer holds on to what filled the memory
            note = f"out of memory: tile size lowered to {largest}"
            if note not in notes:
                notes.append(note)

    def smaller(self, size: int) -> int:
        """Half the side of a tile, after freeing memory. Raises OutOfMemoryError where that is too small."""
        smaller = size // 2 // ALIGNMENT * ALIGNMENT
        if smaller < self.tiling.least:
            raise OutOfMemoryError(
                f"out of memory even with tiles of {size} pixels: close other programs, lower --overlap, "
                "or use --device cpu"
            )
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return smaller

    def detect(
        self, picture: Picture, grid: Grid, step: Callable[[], None]
    ) -> tuple[Floats, list[tuple[int, int]]]:
        """Probability, start and end of a picture, 5 h/8 w/8, displacements in its pixels.

        `step` is called after each tile. Maps that the network does not have are 0, and so are tiles that
        failed in float32 too; the corners of those come second.
        """
        maps, failed = np.zeros((5, *cells_of(picture.size)), np.float32), []
        for tile in grid:
            image = picture.cut(tile)
            detected = self.retried(lambda network: self.detect_tile(network, image))  # noqa: B023
            if detected is None:
                failed.append(tile.corner)
            else:
                rows, columns = maps[0][tile.cells].shape
                maps[(slice(len(detected)), *tile.cells)] += detected[:, :rows, :columns] * cell_weights(tile)
            step()
        maps[1:] *= CELL
        return maps, failed

    def retried(self, run: Callable[[Network], T | None]) -> T | None:
        """The result of a run in the chosen precision or, if that fails, in float32; None if both fail."""
        result = run(self.network)
        if result is None and self.precision.name != "fp32":
            logger.warning("a tile failed in %s and is run again in fp32", self.precision.name)
            if self.exact is None:  # put on the device when it is first needed
                self.exact = self.build(torch.float32)
            result = run(self.exact)
        return result

    @whole_float32()
    @torch.inference_mode()
    def detect_tile(self, network: Network, image: Tensor) -> Floats | None:
        """What is detected in a tile 1 3 h w (float32, on the CPU): 1 or 5 h/8 w/8, displacements in cells.

        None where it is not finite.
        """
        detection = network.detect(self.upload(image, network).to(network.input_dtype))
        parts = (detection.probability, detection.start, detection.end)
        maps = to_cpu(torch.cat([part.float() for part in parts if part is not None], 1))[0].numpy()
        return np.asarray(maps) if np.isfinite(maps).all() else None

    def restore(
        self,
        picture: Picture,
        parts: Iterable[Tile],
        maps: Floats,
        mask: Floats,
        epsilon: float,
        *,
        thorough: bool = False,
    ) -> Iterator[tuple[Tile, Floats | None]]:
        """How restoration changes parts of a picture, h w 3 each; None where that failed in float32 too.

        maps: probability, start and end of the picture, as from `detect`
        mask: h/8 w/8 of zeros and ones, what is restored
        epsilon: matters to networks that choose windows by themselves
        thorough: whether each part is restored in all eight orientations, as `restore_turned` does
        """
        joined = np.concatenate([mask[None], maps])
        for part in parts:
            image, own = picture.cut(part), torch.from_numpy(joined[(slice(None), *part.cells)])[None]
            if thorough:
                restored = self.restore_turned(image, own, epsilon)
            else:
                restored = self.retried(lambda network: self.restore_part(network, image, own, epsilon))  # noqa: B023
            # 1 3 h w -> h w 3
            yield part, None if restored is None else (restored - image)[0].permute(1, 2, 0).numpy()

    def restore_turned(self, image: Tensor, maps: Tensor, epsilon: float) -> Tensor | None:
        """The mean over the eight flips and transposes of a part, else as `restore_part`: 1 3 h w.

        The self-ensemble of Timofte et al., "Seven ways to improve example-based single image super
        resolution" (2016). None where one of them failed.
        """
        height, width = image.shape[-2:]
        whole = pad_to(image, CELL)  # cells turn as wholes
        total = torch.zeros_like(whole)
        for turn in range(TURNS):
            motion = [turn_field(part, turn) for part in (maps[:, 2:4], maps[:, 4:])]
            seen, told = turn_picture(whole, turn), torch.cat([turn_picture(maps[:, :2], turn), *motion], 1)
            restored = self.retried(lambda network: self.restore_part(network, seen, told, epsilon))  # noqa: B023
            if restored is None:
                return None
            total += turn_back(restored, turn)
        return total[..., :height, :width] / TURNS

    @whole_float32()
    @torch.inference_mode()
    def restore_part(self, network: Network, image: Tensor, maps: Tensor, epsilon: float) -> Tensor | None:
        """One run on a part 1 3 h w, in 0-1 on the CPU; None where the result cannot be trusted.

        maps: mask, probability, start and end of its cells, 1 6 h/8 w/8, displacements in pixels. Where no
        cell moves, the motion is unknown, and a network that detects motion itself follows its own.
        """
        exact = self.upload(image, network)
        seen = exact.to(network.input_dtype)
        size = (exact.shape[-2], exact.shape[-1])
        moves = bool(maps[:, 2:].any())  # asked before the device has to be waited for
        maps = fit(to_device(maps, self.device), cells_of(size))
        mask, probability, motion = maps[:, :1], maps[:, 1:2], maps[:, 2:] / CELL
        start, end = (motion[:, :2], motion[:, 2:]) if moves else (None, None)
        followed = network.follow(seen, Detection(seen, size, probability, start, end), epsilon)
        if not network.guided:  # which has seen the exact picture already
            followed = replace(followed, image=exact)  # the change is added to it, in float32
        result = network.restore(followed, epsilon, mask=mask if network.masks else None)
        restored = to_cpu(result.image[..., : image.shape[-2], : image.shape[-1]].float())
        if not restored.isfinite().all() or drift(restored, image) > DRIFT_LIMIT:
            return None
        return restored.clamp(0, 1)

    @piece("bringing tiles to the device")
    def upload(self, image: Tensor, network: Network) -> Tensor:
        """A part on the device, channels-last, still in float32.

        Its last row and column are repeated up to whole multiples of what the network halves.
        """
        uploaded = pad_to(to_device(image, self.device), network.multiple)
        return uploaded.contiguous(memory_format=torch.channels_last)


def drift(restored: Tensor, image: Tensor) -> float:
    """Largest difference of the local means of two pictures 1 3 h w."""
    block = min(DRIFT_BLOCK, *image.shape[-2:])
    return float(F.avg_pool2d(restored - image, block, ceil_mode=True, count_include_pad=False).abs().max())

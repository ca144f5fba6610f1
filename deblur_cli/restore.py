"""Photo in, photo out: detect what is blurred, restore only that, leave the rest as it was."""

import gc
import time
from dataclasses import replace

import torch

from deblur_cli.device import choose_device, choose_precision, free_memory, keep_freed_memory, memory_errors
from deblur_cli.errors import OutOfMemoryError
from deblur_cli.photo.photo import Photo
from deblur_cli.runner import Runner
from deblur_cli.task import SMALLEST_TILE, Floats, MotionMaps, Progress, Result, Settings, Task
from deblur_cli.tiles import ALIGNMENT, Grid
from deblur_cli.weights import LoadedWeights

__all__ = ["Deblurrer", "Floats", "MotionMaps", "Progress", "Result", "Settings"]

TILE_SIZES = (1024, 768, 512, 384, 256)  # what "automatic" chooses from
# What a tile may take on a CPU, where larger ones gain no time: 1024 pixels at width 16, 512 at width 32.
CPU_BYTES = 1_100_000_000
MEMORY_SHARE = 0.5  # of the free memory that the tile may take


class Deblurrer:
    """A network on a device, ready for any number of photos.

    Raises DeviceError where the device or precision is not to be had.
    """

    def __init__(self, weights: LoadedWeights, device: str = "auto", precision: str = "auto") -> None:
        keep_freed_memory()
        self.weights = weights
        self.device = choose_device(device)
        chosen = choose_precision(self.device, precision)
        self.precision, self.precision_reason = chosen.name, chosen.reason
        self.runner = Runner(weights.network, self.device, chosen)

    def run(self, photo: Photo, settings: Settings, progress: Progress | None = None) -> Result:
        """Restore a photo. `progress` is called with tiles done, tiles in all, "detect" or "restore".

        Raises OutOfMemoryError where even the smallest tile does not fit.
        """
        started = time.perf_counter()
        size = self.grid(photo.height, photo.width, settings).size
        notes: list[str] = []
        while True:
            try:
                with memory_errors():
                    task = Task(self.runner, photo, settings, size, progress or (lambda *_: None), notes)
                    result = task.run()
                break
            except OutOfMemoryError:
                size = self.smaller_tile(size, settings.overlap)
                notes.append(f"out of memory: tile size lowered to {size}")
        return replace(result, notes=tuple(notes), seconds=time.perf_counter() - started)

    def grid(self, height: int, width: int, settings: Settings) -> Grid:
        """The tiles of a photo of that size, while memory lasts."""
        size = settings.tile or self.tile_for(height, width, settings.overlap)
        return Grid(height, width, size, settings.overlap, self.weights.network.multiple)

    def tile_for(self, height: int, width: int, overlap: int) -> int:
        """Tile size for a photo: the automatic one, or on a CPU that of the whole photo if it fits.

        The network judges a pixel by its surroundings, so that its confidence jumps where tiles meet.
        """
        if self.device == "cpu" and self.fits(height * width):
            least = max(height, width, SMALLEST_TILE, 2 * overlap + ALIGNMENT)
            return -(-least // ALIGNMENT) * ALIGNMENT
        return self.automatic_tile(overlap)

    def automatic_tile(self, overlap: int) -> int:
        """Largest tile that fits comfortably into the free memory of the device."""
        for size in TILE_SIZES:
            if self.fits(size * size) and size >= 2 * overlap + ALIGNMENT:
                return size
        return max(TILE_SIZES[-1], -(-(2 * overlap + ALIGNMENT) // ALIGNMENT) * ALIGNMENT)

    def fits(self, pixels: int) -> bool:
        """Whether a tile of so many pixels fits comfortably."""
        scale = 1 if self.precision == "fp32" else 0.5
        room = free_memory(self.device) * MEMORY_SHARE
        room = min(room, CPU_BYTES) if self.device == "cpu" else room
        return pixels * self.weights.network.bytes_per_pixel * scale <= room

    def smaller_tile(self, size: int, overlap: int) -> int:
        """Half the tile, still a whole multiple of the alignment."""
        smaller = size // 2 // ALIGNMENT * ALIGNMENT
        if smaller < max(SMALLEST_TILE, 2 * overlap + ALIGNMENT):
            raise OutOfMemoryError(
                f"out of memory even with tiles of {size} pixels: close other programs, lower --overlap, "
                "or use --device cpu"
            )
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        return smaller

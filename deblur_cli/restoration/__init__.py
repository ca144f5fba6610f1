"""One photo: where it is blurred by motion, and what it becomes without the blur.

detect   deblurrer.py: `Deblurrer.detect` runs the detector over the photo at 1, 1/2, 1/4 and 1/8
         (scales.py), tile by tile (tiles.py, engine.py, device.py), and merges the maps into `Findings`
restore  deblurrer.py: `Deblurrer.restore` takes the regions over epsilon and feathers their mask (mask.py),
         restores the parts of tiles that change, each cell at its scale, and adds the changes to the photo
ahead    forecast.py: what a run would do, how long it would take, and its multiply-accumulates

Options are checked against the scales and tiles below, so import nothing heavy here.
"""

from dataclasses import dataclass

from deblur_cli.errors import UsageError

SCALES = (1, 2, 4, 8)  # how many times smaller a photo is when blur is detected and restored
ALIGNMENT = 16  # pixels; tiles begin on the network's coarsest grid, so that its stages line up everywhere
TILE_SIDES = range(128, 16384 + 1, ALIGNMENT)  # below, a tile is all overlap; above, nothing is gained
OVERLAPS = range(32, 1024 + 1, ALIGNMENT)
TILE_RULE = f"--tile must be auto or a multiple of {ALIGNMENT} from {TILE_SIDES[0]} to {TILE_SIDES[-1]}"
OVERLAP_RULE = f"--overlap must be a multiple of {ALIGNMENT} from {OVERLAPS[0]} to {OVERLAPS[-1]}"


@dataclass(frozen=True)
class Tiling:
    """How pictures are cut.

    size: side of a tile in pixels, None for automatic; overlap: pixels that neighbors share at least
    Raises UsageError for values that do not go together.
    """

    size: int | None = None
    overlap: int = 32

    def __post_init__(self) -> None:
        if self.overlap not in OVERLAPS:
            raise UsageError(f"{OVERLAP_RULE}, not {self.overlap}")
        if self.size is None:
            return
        if self.size not in TILE_SIDES:
            raise UsageError(f"{TILE_RULE}, not {self.size}")
        if self.size < self.least:
            raise UsageError(
                f"--tile must be at least {self.least} with --overlap {self.overlap}, not {self.size}"
            )

    @property
    def least(self) -> int:
        """The smallest tile: any smaller one would be all overlap."""
        return max(TILE_SIDES[0], 2 * self.overlap + ALIGNMENT)

"""Two steps for every command: detect what moved in a photo, and restore that."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import UsageError
from deblur_cli.nets import STAGE_SCALE, Guided, restorer_of
from deblur_cli.photo.color import replace_pixels
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.device import choose_device, choose_precision, keep_freed_memory
from deblur_cli.restoration.engine import Engine, Progress, Tiling
from deblur_cli.restoration.findings import Findings, everywhere
from deblur_cli.restoration.mask import covered_share, overlay_weights, settle, smooth_weights
from deblur_cli.restoration.scales import (
    SCALES,
    Level,
    choose,
    enlarged,
    lowered,
    lowered_maps,
    pyramid,
    shares,
    usable,
    white,
)
from deblur_cli.restoration.tiles import Grid, Mosaic, Tile, changed_part, masked_part
from deblur_cli.weights import LoadedWeights

Floats = NDArray[np.float32]
BAND = 256  # rows of the photo that are laid in at once, where no tile says otherwise


@dataclass(frozen=True)
class Request:
    """What is wanted of a photo.

    epsilon: confidence from which a cell counts as blurred, 0-1; keep_sharp: judge regions instead of single
    cells, and lay them over the photo through a feathered mask, instead of giving the network's bare output
    """

    epsilon: float = 0.5
    keep_sharp: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise UsageError(f"epsilon is {self.epsilon}: it must be between 0 and 1")

    def confidence(self, findings: Findings) -> Floats:
        """What epsilon is compared to, h w: the confidence of regions, or of single cells."""
        return settle(findings.probability, self.epsilon) if self.keep_sharp else findings.probability

    def mask(self, findings: Findings) -> Floats:
        """What is restored, h w of zeros and ones."""
        return (self.confidence(findings) > self.epsilon).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Result:
    """A photo after restoration and what was done.

    findings: their probability is what epsilon was compared to; blurred_share: share of the photo's area over
    epsilon; scale_shares: share of the photo's area that was restored at each scale
    tiles: that were looked at; tiles_restored, tiles_kept: that were restored, and that could not be and stayed
    as they were, over all scales; changed: whether any pixel differs; notes: what the user should know
    """

    photo: Photo
    findings: Findings
    epsilon: float
    blurred_share: float
    scale_shares: dict[int, float]
    tiles: int
    tiles_restored: int = 0
    tiles_kept: int = 0
    notes: tuple[str, ...] = ()
    changed: bool = False


def untouched(photo: Photo, findings: Findings, request: Request) -> Result:
    """The photo as it is, with what would be restored of it."""
    confidence, mask = request.confidence(findings), request.mask(findings)
    size = photo.height, photo.width
    parts = shares(findings.scale, SCALES)
    return Result(
        photo,
        replace(findings, probability=confidence),
        request.epsilon,
        covered_share(mask, *size),
        {scale: covered_share(mask * share, *size) for scale, share in parts.items()},
        findings.tiles,
        notes=findings.notes,
    )


class Deblurrer:
    """What finds the blur and what restores it, on a device, ready for any number of photos.

    scales: how many times smaller photos are looked at, of 1, 2, 4 and 8
    Raises DeviceError where the device or precision is not to be had.
    """

    def __init__(
        self,
        weights: LoadedWeights,
        device: str = "auto",
        precision: str = "auto",
        tiling: Tiling | None = None,
        scales: Sequence[int] = SCALES,
    ) -> None:
        keep_freed_memory()
        self.weights, self.scales, self.tiling = weights, tuple(sorted(scales)), tiling or Tiling()
        self.device = choose_device(device)
        chosen = choose_precision(self.device, precision)
        self.precision, self.precision_reason = chosen.name, chosen.reason
        network = weights.network
        self.restorer = Engine(restorer_of(network), self.device, chosen, self.tiling)
        guided = isinstance(network, Guided)
        self.detector = (
            Engine(network.detector, self.device, chosen, self.tiling) if guided else self.restorer
        )

    def scales_for(self, height: int, width: int) -> tuple[int, ...]:
        """The scales at which a photo of that size is looked at; a network without a mask knows one."""
        detects = self.detector.reference.detects
        return usable(self.scales, height, width) if detects else self.scales[:1]

    def grids(self, height: int, width: int) -> dict[int, tuple[Grid, Grid]]:
        """Tiles of detection and of restoration at each scale, while memory lasts."""
        sizes = {s: (-(-height // s), -(-width // s)) for s in self.scales_for(height, width)}
        return {s: (self.detector.grid(*size), self.restorer.grid(*size)) for s, size in sizes.items()}

    def detect(self, photo: Photo, progress: Progress | None = None) -> Findings:
        """Look for blur at every scale. Raises OutOfMemoryError where even the smallest tile does not fit.

        `progress` is told tiles done, tiles in all, and "detect".
        """
        size = (photo.height, photo.width)
        levels = pyramid(photo.pixels, self.scales_for(*size))
        if not self.detector.reference.detects:
            return replace(
                everywhere(*size, scale=levels[0].scale), tiles=len(self.detector.grid(*levels[0].size))
            )
        notes: list[str] = []
        counter = Counter(
            "detect", progress, {level.scale: len(self.detector.grid(*level.size)) for level in levels}
        )

        def look(level: Level) -> Floats:
            def over(grid: Grid) -> Floats:
                step = counter.begin(level.scale, len(grid))
                return self.detector.detect(level, grid, step)

            return self.detector.halving(level.size, notes, over)

        found = {level.scale: look(level) for level in levels}
        return replace(choose(found, size), tiles=counter.total, notes=tuple(notes))

    def restore(
        self, photo: Photo, findings: Findings, request: Request, progress: Progress | None = None
    ) -> Result:
        """Restore what was found, each cell at its scale; every other pixel stays, bit by bit.

        `progress` is told tiles done, tiles in all, and "restore".
        Raises ValueError for the findings of a photo of another size, and OutOfMemoryError as `detect`.
        """
        if findings.size != (photo.height, photo.width):
            (height, width), seen = findings.size, f"{photo.width} x {photo.height}"
            raise ValueError(f"the findings are those of a photo of {width} x {height} pixels, not {seen}")
        return Restoration(self, photo, findings, request, progress).run()


class Restoration:
    """One photo on its way through `Deblurrer.restore`."""

    def __init__(
        self,
        deblurrer: Deblurrer,
        photo: Photo,
        findings: Findings,
        request: Request,
        progress: Progress | None,
    ) -> None:
        self.engine, self.photo, self.findings, self.request = deblurrer.restorer, photo, findings, request
        self.confidence, self.mask = request.confidence(findings), request.mask(findings)
        scales = deblurrer.scales_for(photo.height, photo.width)
        self.shares = {
            scale: share
            for scale, share in shares(findings.scale, scales).items()
            if (self.mask * share).any()
        }
        self.counter, self.notes = Counter("restore", progress, {}), list(findings.notes)
        self.failed: dict[int, int] = {}

    def run(self) -> Result:
        """Restore coarse to fine and lay what changed over the photo."""
        result = untouched(self.photo, self.findings, self.request)
        if not self.shares:
            return result
        levels = pyramid(self.photo.pixels, (1, *self.shares))
        coarse = {level.scale: self.change(level) for level in reversed(levels) if level.scale > 1}
        pixels = self.engine.halving(
            levels[0].size, self.notes, lambda grid: self.lay(levels[0], grid, coarse)
        )
        failed = sum(self.failed.values())
        changed = not np.array_equal(pixels, self.photo.pixels)
        return replace(
            result,
            photo=replace_pixels(self.photo, pixels) if changed else self.photo,
            tiles_restored=self.counter.done - failed,
            tiles_kept=failed,
            notes=tuple(self.notes),
            changed=changed,
        )

    def wanted(self, scale: int) -> Floats:
        """What is restored at a scale, h w of zeros and ones for the cells of the photo at that scale."""
        return lowered(self.mask * (self.shares[scale] > 0), scale)

    def parts(self, scale: int, grid: Grid) -> list[tuple[Tile, Tile]]:
        """The tiles of a scale's grid in which something is restored, and what of each."""
        mask, least = self.wanted(scale), self.engine.reference.smallest_part
        part = (
            (lambda tile: changed_part(tile, mask, least))
            if self.request.keep_sharp
            else (lambda tile: masked_part(tile, mask))
        )
        return [(tile, found) for tile in grid if (found := part(tile))]

    def changes(self, level: Level, parts: Iterable[Tile]) -> Iterator[tuple[Tile, Floats | None]]:
        """How restoration changes parts of the photo at a scale, h w 3 each; None for those that failed."""
        maps = lowered_maps(self.findings, self.confidence, level.scale)
        return self.engine.restore(level, parts, maps, self.wanted(level.scale), self.request.epsilon)

    def restored(self, level: Level, grid: Grid) -> Iterator[tuple[Tile, Tile, Floats]]:
        """Tiles, what is restored of them, and how it changes, h w C; failed ones are noted and left out."""
        chosen = self.parts(level.scale, grid)
        step = self.counter.begin(level.scale, len(chosen))
        self.failed[level.scale] = 0
        changes = self.changes(level, (part for _, part in chosen))
        for (tile, _), (part, change) in zip(chosen, changes, strict=True):
            if change is None:
                self.failed[level.scale] += 1
                place = f"{tile.columns.start * level.scale},{tile.rows.start * level.scale}"
                self.notes.append(f"the tile at {place} failed and stays as it was")
            else:
                gray = level.pixels.shape[2] == 1
                yield tile, part, change.mean(2, keepdims=True) if gray else change
            step()

    def change(self, level: Level) -> Floats:
        """What changes in the photo at a coarser scale, H W C."""

        def over(grid: Grid) -> Floats:
            total = np.zeros(level.pixels.shape, np.float32)
            for _, part, change in self.restored(level, grid):
                total[part.index] += change * part.weights[..., None]
            return total

        return self.engine.halving(level.size, self.notes, over)

    def lay(self, level: Level, grid: Grid, coarse: Mapping[int, Floats]) -> NDArray[np.generic]:
        """The photo's pixels with all changes; those of its own scale are made here, row of tiles by row."""
        pixels, mosaic = self.photo.pixels.copy(), Mosaic(*self.photo.pixels.shape)

        def finish(until: int) -> None:
            for top in range(mosaic.top, until, BAND):
                rows, change = mosaic.finish(min(until, top + BAND))
                self.lay_rows(pixels, rows, {level.scale: change}, coarse)

        if level.scale in self.shares:
            for tile, part, change in self.restored(level, grid):
                finish(max(tile.rows.start, mosaic.top))
                mosaic.add(part, change)
        finish(self.photo.height)
        return pixels

    def lay_rows(
        self,
        pixels: NDArray[np.generic],
        rows: slice,
        fine: Mapping[int, Floats],
        coarse: Mapping[int, Floats],
    ) -> None:
        """Add changes to some rows; no change leaves a pixel as it is, bit by bit."""
        columns = self.columns(rows)
        if columns is None:
            return
        window = pixels[rows, columns]
        total = np.zeros(window.shape, np.float32)
        for scale, share in self.shares.items():
            part = fine[scale][:, columns] if scale in fine else enlarged(coarse[scale], scale, rows, columns)
            total += part * smooth_weights(share, rows, columns)[..., None]
        if self.request.keep_sharp:
            total *= overlay_weights(self.mask, rows, columns)[..., None]
        largest = white(pixels)
        values = window.astype(np.float32) + total * largest
        pixels[rows, columns] = np.rint(values, out=values).clip(0, largest).astype(pixels.dtype)

    def columns(self, rows: slice) -> slice | None:
        """The columns of some rows that may change, None where none does."""
        if not self.request.keep_sharp:
            return slice(0, self.photo.width)
        near = self.mask[max(0, rows.start // STAGE_SCALE - 2) : -(-rows.stop // STAGE_SCALE) + 2]
        cells = np.flatnonzero(near.any(0))
        if not len(cells):
            return None
        first, last = max(0, int(cells[0]) - 2), int(cells[-1]) + 3
        return slice(first * STAGE_SCALE, min(last * STAGE_SCALE, self.photo.width))


class Counter:
    """Counts tiles over all scales for whoever shows progress; a scale may begin anew with other tiles."""

    def __init__(self, what: str, progress: Progress | None, expected: dict[int, int]) -> None:
        self._what, self._progress = what, progress
        self._totals, self._done = dict(expected), dict.fromkeys(expected, 0)

    @property
    def total(self) -> int:
        """Tiles of all scales."""
        return sum(self._totals.values())

    @property
    def done(self) -> int:
        """Those that are done."""
        return sum(self._done.values())

    def begin(self, scale: int, count: int) -> Callable[[], None]:
        """Begin with a scale of so many tiles; the answer is to be called after each."""
        self._totals[scale], self._done[scale] = count, 0

        def step() -> None:
            self._done[scale] += 1
            if self._progress is not None:
                self._progress(self.done, self.total, self._what)

        return step

"""Two steps for every command: detect what moved in a photo, and restore that."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deblur_cli.cells import CELL
from deblur_cli.errors import UsageError
from deblur_cli.nets import Guided, restorer_of
from deblur_cli.photo.color import replace_pixels
from deblur_cli.photo.photo import Photo, white
from deblur_cli.restoration.device import choose_device, choose_precision, keep_freed_memory
from deblur_cli.restoration.engine import Engine, Progress
from deblur_cli.restoration.findings import Findings, everywhere
from deblur_cli.restoration.limits import SCALES, Tiling
from deblur_cli.restoration.mask import covered_share, overlay_weights, settle, smooth_weights
from deblur_cli.restoration.scales import (
    Level,
    choose,
    enlarged,
    lowered,
    lowered_maps,
    pyramid,
    shares,
    usable,
)
from deblur_cli.restoration.tiles import Grid, Mosaic, Tile, changed_part, masked_part
from deblur_cli.weights import LoadedWeights

Floats = NDArray[np.float32]
BAND = (256, 2048)  # rows and columns of the photo that are laid in at once, at most


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


@dataclass(frozen=True, eq=False)
class Result:
    """A photo after restoration and what was done.

    findings: their probability is what epsilon was compared to; blurred_share: share of the photo's area over
    epsilon; scale_shares: share of the photo's area that was restored at each scale
    tiles: that were looked at; tiles_restored, tiles_kept: that were restored, and that could not be and
    stayed as they were, over all scales; changed: whether any pixel differs; notes: what the user should know
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

    @property
    def mask(self) -> Floats:
        """What is restored, h w of zeros and ones."""
        return (self.findings.probability > self.epsilon).astype(np.float32)


def untouched(photo: Photo, findings: Findings, request: Request, scales: Sequence[int] = SCALES) -> Result:
    """The photo as it is, with what would be restored of it at each of the scales."""
    confidence = request.confidence(findings)
    mask = (confidence > request.epsilon).astype(np.float32)
    return Result(
        photo,
        replace(findings, probability=confidence),
        request.epsilon,
        covered_share(mask, photo.height, photo.width),
        {
            scale: covered_share(mask * share, photo.height, photo.width)
            for scale, share in shares(findings.scale, tuple(scales)).items()
        },
        findings.tiles,
        notes=findings.notes,
    )


class Deblurrer:
    """What finds the blur and what restores it, on a device, ready for any number of photos.

    scales: how many times smaller photos are looked at, of 1, 2, 4 and 8
    Raises DeviceError where the device or precision is not to be had, and UsageError for other scales.
    """

    def __init__(
        self,
        weights: LoadedWeights,
        device: str = "auto",
        precision: str = "auto",
        tiling: Tiling | None = None,
        scales: Sequence[int] = SCALES,
    ) -> None:
        if not scales or not set(scales) <= set(SCALES):
            given = ", ".join(map(str, scales)) or "none"
            raise UsageError(f"scales are {given}: they must be one or more of {', '.join(map(str, SCALES))}")
        keep_freed_memory()
        self.weights, self.scales, self.tiling = weights, tuple(sorted(set(scales))), tiling or Tiling()
        self.device = choose_device(device)
        chosen = choose_precision(self.device, precision)
        self.precision, self.precision_reason = chosen.name, chosen.reason
        network = weights.network
        self.restorer = Engine(restorer_of(network), self.device, chosen, self.tiling)
        self.detector = (
            Engine(network.detector, self.device, chosen, self.tiling)
            if isinstance(network, Guided)
            else self.restorer
        )

    def scales_for(self, height: int, width: int) -> tuple[int, ...]:
        """The scales at which a photo of that size is looked at: one where nothing is looked for."""
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
            maps, failed = self.detector.halving(
                level.size,
                notes,
                lambda grid: self.detector.detect(level, grid, counter.begin(level.scale, len(grid))),
            )
            places = (place_of(corner, level.scale) for corner in failed)
            notes.extend(
                f"the tile at {place} could not be looked at: nothing is found there" for place in places
            )
            return maps

        found = {level.scale: look(level) for level in levels}
        return replace(choose(found, size), tiles=counter.total, notes=tuple(notes))

    def restore(
        self, photo: Photo, findings: Findings, request: Request, progress: Progress | None = None
    ) -> Result:
        """Restore what was found, each cell at its scale; every other pixel stays, bit by bit.

        `progress` is told tiles done, tiles in all, and "restore".
        Raises DecodeError for the findings of a photo of another size, and OutOfMemoryError as `detect`.
        """
        findings.check_fits(photo.height, photo.width)
        return Restoration(self, photo, findings, request, progress).run()


class Restoration:
    """One photo on its way through `Deblurrer.restore`.

    shares: how much each scale counts in each cell, h w of 0-1; none where nothing is restored at it
    """

    def __init__(
        self,
        deblurrer: Deblurrer,
        photo: Photo,
        findings: Findings,
        request: Request,
        progress: Progress | None,
    ) -> None:
        scales = usable(deblurrer.scales, photo.height, photo.width)
        self.engine, self.photo, self.request = deblurrer.restorer, photo, request
        self.before = untouched(photo, findings, request, scales)
        self.findings, self.mask = self.before.findings, self.before.mask
        self.shares = {
            scale: share
            for scale, share in shares(findings.scale, scales).items()
            if (self.mask * share).any()
        }
        self.counter, self.notes = Counter("restore", progress, {}), list(findings.notes)
        self.failed: dict[int, list[tuple[int, int]]] = {}  # corners of tiles, by scale

    def run(self) -> Result:
        """Restore each scale, the coarsest first, and lay what changed over the photo."""
        if not self.shares:
            return self.before
        levels = pyramid(self.photo.pixels, (1, *self.shares))
        for level in levels:
            if level.scale in self.shares:
                self.counter.begin(level.scale, len(self.parts(level.scale, self.engine.grid(*level.size))))
        coarse = {level.scale: self.change(level) for level in reversed(levels) if level.scale > 1}
        pixels = self.engine.halving(
            levels[0].size, self.notes, lambda grid: self.lay(levels[0], grid, coarse)
        )
        failed = [place_of(corner, scale) for scale, corners in self.failed.items() for corner in corners]
        changed = not np.array_equal(pixels, self.photo.pixels)
        return replace(
            self.before,
            photo=replace_pixels(self.photo, pixels) if changed else self.photo,
            tiles_restored=self.counter.done - len(failed),
            tiles_kept=len(failed),
            notes=(*self.notes, *(f"the tile at {place} failed and stays as it was" for place in failed)),
            changed=changed,
        )

    def wanted(self, scale: int) -> Floats:
        """What is restored at a scale, h w of zeros and ones for the cells of the photo at it."""
        return lowered(self.mask * (self.shares[scale] > 0), scale)

    def parts(self, scale: int, grid: Grid) -> list[tuple[Tile, Tile]]:
        """The tiles in which something is restored, and what of each."""
        mask, least = self.wanted(scale), self.engine.reference.smallest_part
        sharp = self.request.keep_sharp
        parts = ((t, changed_part(t, mask, least) if sharp else masked_part(t, mask)) for t in grid)
        return [(tile, part) for tile, part in parts if part]

    def changes(self, level: Level, parts: Iterable[Tile]) -> Iterator[tuple[Tile, Floats | None]]:
        """How restoration changes parts of the photo at a scale, h w 3 each; None for those that failed."""
        maps = lowered_maps(self.findings, level.scale)
        return self.engine.restore(level, parts, maps, self.wanted(level.scale), self.request.epsilon)

    def restored(self, level: Level, grid: Grid) -> Iterator[tuple[Tile, Tile, Floats]]:
        """Tiles, what is restored of them, and how it changes, h w C; failed ones are noted and left out."""
        chosen = self.parts(level.scale, grid)
        step = self.counter.begin(level.scale, len(chosen))
        failed = self.failed[level.scale] = []
        changes = self.changes(level, (part for _, part in chosen))
        for (tile, _), (part, change) in zip(chosen, changes, strict=True):
            if change is None:
                failed.append(tile.corner)
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
            for top in range(mosaic.top, until, BAND[0]):
                rows, change = mosaic.finish(min(until, top + BAND[0]))
                for columns in self.columns(rows):
                    self.lay_window(pixels, rows, columns, {level.scale: change[:, columns]}, coarse)

        if level.scale in self.shares:
            for tile, part, change in self.restored(level, grid):
                finish(max(tile.rows.start, mosaic.top))
                mosaic.add(part, change)
        finish(self.photo.height)
        return pixels

    def lay_window(
        self,
        pixels: NDArray[np.generic],
        rows: slice,
        columns: slice,
        fine: Mapping[int, Floats],
        coarse: Mapping[int, Floats],
    ) -> None:
        """Add changes to a window: h w C of its own, H W C of coarser scales; no change, no other bit."""
        window = pixels[rows, columns]
        total = np.zeros(window.shape, np.float32)
        for scale, share in self.shares.items():
            part = fine[scale] if scale in fine else enlarged(coarse[scale], scale, rows, columns)
            total += part * smooth_weights(share, rows, columns)[..., None]
        if self.request.keep_sharp:
            total *= overlay_weights(self.mask, rows, columns)[..., None]
        largest = white(pixels)
        values = window.astype(np.float32) + total * largest
        pixels[rows, columns] = np.rint(values, out=values).clip(0, largest).astype(pixels.dtype)

    def columns(self, rows: slice) -> Iterator[slice]:
        """The columns of some rows that may change, not too many at once."""
        first, last = 0, self.photo.width
        if self.request.keep_sharp:
            near = self.mask[max(0, rows.start // CELL - 2) : -(-rows.stop // CELL) + 2]
            cells = np.flatnonzero(near.any(0))
            if not len(cells):
                return
            first = max(0, int(cells[0]) - 2) * CELL
            last = min((int(cells[-1]) + 3) * CELL, last)
        for left in range(first, last, BAND[1]):
            yield slice(left, min(left + BAND[1], last))


def place_of(corner: tuple[int, int], scale: int) -> str:
    """A tile's first row and column at a scale as a place in the photo, "x,y"."""
    row, column = corner
    return f"{column * scale},{row * scale}"


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

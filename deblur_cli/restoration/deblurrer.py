"""Two steps for every command: detect what moved in a photo, and restore that."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deblur_cli.errors import UsageError
from deblur_cli.nets import Guided, restorer_of
from deblur_cli.nets.network import CELL, cells_of
from deblur_cli.nets.pieces import piece
from deblur_cli.photo.color import replace_pixels
from deblur_cli.photo.photo import Photo, white
from deblur_cli.restoration import SCALES, Tiling
from deblur_cli.restoration.device import choose_device, choose_precision, keep_freed_memory
from deblur_cli.restoration.engine import Engine, Progress
from deblur_cli.restoration.findings import Findings, everywhere
from deblur_cli.restoration.mask import (
    FEATHER_REACH,
    covered_share,
    feather_weights,
    interpolated_weights,
    region_confidence,
)
from deblur_cli.restoration.painted import MaskMode, PaintedMask
from deblur_cli.restoration.scales import (
    ScaledPhoto,
    enlarge_change,
    merge_scales,
    pyramid,
    reduce_cells,
    reduce_maps,
    scale_shares,
    usable_scales,
)
from deblur_cli.restoration.tiles import Grid, Mosaic, Tile, changed_part
from deblur_cli.weights import LoadedWeights

Floats = NDArray[np.float32]
STRONGEST = 1.5  # times the change that the network makes
BAND = (256, 2048)  # rows and columns of the photo that are changed at once, at most


@dataclass(frozen=True)
class Request:
    """What is wanted of a photo.

    epsilon: confidence above which a cell counts as blurred, 0-1
    keep_sharp: restore regions instead of single cells, and lay them over the photo through a feathered mask,
    instead of returning the network's bare output
    strength: how much of the change to apply, 0-1.5: 1 is all of it, more exaggerates it
    thorough: restore in all eight orientations and take the mean: better, and eight times as slow
    painted: where the user wants something restored, besides or instead of what was detected
    """

    epsilon: float = 0.5
    keep_sharp: bool = True
    strength: float = 1.0
    thorough: bool = False
    painted: PaintedMask | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise UsageError(f"epsilon is {self.epsilon}: it must be between 0 and 1")
        if not 0 <= self.strength <= STRONGEST:
            raise UsageError(f"strength is {self.strength}: it must be between 0 and {STRONGEST}")
        if self.painted is not None and not self.keep_sharp:
            raise UsageError("a painted mask keeps the rest of the photo as it is: it needs keep_sharp")

    def __str__(self) -> str:
        """What was wanted, for people; what is as ever goes without saying."""
        painted = {MaskMode.only: "as painted", MaskMode.add: "and painted", MaskMode.limit: "where painted"}
        parts = [f"epsilon {self.epsilon:g}"]
        if self.painted is not None:
            limit = [] if self.painted.mode is MaskMode.only else parts
            parts = [*limit, painted[self.painted.mode]]
        parts += [f"strength {100 * self.strength:g}%"] if self.strength != 1 else []
        return ", ".join([*parts, *(["thorough"] if self.thorough else [])])

    def decide(self, findings: Findings) -> tuple[Floats, Floats]:
        """What epsilon is compared to, and how much of the change each cell gets, h w of 0-1 each.

        The former is the confidence of regions, or of single cells, and 1 where something is painted.
        """
        found = findings.probability
        if self.keep_sharp:
            found = region_confidence(found, self.epsilon)
        mask = (found > self.epsilon).astype(np.float32)
        return (found, mask) if self.painted is None else self.painted.join(found, mask)


@dataclass(frozen=True, eq=False)
class Result:
    """A photo after restoration and what was done.

    findings: their probability is what epsilon was compared to
    opacity: h w of 0-1, how much of the change each cell gets; request: what was wanted
    blurred_share: share of the photo's area over epsilon; scale_shares: the part of it restored at each scale
    tiles: that the detector went through; tiles_restored, tiles_kept: that were restored, and that failed and
    stayed as they were; over all scales
    changed: whether any pixel differs; notes: what the user should know
    """

    photo: Photo
    findings: Findings
    opacity: Floats
    request: Request
    blurred_share: float
    scale_shares: dict[int, float]
    tiles: int
    tiles_restored: int = 0
    tiles_kept: int = 0
    notes: tuple[str, ...] = ()
    changed: bool = False

    @property
    def epsilon(self) -> float:
        """Confidence above which a cell counted as blurred."""
        return self.request.epsilon

    def weights(self, rows: slice, columns: slice) -> Floats:
        """How much of the change pixels of a window get, h w of 0-1: the mask, feathered.

        A painted limit is feathered inward, so that not a bit changes beyond it.
        """
        weights, painted = feather_weights(self.opacity, rows, columns), self.request.painted
        if painted is not None and painted.mode is MaskMode.limit:
            weights *= interpolated_weights(painted.opacity, rows, columns)
        return weights

    @property
    def mask(self) -> Floats:
        """What is restored, h w of zeros and ones."""
        return (self.opacity > 0).astype(np.float32)


@piece("deciding the mask")
def untouched(photo: Photo, findings: Findings, request: Request, scales: Sequence[int] = SCALES) -> Result:
    """The photo as it is, and what a run would restore of it at each of the scales."""
    confidence, opacity = request.decide(findings)
    mask = (opacity > 0).astype(np.float32)
    return Result(
        photo,
        replace(findings, probability=confidence),
        opacity,
        request,
        covered_share(mask, photo.height, photo.width),
        {
            scale: covered_share(mask * share, photo.height, photo.width)
            for scale, share in scale_shares(findings.scale, tuple(scales)).items()
        },
        findings.tiles,
        notes=findings.notes,
    )


class Deblurrer:
    """A detector and a restorer on a device, ready for any number of photos.

    scales: how many times smaller photos are when blur is detected and restored, of 1, 2, 4 and 8
    Raises DeviceError where the device or precision is not available, and UsageError for other scales.
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
        self.precision = chosen.name
        network = weights.network
        self.restorer = Engine(restorer_of(network), self.device, chosen, self.tiling)
        self.detector = (
            Engine(network.detector, self.device, chosen, self.tiling)
            if isinstance(network, Guided)
            else self.restorer
        )

    def scales_for(self, height: int, width: int) -> tuple[int, ...]:
        """The scales at which blur is detected in a photo of that size; one if the network detects none."""
        detects = self.detector.reference.detects
        return usable_scales(self.scales, height, width) if detects else self.scales[:1]

    def grids(self, height: int, width: int) -> dict[int, tuple[Grid, Grid]]:
        """Tiles of detection and of restoration at each scale, with the memory that is free now."""
        sizes = {s: (-(-height // s), -(-width // s)) for s in self.scales_for(height, width)}
        return {s: (self.detector.grid(*size), self.restorer.grid(*size)) for s, size in sizes.items()}

    def detect(self, photo: Photo, progress: Progress | None = None) -> Findings:
        """Detect blur at every scale. A network that detects none takes the whole photo as blurred.

        `progress` receives tiles done, tiles in all, and "detect".
        Raises OutOfMemoryError where even the smallest tile does not fit.
        """
        size = (photo.height, photo.width)
        photos = pyramid(photo.pixels, self.scales_for(*size))
        tiles = {scaled.scale: len(self.detector.grid(*scaled.size)) for scaled in photos}
        if not self.detector.reference.detects:
            return replace(everywhere(*size, scale=photos[0].scale), tiles=tiles[photos[0].scale])
        notes: list[str] = []
        counter = Counter("detect", progress, tiles)
        maps = {scaled.scale: self.detect_scale(scaled, counter, notes) for scaled in photos}
        return replace(merge_scales(maps, size), tiles=counter.total, notes=tuple(notes))

    def detect_scale(self, photo: ScaledPhoto, counter: "Counter", notes: list[str]) -> Floats:
        """Probability, start and end at one scale, 5 h w, displacements in its pixels."""
        maps, failed = self.detector.with_fitting_tiles(
            photo.size,
            notes,
            lambda grid: self.detector.detect(photo, grid, counter.begin(photo.scale, len(grid))),
        )
        places = (place_of(corner, photo.scale) for corner in failed)
        notes.extend(f"detection failed in the tile at {place}, which counts as sharp" for place in places)
        return maps

    def restore(
        self, photo: Photo, findings: Findings, request: Request, progress: Progress | None = None
    ) -> Result:
        """Restore what was detected, each cell at its scale; every other pixel stays as it is, bit by bit.

        `progress` receives tiles done, tiles in all, and "restore".
        Raises DecodeError for the findings of a photo of another size, and OutOfMemoryError as `detect`.
        """
        findings.check_fits(photo.height, photo.width)
        return Restoration(self, photo, findings, request, progress).run()


class Restoration:
    """One photo on its way through `Deblurrer.restore`.

    before: the result if nothing were restored; findings, mask: of that result
    shares: by scale, how much it counts in each cell, h w of 0-1; without scales at which nothing is restored
    keep: whether `with_strength` will be asked, for which 4 bytes of each sample around what changes stay
    """

    def __init__(
        self,
        deblurrer: Deblurrer,
        photo: Photo,
        findings: Findings,
        request: Request,
        progress: Progress | None = None,
        *,
        keep: bool = False,
    ) -> None:
        scales = usable_scales(deblurrer.scales, photo.height, photo.width)
        self.engine, self.photo, self.request = deblurrer.restorer, photo, request
        self.before = untouched(photo, findings, request, scales)
        self.findings, self.mask = self.before.findings, self.before.mask
        shares = scale_shares(findings.scale, scales)
        self.shares = {scale: share for scale, share in shares.items() if (self.mask * share).any()}
        self.counter, self.notes = Counter("restore", progress, {}), list(findings.notes)
        self.failed: dict[int, list[tuple[int, int]]] = {}  # corners of tiles, by scale
        self.known_parts: dict[tuple[int, Grid], list[tuple[Tile, Tile]]] = {}
        self.keep = keep
        self.kept: list[tuple[slice, slice, Floats]] = []  # rows, columns, and how they change, h w C

    def run(self) -> Result:
        """Restore each scale, the coarsest first, and lay what changed over the photo."""
        if not self.shares or not self.request.strength:
            return self.before
        finest, *coarser = pyramid(self.photo.pixels, (1, *self.shares))
        for scale, parts in self.parts_now().items():
            self.counter.begin(scale, len(parts))
        changes = {scaled.scale: self.coarse_change(scaled) for scaled in reversed(coarser)}
        pixels = self.engine.with_fitting_tiles(
            finest.size, self.notes, lambda grid: self.changed_pixels(finest, grid, changes)
        )
        return self.result(pixels)

    def with_strength(self, strength: float) -> Result:
        """What `run` gives for another strength, to the bit, without a network. After `run` with `keep`."""
        self.request = replace(self.request, strength=strength)
        if not self.shares or not strength:
            return replace(self.before, request=self.request)
        pixels = self.photo.pixels.copy()
        for rows, columns, change in self.kept:
            self.lay_over(pixels, rows, columns, change.copy())
        return self.result(pixels)

    def result(self, pixels: NDArray[np.generic]) -> Result:
        """The photo with these pixels, and what was done."""
        failed = [place_of(corner, scale) for scale, corners in self.failed.items() for corner in corners]
        rows = (slice(top, top + BAND[0]) for top in range(0, self.photo.height, BAND[0]))
        changed = any(not np.array_equal(pixels[each], self.photo.pixels[each]) for each in rows)
        return replace(
            self.before,
            photo=replace_pixels(self.photo, pixels) if changed else self.photo,
            request=self.request,
            tiles_restored=self.counter.done - len(failed),
            tiles_kept=len(failed),
            notes=(*self.notes, *(f"the tile at {place} failed and stays as it was" for place in failed)),
            changed=changed,
        )

    def mask_at(self, scale: int) -> Floats:
        """What is restored at a scale, h w of zeros and ones for the cells of the photo at it."""
        return reduce_cells(self.mask * (self.shares[scale] > 0), scale)

    def parts_now(self) -> dict[int, list[tuple[Tile, Tile]]]:
        """The parts at each scale, as `parts`, with tiles for the memory that is free now."""
        height, width = self.photo.height, self.photo.width
        sizes = {scale: (-(-height // scale), -(-width // scale)) for scale in self.shares}
        return {scale: self.parts(scale, self.engine.grid(*size)) for scale, size in sizes.items()}

    @piece("choosing parts of tiles")
    def parts(self, scale: int, grid: Grid) -> list[tuple[Tile, Tile]]:
        """The tiles in which something is restored, and the part of each: without keep_sharp, all of it."""
        if (scale, grid) not in self.known_parts:
            mask, least = self.mask_at(scale), self.engine.reference.smallest_part
            if self.request.keep_sharp:
                parts = ((tile, changed_part(tile, mask, least)) for tile in grid)
            else:
                parts = ((tile, tile if mask[tile.cells].any() else None) for tile in grid)
            self.known_parts[scale, grid] = [(tile, part) for tile, part in parts if part]
        return self.known_parts[scale, grid]

    def changes(self, photo: ScaledPhoto, parts: Iterable[Tile]) -> Iterator[tuple[Tile, Floats | None]]:
        """How restoration changes parts of the photo at a scale, h w 3 each; None for those that failed."""
        maps, request = reduce_maps(self.findings, photo.scale), self.request
        return self.engine.restore(
            photo, parts, maps, self.mask_at(photo.scale), request.epsilon, thorough=request.thorough
        )

    def restored(self, photo: ScaledPhoto, grid: Grid) -> Iterator[tuple[Tile, Tile, Floats]]:
        """Tiles, the part of each, and how it changes, h w C; those that failed are listed and left out."""
        chosen = self.parts(photo.scale, grid)
        step = self.counter.begin(photo.scale, len(chosen))
        failed = self.failed[photo.scale] = []
        changes = self.changes(photo, (part for _, part in chosen))
        for (tile, _), (part, change) in zip(chosen, changes, strict=True):
            if change is None:
                failed.append(tile.corner)
            else:
                gray = photo.pixels.shape[2] == 1
                yield tile, part, change.mean(2, keepdims=True) if gray else change
            step()

    def coarse_change(self, photo: ScaledPhoto) -> Floats:
        """What changes in the photo at a coarser scale, H W C."""

        def restore(grid: Grid) -> Floats:
            total = np.zeros(photo.pixels.shape, np.float32)
            for _, part, change in self.restored(photo, grid):
                total[part.index] += change * part.weights[..., None]
            return total

        return self.engine.with_fitting_tiles(photo.size, self.notes, restore)

    def changed_pixels(
        self, finest: ScaledPhoto, grid: Grid, coarser: Mapping[int, Floats]
    ) -> NDArray[np.generic]:
        """The photo's pixels with all changes; those at its own scale are made here, row of tiles by row."""
        pixels, mosaic = self.photo.pixels.copy(), Mosaic(*self.photo.pixels.shape)
        self.kept.clear()  # of tiles that were too large

        def finish(until: int) -> None:
            for top in range(mosaic.top, until, BAND[0]):
                rows, change = mosaic.finish(min(until, top + BAND[0]))
                for columns in self.changing_columns(rows):
                    self.add_changes(pixels, rows, columns, {**coarser, 1: change[:, columns]})

        if 1 in self.shares:
            for tile, part, change in self.restored(finest, grid):
                finish(max(tile.rows.start, mosaic.top))
                mosaic.add(part, change)
        finish(self.photo.height)
        return pixels

    @piece("laying over")
    def add_changes(
        self, pixels: NDArray[np.generic], rows: slice, columns: slice, changes: Mapping[int, Floats]
    ) -> None:
        """Add changes to a window of the photo in place; where nothing changes, no bit does.

        changes: by scale, h w C of the window at the photo's own, H W C of the whole photo at coarser ones
        """
        total = np.zeros(pixels[rows, columns].shape, np.float32)
        for scale, share in self.shares.items():
            change = changes[scale] if scale == 1 else enlarge_change(changes[scale], scale, rows, columns)
            total += change * interpolated_weights(share, rows, columns)[..., None]
        if self.keep:
            self.kept.append((rows, columns, total.copy()))
        self.lay_over(pixels, rows, columns, total)

    def lay_over(self, pixels: NDArray[np.generic], rows: slice, columns: slice, total: Floats) -> None:
        """Add as much of a change as is wanted to a window of the photo, in place; the change is used up."""
        total *= self.request.strength
        if self.request.keep_sharp:
            total *= self.before.weights(rows, columns)[..., None]
        largest = white(pixels)
        values = pixels[rows, columns].astype(np.float32) + total * largest
        pixels[rows, columns] = np.rint(values, out=values).clip(0, largest).astype(pixels.dtype)

    def changing_columns(self, rows: slice) -> Iterator[slice]:
        """The columns of some rows that may change, not too many at once."""
        first, last = 0, self.photo.width
        if self.request.keep_sharp:
            bottom = cells_of((rows.stop, last))[0]
            near = self.mask[max(0, rows.start // CELL - FEATHER_REACH) : bottom + FEATHER_REACH]
            blurred = np.flatnonzero(near.any(0))
            if not len(blurred):
                return
            first = max(0, int(blurred[0]) - FEATHER_REACH) * CELL
            last = min((int(blurred[-1]) + 1 + FEATHER_REACH) * CELL, last)
        for left in range(first, last, BAND[1]):
            yield slice(left, min(left + BAND[1], last))


def place_of(corner: tuple[int, int], scale: int) -> str:
    """First row and column of a tile at a scale as a place in the photo: "x,y"."""
    row, column = corner
    return f"{column * scale},{row * scale}"


class Counter:
    """Counts tiles over all scales for progress; a scale may begin again with smaller tiles.

    name: "detect" or "restore"; expected: tiles of each scale
    """

    def __init__(self, name: str, progress: Progress | None, expected: dict[int, int]) -> None:
        self._name, self._progress = name, progress
        self._totals, self._done = dict(expected), dict.fromkeys(expected, 0)

    @property
    def total(self) -> int:
        """Tiles of all scales."""
        return sum(self._totals.values())

    @property
    def done(self) -> int:
        """Tiles that are done."""
        return sum(self._done.values())

    def begin(self, scale: int, count: int) -> Callable[[], None]:
        """Begin a scale of so many tiles; call the function that is returned after each."""
        self._totals[scale], self._done[scale] = count, 0

        def step() -> None:
            self._done[scale] += 1
            if self._progress is not None:
                self._progress(self.done, self.total, self._name)

        return step

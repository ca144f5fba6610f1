"""One photo: what is asked for, the way through detection and restoration, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.errors import UsageError
from deblur_cli.feather import overlay_weights
from deblur_cli.hysteresis import settle
from deblur_cli.nets import STAGE_SCALE, Detection
from deblur_cli.nets.pruned import dilate
from deblur_cli.photo.color import replace_pixels
from deblur_cli.photo.photo import Photo
from deblur_cli.regions import covered_share, restored_part
from deblur_cli.runner import Runner, maps_of
from deblur_cli.tiles import ALIGNMENT, Grid, Mosaic, Tile

Floats = NDArray[np.float32]
Progress = Callable[[int, int, str], None]

SMALLEST_TILE = 128
KEPT_BYTES = 448 << 20  # of features of blurred tiles, kept from detection to restoration


@dataclass(frozen=True)
class Settings:
    """Choices for each photo.

    epsilon: confidence from which a pixel counts as blurred, 0-1; tile: pixels, None for automatic;
    overlap: pixels that neighbouring tiles share at least; keep_sharp: lay the restored pixels over the
    photo through the feathered mask, instead of giving the network's bare output; restore: false only
    looks for blur and leaves the photo as it is
    """

    epsilon: float = 0.5
    tile: int | None = None
    overlap: int = 32
    keep_sharp: bool = True
    restore: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise UsageError(f"epsilon is {self.epsilon}: it must be between 0 and 1")
        if self.overlap % ALIGNMENT or self.overlap < 2 * ALIGNMENT:
            raise UsageError(f"overlap is {self.overlap}: it must be a multiple of {ALIGNMENT}, at least 32")
        if self.tile is not None and (self.tile % ALIGNMENT or self.tile < SMALLEST_TILE):
            raise UsageError(
                f"tile is {self.tile}: it must be a multiple of {ALIGNMENT}, at least {SMALLEST_TILE}"
            )
        if self.tile is not None and self.tile < 2 * self.overlap + ALIGNMENT:
            raise UsageError(
                f"tile {self.tile} is too small for overlap {self.overlap}: at least twice that and 16"
            )


@dataclass(frozen=True, eq=False)
class MotionMaps:
    """What was detected, at an eighth of the photo's size (rounded up), float32.

    probability: h w, confidence that a pixel is blurred, 0-1
    start, end: 2 h w, displacement (dy, dx) from mid-exposure to its start and end, in photo pixels
    """

    probability: Floats
    start: Floats
    end: Floats


@dataclass(frozen=True, eq=False)
class Result:
    """A restored photo and what was done.

    blurred_share: share of the photo's area over epsilon; tiles_kept: tiles that could not be restored
    and stayed as they were; changed: whether any pixel differs; seconds: detection and restoration
    """

    photo: Photo
    maps: MotionMaps
    epsilon: float
    blurred_share: float
    tiles: int
    tiles_restored: int
    tiles_kept: int
    notes: tuple[str, ...]
    seconds: float
    tile_size: int
    changed: bool


class Task:
    """One photo on its way through detection and restoration with one tile size."""

    def __init__(
        self,
        runner: Runner,
        photo: Photo,
        settings: Settings,
        size: int,
        progress: Progress,
        notes: list[str],
    ) -> None:
        self.runner, self.photo, self.settings, self.progress, self.notes = (
            runner,
            photo,
            settings,
            progress,
            notes,
        )
        self.grid = Grid(photo.height, photo.width, size, settings.overlap, runner.reference.multiple)
        self.kept: dict[tuple[int, int], tuple[Tile, Detection]] = {}  # parts of tiles, by the tile's corner
        self.room = KEPT_BYTES

    @property
    def cells(self) -> tuple[int, int]:
        """Height and width of the photo's maps."""
        return -(-self.photo.height // STAGE_SCALE), -(-self.photo.width // STAGE_SCALE)

    def run(self) -> Result:
        """Detect, restore, blend. Time is left to the caller."""
        return self.finish(self.find_blur())

    def finish(self, maps: Floats) -> Result:
        """Restore and blend what the maps of `find_blur` say."""
        mask = (maps[0] > self.settings.epsilon).astype(np.float32)
        pixels, restored, kept = self.restore(maps, mask)
        return Result(
            photo=replace_pixels(self.photo, pixels),
            maps=MotionMaps(maps[0], maps[1:3] * STAGE_SCALE, maps[3:5] * STAGE_SCALE),
            epsilon=self.settings.epsilon,
            blurred_share=covered_share(mask, self.photo.height, self.photo.width),
            tiles=len(self.grid),
            tiles_restored=restored,
            tiles_kept=kept,
            notes=tuple(self.notes),
            seconds=0.0,
            tile_size=self.grid.size,
            changed=pixels is not self.photo.pixels,
        )

    def forget(self) -> None:
        """Drop the features that detection kept."""
        self.kept, self.room = {}, KEPT_BYTES

    def find_blur(self) -> Floats:
        """The maps of `detect`; the confidence is that of regions, not of single cells, with keep_sharp."""
        return self.judge(self.detect())

    def judge(self, maps: Floats) -> Floats:
        """The maps with the confidence that epsilon is compared to; overwrites them."""
        if self.settings.keep_sharp:  # the bare output is the network's own, mask and all
            maps[0] = settle(maps[0], self.settings.epsilon)
        return maps

    def detect(self) -> Floats:
        """Probability, start and end over the whole photo: 5 h/8 w/8, displacements in stage pixels."""
        maps = np.zeros((5, *self.cells), np.float32)
        if not self.runner.detects:  # a network without a mask restores everything
            maps[0] = 1
            return maps
        for number, tile in enumerate(self.grid):
            index = tile.scaled(STAGE_SCALE)
            rows, columns = maps[0][index].shape
            detection = self.runner.find(self.cut(tile), self.settings.epsilon)
            found = maps_of(detection)[:, :rows, :columns]
            maps[(slice(len(found)), *index)] += found * stage_weights(tile)  # one map without motion
            self.keep(tile, detection, found)
            self.progress(number + 1, len(self.grid), "detect")
        return maps

    def keep(self, tile: Tile, detection: Detection, found: Floats) -> None:
        """Keep the features of what will probably be restored of a tile, while there is room."""
        wanted = self.settings.restore and self.runner.keeps_features
        part = self.part(tile, self.likely_mask(tile, found)) if wanted else None
        if part is None:
            return
        features = cut_out(detection, tile, part)
        if features.bytes <= self.room:
            self.kept[tile.corner] = part, features
            self.room -= features.bytes

    def likely_mask(self, tile: Tile, found: Floats) -> Floats:
        """The photo's mask as far as a tile can tell from its own maps, and what may be added to it."""
        least = self.settings.epsilon / 2  # a neighbouring tile may be surer of what both see
        blurred = settle(found[0], least) if self.settings.keep_sharp else found[0]
        mask = np.zeros(self.cells, np.float32)
        mask[tile.scaled(STAGE_SCALE)] = dilate(dilate(torch.from_numpy(blurred > least)[None, None]))[0, 0]
        return mask

    def restore(self, maps: Floats, mask: Floats) -> tuple[NDArray[np.generic], int, int]:
        """Restored pixels (the photo's own array where nothing is blurred), tiles restored, tiles kept."""
        chosen = [(tile, part) for tile in self.grid if (part := self.part(tile, mask))]
        if not chosen:
            return self.photo.pixels, 0, 0
        pixels = self.photo.pixels.copy()
        mosaic = Mosaic(*pixels.shape)
        failed = 0
        for number, (tile, part) in enumerate(chosen):
            self.lay(mosaic, pixels, tile.rows.start)
            image = self.cut(part)
            change = self.runner.restore(
                image,
                torch.from_numpy(maps[(slice(None), *part.scaled(STAGE_SCALE))])[None],
                self.settings.epsilon,
                self.features(tile, part),
            )
            if change is None:
                failed += 1
                self.notes.append(
                    f"the tile at {tile.columns.start},{tile.rows.start} failed and stays as it was"
                )
            else:
                mosaic.add(part, self.weigh(change - image, part, mask))
            self.progress(number + 1, len(chosen), "restore")
        self.lay(mosaic, pixels, self.photo.height)
        if np.array_equal(pixels, self.photo.pixels):
            return self.photo.pixels, len(chosen) - failed, failed
        return pixels, len(chosen) - failed, failed

    def part(self, tile: Tile, mask: Floats) -> Tile | None:
        """What is to be restored of a tile; None where that is nothing."""
        if not self.settings.restore:
            return None
        least = self.runner.reference.smallest_part
        return restored_part(tile, mask, least, keep_sharp=self.settings.keep_sharp)

    def features(self, tile: Tile, part: Tile) -> Detection | None:
        """What detection finds in a part of a tile, seeing all of the tile; None where it is of no use."""
        if not self.runner.keeps_features:
            return None
        if self.keeps(tile, part):
            whole, found = self.kept[tile.corner]
        else:
            whole, found = tile, self.runner.find(self.cut(tile), self.settings.epsilon)
        return cut_out(found, whole, part)

    def keeps(self, tile: Tile, part: Tile) -> bool:
        """Whether the features of a part of a tile were kept."""
        return tile.corner in self.kept and self.kept[tile.corner][0].holds(part)

    def weigh(self, change: Tensor, tile: Tile, mask: Floats) -> Floats:
        """What a tile adds to the photo: h w C, grey photos as the mean of the three channels."""
        values = change[0].permute(1, 2, 0).numpy()  # 1 3 h w -> h w 3
        if self.photo.pixels.shape[2] == 1:
            values = values.mean(2, keepdims=True)
        if self.settings.keep_sharp:
            values = values * overlay_weights(mask, tile.rows.slice, tile.columns.slice)[..., None]
        return np.asarray(values, np.float32)

    def lay(self, mosaic: Mosaic, pixels: NDArray[np.generic], until: int) -> None:
        """Add the finished rows of changes to the pixels; no change leaves a pixel as it is, bit by bit."""
        rows, change = mosaic.finish(max(until, mosaic.top))
        largest = white(pixels)
        values = pixels[rows].astype(np.float32) + change * largest
        np.rint(values, out=values)
        pixels[rows] = values.clip(0, largest).astype(pixels.dtype)

    def cut(self, tile: Tile) -> Tensor:
        """A tile as the network sees it: 1 3 h w in 0-1, float32."""
        window = self.photo.pixels[tile.index]
        values = torch.from_numpy(window.astype(np.float32) / white(window))
        return values.permute(2, 0, 1)[None].expand(1, 3, -1, -1)  # h w C -> 1 3 h w


def cut_out(detection: Detection, tile: Tile, part: Tile) -> Detection:
    """What was detected in a part of a tile."""
    return detection if part.index == tile.index else detection.window(*tile.place_of(part))


def white(pixels: NDArray[np.generic]) -> np.float32:
    """Largest value of the samples: 255 or 65535."""
    return np.float32(255 if pixels.dtype == np.uint8 else 65535)


def stage_weights(tile: Tile) -> Floats:
    """Blend weights of a tile's stage cells, h/8 w/8: the mean over the pixels of each cell."""
    rows, columns = (
        np.add.reduceat(span.weights, begins) / np.diff(begins, append=len(span.weights))
        for span in (tile.rows, tile.columns)
        for begins in [np.arange(0, len(span.weights), STAGE_SCALE)]
    )
    return np.asarray(rows[:, None] * columns[None, :], np.float32)

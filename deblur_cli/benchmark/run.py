"""Times every way to run the network over one photo, in one run."""

import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deblur_cli.benchmark.measuring import Action, Timing, describe_machine, interleave
from deblur_cli.benchmark.scene import ForcedBlur, again, stage, timed
from deblur_cli.device import memory_errors
from deblur_cli.errors import UsageError
from deblur_cli.nets import STAGE_SCALE, Detection, Detector, Guided, GuidedM2AENet, M2AENet, create
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.restore import Deblurrer, Settings
from deblur_cli.task import Task
from deblur_cli.tiles import Tile
from deblur_cli.weights import LoadedWeights
from deblur_cli.work import count, count_detection, count_restoration

Step = Callable[[str], None]
BASELINE = "dense float32"


@dataclass(frozen=True)
class Benchmark:
    """All timings of one run and how they compare.

    timings, by name:
      dense float32: default memory layout, every block on every pixel of every tile
      nafnet float32: the same of a NAFNet of that size
      dense auto: the tool's network (its precision and layout, accelerated) on all of every tile
      pruned, all tiles: detection, then pruned restoration of every tile
      deblur: detection, then pruned restoration of the tiles that need it, and blending: the tool
      detect, decode, encode: parts of a run; the file is a JPEG
      cues: the detector's motion cues alone over all tiles; part of detect
    Dense variants are the restorer's own network; no detector runs, and no blur is undone beforehand for it.
    """

    width: int
    height: int
    blurred_share: float
    tile_size: int
    tiles: int
    tiles_restored: int
    device: str
    precision: str
    machine: str
    weights: str
    timings: dict[str, Timing]

    def ratio(self, name: str) -> float | None:
        """How many times faster than the dense run; None where one of them was not timed."""
        if name not in self.timings or BASELINE not in self.timings:
            return None
        return self.timings[BASELINE].median / self.timings[name].median


def run_benchmark(
    weights: LoadedWeights,
    size: tuple[int, int],
    share: float,
    repeats: int,
    settings: Settings,
    device: str = "auto",
    precision: str = "auto",
    step: Step = lambda _: None,
    only: Collection[str] = (),
) -> Benchmark:
    """Time the variants (or `only` those named) over a photo of size (width, height).

    Raises UsageError for impossible values, OutOfMemoryError where a variant does not fit.
    """
    if not 0 <= share <= 1 or repeats < 1 or min(size) < STAGE_SCALE:
        raise UsageError("the share must be 0-1, repeats at least 1, and the photo at least 8x8 pixels")
    network = timed(weights.network)
    deblurrer = Deblurrer(weights, device, precision)
    task = stage(deblurrer, size, share, settings)
    with tempfile.TemporaryDirectory() as folder, memory_errors():
        networks = dense_networks(network, task, deblurrer.device)
        actions = variants(networks, task, Path(folder))
        if unknown := sorted(set(only) - set(actions)):
            raise UsageError(f"there is no variant {unknown[0]!r}; choose of {', '.join(actions)}")
        actions = {name: action for name, action in actions.items() if not only or name in only}
        warm_up(task, [network for name, network in networks.items() if name in actions])
        timings = interleave(actions, repeats, deblurrer.device, step)
    macs = work(task, network)
    timings = {name: replace(timing, macs=macs.get(name)) for name, timing in timings.items()}
    return Benchmark(
        *size,
        share,
        task.grid.size,
        len(task.grid),
        sum(task.part(tile, task.forced) is not None for tile in task.grid),
        deblurrer.device,
        deblurrer.precision,
        describe_machine(deblurrer.device),
        weights.title,
        timings,
    )


def dense_networks(network: M2AENet, task: ForcedBlur, device: str) -> dict[str, M2AENet]:
    """What runs over all tiles densely, by name of the variant."""
    plain, nafnet = plain_network(network, device), baseline_network(network, device)
    return {"dense auto": timed(task.runner.network), BASELINE: plain, "nafnet float32": nafnet}


def variants(networks: Mapping[str, M2AENet], task: ForcedBlur, folder: Path) -> dict[str, Action]:
    """What is timed, by name."""
    source = folder / "photo.jpg"
    Image.fromarray(np.asarray(task.photo.pixels, np.uint8)).save(source, quality=92)
    photo = decode(source)
    detector = task.runner.network.detector if isinstance(task.runner.network, Guided) else None
    return {
        "deblur": lambda: again(task).run(),
        "detect": lambda: again(task).detect(),
        **({} if detector is None else {"cues": lambda: run_cues(task, detector)}),
        "pruned, all tiles": lambda: again(task, EveryTile).run(),
        **{
            name: lambda network=network: run_dense(task, network, task.grid)  # type: ignore[misc]
            for name, network in networks.items()
        },
        "decode": lambda: decode(source),
        "encode": lambda: encode(photo, folder / "result.jpg", overwrite=True),
    }


class EveryTile(ForcedBlur):
    """Restores all tiles, whether or not anything in them is blurred."""

    def part(self, tile: Tile, mask: object) -> Tile:  # noqa: ARG002
        return tile


def plain_network(network: M2AENet, device: str) -> M2AENet:
    """The same parameters in float32 and the default layout, with every block running."""
    plain = fresh_network(network.config.architecture, network)
    plain.load_state_dict(network.state_dict())
    return plain.to(device).eval()


def baseline_network(network: M2AENet, device: str) -> M2AENet:
    """A NAFNet of the same size; its parameters do not matter to its speed."""
    return fresh_network("nafnet", network).to(device).eval()


def fresh_network(architecture: str, network: M2AENet) -> M2AENet:
    """A network of the same sizes; a NAFNet follows no detector."""
    guided = network.guided and architecture != "nafnet"
    return create(architecture, **asdict(replace(network.config, guided=guided)))


@torch.inference_mode()
def run_dense(task: Task, network: M2AENet, tiles: Iterable[Tile]) -> None:
    """A whole network over tiles, densely."""
    device = next(network.parameters()).device
    for tile in tiles:
        image = task.cut(tile).contiguous().to(device, network.input_dtype)
        densely(network, image).cpu()


def densely(network: M2AENet, image: Tensor) -> Tensor:
    """All layers on every pixel of a picture B 3 H W, all of which counts as blurred."""
    if not isinstance(network, GuidedM2AENet):
        return network(image, epsilon=-1.0).image  # type: ignore[no-any-return]
    nothing = image.new_empty(len(image), 0, 0, 0)
    told = Detection(image, nothing, (), (image.shape[-2], image.shape[-1]), None, None, None, None)
    return network.restore(network.follow(image, told, undone=image), epsilon=-1.0).image


@torch.inference_mode()
def run_cues(task: Task, detector: Detector) -> None:
    """The cues of a detector over all tiles."""
    device = next(detector.parameters()).device
    for tile in task.grid:
        detector.cues(detector.pad(task.cut(tile).to(device)))


def warm_up(task: Task, networks: Iterable[M2AENet] = ()) -> None:
    """Run the tool's network, and others densely, once on one tile, so that no repeat pays for a first."""
    tile = next(iter(task.grid))
    image = task.cut(tile)
    maps = torch.ones(1, 5, *(-(-side // STAGE_SCALE) for side in image.shape[-2:]))
    found = task.runner.find(image, task.settings.epsilon)
    task.runner.restore(image, maps, task.settings.epsilon, found)
    for network in networks:
        run_dense(task, network, [tile])


def work(task: ForcedBlur, network: M2AENet) -> dict[str, int]:
    """Multiply-accumulates of the variants that have any; features are taken to be kept."""
    whole, device = task.runner.network, "cpu"
    ours = timed(whole)
    plain, nafnet = plain_network(network, device), baseline_network(network, device)
    names = (BASELINE, "nafnet float32", "dense auto", "pruned, all tiles", "deblur", "detect")
    totals = dict.fromkeys(names, 0)
    mask = task.forced
    for tile in task.grid:
        totals[BASELINE] += count(plain, *tile.size).total
        totals["nafnet float32"] += count(nafnet, *tile.size).total
        totals["dense auto"] += count(ours, *tile.size).total
        for name in ("detect", "deblur", "pruned, all tiles"):
            totals[name] += count_detection(whole, *tile.size)
        for name, part in (("pruned, all tiles", tile), ("deblur", task.part(tile, mask))):
            if part is not None:
                cells = torch.from_numpy(mask[part.scaled(STAGE_SCALE)])[None, None]
                totals[name] += count_restoration(whole, part.size, cells)
    return totals

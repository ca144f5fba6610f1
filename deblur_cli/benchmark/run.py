"""Times every way to run the network over one photo, in one run, and how that grows with the photo."""

import copy
import logging
import platform
import statistics
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor

from deblur_cli.benchmark.scene import REQUEST, Scene, Setting, stage
from deblur_cli.errors import UsageError
from deblur_cli.nets import Detection, Detector, GuidedM2AENet, M2AENet, Network, create
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.pictures.plots import Curve, Diagram
from deblur_cli.restoration.deblurrer import Deblurrer, untouched
from deblur_cli.restoration.device import clock, memory_errors, return_freed_memory, whole_float32
from deblur_cli.restoration.findings import everywhere
from deblur_cli.restoration.forecast import Part, dense_macs, detection_macs, parts_macs, restored_parts
from deblur_cli.restoration.scales import ScaledPhoto, pyramid
from deblur_cli.restoration.tiles import Tile

Action = Callable[[], object]
Step = Callable[[str], None]
MEGAPIXELS, SHARE = "megapixels", "blurred share"  # what a sweep is over
BASELINE, DETECT, DETECT_FINEST = "dense float32", "detect", "detect, scale 1"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one way to do something, and the most bytes held meanwhile.

    memory is what came on top of the bytes held before (libraries, weights, photo): of the GPU where there
    is one, else of the process; None where the system does not tell.
    """

    name: str
    seconds: tuple[float, ...]
    memory: int | None = None
    macs: int | None = None

    @property
    def median(self) -> float:
        """Middle of the repeats."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Benchmark:
    """All timings of one run and how they compare.

    blur_length: pixels; scale_shares: share of the photo that is restored at each scale because of it
    tiles, tiles_restored: of detection and restored, over all scales; tile_size: at full size
    timings, by name:
      deblur: detection at all scales, then restoration of what is taken for blurred: the tool
      detect, decode, encode: parts of a run; the file is a JPEG
      detect, scale 1: detection at full size alone
      cues: the detector's motion cues alone, at all scales; part of detect
      dense float32: default memory layout, every block on every pixel of every tile at full size
      dense auto: the same of the tool's network (its precision and layout, blocks that do nothing left out)
      nafnet float32: the same of a NAFNet of that size; not for LMD-ViT, which is of other sizes
    Dense variants are the restorer's own network; no detector runs, and no blur is undone beforehand for it.
    """

    width: int
    height: int
    blurred_share: float
    blur_length: float
    scale_shares: dict[int, float]
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
        return self.quotient(BASELINE, name)

    @property
    def detection_ratio(self) -> float | None:
        """How many times as long detection takes at all scales as at full size alone."""
        return self.quotient(DETECT, DETECT_FINEST)

    def quotient(self, above: str, below: str) -> float | None:
        """The medians of two variants, divided; None where one of them was not timed."""
        if above not in self.timings or below not in self.timings:
            return None
        return self.timings[above].median / self.timings[below].median


def run_benchmark(
    setting: Setting,
    size: tuple[int, int],
    share: float,
    length: float,
    repeats: int,
    step: Step = lambda _: None,
    only: Collection[str] = (),
) -> Benchmark:
    """Time the variants (or `only` those named) over a photo of size (width, height).

    Raises UsageError for impossible values, OutOfMemoryError where a variant does not fit.
    """
    if repeats < 1:
        raise UsageError("repeats must be at least 1")
    deblurrer = setting.deblurrer()
    scene = stage(deblurrer, size, share, length)
    with tempfile.TemporaryDirectory() as folder, memory_errors():
        networks = dense_networks(deblurrer)
        actions = variants(setting, deblurrer, networks, scene, Path(folder))
        if unknown := sorted(set(only) - set(actions)):
            raise UsageError(
                f"there is no variant {unknown[0]!r}; choose one of {', '.join(map(repr, actions))}"
            )
        actions = {name: action for name, action in actions.items() if not only or name in only}
        warm_up(deblurrer, scene, [network for name, network in networks.items() if name in actions])
        timings = interleave(actions, repeats, deblurrer.device, step)
    parts = restored_parts(deblurrer, scene.photo, scene.findings, REQUEST)
    macs = count_macs(deblurrer, networks, scene, parts)
    shares = untouched(scene.photo, scene.findings, REQUEST).scale_shares
    timings = {name: replace(timing, macs=macs.get(name)) for name, timing in timings.items()}
    return Benchmark(
        *(*size, share, length),
        {scale: part for scale, part in shares.items() if part},
        deblurrer.restorer.grid(*scene.size).size,
        sum(len(looked_at) for looked_at, _ in deblurrer.grids(*scene.size).values()),
        len(parts),
        *(deblurrer.device, deblurrer.precision, describe_machine(deblurrer.device)),
        *(setting.weights.title, timings),
    )


def dense_networks(deblurrer: Deblurrer) -> dict[str, Network]:
    """What runs over all tiles densely, by name of the variant."""
    restorer, device = deblurrer.restorer, deblurrer.device
    networks = {"dense auto": restorer.network, BASELINE: plain_network(restorer.reference, device)}
    if isinstance(restorer.reference, M2AENet):
        networks["nafnet float32"] = baseline_network(restorer.reference, device)
    return networks


def variants(
    setting: Setting, deblurrer: Deblurrer, networks: Mapping[str, Network], scene: Scene, folder: Path
) -> dict[str, Action]:
    """What is timed, by name."""
    source = folder / "photo.jpg"
    Image.fromarray(np.asarray(scene.photo.pixels, np.uint8)).save(source, quality=92)
    photo = decode(source)
    actions: dict[str, Action] = {"deblur": lambda: scene.run(deblurrer)}
    detector = deblurrer.detector.network
    if detector.detects:
        finest = setting.deblurrer((1,))
        actions[DETECT] = lambda: deblurrer.detect(scene.photo)
        actions[DETECT_FINEST] = lambda: finest.detect(scene.photo)
    if isinstance(detector, Detector):
        actions["cues"] = lambda: run_cues(deblurrer, detector, scene)
    for name, network in networks.items():
        actions[name] = lambda network=network: run_dense(  # type: ignore[misc]
            network, scene.level, deblurrer.restorer.grid(*scene.size)
        )
    actions["decode"] = lambda: decode(source)
    actions["encode"] = lambda: encode(photo, folder / "result.jpg", overwrite=True)
    return actions


def plain_network(network: Network, device: str) -> Network:
    """The same parameters in float32 and the default layout, with every block running."""
    plain = copy.deepcopy(network)
    if isinstance(plain, M2AENet):
        plain.depth = plain.config.encoder[-1]
    return plain.to(device).eval()


def baseline_network(network: M2AENet, device: str) -> M2AENet:
    """A NAFNet of the same size, which follows no detector; its parameters do not matter to its speed."""
    return create("nafnet", **asdict(replace(network.config, guided=False))).to(device).eval()


@whole_float32()
@torch.inference_mode()
def run_dense(network: Network, level: ScaledPhoto, tiles: Iterable[Tile]) -> None:
    """A whole network over tiles, densely."""
    device = next(network.parameters()).device
    for tile in tiles:
        densely(network, level.cut(tile).contiguous().to(device, network.input_dtype)).cpu()


def densely(network: Network, image: Tensor) -> Tensor:
    """All layers on every pixel of a picture B 3 H W, all of which counts as blurred."""
    if not isinstance(network, GuidedM2AENet):
        return network(image, epsilon=-1.0).image  # type: ignore[no-any-return]
    nothing = Detection(image, (image.shape[-2], image.shape[-1]))
    return network.restore(network.follow(image, nothing, undone=image), epsilon=-1.0).image


@torch.inference_mode()
def run_cues(deblurrer: Deblurrer, detector: Detector, scene: Scene) -> None:
    """The cues of a detector over all tiles at all scales."""
    grids = deblurrer.grids(*scene.size)
    for level in pyramid(scene.photo.pixels, tuple(grids)):
        for tile in grids[level.scale][0]:
            detector.cues(detector.pad(level.cut(tile).to(deblurrer.device)))


def warm_up(deblurrer: Deblurrer, scene: Scene, networks: Iterable[Network] = ()) -> None:
    """Run the tool, and networks densely, once on the first tile, so that no repeat pays for a first."""
    tile = next(iter(deblurrer.restorer.grid(*scene.size)))
    piece = replace(scene.photo, pixels=scene.photo.pixels[tile.index])
    scale = float(scene.findings.scale[0, 0])
    Scene(piece, everywhere(piece.height, piece.width, scale=scale)).run(deblurrer)
    for network in networks:
        run_dense(network, scene.level, [tile])


def count_macs(
    deblurrer: Deblurrer, networks: Mapping[str, Network], scene: Scene, parts: Sequence[Part]
) -> dict[str, int | None]:
    """Multiply-accumulates of the variants that have any; None where they cannot be counted."""
    tiles = list(deblurrer.restorer.grid(*scene.size))
    totals: dict[str, int | None] = {name: dense_macs(network, tiles) for name, network in networks.items()}
    looking = detection_macs(deblurrer, *scene.size)
    restoring = parts_macs(deblurrer, parts)
    totals[DETECT] = looking
    totals["deblur"] = None if looking is None or restoring is None else looking + restoring
    return totals


@dataclass(frozen=True)
class Sweep:
    """Times of the tool over megapixels or over the blurred share.

    slope, intercept: of the line fitted to the medians (seconds); r_squared: how well it fits
    spread: largest relative distance of the seconds per megapixel from their mean
    """

    over: str
    values: tuple[float, ...]
    timings: tuple[Timing, ...]
    slope: float
    intercept: float
    r_squared: float
    spread: float | None


def sweep(
    setting: Setting,
    sizes: Sequence[tuple[int, int]],
    shares: Sequence[float],
    length: float,
    repeats: int,
    step: Step = lambda _: None,
) -> Sweep:
    """Time the tool for several sizes or several shares (one of both is a single value), interleaved."""
    deblurrer = setting.deblurrer()
    over = MEGAPIXELS if len(sizes) > 1 else SHARE
    scenes = {
        (f"{size[0]}x{size[1]}" if over == MEGAPIXELS else f"{share:.0%} blurred"): stage(
            deblurrer, size, share, length
        )
        for size in sizes
        for share in shares
    }
    values = [size[0] * size[1] / 1e6 for size in sizes] if over == MEGAPIXELS else list(shares)
    warm_up(deblurrer, next(iter(scenes.values())))
    with memory_errors():
        actions = {name: lambda scene=scene: scene.run(deblurrer) for name, scene in scenes.items()}
        timings = interleave(actions, repeats, deblurrer.device, step)  # type: ignore[arg-type]
    return fit(over, values, tuple(timings.values()))


def fit(over: str, values: Sequence[float], timings: tuple[Timing, ...]) -> Sweep:
    """The line through the medians."""
    x, y = np.asarray(values), np.array([timing.median for timing in timings])
    slope, intercept = np.polyfit(x, y, 1)
    residual, total = ((y - slope * x - intercept) ** 2).sum(), ((y - y.mean()) ** 2).sum()
    spread = None
    if over == MEGAPIXELS:
        each = y / x
        spread = float(np.abs(each / each.mean() - 1).max())
    r_squared = float(1 - residual / total) if total else 1.0
    return Sweep(over, tuple(values), timings, float(slope), float(intercept), r_squared, spread)


def diagram(found: Sweep) -> Diagram:
    """Medians, their range, and the fitted line."""
    line = [found.slope * value + found.intercept for value in found.values]
    unit = "s per megapixel" if found.over == MEGAPIXELS else "s from nothing to everything"
    curves = [
        Curve(
            "deblur, median and range",
            found.values,
            [timing.median for timing in found.timings],
            [min(timing.seconds) for timing in found.timings],
            [max(timing.seconds) for timing in found.timings],
        ),
        Curve(f"fit: {found.slope:.3g} {unit}", found.values, line, style="--"),
    ]
    return Diagram(found.over, "seconds", curves, from_zero=True)


def interleave(actions: dict[str, Action], repeats: int, device: str, step: Step) -> dict[str, Timing]:
    """Time every action once, then all of them again, so that a busy machine slows all of them alike.

    Memory is measured in the first repeat, which therefore has to ask the system for all of its pages.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    memory: dict[str, int | None] = dict.fromkeys(actions)
    for repeat in range(repeats):
        for name, action in actions.items():
            step(f"{name}, {repeat + 1} of {repeats}")
            before = begin_memory(device) if repeat == 0 else None
            started = clock(device)
            action()
            seconds[name].append(clock(device) - started)
            if before is not None:
                memory[name] = peak_memory(device) - before
    return {name: Timing(name, tuple(seconds[name]), memory[name]) for name in actions}


def begin_memory(device: str) -> int | None:
    """Forget the peak so far and return the bytes held now; None where the peak cannot be forgotten."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    if not return_freed_memory():  # what the allocator kept of the action before
        return None
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
    except OSError as error:
        logger.info("peak memory is not measured: %s", error)
        return None
    return int(psutil.Process().memory_info().rss)


def peak_memory(device: str) -> int:
    """Most bytes held since `begin_memory`."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024  # "VmHWM:  123 kB"


def describe_machine(device: str) -> str:
    """Processor or GPU, threads and torch version."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    count = torch.get_num_threads()
    threads = "1 thread" if count == 1 else f"{count} threads"
    return f"{name}, {threads}, torch {torch.__version__}"

"""What a photo costs on this machine: the pruned, tiled run against the same network run densely."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from deblur_cli.errors import UsageError
from deblur_cli.nets import STAGE_SCALE, M2AENet, create
from deblur_cli.photo.photo import Photo
from deblur_cli.restore import Deblurrer, Floats, Settings, Task
from deblur_cli.weights import LoadedWeights

Step = Callable[[str], None]


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one way to run the network over the photo."""

    name: str
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Middle of the repeats."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Benchmark:
    """All timings of one run and how they compare.

    dense: float32, default memory layout, every block on every pixel of every tile
    detect: detection alone; deblur: detection, pruned restoration of the tiles that need it, blending
    peak_memory: most bytes that the process held while it deblurred; tiles: all, restored
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
    dense: Timing
    detect: Timing
    deblur: Timing
    peak_memory: int

    def ratio(self, timing: Timing) -> float:
        """How many times faster than the dense run."""
        return self.dense.median / timing.median


class ForcedBlur(Task):
    """A task that detects as usual and then takes a disc of a given share for blurred.

    What is found in a made-up picture depends on the weights; forcing it makes runs comparable.
    """

    share = 0.1

    def find_blur(self) -> Floats:
        maps = super().find_blur()
        maps[0] = disc(maps.shape[1], maps.shape[2], self.share)
        return maps


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


def run_benchmark(
    weights: LoadedWeights,
    size: tuple[int, int],
    share: float,
    repeats: int,
    settings: Settings,
    device: str = "auto",
    precision: str = "auto",
    step: Step = lambda _: None,
) -> Benchmark:
    """Time all variants over a photo of size (width, height). Raises UsageError for impossible values."""
    if not 0 <= share <= 1 or repeats < 1 or min(size) < STAGE_SCALE:
        raise UsageError("the share must be 0-1, repeats at least 1, and the photo at least 8x8 pixels")
    width, height = size
    photo = Photo(pixels=test_picture(width, height), source=Path("test picture"), format="PNG")
    deblurrer = Deblurrer(weights, device, precision)
    tile = settings.tile or deblurrer.automatic_tile(settings.overlap)
    task = ForcedBlur(deblurrer.runner, photo, settings, tile, lambda *_: None, [])
    task.share = share
    dense = plain_network(weights.network, deblurrer.device)
    warm_up(task, dense)
    step("deblur")
    deblur, memory = measure_deblur(task, repeats, deblurrer.device)
    step("detect")
    detect = measure("detect", task.detect, repeats, deblurrer.device)
    step("dense float32")
    every_tile = measure(
        "dense float32", lambda: run_dense(task, dense, deblurrer.device), repeats, deblurrer.device
    )
    result = task.run()
    return Benchmark(
        width,
        height,
        share,
        tile,
        len(task.grid),
        result.tiles_restored,
        deblurrer.device,
        deblurrer.precision,
        describe_machine(deblurrer.device),
        weights.name,
        every_tile,
        detect,
        deblur,
        memory,
    )


def plain_network(network: M2AENet, device: str) -> M2AENet:
    """The same parameters in float32 and the default layout, with every block running."""
    config = network.config
    plain = create(
        "m2aenet" if config.mask else "nafnet",
        width=config.width,
        encoder=config.encoder,
        middle=config.middle,
        decoder=config.decoder,
        pooling=config.pooling,
    )
    plain.load_state_dict(network.state_dict())
    return plain.to(device).eval()


@torch.inference_mode()
def run_dense(task: Task, network: M2AENet, device: str) -> None:
    """The whole network over all tiles, densely."""
    for tile in task.grid:
        network(task.cut(tile).contiguous().to(device), epsilon=task.settings.epsilon).image.cpu()


def warm_up(task: Task, dense: M2AENet) -> None:
    """Run each network once on one tile, so that no repeat pays for a first call."""
    tile = next(iter(task.grid))
    image = task.cut(tile)
    maps = torch.ones(1, 5, *(-(-side // STAGE_SCALE) for side in image.shape[-2:]))
    task.runner.restore(image, maps, task.settings.epsilon)
    with torch.inference_mode():
        dense(image.contiguous().to(task.runner.device))


def measure(name: str, action: Callable[[], object], repeats: int, device: str) -> Timing:
    """Seconds of each of several repeats, the device's queue emptied before the clock is read."""
    seconds = []
    for _ in range(repeats):
        synchronise(device)
        started = time.perf_counter()
        action()
        synchronise(device)
        seconds.append(time.perf_counter() - started)
    return Timing(name, tuple(seconds))


def measure_deblur(task: Task, repeats: int, device: str) -> tuple[Timing, int]:
    """Time of the whole run, and the most memory that the process (or the GPU) held in it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        timing = measure("deblur", task.run, repeats, device)
        return timing, torch.cuda.max_memory_allocated(device)
    timing = measure("deblur", task.run, repeats, device)
    return timing, peak_resident_bytes()


def peak_resident_bytes() -> int:
    """Most physical memory that this process has held so far, in bytes."""
    usage = psutil.Process().memory_info()
    peak = getattr(usage, "peak_wset", None)  # Windows
    if peak is not None:
        return int(peak)
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def synchronise(device: str) -> None:
    """Wait until the device has done all that it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def describe_machine(device: str) -> str:
    """Processor or GPU, threads and torch version."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"

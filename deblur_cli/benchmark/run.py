"""Times every way to run the network over one photo, in one run."""

import copy
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deblur_cli.benchmark.measuring import Action, Timing, describe_machine, interleave
from deblur_cli.benchmark.scene import REQUEST, Scene, Setting, stage
from deblur_cli.errors import UsageError
from deblur_cli.nets import Detection, Detector, GuidedM2AENet, M2AENet, Network, create
from deblur_cli.photo.decode import decode
from deblur_cli.photo.encode import encode
from deblur_cli.restoration.deblurrer import Deblurrer, untouched
from deblur_cli.restoration.device import memory_errors
from deblur_cli.restoration.findings import everywhere
from deblur_cli.restoration.forecast import Part, dense_macs, detection_macs, parts_macs, restored_parts
from deblur_cli.restoration.scales import ScaledPhoto, pyramid
from deblur_cli.restoration.tiles import Tile

Step = Callable[[str], None]
BASELINE, DETECT, DETECT_FINEST = "dense float32", "detect", "detect, scale 1"


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
            raise UsageError(f"there is no variant {unknown[0]!r}; choose one of {', '.join(actions)}")
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

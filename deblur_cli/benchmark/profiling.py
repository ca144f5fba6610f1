"""Where the time goes: by piece of the tool, by operator, and by part of the network."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile, record_function

from deblur_cli.benchmark.run import warm_up
from deblur_cli.benchmark.scene import Setting, stage
from deblur_cli.nets import Detector, M2AENet, Network
from deblur_cli.nets.pieces import PIECE
from deblur_cli.restoration.deblurrer import Counter, Deblurrer
from deblur_cli.restoration.findings import Floats
from deblur_cli.restoration.scales import ScaledPhoto

MARK, WHOLE = "part: ", "whole run"  # names of records, as PIECE
LAYERS, STEM, MASKED, DECODER = "detector's layers", "stem and first stages", "masked blocks", "decoder"


@dataclass(frozen=True)
class Share:
    """Seconds of a piece, an operator or a part, and their share of all time."""

    name: str
    seconds: float
    share: float
    calls: int


@dataclass(frozen=True)
class Profile:
    """Where the time of a run goes, the longest first in each list.

    seconds: of the whole run, while it was watched
    pieces: of the tool, none within another; their shares are those of these seconds. On a GPU its own time,
    except for those that it has no share in.
    operators: without what they call; parts: of the networks, with all that runs in them. Their shares are
    those of the time in operators.
    """

    seconds: float
    pieces: tuple[Share, ...]
    operators: tuple[Share, ...]
    parts: tuple[Share, ...]


class Watched(Deblurrer):
    """The tool, which says at which scale it looks for blur."""

    scale = ""

    def detect_scale(self, photo: ScaledPhoto, counter: Counter, notes: list[str]) -> Floats:
        self.scale = ", full size" if photo.scale == 1 else f", 1/{photo.scale}"
        maps = super().detect_scale(photo, counter, notes)
        self.scale = ""
        return maps


def profile_run(setting: Setting, size: tuple[int, int], share: float, length: float) -> Profile:
    """Profile one run of the tool over a photo of size (width, height)."""
    deblurrer = Watched(setting.weights, setting.device, setting.precision, setting.tiling)
    scene = stage(deblurrer, size, share, length)
    warm_up(deblurrer, scene)
    on_gpu = deblurrer.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    networks = {id(engine): engine.network for engine in (deblurrer.detector, deblurrer.restorer)}
    with (
        marked(networks.values(), lambda: deblurrer.scale),
        profile(activities=activities, acc_events=True) as records,
        record_function(WHOLE),
    ):
        scene.run(deblurrer)
    return summed_up(records.key_averages(), on_gpu=on_gpu)


def summed_up(events: Iterable[FunctionEventAvg], *, on_gpu: bool) -> Profile:
    """Recorded events, sorted into pieces, operators, and parts."""
    # what runs on a GPU is told twice: of what began it, and as an event there
    begun = {str(event.key): event for event in events if event.device_type.name == "CPU"}
    kind = "device" if on_gpu else "cpu"
    own = {name: getattr(event, f"self_{kind}_time_total") for name, event in begun.items()}
    whole = begun[WHOLE].cpu_time_total or 1
    total = sum(spent for name, spent in own.items() if not name.startswith((PIECE, MARK, WHOLE))) or 1
    pieces, operators, parts = [], [], []
    for name, event in begun.items():
        inside = getattr(event, f"{kind}_time_total")
        if name.startswith(PIECE):
            pieces.append(share_of(event, inside or event.cpu_time_total, whole))
        elif name.startswith(MARK):
            parts.append(share_of(event, inside, total))
        elif name != WHOLE:
            operators.append(share_of(event, own[name], total))
    return Profile(whole / 1e6, longest_first(pieces), longest_first(operators), longest_first(parts))


def longest_first(shares: Iterable[Share]) -> tuple[Share, ...]:
    """Sorted, without those that took no time."""
    return tuple(sorted((share for share in shares if share.seconds > 0), key=lambda share: -share.seconds))


def share_of(event: FunctionEventAvg, spent: float, total: float) -> Share:
    """One event, without what is before its name."""
    name = str(event.key).removeprefix(PIECE).removeprefix(MARK)
    return Share(name, spent / 1e6, spent / total, event.count)


Parts = dict[str, tuple[str, list[nn.Module]]]  # by name, the piece that each belongs to, and its modules


def parts_of(network: Network) -> Parts:
    """The parts of a network, in the order that they run."""
    if isinstance(network, Detector):
        return parts_of_detector(network)
    if not isinstance(network, M2AENet):
        return {name: (name, [module]) for name, module in network.named_children()}
    stages = len(network.encoders)
    parts: Parts = {"first convolution": (STEM, [network.intro])}
    for number in range(stages - 1):
        modules = [network.encoders[number], network.downs[number]]
        parts[f"encoder stage {number + 1}"] = (STEM, modules)
    if network.config.mask and not network.guided:
        parts["mask predictor"] = ("mask predictor", [network.mask_predictor])
    if network.config.motion and not network.guided:
        parts["motion analyzer"] = ("motion analyzer", [network.motion_analyzer])
    deep = MASKED if network.config.mask else "deepest blocks"
    parts[f"encoder stage {stages}"] = (deep, [*network.deep_blocks(), network.downs[-1]])
    parts["middle"] = (DECODER, [network.middle_blks])
    for number in range(stages):
        modules = [network.ups[number], network.decoders[number]]
        parts[f"decoder stage {stages - number}"] = (DECODER, modules)
    parts["last convolution"] = (DECODER, [network.ending])
    return parts


def parts_of_detector(network: Detector) -> Parts:
    """The same of a detector."""
    around = [network.read_cues, network.read_image, network.before, network.after]
    parts: Parts = {
        "detector, cues": ("motion cues", [network.cues]),
        "detector, blocks at 1/8": (LAYERS, around),
        "detector, context at 1/16": (LAYERS, [network.down, *network.context, network.up]),
        "detector, head": (LAYERS, [network.head]),
    }
    if network.config.wide:
        parts["detector, context at 1/32"] = (LAYERS, [network.wide])
    if network.config.edges:
        parts["detector, edges"] = ("detector's edges", [network.edges])
    return parts


@contextmanager
def marked(networks: Iterable[Network], where: Callable[[], str]) -> Iterator[None]:
    """Let the profiler see pieces and parts of networks by name; `where` says what to add to pieces."""
    open_marks: list[record_function] = []

    def leave(*_: object) -> None:
        for _mark in (MARK, PIECE):
            open_marks.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for network in networks:
            for part, (piece, modules) in parts_of(network).items():

                def enter(*_: object, part: str = part, piece: str = piece) -> None:
                    for name in (PIECE + piece + where(), MARK + part):
                        mark = record_function(name)
                        mark.__enter__()  # type: ignore[no-untyped-call]
                        open_marks.append(mark)

                for module in modules:
                    hooks.callback(module.register_forward_pre_hook(enter).remove)
                    hooks.callback(module.register_forward_hook(leave).remove)
        yield

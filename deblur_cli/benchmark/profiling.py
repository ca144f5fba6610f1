"""Where the time goes: by operator, and by part of the network."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from deblur_cli.benchmark.run import warm_up
from deblur_cli.benchmark.scene import again, stage, timed
from deblur_cli.nets import Detector, Guided, Network
from deblur_cli.restore import Deblurrer, Settings
from deblur_cli.weights import LoadedWeights

MARK = "part: "


@dataclass(frozen=True)
class Share:
    """Seconds of an operator or a part, and their share of all time in operators."""

    name: str
    seconds: float
    share: float
    calls: int


@dataclass(frozen=True)
class Profile:
    """Operators without what they call, and parts with all that runs in them, the longest first."""

    operators: tuple[Share, ...]
    parts: tuple[Share, ...]


def profile_run(
    weights: LoadedWeights,
    size: tuple[int, int],
    share: float,
    settings: Settings,
    device: str = "auto",
    precision: str = "auto",
) -> Profile:
    """Profile one run of the tool over a photo of size (width, height)."""
    deblurrer = Deblurrer(weights, device, precision)
    task = stage(deblurrer, size, share, settings)
    warm_up(task)
    on_gpu = deblurrer.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with marked(deblurrer.runner.network), profile(activities=activities, acc_events=True) as records:
        again(task).run()
    events = records.key_averages()
    kind = "device" if on_gpu else "cpu"
    total = sum(getattr(event, f"self_{kind}_time_total") for event in events) or 1
    operators: list[Share] = []
    parts: list[Share] = []
    for event in events:
        is_part = event.key.startswith(MARK)
        spent = getattr(event, f"{kind}_time_total" if is_part else f"self_{kind}_time_total")
        found = Share(event.key.removeprefix(MARK), spent / 1e6, spent / total, event.count)
        (parts if is_part else operators).append(found)
    return Profile(longest_first(operators), longest_first(parts))


def longest_first(shares: list[Share]) -> tuple[Share, ...]:
    """Sorted, without those that took no time."""
    return tuple(sorted((share for share in shares if share.seconds > 0), key=lambda share: -share.seconds))


def parts_of(network: Network) -> dict[str, list[nn.Module]]:
    """The modules of each part, in the order that they run; those of a detector first."""
    if isinstance(network, Guided):
        return parts_of_detector(network.detector) | parts_of(network.restorer)
    network = timed(network)
    stages = len(network.encoders)
    parts: dict[str, list[nn.Module]] = {"first convolution": [network.intro]}
    for number in range(stages - 1):
        parts[f"encoder stage {number + 1}"] = [network.encoders[number], network.downs[number]]
    if network.config.mask and not network.guided:
        parts["mask predictor"] = [network.mask_predictor]
    if network.config.motion and not network.guided:
        parts["motion analyzer"] = [network.motion_analyzer]
    parts[f"encoder stage {stages}"] = [*network.deep_blocks(), network.downs[-1]]
    parts["middle"] = [network.middle_blks]
    for number in range(stages):
        parts[f"decoder stage {stages - number}"] = [network.ups[number], network.decoders[number]]
    parts["last convolution"] = [network.ending]
    return parts


def parts_of_detector(network: Detector) -> dict[str, list[nn.Module]]:
    """The same of a detector."""
    return {
        "detector, cues": [network.cues],
        "detector, blocks at 1/8": [network.read_cues, network.read_image, network.before, network.after],
        "detector, context at 1/16": [network.down, network.context, network.up],
        "detector, head": [network.head],
    }


@contextmanager
def marked(network: Network) -> Iterator[None]:
    """Let the profiler see the parts of a network by name."""
    open_parts: list[record_function] = []

    def leave(*_: object) -> None:
        open_parts.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        for name, modules in parts_of(network).items():

            def enter(*_: object, name: str = name) -> None:
                part = record_function(MARK + name)
                part.__enter__()  # type: ignore[no-untyped-call]
                open_parts.append(part)

            for module in modules:
                hooks.callback(module.register_forward_pre_hook(enter).remove)
                hooks.callback(module.register_forward_hook(leave).remove)
        yield

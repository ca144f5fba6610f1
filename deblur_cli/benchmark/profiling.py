"""Where the time goes: by operator, and by part of the network."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from deblur_cli.benchmark.run import warm_up
from deblur_cli.benchmark.scene import Setting, stage
from deblur_cli.nets import Detector, M2AENet, Network

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


def profile_run(setting: Setting, size: tuple[int, int], share: float, length: float) -> Profile:
    """Profile one run of the tool over a photo of size (width, height)."""
    deblurrer = setting.deblurrer()
    scene = stage(deblurrer, size, share, length)
    warm_up(deblurrer, scene)
    on_gpu = deblurrer.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    networks = {id(engine): engine.network for engine in (deblurrer.detector, deblurrer.restorer)}
    with marked(networks.values()), profile(activities=activities, acc_events=True) as records:
        scene.run(deblurrer)
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
    """The modules of each part of a network, in the order that they run."""
    if isinstance(network, Detector):
        return parts_of_detector(network)
    if not isinstance(network, M2AENet):
        return {name: [module] for name, module in network.named_children()}
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
def marked(networks: Iterable[Network]) -> Iterator[None]:
    """Let the profiler see the parts of networks by name."""
    open_parts: list[record_function] = []

    def leave(*_: object) -> None:
        open_parts.pop().__exit__(None, None, None)

    with ExitStack() as hooks:
        parts = [part for network in networks for part in parts_of(network).items()]
        for name, modules in parts:

            def enter(*_: object, name: str = name) -> None:
                part = record_function(MARK + name)
                part.__enter__()  # type: ignore[no-untyped-call]
                open_parts.append(part)

            for module in modules:
                hooks.callback(module.register_forward_pre_hook(enter).remove)
                hooks.callback(module.register_forward_hook(leave).remove)
        yield

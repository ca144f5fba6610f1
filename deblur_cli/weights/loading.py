"""Weights files turned into networks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from deblur_cli.errors import WeightsError
from deblur_cli.nets import (
    ARCHITECTURES,
    DETECTOR,
    LMD_VIT,
    RICHARDSON_LUCY,
    Config,
    Detection,
    Detector,
    DetectorConfig,
    Guided,
    LMDConfig,
    M2AENet,
    Network,
    RichardsonLucy,
    RichardsonLucyConfig,
    WholeFrame,
    create,
    create_detector,
    create_lmd_vit,
    restorer_of,
)
from deblur_cli.nets.fast import skip_identity_blocks
from deblur_cli.nets.m2aenet import SWITCHES
from deblur_cli.nets.network import CELL
from deblur_cli.weights import catalog, checkpoints, files
from deblur_cli.weights.catalog import AUTO, NONE, OWN, completed, detector_for, epsilon_in

SIDE = 64  # pixels of the picture that fingerprints are taken of, as high as wide
MOTION = (0.25, 0.5)  # cells down and to the right from the middle of the exposure to its end
ABSOLUTE, RELATIVE = 2e-4, 2e-3  # rounding of other processors and versions stays far below

MAKERS: dict[str, Callable[..., Network]] = {
    LMD_VIT: create_lmd_vit,
    DETECTOR: create_detector,
    RICHARDSON_LUCY: lambda **sizes: RichardsonLucy(RichardsonLucyConfig(**sizes)),
}


@dataclass(frozen=True)
class LoadedWeights:
    """A network ready to run: float32, on the CPU, in evaluation mode.

    name: as asked for; sha256: of the file; architecture: "m2aenet", "nafnet", "lmd_vit" or "detector"
    notes: metadata of the file, of which `history` (JSON) lists the training runs
    detector: what finds the blur for them and is part of the network; None where they find it themselves
    """

    name: str
    architecture: str
    sha256: str
    network: Network
    notes: dict[str, str] = field(default_factory=dict)
    detector: "LoadedWeights | None" = None

    @property
    def title(self) -> str:
        """Name, and that of the detector."""
        return self.name if self.detector is None else f"{self.name} + {self.detector.name}"

    @property
    def label(self) -> str:
        """Names and beginnings of the hashes, without the folders of a user's own files."""
        own = f"{Path(self.name).name} {self.sha256[:8]}"
        return own if self.detector is None else f"{own} + {self.detector.label}"

    @property
    def epsilon(self) -> float | None:
        """The epsilon that is recommended, None for none.

        That of whatever finds the blur, unless these weights were calibrated together with this detector.
        Raises WeightsError where the note of it is damaged.
        """
        own = epsilon_in(self.notes, self.name)
        if self.detector is None or (own is not None and self.notes.get("detector") == self.detector.name):
            return own
        return epsilon_in(self.detector.notes, self.detector.name)


def load(name: str = catalog.DEFAULT) -> LoadedWeights:
    """The network of a catalog name, a local file, or hf://owner/repo/file[@revision].

    Files of the Hub are downloaded where they are not there yet. Raises WeightsError, in one line, for a
    file that is missing, damaged or of another network.
    """
    path, expected = catalog.find(name)
    found = files.sha256(path)
    source = catalog.source_of(name)
    if expected and found != expected:
        cure = f"`deblur weights remove {name}` and pull it again" if source.hub else "install deblur again"
        raise WeightsError(f"{path} is damaged (its SHA-256 is wrong): {cure}")
    network, metadata = read(path, source.entry.config if source.entry else {})
    notes = completed(metadata, source.entry)
    return LoadedWeights(name, metadata["architecture"], found, network, notes)


def guide(loaded: LoadedWeights, detector: str = AUTO) -> LoadedWeights:
    """Weights whose mask and motion a detector finds.

    detector: a name, a file or an hf:// address; "auto" for what the weights note or their entry in the
    catalog names, if anything; "own" to leave them as they are; "none" to restore the whole frame.
    Raises WeightsError, in one line, where the detector is none, where the weights are a detector themselves,
    and where they need one and have none.
    """
    if isinstance(loaded.network, Detector):
        raise WeightsError(
            f"{loaded.name} holds a detector, which restores nothing: give it with --detector, "
            "and a restorer with --weights"
        )
    name, network = detector_for(loaded.notes, detector), restorer_of(loaded.network)
    if name is None and network.guided:
        raise WeightsError(
            f"{loaded.name} restores what a detector finds: choose one with --detector, or --epsilon 0 to "
            "restore the whole photo"
        )
    if detector == NONE:
        return replace(loaded, network=Guided(WholeFrame(), network).eval())
    if detector == OWN and not network.detects:
        raise WeightsError(
            f"{loaded.name} does not detect blur by itself: use --detector none to restore the whole photo"
        )
    if name is None:
        return loaded
    try:
        found = load(name)
    except WeightsError as error:
        if detector != AUTO:
            raise
        raise WeightsError(
            f"{loaded.name} follows the detector {name}: {error}; choose another one with --detector"
        ) from error
    if not isinstance(found.network, Detector):
        raise WeightsError(f"{name} holds a restorer, not a detector: give it with --weights")
    return replace(loaded, network=Guided(found.network, network).eval(), detector=found)


def adapt(
    loaded: LoadedWeights, architecture: str | None = None, pooling: int | None = None
) -> LoadedWeights:
    """Weights as another architecture or with another averaging window; None leaves that as it is.

    NAFNet becomes the M²AENet that computes the same. Weights of other programs get the fingerprint of their
    network and the hash of their file into the notes. Raises WeightsError for what cannot be made.
    """
    network, notes = loaded.network, dict(loaded.notes)
    if pooling is not None:
        if isinstance(network, Detector):
            network = Detector(replace(network.config, pooling=pooling))
        elif isinstance(network, M2AENet):
            network = create(network.architecture, **asdict(replace(network.config, pooling=pooling)))
        else:
            raise WeightsError(f"{loaded.architecture} has no averaging window: leave out --pooling")
        network.load_state_dict(loaded.network.state_dict())
        skip_identity_blocks(network)
    if architecture == "nafnet" and loaded.architecture != "nafnet":
        raise WeightsError("M²AENet holds more than NAFNet can: it cannot be converted into one")
    if architecture == "m2aenet":
        network = checkpoints.as_m2aenet(network)
        notes["network"] = "NAFNet as M²AENet: mask all ones, motion zero, deformable kernels identity"
    if "converted_from" in notes:
        notes["converted_sha256"] = notes.get("converted_sha256", loaded.sha256)
        notes["fingerprint"] = json.dumps(fingerprint(network.eval()))
    return replace(
        loaded, network=network.eval(), notes=notes, architecture=architecture or loaded.architecture
    )


def read(path: Path, known: Mapping[str, Any] | None = None) -> tuple[Network, dict[str, str]]:
    """Network and metadata of a weights file.

    Files of deblur hold their configuration; of others it is told by the names and shapes of their tensors
    and by `known`, arguments of `create`.
    """
    if checkpoints.is_pickle(path):
        state, origin = checkpoints.read_checkpoint(path)
        metadata = checkpoints.metadata_of(state, path, origin, known or {})
    else:
        state, metadata = files.read_tensors(path)
        if not {"architecture", "config"} & metadata.keys() and checkpoints.is_known_layout(state):
            state, origin = checkpoints.unwrap(state, path)
            metadata |= checkpoints.metadata_of(state, path, origin, known or {})
    network = build(metadata, state, path)
    fit(network, state, path)
    skip_identity_blocks(network)
    return network.eval(), metadata


def build(metadata: Mapping[str, str], state: Mapping[str, torch.Tensor], path: Path) -> Network:
    """A network as the metadata of a file describe it, without memory for its parameters: for `fit`."""
    architecture = metadata.get("architecture", "")
    if architecture not in (*ARCHITECTURES, *MAKERS) or "config" not in metadata:
        raise WeightsError(
            f"{path} holds no deblur configuration (architecture {architecture or 'not given'!r}): "
            "it belongs to another program"
        )
    try:
        config = json.loads(metadata["config"])
        check_config(architecture, config, len(state))
        with torch.device("meta"):  # a size that is a lie costs nothing
            return (
                MAKERS[architecture](**config) if architecture in MAKERS else create(architecture, **config)
            )
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        text = " ".join(str(error).split())
        raise WeightsError(f"{path} holds a configuration that cannot be built: {text[:200]}") from error


def check_config(architecture: str, config: object, tensors: int) -> None:
    """Raise ValueError for what cannot be the configuration of a file with that many tensors."""
    if not isinstance(config, dict):
        raise ValueError("it is not a table of names and values")
    if architecture == RICHARDSON_LUCY:
        return
    if architecture == LMD_VIT:
        windows = LMDConfig(**config)
        stages, counts = windows.depths, list(windows.depths)
        positive = [windows.embed, windows.window, *windows.heads]
    elif architecture == DETECTOR:
        parts = DetectorConfig(**config)
        stages, counts = (1,), [parts.before, parts.context, parts.after]
        positive = [parts.width, 1 if parts.pooling is None else parts.pooling]
    else:
        sizes = Config(**config)
        stages, counts = sizes.encoder, [*sizes.encoder, sizes.middle, *sizes.decoder]
        positive = [sizes.width, sizes.stem, 1 if sizes.pooling is None else sizes.pooling]
    if not stages or not all(type(number) is int for number in (*counts, *positive)):
        raise ValueError("its sizes are not all whole numbers")
    if min(positive) < 1 or min(counts) < 0:
        raise ValueError("its sizes are not all above zero")
    if sum(counts) + len(counts) > tensors:  # each block and stage holds several
        raise ValueError(f"it has more blocks than the file has tensors ({tensors:,})")
    switches = (*SWITCHES, "guided")
    if not all(isinstance(config.get(name, False), bool) for name in switches):
        raise ValueError(f"{', '.join(switches)} are true or false")


def fit(network: Network, state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Fill the network, in float32, or say which tensor is missing, surplus, misshapen or damaged."""
    wanted, constants = network.state_dict(), network.constants()
    for name in wanted:
        if name not in state:
            raise WeightsError(f"{path} does not fit the network: {name} is missing")
        if wanted[name].shape != state[name].shape:
            have, want = list(state[name].shape), list(wanted[name].shape)
            raise WeightsError(f"{path} does not fit the network: {name} is {have}, should be {want}")
        if name in constants:
            if not torch.equal(state[name].long(), constants[name]):
                raise WeightsError(f"{path} does not fit the network: {name} is an index of something else")
        elif (
            state[name].device.type != "cpu"
            or state[name].layout != torch.strided
            or not state[name].is_floating_point()  # quantized numbers are none
        ):
            raise WeightsError(
                f"{path} does not fit the network: {name} is not of plain floating-point numbers"
            )
    if surplus := sorted(set(state) - set(wanted)):
        raise WeightsError(f"{path} does not fit the network: {surplus[0][:80]} is not part of it")
    own = {
        name: value.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
        for name, value in state.items()
        if name not in constants
    }
    own |= constants
    network.load_state_dict(own, assign=True)  # `build` gave the parameters no memory
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            raise WeightsError(
                f"{path} is damaged: {name} holds values that are not numbers; download it again"
            )


@torch.inference_mode()
def fingerprint(network: Network) -> tuple[float, ...]:
    """What a network answers to one fixed picture: a few numbers that tell if it still computes the same.

    Of a restorer: means over the quarters of the change of each color (12), then the mean probability of blur
    (1) and the mean displacements (4), as far as it detects them. All pixels count as blurred, so that no
    threshold makes a small difference a large one; a guided network is told of one motion everywhere.
    Of a detector: means over the quarters of the probability and of the motion as a double angle (20), which
    has no sign to flip.
    """
    index = torch.arange(3 * SIDE**2)
    noise = (index * 1103515245 + 12345) % 2147483648 // 65536 % 256  # the generator of ISO C's rand()
    stripes = index % SIDE // 8 % 2 * 255
    image = ((noise + stripes) / 510).view(1, 3, SIDE, SIDE)
    if isinstance(network, Detector):
        logit, field = network(image)
        found = F.adaptive_avg_pool2d(torch.cat([logit.sigmoid(), field], 1), 2)
        return tuple(round(float(value), 6) for value in found.flatten())
    if network.guided:
        end = torch.tensor(MOTION).view(1, 2, 1, 1).expand(1, 2, SIDE // CELL, SIDE // CELL)
        detection = network.follow(image, Detection(image, (SIDE, SIDE), start=-end, end=end), epsilon=-1.0)
    else:
        detection = network.detect(image, epsilon=-1.0)
    change = network.restore(detection, epsilon=-1.0).image - image
    values = [change.view(3, 2, SIDE // 2, 2, SIDE // 2).mean((2, 4)).flatten()]
    maps = () if network.guided else (detection.probability, detection.start, detection.end)
    values += [found.mean((0, 2, 3)) for found in maps if found is not None]
    return tuple(round(float(value), 6) for value in torch.cat(values))


def stored_fingerprint(notes: Mapping[str, str]) -> tuple[float, ...]:
    """The fingerprint that weights were saved with, empty for none. Raises WeightsError for a damaged one."""
    try:
        return tuple(float(value) for value in json.loads(notes.get("fingerprint", "[]")))
    except (ValueError, TypeError, RecursionError) as error:
        raise WeightsError("the fingerprint in its metadata is damaged; download it again") from error


def agrees(found: Sequence[float], stored: Sequence[float]) -> bool:
    """Whether two fingerprints are those of the same network."""
    close = (abs(a - b) <= ABSOLUTE + RELATIVE * abs(b) for a, b in zip(found, stored, strict=False))
    return len(found) == len(stored) and all(close)

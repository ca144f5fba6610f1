"""Everything a training run is told, read from TOML."""

import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deblur_cli.errors import TrainingError
from deblur_cli.nets import ARCHITECTURES, DETECTOR, Config
from deblur_cli.nets.m2aenet import check_config
from deblur_cli.train.camera import CameraSettings
from deblur_cli.train.losses import DetectorLoss, LossWeights
from deblur_cli.train.patches import PatchSettings
from deblur_cli.train.synthetic import BlurSettings
from deblur_cli.train.tables import build, check_numbers, flat, override

SHARES = (
    *("still", "absent", "segmented", "joined", "sharp", "shake", "panning"),
    *("defocus", "patterns", "gaps"),
)
SHIPPED = Path(__file__).parent / "configs"
COURSE = (  # what does not shape a step
    *("steps", "time_limit", "save_every", "log_every"),
    *("device", "precision", "compile", "workers", "validation"),
)
SCHEDULES = ("cosine", "wsd")
LARGEST_SEED = 1 << 32  # seeds of single steps are made from it and must fit 64 bits
MOST_OBJECTS = 32  # layers over a background; each costs as much as the others
LONGEST = 4  # sides of a picture that blur can be long; time and memory grow with it
DEEPEST = 8  # times that the layer in front can go farther than the background
SOFTEST = 5  # pixels of deviation; a lens softer than that is out of focus
CRISPEST = 4  # amount of the unsharp mask
LARGEST_ENLARGE = 8  # times; below 16 / 8 pixels there is nothing left to enlarge
PATCH_STEP = 16  # pixels; the network halves its input four times, JPEG's halved chroma has blocks of 16


@dataclass(frozen=True)
class NetworkSettings:
    """Arguments of `deblur_cli.nets.create`."""

    architecture: str = "m2aenet"
    width: int = 16
    encoder: tuple[int, ...] = (1, 1, 1, 28)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1, 1)
    mask: bool = True
    motion: bool = True
    mask_conv3: bool = False
    mask_conv4: bool = False
    stem: int = 1
    guided: bool = False


@dataclass(frozen=True)
class DetectorSizes:
    """Arguments of `deblur_cli.nets.create_detector`."""

    width: int = 96
    before: int = 2
    context: int = 4
    after: int = 2


@dataclass(frozen=True)
class TrainSettings:
    """One training run.

    It learns from blur made of sharp photos, from datasets of blurred and sharp pictures, or from both.
    Training ends after `steps` or `time_limit` seconds, whichever comes first; the schedule of the
    learning rate spans that. `depth` is how many blocks of encoder stage 4 are trained; the others
    stay the identity (their residual scales are zero), which costs nothing and can be taken up later.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    blur: BlurSettings = field(default_factory=BlurSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    patches: PatchSettings = field(default_factory=PatchSettings)
    detector: DetectorSizes = field(default_factory=DetectorSizes)  # where architecture is "detector"
    detector_loss: DetectorLoss = field(default_factory=DetectorLoss)
    follows: str = ""  # detector, a name or a file, whose findings a guided network is told
    start: str = ""  # weights to begin from, a name or a file; empty means afresh
    photos: str = ""  # folder of sharp photos; the last ones by name are only scored on
    pairs: tuple[str, ...] = ()  # folders of datasets, all drawn from equally often
    synthetic: float = 0.5  # share of batches made from photos where there are pairs too
    aware: float = 0.5  # share of patches cut from pairs around a blurred pixel
    validation: str = ""  # folder of `deblur synth` or of pairs to score on, instead of held-out photos
    steps: int = 400_000
    time_limit: float = 0.0  # seconds of training over all resumes; 0 means none
    patch: int = 256  # pixels
    batch: int = 8  # patches, on each GPU
    schedule: str = "cosine"  # or "wsd": constant after the warm-up, then a linear cool-down
    learning_rate: float = 1e-3
    final_rate: float = 1e-6
    warmup: int = 200  # steps
    cooldown: float = 0.2  # share of the run, of schedule "wsd"
    curriculum: float = 0.0  # share of the run over which the longest blur grows to its full length
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 1e-3
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999  # share of the averaged weights that each step keeps
    depth: int = 28
    guidance_gradient: bool = True  # let the reconstruction loss shape mask and trajectories too
    true_masks: float = 0.0  # share of batches restored within the true mask instead of the predicted one
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False  # torch.compile for the blocks
    workers: int = 8  # threads that read pairs
    save_every: float = 300.0  # seconds
    log_every: int = 50  # steps


def find_config(name: str) -> Path:
    """Settings file of a path, or of the name of one that comes with deblur ("paper", "small-cpu").

    Raises TrainingError where there is neither.
    """
    shipped = sorted(path.stem for path in SHIPPED.glob("*.toml"))
    if name in shipped:
        return SHIPPED / f"{name}.toml"
    if not Path(name).is_file():
        raise TrainingError(f"no settings file {name}: give a .toml file or one of {', '.join(shipped)}")
    return Path(name)


def read_settings(path: Path, overrides: dict[str, Any] | None = None) -> TrainSettings:
    """Settings from a TOML file, with single values replaced by name ("patch", "blur.longest").

    Raises TrainingError for a missing or malformed file, for unknown names and impossible values.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not valid TOML: {error}") from error
    for name, value in (overrides or {}).items():
        table = override(table, name, name.split("."), value)
    settings = build(TrainSettings(), table)
    check(settings)
    return settings


def blur_settings(overrides: dict[str, Any], size: int) -> BlurSettings:
    """Settings of the synthesis alone, by name ("longest", "camera.noise"), for pictures of a side.

    Raises TrainingError for unknown names and impossible values.
    """
    table: dict[str, Any] = {}
    for name, value in overrides.items():
        table = override(table, name, name.split("."), value)
    settings = build(BlurSettings(), table)
    check_numbers(asdict(settings))
    check_blur(settings, section="")
    check_patch(settings, size, section="")
    return settings


def check(settings: TrainSettings) -> None:
    """Raise TrainingError for values that no run can use."""
    check_numbers(asdict(settings))
    check_run(settings)
    check_network(settings.network)
    if settings.network.guided != bool(settings.follows):
        raise TrainingError(
            "settings 'network.guided' and 'follows' go together: name the detector to follow"
        )
    check_detector(settings.detector, settings.detector_loss)
    check_blur(settings.blur)
    check_patch(settings.blur, settings.patch)


def check_patch(blur: BlurSettings, side: int, section: str = "blur.") -> None:
    """Raise TrainingError where blurred pictures of a side cannot be made."""
    if blur.longest > LONGEST * side:
        raise TrainingError(
            f"setting '{section}longest' is at most {LONGEST} times a picture's {side} pixels, "
            f"not {blur.longest:g}"
        )
    if 2 * blur.defocus_radius > side:
        raise TrainingError(
            f"setting '{section}defocus_radius' is at most half of a picture's {side} pixels, "
            f"not {blur.defocus_radius:g}"
        )


def check_run(settings: TrainSettings) -> None:
    """Raise TrainingError for an impossible course of training."""
    for name in ("steps", "patch", "batch", "learning_rate", "clip", "depth", "log_every", "workers"):
        if getattr(settings, name) == 0:
            raise TrainingError(f"setting {name!r} must be above zero")
    if settings.patch % PATCH_STEP:
        raise TrainingError(f"setting 'patch' is a multiple of {PATCH_STEP} pixels, not {settings.patch}")
    for name in ("ema", "true_masks", "synthetic", "aware", "cooldown", "curriculum"):
        if getattr(settings, name) > 1:
            raise TrainingError(f"setting {name!r} is a share from 0 to 1, not {getattr(settings, name)}")
    if max(settings.betas) >= 1:
        raise TrainingError(f"setting 'betas' are shares below 1, not {list(settings.betas)}")
    if settings.patches.count and settings.patches.count < settings.batch:
        raise TrainingError(f"setting 'patches.count' is 0 or at least a batch, not {settings.patches.count}")
    if settings.patches.count and settings.curriculum:
        raise TrainingError("patches made ahead know no 'curriculum': set one of the two to 0")
    if not settings.patches.views:
        raise TrainingError("setting 'patches.views' must be above zero")
    if settings.seed >= LARGEST_SEED:
        raise TrainingError(f"setting 'seed' is below {LARGEST_SEED}, not {settings.seed}")
    if settings.schedule not in SCHEDULES:
        raise TrainingError(f"setting 'schedule' is {' or '.join(SCHEDULES)}, not {settings.schedule!r}")


def check_network(network: NetworkSettings) -> None:
    """Raise TrainingError for a network that cannot be built."""
    trained = (*ARCHITECTURES, DETECTOR)
    if network.architecture not in trained:
        known = " or ".join(trained)
        raise TrainingError(f"setting 'network.architecture' is {known}, not {network.architecture!r}")
    if (network.mask_conv3 or network.mask_conv4) and not network.mask:
        raise TrainingError("settings 'network.mask_conv3' and 'network.mask_conv4' need 'network.mask'")
    if network.width == 0:
        raise TrainingError("setting 'network.width' must be above zero")
    if not all(network.encoder):
        raise TrainingError("setting 'network.encoder' needs at least one block in each stage")
    try:
        check_config(
            Config(**{key: value for key, value in asdict(network).items() if key != "architecture"})
        )
    except ValueError as error:
        raise TrainingError(f"settings of 'network' do not fit together: {error}") from error


def check_detector(sizes: DetectorSizes, loss: DetectorLoss) -> None:
    """Raise TrainingError for a detector that cannot be built or has nothing to mark."""
    if sizes.width == 0:
        raise TrainingError("setting 'detector.width' must be above zero")
    if not 0 < loss.shortest_marked <= loss.longest_marked:
        raise TrainingError(
            "lengths to mark need 0 < detector_loss.shortest_marked <= detector_loss.longest_marked, "
            f"not {loss.shortest_marked:g} and {loss.longest_marked:g}"
        )
    if loss.doubt < 1:
        raise TrainingError(f"setting 'detector_loss.doubt' is 1 or more, not {loss.doubt:g}")


def check_blur(blur: BlurSettings, section: str = "blur.") -> None:
    """Raise TrainingError for blur that cannot be made."""
    if not 0 < blur.shortest <= blur.longest:
        raise TrainingError(
            f"blur lengths need 0 < shortest <= longest, not {blur.shortest:g} and {blur.longest:g}"
        )
    if blur.longest < 1:
        raise TrainingError(
            f"setting '{section}longest' is 1 pixel or more, not {blur.longest:g}: no shorter blur is seen"
        )
    for name in SHARES:
        if getattr(blur, name) > 1:
            raise TrainingError(
                f"setting '{section}{name}' is a share from 0 to 1, not {getattr(blur, name):g}"
            )
    for name in ("spread", "shrink", "enlarge", "defocus_radius"):
        if getattr(blur, name) < 1:
            raise TrainingError(f"setting '{section}{name}' is 1 or more, not {getattr(blur, name):g}")
    if not blur.objects or blur.still + blur.absent >= 1 or blur.sharp >= 1:
        names = ", ".join(f"'{section}{name}'" for name in ("still", "absent", "sharp"))
        raise TrainingError(f"nothing would ever move: raise '{section}objects' or lower {names}")
    if blur.objects > MOST_OBJECTS:
        raise TrainingError(f"setting '{section}objects' is at most {MOST_OBJECTS}, not {blur.objects}")
    if blur.enlarge > LARGEST_ENLARGE:
        raise TrainingError(f"setting '{section}enlarge' is at most {LARGEST_ENLARGE}, not {blur.enlarge:g}")
    if blur.parallax > DEEPEST:
        raise TrainingError(f"setting '{section}parallax' is at most {DEEPEST}, not {blur.parallax:g}")
    check_camera(blur.camera, section)


def check_camera(camera: CameraSettings, section: str) -> None:
    """Raise TrainingError for a camera that cannot be."""
    for name in ("highlights", "mosaic", "tone", "denoising", "sharpening"):
        if getattr(camera, name) > 1:
            raise TrainingError(
                f"setting '{section}camera.{name}' is a share from 0 to 1, not {getattr(camera, name):g}"
            )
    for name, most in {"softness": SOFTEST, "crispness": CRISPEST}.items():
        if getattr(camera, name) > most:
            raise TrainingError(
                f"setting '{section}camera.{name}' is at most {most}, not {getattr(camera, name):g}"
            )
    if camera.brightest < 1:
        raise TrainingError(f"setting '{section}camera.brightest' is 1 or more, not {camera.brightest:g}")
    low, high = camera.quality
    if not 1 <= low <= high <= 100:
        raise TrainingError(
            f"setting '{section}camera.quality' is two rising numbers from 1 to 100, not {[low, high]}"
        )


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What two tables of settings say differently about a step, each as "patch 128 -> 256"."""
    known = dict(flat(before))
    return [
        f"{name} {known[name]} -> {value}"
        for name, value in flat(now)
        if name not in COURSE and name in known and known[name] != value
    ]

"""All settings of training and synthesis: their defaults, their ranges, and how they are read from TOML."""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deblur_cli.errors import TrainingError
from deblur_cli.nets import Config
from deblur_cli.nets.m2aenet import check_config

SHIPPED = Path(__file__).parent / "configs"
COURSE = (  # settings that do not shape a step
    *("steps", "time_limit", "save_every", "log_every"),
    *("device", "precision", "workers", "validation"),
)
SEEDS = 1 << 32  # seeds of single steps are made from the seed and must fit 64 bits
LONGEST = 4  # sides of a picture that blur can be long; time and memory grow with it
SUGGESTED = 5  # at most, for a mistyped name
WORDS = {  # pydantic's, and those of people who write TOML
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid tuple": "a list",
}

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Factor = Annotated[float, Field(ge=1)]
Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Quality = Annotated[float, Field(ge=1, le=100)]
LIST = Field(strict=False)  # TOML has lists where Python has tuples


class Section(BaseModel):
    """Settings that belong together. Values never change, and no other names are allowed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class CameraSettings(Section):
    """What the camera of each picture is drawn from. Shares are of pictures."""

    highlights: Share = 0.3  # share with lamps and reflections brighter than white before they clip
    brightest: Factor = 6.0  # times white
    noise: Amount = 0.012  # largest standard deviation at mid-gray, as a share of white
    mosaic: Share = 0.4  # share that went through a color filter array
    softness: Annotated[float, Field(ge=0, le=5)] = 1.3  # pixels, largest deviation; small ones are frequent
    tone: Share = 0.2  # largest change of the tone curve
    denoising: Share = 0.4  # share whose noise is smoothed away where there is little detail
    sharpening: Share = 0.4  # share made crisper by an unsharp mask, which leaves halos
    crispness: Annotated[float, Field(ge=0, le=4)] = 1.2  # largest amount of the unsharp mask
    quality: Annotated[tuple[Quality, Quality], LIST] = (50.0, 98.0)  # of the JPEG, lowest and highest

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.quality[0] > self.quality[1]:
            raise ValueError(f"quality must be two rising numbers, not {list(self.quality)}")
        return self


class BlurSettings(Section):
    """What the synthesis draws from. Lengths are in pixels, from start to end of the exposure."""

    shortest: Positive = 4.0
    longest: Factor = 16.0  # shorter than one pixel, no blur is seen
    objects: Annotated[int, Field(ge=0, le=32)] = 2  # layers over the background; each costs as much
    still: Share = 0.25  # share of layers that do not move
    absent: Share = 0.25  # share of layers that are not there
    segmented: Share = 0.25  # share of layers cut along the outlines of their texture
    joined: Share = 0.2  # share of layers made of two shapes
    smallest: Annotated[float, Field(gt=0, le=1)] = 1.0  # objects are those of pictures at least so many
    spread: Factor = 2.0  # and up to so many times as large as the patch
    halved: Share = 0.0  # share of batches made twice as large and halved, as coarser scales see a photo
    sharp: Share = 0.05  # share of pictures in which nothing moves
    shake: Share = 0.06  # share of the others in which the whole frame shifts, rolls, or zooms
    # What is in front moves up to 1 + parallax times as far as the background; the nearest stays within the
    # lengths, and layers have motion of their own on top.
    parallax: Annotated[float, Field(ge=0, le=8)] = 1.0
    panning: Share = 0.02  # share of the others in which the layer in front stays and the background moves
    # Share with a background out of focus: as a whole, in a region, or more and more to one side. Layers are
    # out of focus less often.
    defocus: Share = 0.4
    defocus_radius: Factor = 8.0  # pixels, largest; slight defocus is as frequent as strong
    patterns: Share = 0.1  # share of textures that look like motion: stripes, grids, lines, gradients
    mixed: Share = 0.0  # share of textures into which another one is mixed, so that no two are alike
    recolored: Share = 0.0  # share with swapped colors and other brightness
    gaps: Share = 0.1  # share in which the shutter is closed for a part of the exposure
    shrink: Factor = 2.0  # times that photos are shrunk at most
    enlarge: Annotated[float, Field(ge=1, le=8)] = 1.6  # times that they are enlarged, which makes them soft
    camera: CameraSettings = CameraSettings()

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(f"shortest must be at most longest, not {self.shortest:g} and {self.longest:g}")
        if not self.objects or self.still + self.absent >= 1 or self.sharp >= 1:
            raise ValueError("nothing would ever move: raise objects, or lower still, absent, or sharp")
        return self

    def check_side(self, side: int, section: str = "") -> None:
        """Raise ValueError where pictures of a side cannot be blurred this much."""
        if self.longest > LONGEST * side:
            raise ValueError(f"{section}longest must be at most {LONGEST} times a picture's {side} pixels")
        if 2 * self.defocus_radius > side:
            raise ValueError(f"{section}defocus_radius must be at most half of a picture's {side} pixels")

    def without_frame_motion(self) -> "BlurSettings":
        """The same for sets that measure the motion of objects."""
        return self.model_copy(update={"shake": 0.0, "panning": 0.0})


class NetworkSettings(Section):
    """Arguments of `deblur_cli.nets.create`."""

    architecture: Literal["m2aenet", "nafnet", "detector"] = "m2aenet"
    width: Count = 16
    encoder: Annotated[tuple[Count, ...], LIST] = (1, 1, 1, 28)
    middle: Whole = 1
    decoder: Annotated[tuple[Whole, ...], LIST] = (1, 1, 1, 1)
    mask: bool = True
    motion: bool = True
    mask_conv3: bool = False
    mask_conv4: bool = False
    stem: int = 1
    guided: bool = False

    @model_validator(mode="after")
    def check(self) -> Self:
        check_config(Config(**self.model_dump(exclude={"architecture"})))
        return self


class DetectorSizes(Section):
    """Arguments of `deblur_cli.nets.create_detector`."""

    width: Count = 96
    before: Whole = 2
    context: Whole = 4
    after: Whole = 2
    wide: Whole = 0
    edges: Whole = 0


class LossWeights(Section):
    """Weights of a restorer's loss; the paper gives fft 0.1 and mask 0.01 (Section 3.4.1)."""

    ssim: Amount = 1.0
    fft: Amount = 0.1
    mask: Amount = 0.01
    dice: Amount = 0.0  # our own: overlap of the masks, which counts small objects as much as large ones
    reblur: Amount = 1.0
    smooth: Amount = 0.002  # alpha of Eq. 10, to which the paper gives no value
    motion: Amount = 0.02  # our own: distance to the displacements, where the synthesis knows them
    psnr: Amount = 0.0  # our own: bels of PSNR_w, which counts dark and faint blur as much as bright


class DetectorLoss(Section):
    """What a detector is to mark, and the weights of its loss."""

    shortest_marked: Positive = 3.0  # pixels; blur of these lengths can be undone at the scale of the picture
    longest_marked: Positive = 24.0
    doubt: Factor = 1.4  # up to so many times beyond either end, neither answer counts
    dice: Amount = 0.3  # weight of the overlap of the masks
    motion: Amount = 1.0  # weight of the distance to the displacements

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.shortest_marked > self.longest_marked:
            raise ValueError("shortest_marked must be at most longest_marked")
        return self


class PatchSettings(Section):
    """Patches made ahead of training."""

    count: Whole = 0  # in a set; 0 makes each batch when it is needed, as suits a GPU
    views: Count = 3  # times that each is seen before the next set, if that is ready by then


class TrainSettings(Section):
    """One training run.

    It learns from blur made of sharp photos, from datasets of blurred and sharp pictures, or from both.
    Training ends after `steps` or `time_limit` seconds, whichever comes first; the schedule of the
    learning rate spans that. `depth` is how many blocks of encoder stage 4 are trained; the others
    stay the identity (their residual scales are zero), which costs nothing, and can be trained later.
    """

    network: NetworkSettings = NetworkSettings()
    blur: BlurSettings = BlurSettings()
    loss: LossWeights = LossWeights()
    patches: PatchSettings = PatchSettings()
    detector: DetectorSizes = DetectorSizes()  # where architecture is "detector"
    detector_loss: DetectorLoss = DetectorLoss()
    follows: str = ""  # detector, a name or a file, whose findings a guided network is told
    start: str = ""  # weights to begin from, a name or a file; empty means afresh
    photos: str = ""  # folder of sharp photos; the last ones by name are only scored on
    pairs: Annotated[tuple[str, ...], LIST] = ()  # folders of datasets, all drawn from equally often
    synthetic: Share = 0.5  # share of batches made from photos where there are pairs too
    aware: Share = 0.5  # share of patches cut from pairs around a blurred pixel
    validation: str = ""  # folder of `deblur synth` or of pairs to score on, instead of held-out photos
    steps: Count = 400_000
    time_limit: Amount = 0.0  # seconds of training over all resumes; 0 means none
    patch: Annotated[int, Field(gt=0, multiple_of=16)] = 256  # pixels; blocks of JPEG's halved chroma have 16
    batch: Count = 8  # patches, on each GPU
    schedule: Literal["cosine", "wsd"] = "cosine"
    learning_rate: Positive = 1e-3
    final_rate: Amount = 1e-6
    warmup: Whole = 200  # steps
    cooldown: Share = 0.2  # share of the run, of schedule "wsd"
    curriculum: Share = 0.0  # share of the run over which the longest blur grows to its full length
    betas: Annotated[tuple[Momentum, Momentum], LIST] = (0.9, 0.9)
    weight_decay: Amount = 1e-3
    clip: Positive = 1.0  # largest norm of the gradient
    ema: Share = 0.999  # share of the averaged weights that each step keeps
    depth: Count = 28
    guidance_gradient: bool = True  # let the reconstruction loss shape mask and trajectories too
    true_masks: Share = 0.0  # share of batches restored within the true mask instead of the predicted one
    seed: Annotated[int, Field(ge=0, lt=SEEDS)] = 0
    device: str = "auto"
    precision: str = "auto"
    workers: Count = 8  # threads that read pairs
    save_every: Amount = 300.0  # seconds
    log_every: Count = 50  # steps

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.network.guided != bool(self.follows):
            raise ValueError("network.guided and follows go together: name the detector to follow")
        if 0 < self.patches.count < self.batch:
            raise ValueError(f"patches.count must be 0 or at least a batch, not {self.patches.count}")
        if self.patches.count and self.curriculum:
            raise ValueError("patches made ahead know no curriculum: set patches.count or curriculum to 0")
        self.blur.check_side(self.patch, "blur.")
        return self

    def progress(self, step: int, elapsed: float) -> float:
        """Share of the run that is done, 0-1, by steps or by seconds, whichever is farther."""
        by_time = elapsed / self.time_limit if self.time_limit else 0.0
        return min(1.0, max(step / self.steps, by_time))

    def rate_at(self, step: int, done: float) -> float:
        """Learning rate of a step when a share `done` of the run is behind it.

        After a linear warm-up either a cosine from the first rate to the final one, or ("wsd": warm-up,
        stable, decay; Hu et al., "MiniCPM", 2024) the first rate until the cool-down, which ends it linearly.
        """
        low, high = self.final_rate, self.learning_rate
        if self.schedule == "wsd":
            share = min(1.0, (1 - done) / self.cooldown) if self.cooldown else 1.0
        else:
            share = (1 + math.cos(math.pi * done)) / 2
        return (low + (high - low) * share) * min(1.0, (step + 1) / max(1, self.warmup))

    def blur_at(self, done: float) -> BlurSettings:
        """The blur to learn from: over the share `curriculum` of the run, its longest length grows."""
        if done >= self.curriculum:
            return self.blur
        shortest, longest = self.blur.shortest, self.blur.longest
        reached = shortest * (longest / shortest) ** ((1 + done / self.curriculum) / 2)
        return self.blur.model_copy(update={"longest": reached})


S = TypeVar("S", bound=Section)


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


def read_settings(path: Path, overrides: Mapping[str, Any] | None = None) -> TrainSettings:
    """Settings from a TOML file, with single values replaced by name ("patch", "blur.longest").

    Raises TrainingError for a missing or malformed file, for unknown names and impossible values.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not valid TOML: {error}") from error
    table.pop("compile", None)  # of runs made while blocks could be compiled; it changed no number
    return build(TrainSettings, table, overrides or {})


def blur_settings(overrides: Mapping[str, Any], side: int) -> BlurSettings:
    """Settings of the synthesis alone, by name ("longest", "camera.noise"), for pictures of a side.

    Raises TrainingError for unknown names and impossible values.
    """
    settings = build(BlurSettings, {}, overrides)
    try:
        settings.check_side(side)
    except ValueError as error:
        raise TrainingError(f"settings: {error}") from error
    return settings


def build(kind: type[S], table: dict[str, Any], overrides: Mapping[str, Any]) -> S:
    """Settings from a table of TOML, in which single values are replaced. Raises TrainingError."""
    for name, value in overrides.items():
        *sections, last = name.split(".")
        place = table
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise TrainingError(f"setting {name!r} does not exist: {section!r} is a single value")
        place[last] = value
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        known = [name for name, _ in flat(kind().model_dump())]
        raise TrainingError(explain(error, known)) from error


def explain(error: ValidationError, known: Sequence[str]) -> str:
    """The first fault that pydantic found, in one line. known: the full names of all settings."""
    fault = error.errors(include_url=False)[0]
    name, value = ".".join(str(part) for part in fault["loc"] if isinstance(part, str)), fault["input"]
    match fault["type"]:
        case "extra_forbidden":
            if isinstance(value, dict) and value:  # an unknown section
                name = f"{name}.{next(iter(value))}"
            return f"unknown setting {name!r}: did you mean {nearest(name, known)}?"
        case "value_error":
            return f"settings{f' of {name!r}' if name else ''}: {fault['ctx']['error']}"
        case "missing" | "too_long":
            return f"setting {name!r} must be a list of 2 numbers, not {value!r}"
        case "model_type":
            return f"setting {name!r} must be a section with settings of its own, not {value!r}"
    text = fault["msg"]
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return f"setting {name!r} {text}, not {value!r}"


def nearest(name: str, known: Sequence[str]) -> str:
    """The settings whose names, with or without their section, are most like a name, for a message."""
    last = name.rpartition(".")[2]
    like = {entry: SequenceMatcher(None, last, entry.rpartition(".")[2]).ratio() for entry in known}
    best = sorted(known, key=lambda entry: -like[entry])
    close = [entry for entry in best if like[entry] >= max(0.6, like[best[0]] - 0.1)]
    return " or ".join(close[:SUGGESTED] or best[:1])


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting of nested tables with its full name."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two tables of settings say differently about a step, each as "patch 128 -> 256"."""
    known = dict(flat(before))
    return [
        f"{name} {known[name]} -> {value}"
        for name, value in flat(now)
        if name not in COURSE and name in known and known[name] != value
    ]

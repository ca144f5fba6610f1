"""Everything a training run is told, read from TOML."""

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from deblur_cli.errors import TrainingError
from deblur_cli.train.losses import LossWeights
from deblur_cli.train.synthetic import BlurSettings

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkSettings:
    """Arguments of `deblur_cli.nets.create`."""

    architecture: str = "m2aenet"
    width: int = 16
    encoder: tuple[int, ...] = (1, 1, 1, 28)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1, 1)


@dataclass(frozen=True)
class TrainSettings:
    """One training run.

    Training ends after `steps` or `time_limit` seconds, whichever comes first; the learning rate falls
    along a cosine over that span. `depth` is how many blocks of encoder stage 4 are trained; the others
    stay the identity (their residual scales are zero), which costs nothing and can be taken up later.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    blur: BlurSettings = field(default_factory=BlurSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    photos: str = "photos/train"
    steps: int = 400_000
    time_limit: float = 0.0  # seconds of training over all resumes; 0 means none
    patch: int = 256
    batch: int = 8
    learning_rate: float = 1e-3
    final_rate: float = 1e-6
    warmup: int = 200  # steps
    betas: tuple[float, float] = (0.9, 0.9)
    weight_decay: float = 1e-3
    clip: float = 1.0  # largest norm of the gradient
    ema: float = 0.999
    depth: int = 28
    guidance_gradient: bool = True  # let the reconstruction loss shape mask and trajectories too
    true_masks: float = 0.0  # share of batches restored within the true mask instead of the predicted one
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    save_every: float = 300.0  # seconds
    log_every: int = 50  # steps


def read_settings(path: Path, overrides: dict[str, Any] | None = None) -> TrainSettings:
    """Settings from a TOML file, with single values replaced by name ("patch", "blur.longest").

    Raises TrainingError for a missing or malformed file and for unknown names.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not valid TOML: {error}") from error
    for name, value in (overrides or {}).items():
        *sections, last = name.split(".")
        target = table
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    return build(TrainSettings(), table)


def build(settings: T, table: dict[str, Any]) -> T:
    """A settings object with the values of a table; sections fill the settings inside it."""
    known = {entry.name for entry in fields(settings)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - known):
        raise TrainingError(f"unknown setting {unknown[0]!r}; known here: {', '.join(sorted(known))}")
    values: dict[str, Any] = {}
    for name, value in table.items():
        current = getattr(settings, name)
        if is_dataclass(current):
            if not isinstance(value, dict):
                raise TrainingError(f"setting {name!r} is a section, not a single value")
            values[name] = build(current, value)
        else:
            values[name] = convert(name, value, current)
    return replace(settings, **values)  # type: ignore[type-var]


def convert(name: str, value: Any, current: Any) -> Any:
    """The value in the type of the setting that it replaces."""
    if isinstance(current, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(current):
        raise TrainingError(f"setting {name!r} must be a {type(current).__name__}, not {value!r}")
    return value


def to_table(settings: TrainSettings) -> dict[str, Any]:
    """Settings as plain values, to be stored in a checkpoint."""
    return asdict(settings)

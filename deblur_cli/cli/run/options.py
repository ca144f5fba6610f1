"""The options of `deblur run`, checked as they are read; one object that goes wherever they count."""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.run.patterns import Pattern, parse_include, parse_pattern
from deblur_cli.cli.run.settings import Settings, apply_settings, read_settings
from deblur_cli.errors import UsageError

if TYPE_CHECKING:
    from deblur_cli.stores import Location
else:
    Location = Any  # as Typer knows no unions; parsers make the values

DEFAULT_SUFFIX = "_deblurred"
FORMATS = {"jpeg": "JPEG", "jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF", "tif": "TIFF"}
FORMATS |= {"avif": "AVIF"}


class Existing(Enum):
    """What happens where a result already exists."""

    refuse = "refuse"
    skip = "skip"
    replace = "replace"


class Kind(StrEnum):
    """The files that a run makes of a photo; each value is a field of its JSON record."""

    photo = "output"
    mask = "mask"
    gray = "mask_gray"  # as a selection for an editor
    trajectory = "trajectory"
    data = "motion"
    sidecar = "sidecar"  # IMG.xmp of IMG.DNG
    long_sidecar = "sidecar_with_ending"  # IMG.DNG.xmp


ENDINGS = {
    Kind.mask: "_mask.png",
    Kind.gray: "_mask_gray.png",
    Kind.trajectory: "_trajectory.png",
    Kind.data: "_motion.npz",
}


def parse_suffix(text: str) -> str:
    """Return what can stand in a file name."""
    if any(c in "/\\\0" or not c.isprintable() for c in text):
        raise UsageError(f"--suffix becomes part of a file name, so it cannot be {text!r}")
    return text


def parse_format(name: str) -> str:
    """Return Pillow's name of a format that can be written."""
    if name.lower() not in FORMATS:
        raise UsageError(f"--format must be jpeg, png, webp, tiff or avif, not {name!r}")
    return FORMATS[name.lower()]


def parse_prefer(text: str) -> str:
    """Return which of a pair to take."""
    name = {"jpg": "jpeg"}.get(text.lower(), text.lower())
    if name not in ("raw", "jpeg", "both"):
        raise UsageError(f"--prefer must be raw, jpeg or both, not {text!r}")
    return name


_ADDRESS = re.compile(r"([^\s:/\[\]]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}")


def parse_cluster(text: str) -> str:
    """Return which cluster is meant."""
    if text.startswith("ray://"):
        raise UsageError(
            f"--cluster cannot be {text}: give the command on a machine of the cluster, with --cluster auto"
        )
    if text not in ("auto", "local") and not _ADDRESS.fullmatch(text):
        raise UsageError(f"--cluster must be auto, local, or an address such as 10.0.0.1:6379, not {text!r}")
    return text


def parse_strength(text: str) -> float:
    """Return percents, with or without their sign."""
    parse = shared.number(
        float, "--strength must be a percentage from 0 to 150", lambda percent: 0 <= percent <= 150
    )
    return parse(str(text).removesuffix("%")) or 0.0


@dataclass(frozen=True, kw_only=True)
class RunOptions(shared.DeblurOptions):
    """All options of a run. Raises UsageError for those that contradict each other."""

    inputs: Annotated[
        list[Location],
        typer.Argument(
            metavar="PHOTO|FOLDER",
            help="Photos, folders, or addresses (s3://...); - is stdin.",
            show_default=False,
            parser=shared.parse_location,
        ),
    ]
    output: Annotated[
        Location | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Folder for the results, or the name of a single one; - is stdout.",
            parser=shared.parse_output_location,
            rich_help_panel=shared.COMMON,
            show_default="next to each photo",
        ),
    ] = None
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive", "-r", help="Include the folders inside a folder.", rich_help_panel=shared.COMMON
        ),
    ] = False
    include: Annotated[
        list[Pattern],
        typer.Option(
            metavar="PATTERN",
            help="Take only photos of such names, like '*.jpg', or in such folders; repeatable.",
            show_default="all",
            parser=parse_include,
            rich_help_panel=shared.BATCH,
        ),
    ] = ()  # type: ignore[assignment]  # Typer makes it a list
    exclude: Annotated[
        list[Pattern],
        typer.Option(
            metavar="PATTERN",
            help="Leave out photos and folders of such names, like '*_edit.jpg' or 'drafts/'; repeatable.",
            parser=parse_pattern,
            rich_help_panel=shared.BATCH,
        ),
    ] = ()  # type: ignore[assignment]  # Typer makes it a list
    prefer: Annotated[
        Literal["raw", "jpeg", "both"],
        typer.Option(
            metavar="raw|jpeg|both",
            help="Which to take of a shot that exists both as RAW and as JPEG or HEIC.",
            parser=parse_prefer,
            rich_help_panel=shared.BATCH,
        ),
    ] = "both"

    # what is restored and drawn
    epsilon: Annotated[
        float | None,
        typer.Option(
            "--epsilon",
            "-e",
            metavar="auto|0-1",
            help="How sure to be before restoring: lower restores more.",
            parser=shared.parse_epsilon,
            rich_help_panel=shared.COMMON,
            show_default="auto, as recommended",
        ),
    ] = shared.AUTO
    strength: Annotated[
        float,
        typer.Option(
            metavar="0-150",
            help="Percent of the change to apply; above 100 exaggerates.",
            parser=parse_strength,
            rich_help_panel=shared.COMMON,
        ),
    ] = 100.0
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="Restore in eight orientations and take the mean: a little better, 8 times slower.",
            rich_help_panel=shared.RESTORE,
        ),
    ] = False
    mask_file: Annotated[
        Location | None,
        typer.Option(
            metavar="MASK",
            help="Restore where this gray picture is white, whatever was detected; for several photos, a "
            "folder of masks named like them.",
            parser=shared.parse_location,
            rich_help_panel=shared.RESTORE,
        ),
    ] = None
    mask_mode: Annotated[
        Literal["only", "add", "limit"] | None,
        typer.Option(
            case_sensitive=False,
            help="Restore only what --mask-file paints, what was detected as well (add), or what was "
            "detected within it (limit).",
            show_default="only",
            rich_help_panel=shared.RESTORE,
        ),
    ] = None
    mask: Annotated[
        bool,
        typer.Option(
            "--mask", help="Also draw what was detected: PHOTO_mask.png.", rich_help_panel=shared.COMMON
        ),
    ] = False
    mask_format: Annotated[
        Literal["overlay", "gray", "both"] | None,
        typer.Option(
            case_sensitive=False,
            help="Draw the mask over the photo (overlay), in gray as a selection for an image editor, or "
            "both.",
            rich_help_panel=shared.DRAW,
            show_default="overlay, with --mask",
        ),
    ] = None
    trajectory: Annotated[
        bool,
        typer.Option(
            "--trajectory",
            help="Also draw how things moved: PHOTO_trajectory.png.",
            rich_help_panel=shared.DRAW,
        ),
    ] = False
    trajectory_style: Annotated[
        Literal["paths", "flow"] | None,
        typer.Option(
            case_sensitive=False,
            help="Draw motion as paths, or as a dense map of direction and distance (flow).",
            rich_help_panel=shared.DRAW,
            show_default="paths, with --trajectory",
        ),
    ] = None
    data: Annotated[
        Literal["npz"] | None,
        typer.Option(
            case_sensitive=False,
            help="Also write what was detected as arrays, to read or edit: PHOTO_motion.npz.",
            rich_help_panel=shared.DRAW,
        ),
    ] = None
    findings: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Restore what a file from --data says, edited or not, instead of detecting blur.",
            parser=shared.parse_path,
            rich_help_panel=shared.RESTORE,
        ),
    ] = None
    only_maps: Annotated[
        bool,
        typer.Option(
            "--only-maps",
            help="Restore nothing and write only drawings: mask and trajectory, or those that you ask for.",
            rich_help_panel=shared.DRAW,
        ),
    ] = False
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also make a web page that compares before and after.",
            rich_help_panel=shared.COMMON,
        ),
    ] = False

    # files
    suffix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Text added to the name of each result.",
            parser=parse_suffix,
            rich_help_panel=shared.WRITE,
        ),
    ] = DEFAULT_SUFFIX
    format: Annotated[
        str | None,
        typer.Option(
            metavar="jpeg|png|webp|tiff|avif",
            help="Format of the results.",
            parser=parse_format,
            rich_help_panel=shared.WRITE,
            show_default="the photo's own; TIFF for camera RAW, AVIF for HEIC",
        ),
    ] = None
    quality: Annotated[
        int | None,
        typer.Option(
            metavar="1-100",
            help="Quality of JPEG, WebP, and AVIF.",
            parser=shared.number(
                int, "--quality must be a number from 1 to 100", lambda quality: 1 <= quality <= 100
            ),
            rich_help_panel=shared.WRITE,
            show_default="the photo's own",
        ),
    ] = None
    strip_metadata: Annotated[
        bool,
        typer.Option(
            "--strip-metadata",
            help="Leave out EXIF, XMP, and everything else except color profiles.",
            rich_help_panel=shared.WRITE,
        ),
    ] = False
    sidecars: Annotated[
        bool,
        typer.Option(
            "--sidecars",
            help="Also copy each photo's .xmp files, named like its result.",
            rich_help_panel=shared.WRITE,
        ),
    ] = False
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Fail rather than lose anything that the photo's file holds.",
            rich_help_panel=shared.WRITE,
        ),
    ] = False
    note: Annotated[
        bool,
        typer.Option(
            "--note/--no-note",
            help="Note in EXIF what was done, and with which weights.",
            rich_help_panel=shared.WRITE,
        ),
    ] = True
    raw_white_balance: Annotated[
        Literal["camera", "auto", "daylight"],
        typer.Option(case_sensitive=False, help="What counts as white.", rich_help_panel=shared.RAW),
    ] = "camera"
    raw_exposure: Annotated[
        float,
        typer.Option(
            metavar="STOPS",
            help="Brighten by this many stops, from -5 to 5.",
            parser=shared.number(
                float, "--raw-exposure must be a number from -5 to 5", lambda stops: -5 <= stops <= 5
            ),
            rich_help_panel=shared.RAW,
        ),
    ] = 0.0
    raw_color_space: Annotated[
        Literal["srgb", "adobe", "prophoto", "p3"],
        typer.Option(case_sensitive=False, help="Color space of the result.", rich_help_panel=shared.RAW),
    ] = "srgb"

    # the run
    overwrite: shared.Overwrite = False
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="Skip photos that already have results.", rich_help_panel=shared.BATCH
        ),
    ] = False
    again: Annotated[
        bool,
        typer.Option(
            "--again",
            help="Deblur results of earlier runs once more; otherwise they are skipped.",
            rich_help_panel=shared.BATCH,
        ),
    ] = False
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue an interrupted run over several photos.", rich_help_panel=shared.COMMON
        ),
    ] = False
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="auto|N",
            help="How many photos to read, and how many to write, while another one is restored.",
            parser=shared.number(
                int, "--jobs must be auto or a number from 1 to 64", lambda jobs: 1 <= jobs <= 64, auto=True
            ),
            rich_help_panel=shared.BATCH,
        ),
    ] = shared.AUTO
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|local|ADDRESS",
            help="Let a Ray cluster do the work: auto finds the one running here, local starts one on this "
            "machine, and HOST:PORT is the address of another.",
            parser=parse_cluster,
            rich_help_panel=shared.MACHINE,
            show_default="none, this process does it",
        ),
    ] = None
    actor_cpus: Annotated[
        int | None,
        typer.Option(
            metavar="auto|N",
            help="Processors of each worker in the cluster; auto is 1, or beside a GPU its share of them.",
            parser=shared.number(
                int,
                "--actor-cpus must be auto or a number from 1 to 256",
                lambda cpus: 1 <= cpus <= 256,
                auto=True,
            ),
            rich_help_panel=shared.MACHINE,
        ),
    ] = shared.AUTO
    actor_gpus: Annotated[
        float,
        typer.Option(
            metavar="F",
            help="GPUs of each worker in the cluster, or the share of one, such as 0.5.",
            parser=shared.number(
                float,
                "--actor-gpus must be a share from 0 to 1, or a whole number",
                lambda gpus: 0 <= gpus <= 1 or (gpus <= 64 and gpus.is_integer()),
            ),
            rich_help_panel=shared.MACHINE,
        ),
    ] = 0.0
    max_megapixels: shared.MaxMegapixels = shared.DEFAULT_MAX_MEGAPIXELS
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only show what would be done, and how long it takes.",
            rich_help_panel=shared.COMMON,
        ),
    ] = False
    config: Annotated[
        Settings | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Use the options below a line [run] in this file, unless others are given.",
            parser=read_settings,
            callback=apply_settings,
            is_eager=True,
            show_default="deblur.toml in the current folder, if any",
            rich_help_panel=shared.BATCH,
        ),
    ] = None
    no_config: Annotated[
        bool,
        typer.Option("--no-config", help="Ignore deblur.toml.", is_eager=True, rich_help_panel=shared.BATCH),
    ] = False
    verbose: shared.Verbose = False

    def __post_init__(self) -> None:
        super().__post_init__()
        shared.exclude("--overwrite", self.overwrite, "--skip-existing", self.skip_existing)
        shared.exclude("--verbose", self.verbose, "--quiet", self.quiet)
        shared.exclude("--config", self.no_config and self.config is not None, "--no-config", self.no_config)
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume keeps what is finished, and --overwrite does it again: leave out one of them"
            )
        shared.exclude("--sidecars", self.sidecars, "--strip-metadata", self.strip_metadata)
        without_effect = {
            "--format": self.format is not None,
            "--quality": self.quality is not None,
            "--strength": self.strength != 100,
            "--thorough": self.thorough,
            "--sidecars": self.sidecars,
        }
        for name, given in without_effect.items():
            if self.only_maps and given:
                raise UsageError(
                    f"{name} has no effect with --only-maps, which writes no photo: leave it out"
                )
        if self.mask_mode and not self.mask_file:
            raise UsageError(f"--mask-mode {self.mask_mode} says how a painted mask counts: add --mask-file")
        shared.exclude("--mask-file", self.mask_file is not None, "--no-keep-sharp", not self.keep_sharp)
        if self.findings is not None and not self.is_one_photo:
            raise UsageError(f"--findings {self.findings} describes one photo: give exactly that photo")
        self._check_cluster()

    def _check_cluster(self) -> None:
        if self.cluster is None:
            for name, given in {"cpus": self.actor_cpus is not None, "gpus": self.actor_gpus > 0}.items():
                if given:
                    raise UsageError(f"--actor-{name} is about the workers of a cluster: add --cluster")
            return
        if Path("-") in (*self.inputs, self.output):
            raise UsageError("--cluster cannot go with - for stdin or stdout, which workers cannot reach")
        if self.is_one_photo:
            raise UsageError("--cluster has no use for one photo: leave it out, or give several or a folder")
        if self.device.startswith(("cuda", "mps")):
            raise UsageError(
                f"--device {self.device} cannot go with --cluster: --actor-gpus 1 gives each worker a GPU"
            )
        shared.exclude("--device cpu", self.device == "cpu", "--actor-gpus", self.actor_gpus > 0)

    @property
    def is_one_photo(self) -> bool:
        """Whether the input is a single file rather than several, or a folder of them."""
        return len(self.inputs) == 1 and not self.inputs[0].is_dir()

    @property
    def from_file(self) -> frozenset[str]:
        """The options that a settings file sets."""
        return frozenset(self.config.used if self.config else ())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of files that are wanted of each photo, the restored photo first. No sidecars."""
        mask = self.mask_format or ("overlay" if self.mask else None)
        trajectory = self.trajectory or self.trajectory_style is not None
        if self.only_maps and not (mask or trajectory or self.data):
            mask, trajectory = "overlay", True
        wanted = {
            Kind.photo: not self.only_maps,
            Kind.mask: mask in ("overlay", "both"),
            Kind.gray: mask in ("gray", "both"),
            Kind.trajectory: trajectory,
            Kind.data: self.data is not None,
        }
        return tuple(kind for kind, is_wanted in wanted.items() if is_wanted)

    @property
    def flow(self) -> bool:
        """Whether motion is drawn as a dense map."""
        return self.trajectory_style == "flow"

    @property
    def existing(self) -> Existing:
        """What happens where a result already exists."""
        if self.overwrite:
            return Existing.replace
        return Existing.skip if self.skip_existing else Existing.refuse

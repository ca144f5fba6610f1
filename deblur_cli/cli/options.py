"""Every option that a command shares with another one, or that needs explaining, named once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_SUFFIX = "_deblurred"
DEFAULT_MAX_MEGAPIXELS = 250.0
DEFAULT_OVERLAP = 32  # pixels


class WhiteBalance(StrEnum):
    """What white is taken for white in camera RAW."""

    camera = "camera"
    auto = "auto"
    daylight = "daylight"


class ColourSpace(StrEnum):
    """Colour spaces that camera RAW is developed in."""

    srgb = "srgb"
    adobe = "adobe"
    prophoto = "prophoto"
    p3 = "p3"


class MaskFormat(StrEnum):
    """What is written of the mask."""

    overlay = "overlay"
    gray = "gray"
    both = "both"


class TrajectoryStyle(StrEnum):
    """How motion is drawn."""

    paths = "paths"
    flow = "flow"


class DataFormat(StrEnum):
    """Formats that maps are written in."""

    npz = "npz"


class Precision(StrEnum):
    """Number formats that a network can run in."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


Inputs = Annotated[
    list[Path],
    # readable: Typer would refuse a whole batch for one file without permission
    typer.Argument(
        metavar="INPUT",
        help="Photos, or folders of photos; - for a photo on stdin.",
        show_default=False,
        readable=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="OUT",
        help="Folder for the results; a file name, or - for stdout, if there is one photo.",
        readable=False,
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Also take the folders inside a folder.")]
Epsilon = Annotated[
    str,
    typer.Option(
        "--epsilon",
        "-e",
        metavar="auto|0-1",
        help="Confidence above which a pixel counts as blurred (epsilon); auto takes what the detector or "
        "the weights recommend, else 0.5.",
    ),
]
Mask = Annotated[bool, typer.Option("--mask", help="Also draw where blur was found: PHOTO_mask.png.")]
Trajectory = Annotated[
    bool, typer.Option("--trajectory", help="Also draw how it moved: PHOTO_trajectory.png.")
]
EpsilonValues = Annotated[
    str, typer.Option("--values", metavar="E,E,...", help="The confidences to compare, each from 0 to 1.")
]
MaskFormatChoice = Annotated[
    MaskFormat | None,
    typer.Option("--mask-format", help="Mask over the photo, in grey as a selection for an editor, or both."),
]
TrajectoryStyleChoice = Annotated[
    TrajectoryStyle | None,
    typer.Option("--trajectory-style", help="Motion as paths, or as a dense map of direction and distance."),
]
Data = Annotated[
    DataFormat | None,
    typer.Option("--data", help="Also write probability and displacements: PHOTO_motion.npz."),
]
OnlyMaps = Annotated[
    bool,
    typer.Option("--only-maps", help="Restore nothing; write mask and trajectory, or what is asked for."),
]
Report = Annotated[
    bool, typer.Option("--report", help="Also make a page to compare before and after: deblur_report/.")
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "-w",
        metavar="NAME|FILE",
        help="Weights: a name of `deblur weights list`, a file, or hf://owner/repo/file.",
    ),
]
Detector = Annotated[
    str,
    typer.Option(
        "--detector",
        metavar="auto|own|NAME|FILE",
        help="What finds the blur: auto takes the detector that the weights name, own lets the weights find "
        "it themselves; else a detector, given as --weights are.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute.")
]
PrecisionChoice = Annotated[
    Precision, typer.Option("--precision", help="Number format; auto takes the fastest safe one.")
]
Tile = Annotated[
    str,
    typer.Option("--tile", metavar="auto|PIXELS", help="Tile size, a multiple of 16; auto fits the memory."),
]
Overlap = Annotated[int, typer.Option("--overlap", metavar="PIXELS", help="How far tiles overlap.")]
Scales = Annotated[
    str,
    typer.Option(
        "--scales",
        metavar="auto|1,2,4,8",
        help="How many times smaller the photo is looked at and restored; auto is all of them.",
    ),
]
KeepSharp = Annotated[
    bool,
    typer.Option(
        "--keep-sharp/--no-keep-sharp",
        help="Leave sharp pixels exactly as they were, or give the network's bare output.",
    ),
]
Suffix = Annotated[str, typer.Option("--suffix", metavar="TEXT", help="Added to the name of each result.")]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="jpeg|png|webp|tiff|avif",
        help="Format of the results; else as the photo, TIFF for camera RAW and AVIF for HEIC.",
    ),
]
Quality = Annotated[
    int | None,
    typer.Option("--quality", metavar="1-100", help="Quality of JPEG, WebP and AVIF; else as the photo."),
]
StripMetadata = Annotated[
    bool, typer.Option("--strip-metadata", help="Leave out EXIF, XMP and all else but colour profiles.")
]
Note = Annotated[
    bool, typer.Option("--note/--no-note", help="Note in EXIF's Software what was done with which weights.")
]
RawWhiteBalance = Annotated[
    WhiteBalance, typer.Option("--raw-white-balance", help="What camera RAW takes for white.")
]
RawExposure = Annotated[
    float, typer.Option("--raw-exposure", metavar="STOPS", help="Brighten camera RAW by -5 to 5 stops.")
]
RawColourSpace = Annotated[
    ColourSpace, typer.Option("--raw-colour-space", help="Colour space that camera RAW is developed in.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave out what exists already.")]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with a run over several photos that was broken off.")
]
Jobs = Annotated[
    str,
    typer.Option(
        "--jobs",
        "-j",
        metavar="auto|N",
        help="How many photos are read, and how many written, beside the one being deblurred.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done, and about how long.")]
MaxMegapixels = Annotated[
    float, typer.Option("--max-megapixels", metavar="N", help="Refuse photos larger than this.")
]
Json = Annotated[bool, typer.Option("--json", help="Give results as JSON, one object per line.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Tell more on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")]
Version = Annotated[bool, typer.Option("--version", help="Show the version and exit.", is_eager=True)]

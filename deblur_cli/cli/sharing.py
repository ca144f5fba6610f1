"""`deblur weights convert|publish`: weights made ready for others, with a model card."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from deblur_cli.cli import options as shared
from deblur_cli.cli.options import bring, takes
from deblur_cli.cli.output import Output
from deblur_cli.errors import UsageError, WeightsError
from deblur_cli.weights import hub
from deblur_cli.weights.hub import HubFile

if TYPE_CHECKING:
    from deblur_cli.weights import LoadedWeights

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SMALLEST_PART = 10**6
ENDING = re.compile(r"\.(safetensors(\.index\.json)?|pth|pt|ckpt|bin)(@.*)?$")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 16MB or 500KiB."""
    found = re.fullmatch(r"([0-9]{1,12})\s*([KMG]I?B)?", text.strip().upper())
    size = int(found[1]) * UNITS[found[2] or ""] if found else 0
    if size < SMALLEST_PART:
        raise UsageError(f"--part-size must be a size of at least 1MB, such as 16MB, not {text!r}")
    return size


def matching(pattern: str, rule: str) -> Callable[[str], str]:
    """Return a parser of texts that match a pattern; it raises UsageError with the rule."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise UsageError(f"{rule}, not {text!r}")
        return text

    return parse


parse_name = matching(r"[A-Za-z0-9][\w.-]*", "--name must be made of letters, digits, dots and dashes")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """All options of a conversion."""

    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Folder of a training run, a .safetensors or .pth file, the index of several, a name of the "
            "catalog, or hf://owner/repo/file[@revision].",
            show_default=False,
        ),
    ]
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for weights and card.", parser=shared.parse_path
        ),
    ]
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to call them; else as SOURCE is called.", parser=parse_name),
    ] = None
    full: Annotated[
        bool, typer.Option("--full", help="Keep 32 bits per number instead of 16, where SOURCE has them.")
    ] = False
    part_size: Annotated[
        int | None,
        typer.Option(metavar="16MB", help="Write several files, none larger than this.", parser=parse_size),
    ] = None
    network: Annotated[
        Literal["m2aenet"] | None,
        typer.Option("--as", help="Make NAFNet the M²AENet that computes the same."),
    ] = None
    pooling: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Averaging window; 1.5 times the training patch.",
            parser=shared.number(
                int, "--pooling must be a number of pixels from 16 to 65536", range(16, 65537).__contains__
            ),
        ),
    ] = None
    overwrite: shared.Overwrite = False
    debug: shared.Debug = False  # read where errors are shown

    def __post_init__(self) -> None:
        shared.check_folder(self.output, "the folder for weights and card")

    @property
    def called(self) -> str:
        """The name of the results."""
        file = Path(self.source).resolve().name
        return self.name or parse_name(ENDING.sub("", file))


@takes(ConvertOptions)
def convert(options: ConvertOptions) -> None:
    """Write a run's weights, or someone else's checkpoint, as a file to share with a model card beside it."""
    called = options.called

    from deblur_cli import weights

    streams = Output()
    remote = options.source.startswith(hub.SCHEME)
    source = bring(options.source, streams) if remote else Path(options.source)
    found = find_source(source)
    with shared.wrong_usage(WeightsError):
        loaded = weights.load(str(found))
        if options.full:
            take_full_numbers(source, found, loaded)
        loaded = weights.adapt(loaded, options.network, options.pooling)
    before = earlier_results(options.output, called, overwrite=options.overwrite)
    written, half = options.output / f"{called}.safetensors", not options.full
    if options.part_size is None:
        weights.save(written, loaded.network, loaded.notes, half=half)
    else:
        written = weights.save_in_parts(written, loaded.network, loaded.notes, options.part_size, half=half)
    card = write_card(options.output / f"{called}.md", written, loaded, curve(source), streams)
    for stale in {*before} - {written, card, *weights.parts(written)}:  # what another --part-size had made
        stale.unlink(missing_ok=True)
    for result in (written, card):
        streams.result(result)


def write_card(
    path: Path, written: Path, loaded: "LoadedWeights", curve: list[dict[str, str]], streams: Output
) -> Path:
    """Write the model card of weights and return its path."""
    from deblur_cli import weights
    from deblur_cli.files import write_file
    from deblur_cli.weights.model_card import model_card

    listed = [(part.name, part.stat().st_size) for part in weights.parts(written)]
    with streams.log_lines():
        text = model_card(path.stem, loaded.network, loaded.notes, listed, weights.sha256(written), curve)
    write_file(path, [text.encode()], overwrite=True)
    return path


def find_source(source: Path) -> Path:
    """Return the weights file of a run's folder, or the file itself."""
    from deblur_cli.weights import installed

    if not source.exists() and str(source) not in (known := [entry.name for entry in installed()]):
        raise UsageError(
            f"no weights file or folder {source}: name the folder of a training run, a .safetensors file, "
            f"the index of several, or one of {', '.join(known)}"
        )
    if not source.is_dir():
        return source
    path = source / "weights.safetensors"
    if not path.is_file():
        raise UsageError(f"{source} holds no {path.name} yet: let the run finish, or stop it with Ctrl-C")
    return path


def take_full_numbers(source: Path, found: Path, loaded: "LoadedWeights") -> None:
    """Put the 32 bits of a run's state in the place of the 16 that its weights file keeps.

    Raises UsageError where there are but 16, and where file and state are of different steps.
    """
    from deblur_cli.train import checkpoint
    from deblur_cli.weights import find, is_full
    from deblur_cli.weights.checkpoints import is_pickle
    from deblur_cli.weights.model_card import history_of

    state = checkpoint.load(source) if source.is_dir() else None
    if state is None:
        path = find(str(found))[0]
        if not is_pickle(path) and not is_full(path):  # checkpoints of PyTorch keep what was trained
            raise UsageError(
                f"{found} holds 16 bits per number, so --full would add nothing: name the folder of the run "
                f"with its {checkpoint.NAME}, or leave --full out"
            )
        return
    runs = history_of(loaded.notes)
    steps = runs[-1].get("steps") if runs else 0
    if state["step"] != steps:
        raise UsageError(
            f"{found} is of step {steps} and {checkpoint.NAME} of step {state['step']}: let the run finish, "
            "or stop it with Ctrl-C"
        )
    with checkpoint.refusing_damage(source):
        loaded.network.load_state_dict(state["average"])


def earlier_results(folder: Path, name: str, *, overwrite: bool) -> list[Path]:
    """Return what a folder holds under a name, in one file or in several; refuse to replace it unasked."""
    results = re.compile(
        re.escape(name) + r"(\.md|\.safetensors\.index\.json|(-[0-9]{5}-of-[0-9]{5})?\.safetensors)"
    )
    there = folder.iterdir() if folder.is_dir() else ()
    found = sorted(path for path in there if results.fullmatch(path.name))
    for path in found:
        if path.is_dir():
            raise UsageError(f"{path} is a folder; choose another --name")
        if not overwrite:
            raise UsageError(f"{path} already exists; use --overwrite or another --name")
    return found


def curve(source: Path) -> list[dict[str, str]]:
    """Return the scores that a run logged, or nothing for a file."""
    table = source / "scores.csv"
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """All options of an upload."""

    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="What `deblur weights convert` wrote: .safetensors, or the index of several.",
            readable=False,
            show_default=False,
        ),
    ]
    repository: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="OWNER/NAME",
            help="Repository, made if there is none.",
            parser=matching(r"[\w.-]+/[\w.-]+", "--to must be OWNER/NAME"),
        ),
    ]
    license: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="License as the Hub names it, such as apache-2.0.",
            parser=matching(r"[a-z0-9.+-]+", "--license must be a name such as apache-2.0 or mit"),
        ),
    ]
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="Model card; else NAME.md beside the file.", readable=False),
    ] = None
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False
    debug: shared.Debug = False  # read where errors are shown


@takes(PublishOptions)
def publish(options: PublishOptions) -> None:
    """Upload weights with their model card, and show their entry for a catalog. Needs HF_TOKEN."""
    from deblur_cli import weights
    from deblur_cli.nets import Detector

    file, repository = options.file, options.repository
    with shared.wrong_usage(WeightsError):
        loaded = weights.load(str(file))  # nothing is published that does not run
    stem = file.name.removesuffix(".index.json").removesuffix(".safetensors")
    text = read_card(options.card or file.with_name(f"{stem}.md"))
    parts = weights.parts(file)
    uploaded = parts if file in parts else [*parts, file]
    task = "image-segmentation" if isinstance(loaded.network, Detector) else "image-to-image"
    front = f"---\nlicense: {options.license}\nlibrary_name: deblur\npipeline_tag: {task}\n---\n\n"
    commit = hub.publish(repository, uploaded, front + text, private=options.private)
    streams = Output()
    streams.say(f"published as hf://{repository}/{file.name}@{commit}")
    streams.result(f"[{json.dumps(stem)}]")
    for key, value in entry_of(loaded, file, HubFile(repository, file.name, commit), options.license).items():
        streams.result(f"{key} = {json.dumps(value)}")


def read_card(path: Path) -> str:
    """Return a model card. Raises UsageError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"no model card {path}: `deblur weights convert` writes one ({error})") from error


def entry_of(loaded: "LoadedWeights", file: Path, address: HubFile, license: str) -> dict[str, object]:
    """Return the entry of a catalog; what the weights learned from is left to their author."""
    detector = loaded.notes.get("detector")
    return {
        "architecture": loaded.architecture,
        "repository": address.repository,
        "revision": address.revision,
        "file": address.file,
        "bytes": file.stat().st_size,
        "sha256": loaded.sha256,
        "license": license,
        "training": "",
        **({"detector": detector} if detector else {}),
    }

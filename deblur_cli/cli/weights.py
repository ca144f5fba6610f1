"""`deblur weights`: what is done with weights other than using them."""

import csv
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deblur_cli.cli import options
from deblur_cli.cli.catalogue import bring
from deblur_cli.cli.errors import USAGE
from deblur_cli.cli.output import Output
from deblur_cli.errors import EncodeError, UsageError, WeightsError

if TYPE_CHECKING:
    from deblur_cli.weights import LoadedWeights

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
SMALLEST_PART = 10**6

app = typer.Typer(rich_markup_mode=None)

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder of a training run, a .safetensors or .pth file, the index of several, a name of the "
        "catalog, or hf://owner/repo/file[@revision].",
        show_default=False,
    ),
]
Folder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for weights and card.", readable=False)
]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What to call them; else as SOURCE is called.")
]
Full = Annotated[
    bool, typer.Option("--full", help="Keep 32 bits per number instead of 16, where SOURCE has them.")
]
Network = Annotated[
    str | None,
    typer.Option("--as", metavar="m2aenet", help="Make NAFNet the M²AENet that computes the same."),
]
Pooling = Annotated[
    int | None,
    typer.Option("--pooling", metavar="PIXELS", help="Averaging window; 1.5 times the training patch."),
]
PartSize = Annotated[
    str | None,
    typer.Option("--part-size", metavar="16MB", help="Write several files, none larger than that."),
]


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Make weights ready to be shared."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


@app.command()
def convert(
    given: Source,
    *,
    output: Folder,
    name: Name = None,
    full: Full = False,
    part_size: PartSize = None,
    network: Network = None,
    pooling: Pooling = None,
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Write a run's weights, or a checkpoint of others, as a file to share with a model card beside it."""
    del debug  # read where errors are translated
    size = None if part_size is None else parse_size(part_size)
    source = Path(given)
    chosen = check_name(
        name or re.sub(r"\.(safetensors(\.index\.json)?|pth|pt|ckpt|bin)(@.*)?$", "", source.resolve().name)
    )

    options.check_folder(output, "the folder for weights and card")

    from deblur_cli import weights as files
    from deblur_cli.files import write_file
    from deblur_cli.weights.model_card import model_card

    check_network(network)
    check_pooling(pooling)
    if given.startswith("hf://"):
        source = bring(given, Output())
    found = find_source(source)
    loaded = files.load(str(found))
    if full:
        take_full_numbers(source, found, loaded)
    loaded = files.adapt(loaded, network, pooling)
    path, card = output / f"{chosen}.safetensors", output / f"{chosen}.md"
    before = earlier_results(output, chosen, overwrite=overwrite)
    make_folder(output)
    if size is None:
        files.save(path, loaded.network, loaded.notes, half=not full)
        written = path
    else:
        written = files.save_in_parts(path, loaded.network, loaded.notes, size, half=not full)
    parts = files.parts(written)
    listed = [(part.name, part.stat().st_size) for part in parts]
    streams = Output()
    with streams.log_lines():
        text = model_card(chosen, loaded.network, loaded.notes, listed, files.sha256(written), curve(source))
    write_file(card, [text.encode()], overwrite=True)
    for stale in {*before} - {written, card, *parts}:  # what another --part-size had made
        stale.unlink(missing_ok=True)
    for result in (written, card):
        streams.result(result)


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 16MB or 500KiB."""
    found = re.fullmatch(r"([0-9]{1,12})\s*([KMG]I?B)?", text.strip().upper())
    size = int(found[1]) * UNITS[found[2] or ""] if found else 0
    if size < SMALLEST_PART:
        raise UsageError(f"--part-size is a size from 1MB up, such as 16MB, not {text!r}")
    return size


def check_name(name: str) -> str:
    """Return a name that can be a file's."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UsageError(f"--name is made of letters, digits, dots and dashes, not {name!r}")
    return name


def check_network(name: str | None) -> None:
    """Accept what NAFNet can be turned into."""
    if name not in (None, "m2aenet"):
        raise UsageError(f"--as is m2aenet, not {name!r}")


def check_pooling(window: int | None) -> None:
    """Accept windows that leave a pixel at the deepest stage."""
    if window is not None and not 16 <= window <= 1 << 16:
        raise UsageError(f"--pooling is a number of pixels from 16 up, not {window}")


def find_source(source: Path) -> Path:
    """Return the weights file of a run's folder, or the file itself."""
    from deblur_cli.weights import installed

    if not source.exists() and str(source) not in (known := [entry.name for entry in installed()]):
        raise WeightsError(
            f"no weights file or folder {source}: name the folder of a training run, a .safetensors file, "
            f"the index of several, or one of {', '.join(known)}"
        )
    if not source.is_dir():
        return source
    path = source / "weights.safetensors"
    if not path.is_file():
        raise WeightsError(f"{source} holds no {path.name} yet: let the run end, or stop it with Ctrl-C")
    return path


def take_full_numbers(source: Path, found: Path, loaded: "LoadedWeights") -> None:
    """Put the 32 bits of a run's state in the place of the 16 that its weights file keeps.

    Raises UsageError where there are but 16, WeightsError where file and state are of different steps.
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
        raise WeightsError(
            f"{found} is of step {steps} and {checkpoint.NAME} of step {state['step']}: let the run go on "
            "to its end, or stop it with Ctrl-C"
        )
    checkpoint.check_weights(source, state, loaded.network)
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
            raise EncodeError(f"{path} is a folder; choose another --name")
        if not overwrite:
            raise EncodeError(f"{path} exists already; use --overwrite or another --name")
    return found


def make_folder(folder: Path) -> None:
    """Make the folder for the results."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make folder {folder}: {error.strerror}") from error


def curve(source: Path) -> list[dict[str, str]]:
    """Return the scores that a run logged, or nothing for a file."""
    table = source / "scores.csv"
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))

"""`deblur weights list|pull|path|verify|remove`: weights known by name, and where they lie."""

from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.cli import options
from deblur_cli.cli.errors import FAILED, OK
from deblur_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.cli.output import Output
    from deblur_cli.weights import CatalogEntry, LoadedWeights, Source

PIPED = 1000  # columns of what is no terminal

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME...", help="Catalog names, or hf://owner/repo/file[@revision]."),
]
OneName = Annotated[
    str, typer.Argument(metavar="NAME", help="Catalog name, hf:// address or file.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All of the catalog.")]
Downloaded = Annotated[bool, typer.Option("--all", help="All of the catalog that are here.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `deblur weights`."""
    app.command("list")(list_weights)
    app.command()(pull)
    app.command()(path)
    app.command()(verify)
    app.command()(remove)


def list_weights(json: options.Json = False, debug: options.Debug = False) -> None:
    """Show the weights of the catalog: what is here, size, scores, license."""
    del debug  # read where errors are translated
    from deblur_cli import weights
    from deblur_cli.cli.output import Output

    streams = Output()
    described = [describe(entry) for entry in weights.installed()]
    if json:
        for entry in described:
            streams.json_line(entry)
        return
    for line in table(described, get_terminal_size((PIPED, 0)).columns):
        streams.result(line)


def describe(entry: "CatalogEntry") -> dict[str, Any]:
    """Return an entry as plain values."""
    from deblur_cli import weights

    found = weights.local(entry)
    return {
        "name": entry.name,
        "architecture": entry.architecture,
        "here": found is not None and found.is_file(),
        "path": None if found is None else str(found),
        "source": "embedded" if entry.hub is None else str(entry.hub),
        "bytes": entry.bytes,
        "sha256": entry.sha256,
        "license": entry.license,
        "training": entry.training,
        "scores": dict(entry.scores),
        "detector": entry.detector,
        "default": entry.name == weights.DEFAULT,
    }


def table(entries: list[dict[str, Any]], width: int = PIPED) -> list[str]:
    """Lay entries out in columns; where those do not fit the width, scores stand on lines of their own."""
    rows = [("NAME", "NETWORK", "SIZE", "HERE", "LICENSE", "SCORES")]
    for entry in entries:
        here = "embedded" if entry["source"] == "embedded" else "yes" if entry["here"] else "no"
        size = f"{entry['bytes'] / 1e6:.1f} MB" if entry["bytes"] else "unknown"
        scores = "; ".join(f"{words} {value}" for words, value in entry["scores"].items())
        kind = " + ".join(filter(None, (entry["architecture"], entry["detector"])))
        rows.append((entry["name"], kind, size, here, entry["license"], scores))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.ljust(wide) for cell, wide in zip(row, widths, strict=True)]
        if sum(widths) + 2 * len(widths) - 2 <= width:
            lines.append("  ".join(cells).rstrip())
            continue
        lines.append("  ".join(cells[:-1]).rstrip())
        if row is not rows[0] and row[-1]:
            lines.append(f"    {row[-1]}")
    return lines


def pull(names: Names = None, *, every: All = False, debug: options.Debug = False) -> None:
    """Download weights, unless they are here, and show their paths."""
    del debug
    from deblur_cli import weights

    chosen = chosen_names(names, [entry.name for entry in weights.installed()] if every else None)
    each(chosen, lambda name, streams: streams.result(bring(name, streams)))


def path(name: OneName, debug: options.Debug = False) -> None:
    """Show where weights lie; downloads nothing."""
    del debug
    from deblur_cli import weights
    from deblur_cli.cli.output import Output

    Output().result(file_here(weights.source_of(name)))


def file_here(source: "Source") -> "Path":
    """Return the file of weights. Raises WeightsError for those that are not downloaded."""
    if source.path is None:
        raise WeightsError(
            f"{source.name} is not downloaded yet: `deblur weights pull {source.name}` brings it"
        )
    return source.path


def verify(names: Names = None, *, every: Downloaded = False, debug: options.Debug = False) -> None:
    """Check the hash of weights that are here, and what their network computes."""
    del debug
    from deblur_cli import weights

    here = [entry.name for entry in weights.installed() if weights.local(entry)] if every else None
    each(chosen_names(names, here), lambda name, streams: streams.result(checked(name)))


def checked(name: str) -> str:
    """Return a line on weights that are right. Raises WeightsError for those that are not."""
    from deblur_cli import weights
    from deblur_cli.weights.fingerprint import agrees, fingerprint, stored

    source = weights.source_of(name)
    file_here(source)
    loaded = weights.load(name)  # compares the hash
    hashed = "hash right" if source.sha256 else f"no hash to compare with (SHA-256 {loaded.sha256})"
    try:
        expected = (source.entry and source.entry.fingerprint) or stored(loaded.notes)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    if not expected:
        return f"{name}: {hashed}, fits the network, no fingerprint to compare with"
    if not agrees(fingerprint(loaded.network), expected):
        raise WeightsError(f"{name}: {hashed}, but the network computes something else than when it was made")
    return f"{name}: {hashed}, fingerprint right"


def remove(names: Names = None, *, debug: options.Debug = False) -> None:
    """Delete downloaded weights, whole or in part, and show what was deleted."""
    del debug
    from deblur_cli import weights

    def delete(name: str, streams: "Output") -> None:
        deleted = weights.remove(name)
        for file in deleted:
            streams.result(file)
        if not deleted:
            streams.say(f"{name} is not downloaded, nothing to delete")

    each(chosen_names(names, None), delete)


def chosen_names(names: list[str] | None, every: list[str] | None) -> list[str]:
    """Return what is to be worked on. Raises UsageError for nothing, and for names beside --all."""
    if bool(names) == (every is not None):
        raise UsageError("give either names or --all; `deblur weights list` shows the names")
    return list(dict.fromkeys(names or every or []))


def each(names: list[str], action: Any) -> None:
    """Do something with each name; one that fails is named, and the others are done."""
    from deblur_cli.cli.output import Output

    streams, code = Output(), OK
    for name in names:
        try:
            with streams.log_lines():
                action(name, streams)
        except WeightsError as error:
            if len(names) == 1:
                raise
            streams.error(str(error))
            code = FAILED
    raise typer.Exit(code)


def load_weights(name: str | None, detector: str, streams: "Output") -> "LoadedWeights":
    """Return the network of a run with its detector; what is not here is downloaded.

    name: None for the default; detector: as --detector gives it. Raises WeightsError.
    """
    from deblur_cli import weights

    name = name or weights.DEFAULT
    if weights.is_remote(name):
        bring(name, streams)
    loaded = weights.load(name)
    detector_name = weights.detector_for(loaded.notes, detector)
    if detector_name is not None and weights.is_remote(detector_name):
        bring(detector_name, streams)
    return weights.guide(loaded, detector)


def epsilon_for(loaded: "LoadedWeights", asked: float | None) -> float:
    """Return the epsilon of a run: as asked for, else what is recommended, else one half.

    Raises WeightsError where the recommendation is damaged.
    """
    from deblur_cli.restoration.deblurrer import Request

    if asked is not None:
        return asked
    return Request.epsilon if loaded.epsilon is None else loaded.epsilon


def to_download_of_run(name: str | None, detector: str) -> str | None:
    """Say what a run would have to download before it starts; None where all is here.

    Raises WeightsError for names that stand for nothing.
    """
    from deblur_cli import weights

    name = name or weights.DEFAULT
    names = [name, weights.detector_for(weights.notes_of(name), detector)]
    missing = [to_download(wanted) for wanted in names if wanted is not None]
    return " and ".join(filter(None, missing)) or None


def to_download(name: str) -> str | None:
    """Say what has to be downloaded for weights; None where they are here.

    Raises WeightsError for a name that stands for nothing.
    """
    from deblur_cli import weights

    source = weights.source_of(name)
    if source.path is not None or source.hub is None:
        return None
    size = f" ({source.entry.bytes / 1e6:.1f} MB)" if source.entry and source.entry.bytes else ""
    return f"{source.name}{size} from {source.hub}"


def bring(name: str, streams: "Output") -> "Path":
    """Return the path of weights; those that are not here are named and downloaded. Raises WeightsError."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from deblur_cli import weights

    if (missing := to_download(name)) is None:
        return weights.pull(name)
    streams.say(f"downloading {missing}")
    if streams.quiet:
        with disable_progress_bars():
            return weights.pull(name)
    return weights.pull(name)

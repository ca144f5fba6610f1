"""`deblur weights list|pull|path|verify|remove`: weights known by name, and where they are."""

from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.cli import options
from deblur_cli.cli.help import PanelCommand, PanelGroup
from deblur_cli.cli.options import bring
from deblur_cli.cli.output import OK, USAGE, columns, file_size
from deblur_cli.cli.sharing import convert, publish
from deblur_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from pathlib import Path

    from deblur_cli.cli.output import Output
    from deblur_cli.weights import CatalogEntry, Source

PIPED = 1000  # columns of what is no terminal
_FIRST = 5  # columns that stay on the first line

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME...", help="Catalog names, or hf://owner/repo/file[@revision]."),
]
OneName = Annotated[
    str, typer.Argument(metavar="NAME", help="Catalog name, hf:// address or file.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All of the catalog.")]
Downloaded = Annotated[bool, typer.Option("--all", help="All of the catalog on this machine.")]


app = typer.Typer(cls=PanelGroup, rich_markup_mode=None)
app.command(cls=PanelCommand, short_help="Make weights ready to share, with a model card.")(convert)
app.command(cls=PanelCommand, short_help="Upload weights with their model card.")(publish)


@app.callback(invoke_without_command=True)
def start(context: typer.Context) -> None:
    """Download, check, convert, and share weights."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


@app.command("list", cls=PanelCommand, short_help="List the weights of the catalog.")
def list_weights(json: options.Json = False, debug: options.Debug = False) -> None:
    """List the weights of the catalog: what is on this machine, size, scores, license."""
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
    """Lay entries out in columns; where they do not fit the width, detector and scores go below."""
    rows = [("NAME", "NETWORK", "SIZE", "HERE", "LICENSE", "DETECTOR", "SCORES"), *map(_row, entries)]
    lines = columns(rows)
    if all(len(line) <= width for line in lines):
        return lines
    lines = []
    for line, row in zip(columns([row[:_FIRST] for row in rows]), rows, strict=True):
        lines += wrap(line, width)
        below = "; ".join(filter(None, row[_FIRST:])) if row is not rows[0] else ""
        lines += wrap(below, width, initial_indent="  ", subsequent_indent="  ")
    return lines


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    here = "included" if entry["source"] == "embedded" else "yes" if entry["here"] else "no"
    size = file_size(entry["bytes"]) if entry["bytes"] else "unknown"
    scores = "; ".join(f"{words} {value}" for words, value in entry["scores"].items())
    scores = scores or f"learned from {entry['training']}"
    return (
        *(entry["name"], entry["architecture"], size, here, entry["license"]),
        *(entry["detector"] or "", scores),
    )


@app.command(cls=PanelCommand, short_help="Download weights, and show their paths.")
def pull(names: Names = None, *, every: All = False, debug: options.Debug = False) -> None:
    """Download weights, unless they are on this machine, and show their paths."""
    del debug
    from deblur_cli import weights

    chosen = chosen_names(names, [entry.name for entry in weights.installed()] if every else None)
    each(chosen, lambda name, streams: streams.result(bring(name, streams)))


@app.command(cls=PanelCommand)
def path(name: OneName, debug: options.Debug = False) -> None:
    """Show where weights are; download nothing."""
    del debug
    from deblur_cli import weights
    from deblur_cli.cli.output import Output

    Output().result(file_here(weights.source_of(name)))


def file_here(source: "Source") -> "Path":
    """Return the file of weights. Raises WeightsError for those that are not downloaded."""
    if source.path is None:
        raise WeightsError(f"{source.name} is not downloaded yet: run `deblur weights pull {source.name}`")
    return source.path


@app.command(cls=PanelCommand, short_help="Check that weights are whole and compute what they should.")
def verify(names: Names = None, *, every: Downloaded = False, debug: options.Debug = False) -> None:
    """Check the hash of weights on this machine, and what their network computes."""
    del debug
    from deblur_cli import weights

    here = [entry.name for entry in weights.installed() if weights.local(entry)] if every else None
    each(chosen_names(names, here), lambda name, streams: streams.result(checked(name)))


def checked(name: str) -> str:
    """Return a line on weights that are right. Raises WeightsError for those that are not."""
    from deblur_cli import weights
    from deblur_cli.weights.loading import agrees, fingerprint, stored_fingerprint

    source = weights.source_of(name)
    file_here(source)
    loaded = weights.load(name)  # compares the hash
    hashed = "checksum OK" if source.sha256 else f"no hash to compare with (SHA-256 {loaded.sha256})"
    try:
        expected = (source.entry and source.entry.fingerprint) or stored_fingerprint(loaded.notes)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    if not expected:
        return f"{name}: {hashed}, fits the network, no fingerprint to compare with"
    if not agrees(fingerprint(loaded.network), expected):
        raise WeightsError(f"{name}: {hashed}, but the network computes something else than when it was made")
    return f"{name}: {hashed}, test output OK"


@app.command(cls=PanelCommand)
def remove(names: Names = None, *, debug: options.Debug = False) -> None:
    """Delete downloaded weights, and show what was deleted."""
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
            code = max(code, error.exit_code)
    raise typer.Exit(code)

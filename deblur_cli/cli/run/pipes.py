"""`-` in place of a file name: a photo comes in on stdin, its result goes out on stdout."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import cast

from deblur_cli.cli.errors import is_disk_full
from deblur_cli.cli.output import Output
from deblur_cli.cli.run.options import RunOptions
from deblur_cli.cli.run.plan import extension, names_a_file
from deblur_cli.errors import DeblurError, DecodeError, UsageError
from deblur_cli.photo.header import identify

DASH = Path("-")
_PIECE = 1 << 16  # bytes; what a pipe holds
_USES_STDOUT = (
    "mask",
    "mask_format",
    "trajectory",
    "trajectory_style",
    "data",
    "only_maps",
    "report",
    "json",
)
_READS_AGAIN = ("dry_run", "resume")


def check(options: RunOptions) -> None:
    """Refuse what cannot go together with `-`."""
    inputs, output = options.inputs, options.output
    if len(inputs) > 1:
        raise UsageError("- stands for one photo; give it no other inputs")
    if output == DASH:
        if inputs[0].is_dir():
            raise UsageError(
                f"{inputs[0]} is a folder, but only one photo can go to stdout; give -o a folder"
            )
        if name := _first_given(options, _USES_STDOUT + _READS_AGAIN):
            raise UsageError(f"{name} cannot go with -o -, which puts the photo on stdout; use -o FILE")
        if sys.stdout.isatty():
            raise UsageError("stdout is a terminal, which cannot show a photo; redirect it or use -o FILE")
    elif output is None or not names_a_file(output):
        raise UsageError("a photo from stdin has no name; use -o FILE or -o - to say where its result goes")
    if inputs[0] == DASH:
        if name := _first_given(options, _READS_AGAIN):
            raise UsageError(f"{name} cannot go with a photo from stdin, which can be read only once")
        if sys.stdin.isatty():
            raise UsageError("stdin is a terminal; send a photo into it, such as deblur run - -o - < a.jpg")


def _first_given(options: RunOptions, names: tuple[str, ...]) -> str | None:
    """Return the first of these options that is given, as the user spells it."""
    return next((f"--{name.replace('_', '-')}" for name in names if getattr(options, name)), None)


@contextmanager
def connected(options: RunOptions, streams: Output) -> Iterator[RunOptions]:
    """Put private files in the place of stdin and stdout, for as long as the block lasts.

    What the block made goes to stdout at its end, unless it raises.
    """
    if DASH not in options.inputs and options.output != DASH:
        yield options
        return
    check(options)
    with tempfile.TemporaryDirectory(prefix="deblur-") as name:
        source, output = options.inputs[0], options.output
        if source == DASH:
            source = _take_stdin(Path(name) / "stdin")
            streams.call(source, "stdin")
        if output == DASH:
            output = Path(name) / f"stdout{extension(source, options.format)}"
            streams.call(output, "stdout")
            streams.keep_stdout_free()
        yield replace(options, inputs=[source], output=output)
        if output is not None and options.output == DASH:
            streams.send(output)


def _take_stdin(path: Path) -> Path:
    """Write stdin to a file, and give it the suffix of what it holds."""
    stdin = cast("BufferedReader", sys.stdin.buffer)
    try:
        with path.open("xb") as file:
            # `read1`: a signal that comes between two reads of a longer `read` would wait for more input
            while piece := stdin.read1(_PIECE):
                file.write(piece)
    except OSError as error:
        what = "the disk is full" if is_disk_full(error) else error.strerror
        raise DeblurError(
            f"stdin cannot be kept in {path.parent}: {what}; name another folder with TMPDIR"
        ) from error
    if path.stat().st_size == 0:
        raise DeblurError("stdin is empty; send a photo into it, such as deblur run - -o - < a.jpg")
    try:
        return path.rename(path.with_suffix(f".{identify(path).lower()}"))
    except DecodeError:  # the run will say what is wrong with it
        return path

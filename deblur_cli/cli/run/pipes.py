"""`-` in place of a file name: a photo comes in on stdin, its result goes out on stdout."""

import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import cast

from deblur_cli.cli.errors import is_disk_full
from deblur_cli.cli.output import Output
from deblur_cli.cli.run.plan import extension, names_a_file
from deblur_cli.cli.run.sizes import picture_format
from deblur_cli.cli.signals import terminate_like_interrupt
from deblur_cli.errors import DeblurError, UsageError

DASH = Path("-")
_PIECE = 1 << 16  # bytes; what a pipe holds


@dataclass(frozen=True)
class Ends:
    """Where photos really come from and go to. `sent` is the file whose bytes go to stdout at the end."""

    inputs: list[Path]
    output: Path | None
    sent: Path | None = None

    def deliver(self) -> None:
        """Write the result to stdout, if that is where it goes."""
        if self.sent is not None:
            with self.sent.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.buffer.flush()


def check(inputs: Sequence[Path], output: Path | None, other: Mapping[str, bool]) -> None:
    """Refuse what cannot go together with `-`; `other` says which further options are given."""
    if DASH not in inputs and output != DASH:
        return
    if len(inputs) > 1:
        raise UsageError("- stands for one photo; give it no other inputs")
    given = [name for name, is_given in other.items() if is_given]
    if output == DASH:
        if inputs[0].is_dir():
            raise UsageError(
                f"{inputs[0]} is a folder, but only one photo can go to stdout; give -o a folder"
            )
        if given:
            raise UsageError(f"{given[0]} cannot go with -o -, which puts the photo on stdout; use -o FILE")
        if sys.stdout.isatty():
            raise UsageError("stdout is a terminal, which a photo would garble; redirect it or use -o FILE")
    elif output is None or not names_a_file(output):
        raise UsageError("a photo from stdin has no name; say with -o FILE or -o - where its result goes")
    if inputs[0] == DASH:
        if refused := sorted({"--dry-run", "--resume"} & set(given)):
            raise UsageError(f"{refused[0]} cannot go with a photo from stdin, which can be read only once")
        if sys.stdin.isatty():
            raise UsageError("stdin is a terminal; send a photo into it, such as deblur run - -o - < a.jpg")


@contextmanager
def connected(
    inputs: Sequence[Path], output: Path | None, wanted: str | None, streams: Output
) -> Iterator[Ends]:
    """Put private files in the place of stdin and stdout, for as long as the block lasts."""
    if DASH not in inputs and output != DASH:
        yield Ends(list(inputs), output)
        return
    with terminate_like_interrupt(), tempfile.TemporaryDirectory(prefix="deblur-") as name:
        source, sent = inputs[0], None
        if source == DASH:
            source = _take_stdin(Path(name) / "stdin")
            streams.call(source, "stdin")
        if output == DASH:
            output = sent = Path(name) / f"stdout{extension(source, wanted)}"
            streams.call(sent, "stdout")
            streams.keep_stdout_free()
        yield Ends([source], output, sent)


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
    kind = picture_format(path)
    return path.rename(path.with_suffix(f".{kind.lower()}")) if kind else path

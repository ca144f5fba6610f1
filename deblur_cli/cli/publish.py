"""`deblur weights publish`: weights and model card to the Hugging Face Hub."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from deblur_cli.cli import options
from deblur_cli.errors import UsageError, WeightsError

File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="What `deblur weights convert` wrote: .safetensors, or the index of several.",
        readable=False,
        show_default=False,
    ),
]
Repository = Annotated[
    str, typer.Option("--to", metavar="OWNER/NAME", help="Repository, made if there is none.")
]
Licence = Annotated[
    str, typer.Option("--licence", metavar="ID", help="Licence as the Hub names it, such as apache-2.0.")
]
Card = Annotated[
    Path | None,
    typer.Option(
        "--card", metavar="FILE.md", help="Model card; else NAME.md beside the file.", readable=False
    ),
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]


def publish(
    file: File,
    *,
    repository: Repository,
    licence: Licence,
    card: Card = None,
    private: Private = False,
    debug: options.Debug = False,
) -> None:
    """Upload weights with their model card, and show their entry for a catalogue. Needs HF_TOKEN."""
    del debug  # read where errors are translated
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"--to is OWNER/NAME, not {repository!r}")
    if not re.fullmatch(r"[a-z0-9.+-]+", licence):
        raise UsageError(f"--licence is a name such as apache-2.0 or mit, not {licence!r}")
    from deblur_cli import weights
    from deblur_cli.cli.output import Output
    from deblur_cli.weights.publishing import publish as upload

    loaded = weights.load(str(file))  # nothing is published that does not run
    stem = file.name.removesuffix(".index.json").removesuffix(".safetensors")
    chosen = card or file.with_name(f"{stem}.md")
    try:
        text = chosen.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"no model card {chosen}: `deblur weights convert` writes one ({error})"
        ) from error
    parts = weights.parts(file)
    uploaded = parts if file in parts else [*parts, file]
    commit = upload(repository, uploaded, text, licence, private=private)
    streams = Output()
    streams.say(f"published as hf://{repository}/{file.name}@{commit}")
    for line in entry_lines(stem, loaded.architecture, repository, commit, file, loaded.sha256, licence):
        streams.result(line)


def entry_lines(
    name: str, architecture: str, repository: str, commit: str, file: Path, sha256: str, licence: str
) -> list[str]:
    """Return the entry of a catalogue, as TOML; what it learned from is left to its author."""
    fields = {
        "architecture": architecture,
        "repository": repository,
        "revision": commit,
        "file": file.name,
        "bytes": file.stat().st_size,
        "sha256": sha256,
        "licence": licence,
        "training": "",
    }
    return [f"[{json.dumps(name)}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]

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
License = Annotated[
    str, typer.Option("--license", metavar="ID", help="License as the Hub names it, such as apache-2.0.")
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
    license: License,
    card: Card = None,
    private: Private = False,
    debug: options.Debug = False,
) -> None:
    """Upload weights with their model card, and show their entry for a catalog. Needs HF_TOKEN."""
    del debug  # read where errors are translated
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"--to is OWNER/NAME, not {repository!r}")
    if not re.fullmatch(r"[a-z0-9.+-]+", license):
        raise UsageError(f"--license is a name such as apache-2.0 or mit, not {license!r}")
    from deblur_cli import weights
    from deblur_cli.cli.output import Output
    from deblur_cli.nets import Detector
    from deblur_cli.weights import hub

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
    task = "image-segmentation" if isinstance(loaded.network, Detector) else "image-to-image"
    front = f"---\nlicense: {license}\nlibrary_name: deblur\npipeline_tag: {task}\n---\n\n"
    commit = hub.publish(repository, uploaded, front + text, private=private)
    streams = Output()
    streams.say(f"published as hf://{repository}/{file.name}@{commit}")
    fields = {
        "architecture": loaded.architecture,
        "repository": repository,
        "revision": commit,
        "file": file.name,
        "bytes": file.stat().st_size,
        "sha256": loaded.sha256,
        "license": license,
        "training": "",  # for its author to fill in
    }
    if detector := loaded.notes.get("detector"):
        fields["detector"] = detector
    streams.result(f"[{json.dumps(stem)}]")
    for key, value in fields.items():
        streams.result(f"{key} = {json.dumps(value)}")

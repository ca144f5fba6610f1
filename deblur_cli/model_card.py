"""Model cards: what weights are, what they learned from and how they score, from their own metadata."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deblur_cli.nets import M2AENet, Network

SCORES = (  # field, words, format
    ("gain_psnr_w", "PSNR gain in the blur, dB", "+.2f"),
    ("gain_ssim_w", "SSIM gain in the blur", "+.4f"),
    ("outside_psnr", "unmoved area, output against input, dB", ".1f"),
    ("mask_iou", "mask IoU", ".3f"),
    ("mask_precision", "mask precision", ".3f"),
    ("mask_recall", "mask recall", ".3f"),
    ("wrongly_marked", "unmoved area that is marked", ".1%"),
    ("soft_marked", "defocused or smooth area that is marked", ".1%"),
    ("endpoint_error", "trajectory endpoints off, px", ".2f"),
)
NAMES = {"m2aenet": "M²AENet", "nafnet": "NAFNet", "lmd_vit": "LMD-ViT"}


def model_card(
    name: str,
    network: Network,
    notes: Mapping[str, str],
    files: Sequence[tuple[str, int]],
    sha256: str,
    curve: Sequence[Mapping[str, str]] = (),
) -> str:
    """Markdown text. files: name and bytes of each; curve: rows of a run's scores.csv."""
    runs = json.loads(notes.get("history", "[]"))
    sections = [f"# {name}", describe(network), file_table(files, sha256)]
    if runs:
        sections += ["## What it learned from", training_table(runs)]
        sections += [
            f"Settings of run {number}:\n\n{settings_text(run)}" for number, run in enumerate(runs, 1)
        ]
    if runs and runs[-1].get("scores"):
        sections += ["## How it scores", score_text(runs)]
    if curve:
        sections += ["## Scores over training", curve_table(curve)]
    return "\n\n".join(sections) + "\n"


def describe(network: Network) -> str:
    """Architecture and size in words."""
    config = network.config
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if not isinstance(network, M2AENet):
        return (
            f"{NAMES[network.architecture]} with {config.embed} channels (depths {joined(config.depths)}; "
            f"heads {joined(config.heads)}; windows of {config.window} pixels), "
            f"{parameters / 1e6:.2f} million parameters."
        )
    pooling = f"a window of {config.pooling} pixels" if config.pooling else "the whole image"
    used = ""
    if network.depth < config.encoder[-1]:
        used = (
            f" The first {network.depth} blocks of the last encoder stage are trained; the others do nothing."
        )
    return (
        f"{NAMES[config.architecture]} of width {config.width} "
        f"(encoder {joined(config.encoder)}; middle {config.middle}; decoder {joined(config.decoder)}), "
        f"{parameters / 1e6:.2f} million parameters. Attention averages over {pooling}.{used}"
    )


def joined(numbers: Sequence[int]) -> str:
    """Numbers with commas."""
    return ", ".join(str(number) for number in numbers)


def file_table(files: Sequence[tuple[str, int]], sha256: str) -> str:
    """Files, bytes and hash."""
    rows = [("File", f"`{name}`, {size:,} bytes") for name, size in files]
    return table(("What", "Value"), [*rows, ("SHA-256", f"`{sha256}`")])


def training_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each run that made the weights, oldest first; each began from the weights of the last."""
    rows = []
    for number, run in enumerate(runs, 1):
        settings = run["settings"]
        rows.append(
            (
                str(number),
                ", ".join(run["learned_from"]),
                f"{run['steps']:,}",
                f"{run['hours']:.2f}",
                f"{run['device']}, {run['precision']}",
                f"{settings['batch']} of {settings['patch']} px",
                f"{settings['learning_rate']:g}, {settings['schedule']}",
                blur_text(run),
            )
        )
    head = ("Run", "Learned from", "Steps", "Hours", "Device", "Patches", "Learning rate", "Blur")
    return table(head, rows)


def blur_text(run: Mapping[str, Any]) -> str:
    """Lengths of the blur that a run made from photos; runs without a note of that all did."""
    if not run.get("synthetic", True):
        return "that of the pairs"
    return f"{run['settings']['blur']['shortest']:g}-{run['settings']['blur']['longest']:g} px"


def settings_text(run: Mapping[str, Any]) -> str:
    """All settings of a run as a file that repeats it, one to a line; its values are TOML and JSON alike."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in flat(run["settings"])]
    return "\n".join(["```toml", *lines, "```"])


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that is not empty, with its full name."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value not in ("", [], ()):
            yield prefix + name, value


def shown_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """Say which pictures the last run was scored on, and claim no more than it noted."""
    pictures = f"{runs[-1]['scores'].get('pictures')} pictures"
    scored_on = runs[-1].get("scored_on") or {}
    if scored_on.get("held_out"):
        seen = "it never saw" if len(runs) == 1 else "its last run never saw"
        return f"{pictures} made from {scored_on['held_out']} photos that {seen}"
    if "folder" not in scored_on:
        return pictures
    text = f"{pictures} of the folder `{scored_on['folder']}`"
    return f"{text}, which shows what it learned from" if scored_on.get("learned_from") else text


def score_text(runs: Sequence[Mapping[str, Any]]) -> str:
    """The scores of the bare network on the validation set of its last run."""
    scores = runs[-1]["scores"]
    rows = [
        (words, format(value, style))
        for field, words, style in SCORES
        if (value := scores.get(field)) is not None
    ]
    before = scores.get("blurred_psnr_w")
    head = f"Bare network output, epsilon 0.5, {shown_text(runs)}"
    if before is not None:
        head += f", whose blurred parts begin at {before:.2f} dB"
    if (scores.get("gain_psnr_w") or 0) < 0:
        head += ". In the blur that is worse than leaving the photo alone"
    return f"{head}.\n\n{table(('Score', 'Value'), rows)}"


def curve_table(curve: Sequence[Mapping[str, str]]) -> str:
    """Scores at each time that they were taken; a cell stays empty where there is none."""
    known = [entry for entry in SCORES if any(number(row, entry[0]) is not None for row in curve)]
    rows = []
    for row in curve:
        values = [(number(row, field), style) for field, _, style in known]
        cells = ["" if value is None else format(value, style) for value, style in values]
        rows.append((row["step"], f"{float(row['seconds']) / 3600:.2f}", *cells))
    return table(("Step", "Hours", *(words for _, words, _ in known)), rows)


def number(row: Mapping[str, str], field: str) -> float | None:
    """A number of a row; None where the cell is empty or not a number."""
    value = float(row.get(field) or "nan")
    return None if math.isnan(value) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

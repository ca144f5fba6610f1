"""Model cards: what weights are, what they learned from and how they score, from their own metadata."""

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deblur_cli.errors import WeightsError
from deblur_cli.nets import Detector, M2AENet, Network, RichardsonLucy

logger = logging.getLogger(__name__)
Score = tuple[str, str, str]  # field, words, format

SCORES = (
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
DETECTOR_SCORES = (
    *(entry for entry in SCORES if not entry[0].startswith(("gain", "outside"))),
    ("sharp_marked", "sharp photos, marked area", ".1%"),
    ("gain_psnr_w", "PSNR gain in the blur by Richardson-Lucy along the detected motion, dB", "+.2f"),
)
DAMAGED = "the note on their training (`history`) in the file of the weights is damaged"
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
    rows = [("File", f"`{file}`, {size:,} bytes") for file, size in files]
    sections = [f"# {name}", " ".join([describe(network), *use(network, notes)])]
    sections.append(table(("What", "Value"), [*rows, ("SHA-256", f"`{sha256}`")]))
    known = DETECTOR_SCORES if isinstance(network, Detector) else SCORES
    try:
        sections += training_sections(history_of(notes), known)
    except (WeightsError, ValueError, LookupError, TypeError, AttributeError) as error:
        logger.warning("the card of %s cannot tell what it learned from: %s", name, DAMAGED)
        logger.debug("history: %r", error)
        sections += ["## What it learned from", f"Not known: {DAMAGED}."]
    if curve:
        sections += ["## Scores over training", curve_table(curve, known)]
    return "\n\n".join(sections) + "\n"


def history_of(notes: Mapping[str, str]) -> list[dict[str, Any]]:
    """The training runs that weights note, oldest first. Raises WeightsError where the note is damaged."""
    try:
        runs = json.loads(notes.get("history", "[]"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(DAMAGED) from error
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise WeightsError(DAMAGED)
    return runs


def training_sections(runs: Sequence[Mapping[str, Any]], known: Sequence[Score]) -> list[str]:
    """What the runs learned from, with their settings and scores."""
    if not runs:
        return []
    sections = ["## What it learned from", training_table(runs)]
    sections += [f"Settings of run {number}:\n\n{settings_text(run)}" for number, run in enumerate(runs, 1)]
    if runs[-1].get("scores"):
        sections += ["## How it scores", score_text(runs, known)]
    return sections


def describe(network: Network) -> str:
    """Architecture and size in words."""
    config = network.config
    if isinstance(network, RichardsonLucy):
        return "Richardson-Lucy along the motion that a detector found: no parameters, nothing learned."
    count = sum(parameter.numel() for parameter in network.parameters())
    parameters = f"{count / 1e6:.2f} million parameters"
    if not isinstance(network, Detector | M2AENet):
        return (
            f"{NAMES[network.architecture]} with {config.embed} channels (depths {joined(config.depths)}; "
            f"heads {joined(config.heads)}; windows of {config.window} pixels), {parameters}."
        )
    window = f"a window of {config.pooling} pixels" if config.pooling else "the whole image"
    if isinstance(network, Detector):
        blocks = [f"{config.before} at 1/8", f"{config.context} at 1/16"]
        blocks += [f"{config.wide} at 1/32"] * (config.wide > 0) + [f"{config.after} at 1/8 again"]
        edges = f"; {config.edges} channels for edges" if config.edges else ""
        return (
            f"Detector of width {config.width} (blocks: {', '.join(blocks)}{edges}), {parameters}. It finds "
            f"what moved and along which path, for a restorer to follow. Attention averages over {window}."
        )
    used = ""
    if network.depth < config.encoder[-1]:
        used = (
            f" The first {network.depth} blocks of the last encoder stage are trained; the others do nothing."
        )
    stem = f", from 1/{config.stem} of the photo's size on" if config.stem > 1 else ""
    return (
        f"{NAMES[config.architecture]} of width {config.width}{stem} "
        f"(encoder {joined(config.encoder)}; middle {config.middle}; decoder {joined(config.decoder)}), "
        f"{parameters}. Attention averages over {window}.{used}"
    )


def use(network: Network, notes: Mapping[str, str]) -> Iterator[str]:
    """The detector and the epsilon that weights are made for, as far as they note them."""
    if notes.get("detector"):
        yield f"Made to follow the detector `{notes['detector']}`."
    elif network.guided:
        yield "It detects nothing itself, but follows a detector."
    if notes.get("epsilon"):
        yield f"Recommended epsilon: {notes['epsilon']}."


def joined(numbers: Sequence[int]) -> str:
    """Numbers with commas."""
    return ", ".join(str(number) for number in numbers)


def training_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """A row for each run that made the weights, oldest first; each began from the weights of the last."""
    rows = []
    for number, run in enumerate(runs, 1):
        settings = run["settings"]
        blur = "that of the pairs"
        if run.get("synthetic", True):  # runs without a note of that all were
            blur = f"{settings['blur']['shortest']:g}-{settings['blur']['longest']:g} px"
        rows.append(
            (
                str(number),
                ", ".join(run["learned_from"]),
                f"{run['steps']:,}",
                f"{run['hours']:.2f}",
                f"{run['device']}, {run['precision']}",
                f"{settings['batch']} of {settings['patch']} px",
                f"{settings['learning_rate']:g}, {settings['schedule']}",
                blur,
            )
        )
    head = ("Run", "Learned from", "Steps", "Hours", "Device", "Patches", "Learning rate", "Blur")
    return table(head, rows)


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


def score_text(runs: Sequence[Mapping[str, Any]], known: Sequence[Score]) -> str:
    """The scores of the bare network on the validation set of its last run; `known` are those of its kind."""
    scores = runs[-1]["scores"]
    rows = [
        (words, format(value, style))
        for field, words, style in known
        if (value := scores.get(field)) is not None
    ]
    before = scores.get("blurred_psnr_w")
    what = "What it finds" if known is DETECTOR_SCORES else "Bare network output"
    head = f"{what}, epsilon 0.5, {shown_text(runs)}"
    if before is not None:
        head += f", whose blurred parts begin at {before:.2f} dB"
    if known is SCORES and (scores.get("gain_psnr_w") or 0) < 0:
        head += ". In the blur that is worse than leaving the photo alone"
    return f"{head}.\n\n{table(('Score', 'Value'), rows)}"


def curve_table(curve: Sequence[Mapping[str, str]], scores: Sequence[Score]) -> str:
    """Scores at each time that they were taken; a cell stays empty where there is none."""
    known = [entry for entry in scores if any(number(row, entry[0]) is not None for row in curve)]
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

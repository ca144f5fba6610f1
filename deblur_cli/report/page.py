"""The page of a report: one HTML file with its style and script inside, and pictures beside it."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import Any

import jinja2

from deblur_cli import __version__
from deblur_cli.pictures import at_scales, blurred


@dataclass(frozen=True)
class Entry:
    """What the page tells of a photo. `place` is the folder of its pictures, below the page."""

    place: str
    source: str
    name: str
    width: int
    height: int
    changed: bool
    share: str
    facts: str
    notes: list[str]

    @classmethod
    def of(cls, place: str, known: Mapping[str, Any]) -> "Entry":
        """Read the entry of a photo. Raises KeyError, TypeError or ValueError where it is damaged."""
        weights = " + ".join(filter(None, (known["weights"], known.get("detector"))))
        share = blurred(known["blurred_share"]) if known["blurred_share"] else "nothing blurred"
        scales = {int(scale): float(part) for scale, part in known.get("scales", {}).items()}
        restored = f"tiles restored: {known['tiles_restored']}{at_scales(scales)}"
        facts = (
            f"{share}, {known['seconds']:.1f} s, {known['width']} x {known['height']} pixels, "
            f"epsilon {known['epsilon']:g}, {restored}, {weights}, {known['device']}, {known['precision']}"
        )
        state = "" if known["changed"] else ", left as it is"
        source = str(known["source"])
        size = int(known["width"]), int(known["height"])
        notes = [str(note) for note in known["notes"]]
        return cls(
            place, source, PurePath(source).name, *size, bool(known["changed"]), share + state, facts, notes
        )


def render(
    entries: Sequence[Entry],
    failures: Sequence[tuple[str, str]],
    skipped: Sequence[tuple[str, str]],
    summary: str,
) -> str:
    """Return the page. Every text in it is escaped; nothing but its own script is let run."""
    folder = files("deblur_cli.report") / "templates"
    style, script, page = (
        (folder / name).read_text(encoding="utf-8") for name in ("style.css", "viewer.js", "page.html.j2")
    )
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(page).render(
        entries=entries,
        data=[asdict(entry) for entry in entries],
        failures=failures,
        skipped=skipped,
        summary=summary,
        version=__version__,
        style=style,
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )

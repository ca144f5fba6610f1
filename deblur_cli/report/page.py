"""The page of a report: one HTML file that holds its style and script, and the pictures beside it."""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deblur_cli import __version__
from deblur_cli.files import write_file
from deblur_cli.photo.photo import rgb_profile, to_eight_bits
from deblur_cli.pictures import at_scales, blurred, flow_overlay, mask_overlay, trajectory_overlay
from deblur_cli.pictures.drawing import reduced

if TYPE_CHECKING:
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.deblurrer import Result

_THUMBNAIL = 480  # pixels, the longer side
_DRAWING = 2000
_LONGEST = 16_000  # that every browser shows; longer photos are reduced
_QUALITY = 92


@dataclass(frozen=True)
class PageEntry:
    """What the page says about a photo. `place` is the folder of its pictures, relative to the page."""

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
    def of(cls, place: str, known: Mapping[str, Any]) -> "PageEntry":
        """Read what entry.json holds. Raises KeyError, TypeError or ValueError where it is damaged."""
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
    entries: Sequence[PageEntry],
    failures: Sequence[tuple[str, str]],
    skipped: Sequence[tuple[str, str]],
    summary: str,
) -> str:
    """The page. Every text in it is escaped, and browsers run no script but its own."""
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


def write_pictures(home: Path, photo: "Photo", result: "Result", *, flow: bool) -> None:
    """Write a photo before and after (if it changed), mask, motion and thumbnail, all as JPEG.

    Raises EncodeError.
    """
    icc = rgb_profile(photo).icc
    before, after = to_eight_bits(photo.pixels), to_eight_bits(result.photo.pixels)

    def write(name: str, pixels: NDArray[np.uint8], quality: int = _QUALITY) -> None:
        write_file(home / name, [_jpeg(pixels, icc, quality)], overwrite=True)

    write("before.jpg", _shortened(before))
    if result.changed:
        write("after.jpg", _shortened(after))
    small, scale = reduced(before, _DRAWING)
    maps, epsilon = result.findings, result.epsilon
    write("mask.jpg", mask_overlay(small, maps, epsilon, share=result.blurred_share, scale=scale))
    draw = flow_overlay if flow else trajectory_overlay
    write("motion.jpg", draw(small, maps, epsilon, legend=True, scale=scale))
    write("thumbnail.jpg", reduced(after, _THUMBNAIL)[0], 82)


def _shortened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return reduced(pixels, _LONGEST)[0] if max(pixels.shape[:2]) > _LONGEST else pixels


def _jpeg(pixels: NDArray[np.uint8], icc: bytes | None, quality: int) -> bytes:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    profile = {} if icc is None else {"icc_profile": icc}
    image.save(file, "JPEG", quality=quality, subsampling=0, **profile)
    return file.getvalue()

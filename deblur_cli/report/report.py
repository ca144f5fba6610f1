"""The folder of a report: a subfolder of pictures for each photo, and one HTML page over all of them.

deblur_report/
  index.html            made from the folders below at the end of each run
  photos/ID/            ID comes from the photo's path, so that a second run replaces what the first wrote
    entry.json          what was done; written last: a photo without it is incomplete
    before.jpg, after.jpg, mask.jpg, motion.jpg, thumbnail.jpg
"""

import base64
import hashlib
import io
import json
import logging
import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import exifread
import jinja2
import numpy as np
from exifread.core.exceptions import ExifError
from numpy.typing import NDArray
from PIL import Image

from deblur_cli import __version__, stores
from deblur_cli.errors import EncodeError, UsageError
from deblur_cli.files import PARTIAL, explain, write_file
from deblur_cli.photo.photo import rgb_profile, to_eight_bits
from deblur_cli.pictures import at_scales, blurred, flow_overlay, mask_overlay, trajectory_overlay
from deblur_cli.pictures.drawing import reduced
from deblur_cli.stores import Address, Location, read_all

if TYPE_CHECKING:
    from deblur_cli.photo.photo import Photo
    from deblur_cli.restoration.deblurrer import Result

logger = logging.getLogger(__name__)

PAGE = "index.html"
_PHOTOS = "photos"
_ENTRY = "entry.json"
_FORMAT = 1  # of entry.json
_FACTS = (
    *("width", "height", "blurred_share", "scales", "tiles", "tiles_restored", "tiles_kept", "seconds"),
    *("epsilon", "device", "precision", "weights", "detector", "changed", "notes"),
)
_THUMBNAIL = 480  # pixels, the longer side
_DRAWING = 2000
_LONGEST = 16_000  # that every browser shows; longer photos are reduced
_QUALITY = 92
# What exifread raises for EXIF that is not as it should be
_UNREADABLE = (ExifError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError, struct.error)
_EXPOSURE = (  # the name of each tag, and how its number is written
    ("EXIF FNumber", "f/{:g}"),
    ("EXIF ISOSpeedRatings", "ISO {:g}"),
    ("EXIF FocalLength", "{:g} mm"),
)


@dataclass(frozen=True)
class PageEntry:
    """What the page says about a photo.

    place: the folder of its pictures, relative to the page; drawn: whether mask and motion are among them
    """

    place: str
    source: str
    name: str
    width: int
    height: int
    changed: bool
    share: str
    facts: str
    notes: list[str]
    drawn: bool = True

    @classmethod
    def of(cls, place: str, known: Mapping[str, Any]) -> "PageEntry":
        """Read what entry.json holds. Raises KeyError, TypeError or ValueError where it is damaged."""
        weights = " + ".join(filter(None, (known["weights"], known.get("detector"))))
        share = blurred(known["blurred_share"]) if known["blurred_share"] else "nothing blurred"
        scales = {int(scale): float(part) for scale, part in known.get("scales", {}).items()}
        restored = f"tiles restored: {known['tiles_restored']}{at_scales(scales)}"
        taken = f"{known['taken']}; " if known.get("taken") else ""
        facts = (
            f"{taken}{share}, {known['seconds']:.1f} s, {known['width']} x {known['height']} pixels, "
            f"epsilon {known['epsilon']:g}, {restored}, {weights}, {known['device']}, {known['precision']}"
        )
        state = "" if known["changed"] else ", left as it is"
        source = str(known["source"])
        size = int(known["width"]), int(known["height"])
        notes = [str(note) for note in known["notes"]]
        return cls(
            place, source, PurePath(source).name, *size, bool(known["changed"]), share + state, facts, notes
        )


class Report:
    """A report while a run adds to it. Several threads may call `add`, for different photos."""

    def __init__(self, folder: Location) -> None:
        self.folder = folder
        self._failures: dict[str, str] = {}
        self._skipped: dict[str, str] = {}
        self._added: set[Location] = set()

    def prepare(self) -> None:
        """Check that the folder can be written and holds nothing but a report. Raises UsageError."""
        if isinstance(self.folder, Path) and not os.path.lexists(self.folder):
            return
        if isinstance(self.folder, Address):
            try:
                self.folder.list_below()
                if not self.folder.exists():
                    return
            except OSError as error:
                raise UsageError(f"{self.folder} cannot be listed: {error.strerror}") from error
        if not self.folder.is_dir():
            raise UsageError(
                f"{self.folder} is a file where the report would go; choose another folder with -o"
            )
        strangers = {path.name for path in self.folder.iterdir()} - {PAGE, _PHOTOS}
        strangers = {name for name in strangers if not name.startswith(".")}
        if strangers:
            raise UsageError(
                f"{self.folder} holds {min(strangers)}, which is not part of a report; move it away"
            )
        for folder in (self.folder, self.folder / _PHOTOS):
            if isinstance(folder, Path) and folder.exists() and not os.access(folder, os.W_OK | os.X_OK):
                raise UsageError(f"cannot write to {folder}; choose another folder with -o")

    def add(
        self, photo: "Photo", source: Location, result: "Result", record: Mapping[str, object], *, flow: bool
    ) -> None:
        """Write the pictures of a photo and what was done. Raises EncodeError.

        source: where the photo comes from, of which `photo` may be a copy
        """
        home = self._home(source)
        try:
            (home / _ENTRY).unlink(missing_ok=True)
            for part in home.glob(PARTIAL) if isinstance(home, Path) else ():  # of a run that was killed
                part.unlink(missing_ok=True)
        except OSError as error:
            raise explain(home / _ENTRY, error) from error
        self._added.add(home)
        write_pictures(home, photo, result, flow=flow)
        told = {"source": shown(source), "taken": _text(taken_with(photo.metadata.exif))}
        entry = {"format": _FORMAT, **told, **_plain(record)}
        _write(home / _ENTRY, json.dumps(entry).encode())

    def fail(self, source: Location, reason: str) -> None:
        """List a photo among the failures.

        What this run added of it goes; what an earlier run added stays, as its results do.
        """
        self._failures[shown(source)] = _text(reason)
        home = self._home(source)
        if home not in self._added:
            return
        if isinstance(home, Path):
            shutil.rmtree(home, ignore_errors=True)
        else:
            with suppress(OSError):
                (home / _ENTRY).unlink(missing_ok=True)  # without which the rest does not count

    def skip(self, source: Location, why: str) -> None:
        """List a photo as skipped, unless an earlier run added it."""
        if not (self._home(source) / _ENTRY).is_file():
            self._skipped[shown(source)] = _text(why)

    def finish(self, summary: str) -> Location:
        """Write the page about all photos of the folder and return its path. Raises EncodeError."""
        failures, skipped = sorted(self._failures.items()), sorted(self._skipped.items())
        page = render(self._entries(), failures, skipped, f"Last run: {summary}")
        _write(self.folder / PAGE, page.encode("utf-8"))
        return self.folder / PAGE

    def _entries(self) -> list[PageEntry]:
        entries = []
        for path, content in self._written():
            try:
                if isinstance(content, OSError):
                    raise content
                known = json.loads(content)
                entries.append(PageEntry.of(f"{_PHOTOS}/{path.parent.name}", known))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s: left out of the report (%s)", path, error)
        return sorted(entries, key=lambda entry: entry.source)

    def _written(self) -> Iterator[tuple[Location, bytes | OSError]]:
        photos = self.folder / _PHOTOS
        if isinstance(photos, Address):
            yield from read_all(_entries_of(photos))
            return
        for path in photos.glob(f"*/{_ENTRY}"):
            try:
                yield path, path.read_bytes()
            except OSError as error:
                yield path, error

    def _home(self, source: Location) -> Location:
        name = os.fsencode(str(source) if isinstance(source, Address) else os.path.realpath(source))
        return self.folder / _PHOTOS / hashlib.sha256(name).hexdigest()[:16]


def write_comparison(folder: Path, before: "Photo", after: "Photo") -> Path:
    """Write a page about two pictures of one size into a new folder, and return its path.

    Raises EncodeError; then no folder remains.
    """
    place = f"{_PHOTOS}/1"
    width, height = after.width, after.height
    names = f"{shown(before.source)} | {shown(after.source)}"
    title = _text(f"{before.source.name} | {after.source.name}")
    size = f"{width} x {height} pixels"
    entry = PageEntry(place, names, title, width, height, True, size, f"{names}, {size}", [], drawn=False)
    pictures = {
        "before.jpg": (_shortened(to_eight_bits(before.pixels)), before),
        "after.jpg": (_shortened(to_eight_bits(after.pixels)), after),
        "thumbnail.jpg": (reduced(to_eight_bits(after.pixels), _THUMBNAIL)[0], after),
    }
    try:
        for name, (pixels, photo) in pictures.items():
            content = jpeg(pixels, rgb_profile(photo).icc, _QUALITY)
            write_file(folder / place / name, [content], overwrite=True)
        write_file(folder / PAGE, [render([entry], [], [], title).encode("utf-8")], overwrite=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder / PAGE


def _entries_of(photos: Address) -> list[Address]:
    """The files of a page elsewhere that tell of its photos, as there are now. Raises EncodeError."""
    photos.forget()
    try:
        photos.list_below()
        return [path for path in photos.files_below() if path.name == _ENTRY]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise EncodeError(f"{photos}: cannot be listed: {error.strerror}") from error


def _write(place: Location, content: bytes) -> None:
    """Write a file whole, over an earlier one. Raises EncodeError."""
    if isinstance(place, Path):
        write_file(place, [content], overwrite=True)
        return
    try:
        place.write_bytes(content)
    except OSError as error:
        raise stores.explain(place, error) from error


def shown(path: Location) -> str:
    """A path as text, even where it is not valid text."""
    return _text(str(path))


def _text(words: str) -> str:
    return os.fsencode(words).decode("utf-8", "replace")


def _plain(record: Mapping[str, object]) -> dict[str, object]:
    """What the page says about a photo; without paths of results, as the folder may be given away."""
    return {name: record[name] for name in _FACTS}


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


def taken_with(exif: bytes | None) -> str:
    """Camera and exposure in words, such as "EOS 300D, 1/60 s, f/5.6"; empty where an EXIF block tells none.

    The time says how long things had to move.
    """
    if exif is None:
        return ""
    try:
        tags = exifread.process_file(io.BytesIO(exif), details=False, extract_thumbnail=False)
        parts = [str(tags[name]).strip() for name in ("Image Model",) if name in tags]
        if time := tags.get("EXIF ExposureTime"):
            seconds = float(time.values[0])
            parts.append(f"1/{1 / seconds:.0f} s" if 0 < seconds < 0.3 else f"{seconds:g} s")
        parts += [form.format(float(tags[name].values[0])) for name, form in _EXPOSURE if name in tags]
    except _UNREADABLE as error:
        logger.debug("camera and exposure cannot be read: %s", error)
        return ""
    return ", ".join(filter(None, parts))


def write_pictures(home: Location, photo: "Photo", result: "Result", *, flow: bool) -> None:
    """Write a photo before and after (if it changed), mask, motion and thumbnail, all as JPEG.

    Raises EncodeError.
    """
    icc = rgb_profile(photo).icc
    before, after = to_eight_bits(photo.pixels), to_eight_bits(result.photo.pixels)

    def write(name: str, pixels: NDArray[np.uint8], quality: int = _QUALITY) -> None:
        _write(home / name, jpeg(pixels, icc, quality))

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


def jpeg(pixels: NDArray[np.uint8], icc: bytes | None, quality: int) -> bytes:
    """A picture, H W 3 or H W 1, as a JPEG with a color profile."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    profile = {} if icc is None else {"icc_profile": icc}
    image.save(file, "JPEG", quality=quality, subsampling=0, **profile)
    return file.getvalue()

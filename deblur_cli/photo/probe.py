"""Format and size of photos from their headers, without their pixels."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from deblur_cli.errors import DecodeError
from deblur_cli.photo import kinds
from deblur_cli.photo.deep import open_deep_tiff
from deblur_cli.photo.exif import ORIENTATION
from deblur_cli.photo.guards import DAMAGE, reason_of
from deblur_cli.photo.heif import HeicFile
from deblur_cli.photo.metadata import known_orientation
from deblur_cli.photo.raw import UnsupportedRawError, raw_size


class Header(NamedTuple):
    """A format as `Photo.format` has it, and the size of the upright picture in pixels."""

    format: str
    width: int
    height: int


def probe(path: Path) -> Header | None:
    """The header of camera RAW, HEIC or TIFF of more than 8 bits; None for all other files.

    Leaves Pillow's global settings alone. Raises DecodeError for a file that cannot be opened or followed.
    """
    try:
        return _probe(path)
    except DAMAGE as error:
        raise DecodeError(f"{path}: its header cannot be read ({reason_of(error)})") from error


def _probe(path: Path) -> Header | None:
    with path.open("rb") as file:
        header = kinds.read_header(file)
        if kinds.is_raw(path, header):
            try:
                return Header("RAW", *raw_size(path))
            except UnsupportedRawError:
                if not kinds.is_tiff(header):
                    raise
        if kinds.is_heic(header):
            return Header("HEIF", *HeicFile(path, file).size)
        if not kinds.is_tiff(header):
            return None
        deep = open_deep_tiff(path, file)
        if deep is None:
            return None
        if kinds.is_raw_tiff(deep.tags):
            return Header("RAW", *raw_size(path))
        width, height = int(deep.page.imagewidth), int(deep.page.imagelength)
        turned = known_orientation(deep.tag(ORIENTATION)) >= 5
        return Header("TIFF", height, width) if turned else Header("TIFF", width, height)


def upright_size(path: Path) -> tuple[int, int]:
    """Return width and height as the photo is shown. Raises DecodeError for a header that cannot be read."""
    try:
        if header := probe(path):
            return header.width, header.height
        with warnings.catch_warnings(action="ignore"), _opened(path) as image:
            width, height = image.size
            # Pillow would decode a whole PNG in search of EXIF behind its pixels.
            headless = image.format == "PNG" and "exif" not in image.info
            turned = not headless and image.getexif().get(ORIENTATION, 1) in range(5, 9)
    except UnidentifiedImageError as error:
        raise DecodeError(f"{path}: is not a picture that deblur reads") from error
    except DAMAGE as error:
        raise DecodeError(f"{path}: its header cannot be read ({reason_of(error)})") from error
    return (height, width) if turned else (width, height)


def megapixels(path: Path) -> float | None:
    """Return how many million pixels a photo has; None where its header does not tell.

    Safe beside threads that decode: it leaves Pillow's settings and Python's warning filters alone.
    """
    try:
        if header := probe(path):
            return header.width * header.height / 1e6
        with _opened(path) as image:
            return image.width * image.height / 1e6
    except Exception:  # noqa: BLE001 - whatever is wrong with the photo, decoding it will say so
        return None


def picture_format(path: Path) -> str | None:
    """Return the format that a file begins like, as `Photo.format` has it; None where none is read."""
    try:
        if header := probe(path):
            return header.format
        with warnings.catch_warnings(action="ignore"), _opened(path) as image:
            return "JPEG" if image.format == "MPO" else image.format
    except (*DAMAGE, DecodeError):
        return None


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture of any size. `Image.open` would hold it to a limit that all threads share."""
    Image.init()
    with path.open("rb") as file:
        header = file.read(16)
        for name in kinds.PILLOW_FORMATS:
            factory, accept = Image.OPEN[name]
            accepted = True if accept is None else accept(header)
            if accepted and not isinstance(accepted, str):  # a string says why not
                file.seek(0)
                with suppress(SyntaxError, IndexError, TypeError, struct.error):  # as in `Image.open`
                    image = factory(file, str(path))
                    break
        else:
            raise UnidentifiedImageError(str(path))
        yield image

"""Format and size of the kinds of photos whose headers Pillow does not read, without their pixels."""

from pathlib import Path
from typing import NamedTuple

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

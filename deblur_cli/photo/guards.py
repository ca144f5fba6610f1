"""What stands around every reading: checks of the file, one line for any damage, Pillow's global settings."""

import hashlib
import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tifffile
from PIL import Image

from deblur_cli.errors import DecodeError, PhotoError, PhotoTooLargeError
from deblur_cli.photo.photo import Stamp

logger = logging.getLogger(__name__)


class UnreadKindError(ValueError):
    """A picture of a kind that deblur does not read, which the message names: "JPEG-LS"."""


# What Pillow and the codecs below it were seen to raise on damaged bytes.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
    tifffile.TiffFileError,
)


def check_file(path: Path) -> None:
    """Raises DecodeError unless `path` is a file with something in it."""
    try:
        if path.is_dir():
            raise DecodeError(f"{path}: is a folder, not a picture")
        if not path.exists():
            raise DecodeError(f"{path}: there is no such file; check the name")
        if not path.is_file():
            raise DecodeError(f"{path}: is a device or pipe, not a picture file")
        if path.stat().st_size == 0:
            raise DecodeError(f"{path}: is empty (zero bytes); fetch a fresh copy")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise DecodeError(f"{str(path)!r}: cannot be read ({reason_of(error)})") from error


def stamp_of(path: Path) -> Stamp:
    """What tells a file from another one of its name. Raises OSError."""
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns, _digest(path))


def is_unchanged(path: Path, stamp: Stamp) -> bool:
    """Whether a file holds what it held when stamped; it is read only if its time differs. Raises OSError."""
    status = path.stat()
    if status.st_size != stamp.size:
        return False
    return status.st_mtime_ns == stamp.modified or _digest(path) == stamp.digest


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()


@contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Turns whatever reading raises into one line from the tree in errors.py."""
    try:
        yield
    except PhotoError:
        raise
    except UnreadKindError as error:
        raise unread(path, str(error)) from error
    except MemoryError as error:
        raise DecodeError(f"{path}: there is not enough memory to open it") from error
    except PermissionError as error:
        raise DecodeError(f"{path}: there is no permission to read it; check its access rights") from error
    except DAMAGE as error:
        raise DecodeError(
            f"{path}: is damaged or cut short ({reason_of(error)}); fetch a fresh copy of the file"
        ) from error


def reason_of(error: Exception) -> str:
    """What an error says, on one line."""
    strerror = error.strerror if isinstance(error, OSError) else None
    text = strerror or str(error) or type(error).__name__
    return " ".join(text.split())


@contextmanager
def pillow_watched(path: Path) -> Iterator[None]:
    """Pillow's warnings go to the log, and it has no pixel limit; ours is checked once a picture is open."""
    limit_before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit_before
        for warning in caught:
            if issubclass(warning.category, (UserWarning, RuntimeWarning)):  # others concern developers
                logger.warning("%s: %s", path, warning.message)


def too_large(path: Path, megapixels: float, limit: float) -> PhotoTooLargeError:
    """The error for a photo of more megapixels than the limit, with a word about the option."""
    count = f"{megapixels:.0f}" if megapixels >= 1000 else f"{megapixels:.4g}"
    if float(count) <= limit:  # by rounding
        count = f"{megapixels:.6f}"
    return PhotoTooLargeError(
        f"{path}: has {count} megapixels, the limit is {limit:g}; raise it with --max-megapixels"
    )


def unread(path: Path, kind: str) -> DecodeError:
    """The error for a file of a kind that is not read."""
    return DecodeError(f"{path}: is {kind}, which deblur does not read; save it as TIFF, PNG, or JPEG first")


def several(path: Path, count: int, what: str) -> DecodeError:
    """The error for a file of several pictures, "pages" or "frames"."""
    return DecodeError(
        f"{path}: has {count} {what}, and deblur reads single pictures only; save the one you want by itself"
    )

"""How large photos are, from their headers alone."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from deblur_cli.errors import DecodeError
from deblur_cli.photo.guards import DAMAGE, reason_of
from deblur_cli.photo.kinds import PILLOW_FORMATS
from deblur_cli.photo.probe import probe

_ORIENTATION = 0x0112  # EXIF tag; values from 5 on lie on their side


def upright_size(path: Path) -> tuple[int, int] | str:
    """Return width and height as the photo is shown, or why its header cannot be read."""
    try:
        if header := probe(path):
            return header.width, header.height
        with warnings.catch_warnings(action="ignore"), _opened(path) as image:
            width, height = image.size
            # Pillow would decode a whole PNG in search of EXIF behind its pixels.
            headless = image.format == "PNG" and "exif" not in image.info
            turned = not headless and image.getexif().get(_ORIENTATION, 1) in range(5, 9)
    except UnidentifiedImageError:
        return "not a picture of a kind that is read"
    except DecodeError as error:
        return str(error)
    except DAMAGE as error:
        return f"its header cannot be read: {reason_of(error)}"
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
        for name in PILLOW_FORMATS:
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

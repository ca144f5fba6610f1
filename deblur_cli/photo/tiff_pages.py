"""Which page of a TIFF is the photo, what the others hold, and where the file ends."""

import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile

from deblur_cli.photo import exif

REDUCED_COPY, MASK = 1, 4  # bits of NewSubfileType
_THUMBNAIL_SHARE = 0.5  # of the sides of the photo, at most, for a page that is not marked as its copy
# What a first page says of its own picture, and no other page takes over: orientation, resolution, profile,
# and Photoshop's layers
_OWN_TAGS = frozenset({274, 282, 283, 296, 34675, 37724})
_BLOCKS = frozenset({700, 33723, 34377})  # XMP, IPTC, Photoshop resources
_C2PA = 52545
_SAME_WHEREVER = frozenset({305, 306})  # programs put their name and the date on any page
# What samples mean -> the value that says nothing; None where any value says something
_WHITE = object()
_MEANINGS: dict[int, Any] = {
    **{263: 1, 264: None, 265: None, 280: 0, 281: _WHITE, 290: None, 291: None, 301: None, 321: None},
    **{332: 1, 333: None, 340: 0, 341: _WHITE, 342: None, 529: None, 532: None},
}
_OF_YCC = (529, 532)  # how such samples are read
_PHOTOMETRIC, _YCC = 262, 6


def full_size(pages: Sequence[tifffile.TiffPage]) -> int:
    """The number of the first page that is neither a copy nor a mask; of the largest if all are."""
    originals = [number for number, page in enumerate(pages) if not _is_marked(page)]
    candidates = originals or [
        number for number, page in enumerate(pages) if not int(page.subfiletype) & MASK
    ]
    if not candidates:
        raise ValueError("there is no picture in it")
    return max(candidates, key=lambda number: (_area(pages[number]), -number))


def _is_marked(page: tifffile.TiffPage) -> bool:
    return bool(int(page.subfiletype) & (REDUCED_COPY | MASK))


def _area(page: tifffile.TiffPage) -> int:
    return int(page.imagewidth) * int(page.imagelength)


class _Size(NamedTuple):
    width: int
    height: int


def is_companion(page: tifffile.TiffPage, photo: tifffile.TiffPage) -> bool:
    """Whether a page is a mask, or a reduced copy of the photo, marked as that or not."""
    if page is photo:
        return False
    if _is_marked(page):
        return True
    own, full = _Size(page.imagewidth, page.imagelength), _Size(photo.imagewidth, photo.imagelength)
    same_shape = abs(own.width * full.height - own.height * full.width) <= max(full)
    return same_shape and own.width <= full.width * _THUMBNAIL_SHARE


def is_inherited(tag: int) -> bool:
    """Whether the photo takes over a tag of the first page, if that is a thumbnail."""
    return tag not in _OWN_TAGS and (tag in _BLOCKS or tag not in exif.STRUCTURAL_TAGS)


def left_out(
    photo: tifffile.TiffPage, first: tifffile.TiffPage, pages: Sequence[tifffile.TiffPage]
) -> tuple[str, ...]:
    """What the pages beside the photo hold, pages within pages included, and no result carries, as phrases.

    first: the page whose tags the photo takes over where it has none
    """
    found = []
    others = [page for page in pages if page.offset != photo.offset]
    if any(int(page.subfiletype) & MASK for page in others):
        found.append("its mask page")
    if further := sum(not is_companion(page, photo) for page in others):
        found.append(f"{further} further picture{'s' if further > 1 else ''} inside it")
    names = {
        tag.name
        for page in others
        for tag in page.tags.values()
        if is_inherited(tag.code) and tag.code not in _SAME_WHEREVER and tag.code != _C2PA
        if not _is_kept(tag, photo, first)
    }
    if names:
        found.append(f"tags of its smaller pages ({', '.join(sorted(names))})")
    return tuple(found)


def _is_kept(tag: tifffile.TiffTag, photo: tifffile.TiffPage, first: tifffile.TiffPage) -> bool:
    kept = photo.tags.get(tag.code) or first.tags.get(tag.code)
    return kept is not None and np.array_equal(kept.value, tag.value)


def meanings(tag: Any, bits: int) -> tuple[str, ...]:
    """A phrase for the tags that say what samples mean, and hold for no other samples; none for usual values.

    tag: gives a value by number
    """
    names = []
    for number, usual in _MEANINGS.items():
        value = tag(number)
        expected = (1 << bits) - 1 if usual is _WHITE else usual
        is_usual = value is None or (usual is not None and np.all(np.asarray(value) == expected))
        if not is_usual and not (number in _OF_YCC and tag(_PHOTOMETRIC) == _YCC):
            names.append(str(tifffile.TIFF.TAGS.get(number, str(number))))
    return (f"its tags on what samples mean ({', '.join(names)})",) if names else ()


_JPEG_START, _JPEG_BYTES = 513, 514


def behind(file: BinaryIO, pages: Sequence[tifffile.TiffPage]) -> bytes:
    """What stands behind all that the pages of a TIFF refer to; nothing where they do not tell."""
    reached = 0
    plain = exif.file_reader(file)

    def read(offset: int, size: int) -> bytes:
        nonlocal reached
        content = plain(offset, size)
        reached = max(reached, offset + len(content))
        return content

    try:
        for page in pages:
            exif.extract_from_tiff(read, int(page.offset))  # which looks at all of its directories and values
            data = [*zip(page.dataoffsets, page.databytecounts, strict=False)]
            data += [(tag.valueoffset, tag.valuebytecount) for tag in page.tags.values()]
            if _JPEG_START in page.tags and _JPEG_BYTES in page.tags:
                data.append((page.tags[_JPEG_START].value, page.tags[_JPEG_BYTES].value))
            if not page.databytecounts or 0 in page.databytecounts:
                return b""
            reached = max(reached, *(start + size for start, size in data))
    except (exif.BrokenExifError, struct.error, RecursionError, TypeError):
        return b""
    file.seek(reached)
    return file.read()

"""Photoshop's image resources: IPTC captions, paths, print settings and a thumbnail.

A resource is "8BIM", a number, a padded Pascal name, and padded content with its length before it.
"""

import struct
from collections.abc import Iterator

SEGMENT_PREFIX = b"Photoshop 3.0\0"  # before them in JPEG
_IPTC = 0x0404
_THUMBNAILS = (1033, 1036)  # of Photoshop 4, and of 5 and later


def without_thumbnails(resources: bytes) -> bytes:
    """All resources but thumbnails, which would show the photo as it was.

    Raises ValueError for resources that cannot be followed.
    """
    return b"".join(content for number, content in _resources(resources) if number not in _THUMBNAILS)


def from_iptc(iptc: bytes) -> bytes:
    """Resources that hold an IPTC block alone."""
    return b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def iptc_of(resources: bytes) -> bytes | None:
    """The IPTC block among resources, or None; also where they cannot be followed."""
    try:
        blocks = [content for number, content in _resources(resources) if number == _IPTC]
    except ValueError:
        return None
    if not blocks:
        return None
    name_end = 6 + (blocks[0][6] + 2) // 2 * 2
    (size,) = struct.unpack_from(">I", blocks[0], name_end)
    return blocks[0][name_end + 4 : name_end + 4 + size]


def holds_more_than_iptc(resources: bytes) -> bool:
    """Whether there are other resources, or none that can be followed."""
    try:
        return any(number != _IPTC for number, _ in _resources(resources))
    except ValueError:
        return True


def _resources(resources: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each resource."""
    position = 0
    while position < len(resources):
        start = position
        if len(resources) - position < 12:
            if resources[position:].strip(b"\0"):
                raise ValueError("they end within a resource")
            return  # padding
        signature, number, name = struct.unpack_from(">4sHB", resources, position)
        if signature not in (b"8BIM", b"PHUT", b"DCSR", b"AgHg", b"MeSa"):
            raise ValueError("a resource has no signature")
        position += 6 + (name + 2) // 2 * 2  # length and name, padded to an even number
        if position + 4 > len(resources):
            raise ValueError("they end within a resource")
        (size,) = struct.unpack_from(">I", resources, position)
        position += 4 + size
        if position > len(resources):
            raise ValueError("they end within a resource")
        position = min(position + size % 2, len(resources))
        yield number, resources[start:position]

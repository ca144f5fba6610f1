"""What files made of boxes (HEIC, AVIF, JPEG XL, JPEG 2000) hold beside their picture, by name.

Nothing is passed over unless it is known to be a part of the picture, or to be carried over: items (ISO/IEC
23008-12), boxes, and what stands behind them.
"""

import re
import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

from deblur_cli.photo.bmff import C2PA_UUID, boxes, meta_of, properties_of
from deblur_cli.photo.containers import named_behind, printable
from deblur_cli.photo.photo import CREDENTIALS, DEPTH_MAP, GAIN_MAP, MOTION_VIDEO

_NAMED_BOXES = {
    b"mpvd": MOTION_VIDEO,
    b"sefd": "what Samsung keeps beside the picture (sefd)",
    b"tmap": GAIN_MAP,
    b"jhgm": GAIN_MAP,
    b"moov": "its image sequence",
}
_PICTURE_BOXES = frozenset({b"ftyp", b"meta", b"mdat", b"free", b"skip"})
_BOX_NAME = re.compile(rb"[0-9A-Za-z ._-]{4}")
_AUXILIARY = re.compile("|".join(["(alpha|auxid:1$)", "(depth|auxid:2$)", "(hdrgainmap)"]))
_AUXILIARY_NAMES = {1: "", 2: DEPTH_MAP, 3: GAIN_MAP}
_XMP_TYPE = "application/rdf+xml"

_PART = ""  # of the picture, or carried over


def unread_boxes(content: bytes, known: Collection[bytes]) -> tuple[str, ...]:
    """Phrases for the boxes of a file that are none of those, and for what stands behind the last one."""
    found, behind, names = [], 0, set[bytes]()
    for name, start, end in boxes(content, 0, len(content)):
        if not _BOX_NAME.fullmatch(name) or (name == b"ftyp" and name in names):
            break  # of another file
        behind = end
        names.add(name)
        if name == b"brob":  # a packed box, with its name first
            name, start = content[start : start + 4], start + 4  # noqa: PLW2901
        data = content[start : min(end, start + 64)]
        if (name == b"uuid" and data.startswith(C2PA_UUID)) or (name == b"jumb" and b"c2pa" in data):
            found.append(CREDENTIALS)
        elif name not in known:
            found.append(_NAMED_BOXES.get(name, f"its box {printable(name)}"))
    return tuple(dict.fromkeys((*found, *named_behind(content, behind))))


def left_out(content: bytes) -> tuple[str, ...]:
    """What a HEIC or AVIF file holds beside the picture that no result carries, as phrases."""
    try:
        items = _items_of(meta_of(content))
    except (struct.error, LookupError):
        items = ("its further items, which cannot be followed",)
    return tuple(dict.fromkeys((*items, *unread_boxes(content, _PICTURE_BOXES))))


class _Item(NamedTuple):
    """An item's kind, the media type or URI of what is no picture, and what it refers to, by kind."""

    kind: bytes
    type: str
    targets: Mapping[bytes, tuple[int, ...]]


def _items_of(meta: bytes) -> tuple[str, ...]:
    parts = {name: meta[start:end] for name, start, end in boxes(meta, 4, len(meta))}
    if not {b"pitm", b"iinf"} <= set(parts):
        return ()
    wide = parts[b"pitm"][0] > 0
    primary = int.from_bytes(parts[b"pitm"][4 : 8 if wide else 6], "big")
    items = _read_items(parts[b"iinf"], _read_references(parts.get(b"iref", bytes(4))))
    fates = _Fates(meta, items, primary)
    return tuple(filter(None, map(fates.of, items)))


def _read_items(infos: bytes, references: Mapping[int, dict[bytes, tuple[int, ...]]]) -> dict[int, _Item]:
    items = {}
    for name, start, end in boxes(infos, 8 if infos[0] else 6, len(infos)):
        entry = infos[start:end]
        if name != b"infe" or entry[0] < 2:
            continue
        id_end = 8 if entry[0] > 2 else 6
        number = int.from_bytes(entry[4:id_end], "big")
        _, _, type = entry[id_end + 6 :].partition(b"\0")  # behind its name
        text = type.partition(b"\0")[0].decode("ascii", "replace")
        items[number] = _Item(entry[id_end + 2 : id_end + 6], text, references.get(number, {}))
    return items


def _read_references(table: bytes) -> dict[int, dict[bytes, tuple[int, ...]]]:
    """What each item refers to, by kind of reference."""
    found: dict[int, dict[bytes, tuple[int, ...]]] = {}
    code = "I" if table[0] else "H"
    for kind, start, _ in boxes(table, 4, len(table)):
        origin, count = struct.unpack_from(f">{code}H", table, start)
        targets = struct.unpack_from(f">{count}{code}", table, start + struct.calcsize(f">{code}H"))
        found.setdefault(origin, {})[kind] = targets
    return found


class _Fates:
    """Tells of each item what is lost with it: a phrase, or nothing for a part of the picture."""

    def __init__(self, meta: bytes, items: Mapping[int, _Item], primary: int) -> None:
        self._meta, self._items, self._primary = meta, items, primary
        self._asked: set[int] = set()
        self._users = {
            target: number for number, item in items.items() for target in item.targets.get(b"dimg", ())
        }
        # Of what describes the picture, the first counts.
        describing = [number for number, item in items.items() if self._describes_picture(item)]
        self._blocks = {self._kind_of(number): number for number in reversed(describing)}

    def of(self, number: int) -> str:
        self._asked = set()
        return self._of(number)

    def _of(self, number: int) -> str:
        if number == self._primary or number in self._asked or number not in self._items:
            return _PART
        self._asked.add(number)
        item = self._items[number]
        if item.kind in (b"Exif", b"mime", b"uri "):
            return self._of_block(number, item)
        if item.kind == b"tmap":
            return GAIN_MAP
        if b"thmb" in item.targets:  # which shows the photo as it was
            return _PART
        if targets := item.targets.get(b"auxl"):
            return self._of_auxiliary(number) if self._primary in targets else self._of(targets[0])
        return self._of(self._users[number]) if number in self._users else "further images"

    def _of_block(self, number: int, item: _Item) -> str:
        if not self._describes_picture(item):  # of a picture that is named itself, or not found by readers
            described = item.targets.get(b"cdsc")
            lone = f"its {self._kind_of(number)} block, which is tied to no picture"
            return self._of(described[0]) if described else lone
        if self._blocks[self._kind_of(number)] != number:
            return f"a further {self._kind_of(number)} block"
        return _PART if self._kind_of(number) in ("EXIF", "XMP") else f"its metadata of the type {item.type}"

    def _describes_picture(self, item: _Item) -> bool:
        return item.kind in (b"Exif", b"mime", b"uri ") and self._primary in item.targets.get(b"cdsc", ())

    def _kind_of(self, number: int) -> str:
        item = self._items[number]
        return "EXIF" if item.kind == b"Exif" else "XMP" if item.type == _XMP_TYPE else item.type

    def _of_auxiliary(self, number: int) -> str:
        values = (value[4:] for name, value in properties_of(self._meta, number) if name == b"auxC")
        type = next(values, b"").partition(b"\0")[0].decode("ascii", "replace")
        known = _AUXILIARY.search(type.lower())
        return f"its auxiliary image {type}" if known is None else _AUXILIARY_NAMES[int(known.lastindex or 0)]

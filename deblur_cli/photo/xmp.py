"""XMP packets made true of the result: upright, and without pointers to what the result lacks.

Packets are cut, not written anew: all that needs no change stays byte for byte. Namespaces count, not
prefixes.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
from xml.parsers import expat

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "  # with the space before a local name
_RDF_VALUE = f"{RDF}value"
_ORIENTATION = "http://ns.adobe.com/tiff/1.0/ Orientation"
_TURNED = frozenset("2345678")
# Namespaces and the beginnings of the names in them that speak of a gain map, a video or another picture
_POINTERS = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": ("",),
    "http://ns.apple.com/HDRGainMap/1.0/": ("",),
    "http://ns.google.com/photos/1.0/camera/": ("MotionPhoto", "MicroVideo"),
    "http://ns.google.com/photos/1.0/container/": ("Directory",),
    "http://ns.google.com/photos/dd/1.0/container/": ("Directory",),  # Dynamic Depth
    "http://ns.xiaomi.com/photos/1.0/camera/": ("XMPMeta",),  # a list of offsets
    "http://ns.oplus.com/photos/1.0/camera/": ("MotionPhoto", "OLivePhoto", "VideoLength"),
    "http://ns.vivo.com/photos/1.0/camera/": ("VMotionPhoto", "VMediaKitVersion"),
}
_ITEM_SEMANTICS = frozenset(
    f"{namespace} Semantic"
    for namespace in (
        "http://ns.google.com/photos/1.0/container/item/",
        "http://ns.google.com/photos/dd/1.0/item/",
    )
)
_TAG_NAME = re.compile(rb"<[^\s/>]+")
_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>"']+)\s*=\s*("[^"]*"|'[^']*')""")
_TAG_END = re.compile(rb"\s*/?>")
_UTF16 = {b"\xff\xfe": "utf-16-le", b"<\0": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\0<": "utf-16-be"}


class BrokenXmpError(ValueError):
    """An XMP packet that is not well formed, or has a document type, which XMP does not allow."""


def upright_xmp(xmp: bytes, *, turned: bool) -> bytes:
    """The packet for a result that is one upright picture alone.

    Entries on a gain map, a video or further pictures behind the picture are gone, in whatever form they
    were. With `turned`, an orientation of 2-8 becomes 1. Raises BrokenXmpError for a packet that cannot be
    followed; it is then best kept as it is.
    """
    return edited(xmp, lambda content, encoding: _upright(content, encoding, turned=turned))


def edited(xmp: bytes, edit: Callable[[bytes, str | None], bytes]) -> bytes:
    """The packet as `edit` makes it of the packet and an encoding to enforce, UTF-16 included.

    Raises BrokenXmpError.
    """
    codec = _UTF16.get(xmp[:2])
    if codec is None:
        return edit(xmp, None)
    try:
        return edit(xmp.decode(codec).encode(), "utf-8").decode().encode(codec)
    except UnicodeError as error:
        raise BrokenXmpError("it is no UTF-16") from error


def item_semantics(xmp: bytes) -> tuple[str, ...]:
    """What a packet says of the picture and of each item behind it, such as "Primary", "GainMap" and "Depth".

    Empty for a packet without a container directory, or one that cannot be followed.
    """
    found = _Semantics()
    try:
        parse(xmp, found, None)
    except BrokenXmpError:
        return ()
    return tuple(found.values)


def _upright(xmp: bytes, encoding: str | None, *, turned: bool) -> bytes:
    cutter = _Cutter(xmp, turned=turned)
    parse(xmp, cutter, encoding)
    parts, position = [], 0
    for start, end, replacement in cutter.cuts:
        parts += [xmp[position:start], replacement]
        position = end
    return b"".join([*parts, xmp[position:]])


class Handler(Protocol):
    """What is told of each element of a packet, by names of the form "namespace local"."""

    def start(self, name: str, attributes: list[str], position: int, /) -> None: ...
    def end(self, position: int, /) -> None: ...
    def text(self, text: str) -> None: ...


def parse(xmp: bytes, handler: Handler, encoding: str | None) -> None:
    """Tells a handler of each element. Raises BrokenXmpError."""
    parser = expat.ParserCreate(encoding, " ")
    parser.ordered_attributes = True
    parser.StartElementHandler = lambda name, attributes: handler.start(
        name, attributes, parser.CurrentByteIndex
    )
    parser.EndElementHandler = lambda _: handler.end(parser.CurrentByteIndex)
    parser.CharacterDataHandler = handler.text
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(xmp.rstrip(b"\0"), True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two for unknown encodings
        raise BrokenXmpError(str(error)) from error


def _refuse_document_type(*_: object) -> None:
    raise BrokenXmpError("it has a document type")  # where entities that grow without bounds come from


def _is_pointer(name: str) -> bool:
    namespace, _, local = name.rpartition(" ")
    return local.startswith(_POINTERS.get(namespace, ()))


@dataclass
class _Element:
    content: int  # where the bytes behind its start tag begin
    is_orientation: bool  # or the value within one
    text: list[str] = field(default_factory=list)
    has_children: bool = False


class _Cutter:
    """Finds what is to be cut out of a packet, as start, end and replacement, in order."""

    def __init__(self, xmp: bytes, *, turned: bool) -> None:
        self.cuts: list[tuple[int, int, bytes]] = []
        self._xmp = xmp
        self._turned = turned
        self._open: list[_Element] = []
        self._orientations = 0  # open elements that are an orientation or stand within one
        self._dropped: Tag | None = None
        self._depth = 0  # of open elements within the dropped one, itself included

    def start(self, name: str, attributes: list[str], position: int) -> None:
        if self._dropped is not None:
            self._depth += 1
            return
        tag = read_tag(self._xmp, position)
        if self._open and _is_pointer(name):
            self._dropped, self._depth = tag, 1
            return
        if self._orientations or name == _ORIENTATION:
            self._orientations += 1
        if self._open:
            self._open[-1].has_children = True
        values = zip(attributes[::2], attributes[1::2], tag.attributes, strict=True)
        for attribute, value, (begin, end) in values:
            if _is_pointer(attribute):
                self.cuts.append((begin, end, b""))
            elif attribute == _ORIENTATION or (self._orientations and attribute == _RDF_VALUE):
                quote = self._xmp[end - 1 : end]
                self._turn(self._xmp.find(quote, begin) + 1, end - 1, value)
        holds_value = name == _ORIENTATION or (self._orientations > 0 and name == _RDF_VALUE)
        self._open.append(_Element(tag.end, holds_value))

    def end(self, position: int) -> None:
        if self._dropped is not None:
            self._depth -= 1
            if self._depth == 0:
                end = self._dropped.end if self._dropped.is_empty else self._xmp.find(b">", position) + 1
                self.cuts.append((self._dropped.start, end, b""))
                self._dropped = None
            return
        element = self._open.pop()
        if self._orientations:
            self._orientations -= 1
        if element.is_orientation and not element.has_children:
            self._turn(element.content, position, "".join(element.text))

    def text(self, text: str) -> None:
        if self._dropped is None and self._open and self._open[-1].is_orientation:
            self._open[-1].text.append(text)

    def _turn(self, start: int, end: int, value: str) -> None:
        """Makes the orientation `value`, written from `start` to `end`, that of an upright picture."""
        digit = value.strip()
        if self._turned and digit in _TURNED:
            written = self._xmp[start:end]
            plain = written.strip() == digit.encode()
            self.cuts.append((start, end, written.replace(digit.encode(), b"1") if plain else b"1"))


class _Semantics:
    def __init__(self) -> None:
        self.values: list[str] = []
        self._open: list[bool] = []

    def start(self, name: str, attributes: list[str], _: int) -> None:
        pairs = zip(attributes[::2], attributes[1::2], strict=True)
        self.values += [value for attribute, value in pairs if attribute in _ITEM_SEMANTICS]
        self._open.append(name in _ITEM_SEMANTICS)
        if self._open[-1]:
            self.values.append("")

    def end(self, _: int) -> None:
        self._open.pop()

    def text(self, text: str) -> None:
        if self._open and self._open[-1]:
            self.values[-1] += text


class Tag(NamedTuple):
    """A start tag: where it begins and ends, and its attributes with the space before each."""

    start: int
    end: int
    attributes: list[tuple[int, int]]  # but declarations of namespaces
    is_empty: bool


def read_tag(xmp: bytes, start: int) -> Tag:
    """The start tag at `start` of well-formed XML."""
    attributes = []
    position = start
    match = _TAG_NAME.match(xmp, start)
    while match is not None:
        position = match.end()
        match = _ATTRIBUTE.match(xmp, position)
        if match is not None and match[1].partition(b":")[0] != b"xmlns":
            attributes.append(match.span())
    match = _TAG_END.match(xmp, position)
    if match is None:
        raise BrokenXmpError("a tag of it cannot be followed")
    return Tag(start, match.end(), attributes, match[0].endswith(b"/>"))

"""Places in the picture that XMP names (faces, subject, crop, sides), for the picture turned upright.

Coordinates are those of the stored picture, as EXIF and the Metadata Working Group (2.0, 5.9) have it.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import groupby

from deblur_cli.photo.samples import turn_point
from deblur_cli.photo.xmp import RDF, Tag, edited, parse, read_tag

CROP_LOST = "the crop in its Camera Raw settings, which would not fit the turned picture"
PLACES_LOST = "places of faces in its XMP, which cannot be followed"
_EXIF, _TIFF = "http://ns.adobe.com/exif/1.0/ ", "http://ns.adobe.com/tiff/1.0/ "
_AREA = "http://ns.adobe.com/xmp/sType/Area# "
_SIDES = "http://ns.adobe.com/xap/1.0/sType/Dimensions# "
_APPLIED_TO = "http://www.metadataworkinggroup.com/schemas/regions/ AppliedToDimensions"
_RECTANGLE = "http://ns.microsoft.com/photo/1.2/t/Region# Rectangle"
_CROP = "http://ns.adobe.com/camera-raw-settings/1.0/ "
_CROP_SIDES = tuple(f"{_CROP}Crop{side}" for side in ("Left", "Top", "Right", "Bottom"))
_CROP_NAMES = frozenset({*_CROP_SIDES, f"{_CROP}CropAngle", f"{_CROP}HasCrop"})
_SUBJECTS = frozenset({f"{_EXIF}SubjectArea", f"{_EXIF}SubjectLocation"})
# Values that a turn by 90 degrees swaps
_SWAPPED = (
    (f"{_EXIF}PixelXDimension", f"{_EXIF}PixelYDimension"),
    (f"{_EXIF}FocalPlaneXResolution", f"{_EXIF}FocalPlaneYResolution"),
    (f"{_TIFF}ImageWidth", f"{_TIFF}ImageLength"),
    (f"{_TIFF}XResolution", f"{_TIFF}YResolution"),
    (f"{_SIDES}w", f"{_SIDES}h"),
)
_NAMES = {_RECTANGLE, *_CROP_NAMES, *(name for pair in _SWAPPED for name in pair)}
_NAMES |= {f"{_AREA}{name}" for name in ("x", "y", "w", "h", "d", "unit")}
_LI = f"{RDF}li"
_BETWEEN = re.compile(r"[,\s]+")
_ONE = Decimal(1)


@dataclass(frozen=True)
class _Turn:
    orientation: int
    width: int  # of the stored picture
    height: int

    @property
    def swaps(self) -> bool:
        return self.orientation >= 5

    def share(self, x: Decimal, y: Decimal) -> tuple[Decimal, Decimal]:
        """A point in shares of the sides."""
        return turn_point(x, y, self.orientation, _ONE, _ONE)


@dataclass
class _Value:
    """A value, where it stands, and where all that goes with it stands: its attribute or element."""

    name: str
    text: str
    span: tuple[int, int]
    whole: tuple[int, int]
    parent: int  # number of the element whose property it is


def turn_places(xmp: bytes, orientation: int, size: tuple[int, int]) -> tuple[bytes, tuple[str, ...]]:
    """The packet for the picture of `size` (width, height), as stored, turned by an EXIF orientation.

    Also tells what of it had to go, as phrases. Raises BrokenXmpError.
    """
    if orientation == 1:
        return xmp, ()
    lost: list[str] = []

    def turned(content: bytes, encoding: str | None) -> bytes:
        finder = _Finder(content)
        parse(content, finder, encoding)
        changes = _Changes(_Turn(orientation, *size))
        changes.of(finder.values)
        lost.extend(changes.lost)
        parts, position = [], 0
        for start, end, text in sorted(changes.cuts):
            parts += [content[position:start], text.encode()]
            position = end
        return b"".join([*parts, content[position:]])

    return edited(xmp, turned), tuple(dict.fromkeys(lost))


@dataclass
class _Element:
    name: str
    tag: Tag
    number: int
    has_children: bool = False
    text: list[str] = field(default_factory=list)


class _Finder:
    """Finds the values of the names above, as attributes or elements."""

    def __init__(self, xmp: bytes) -> None:
        self.values: list[_Value] = []
        self._xmp = xmp
        self._open: list[_Element] = []
        self._count = 0

    def start(self, name: str, attributes: list[str], position: int) -> None:
        tag = read_tag(self._xmp, position)
        if self._open:
            self._open[-1].has_children = True
        self._count += 1
        self._open.append(_Element(name, tag, self._count))
        for attribute, value, (begin, end) in zip(
            attributes[::2], attributes[1::2], tag.attributes, strict=True
        ):
            if self._is_wanted(attribute):
                quote = self._xmp[end - 1 : end]
                span = (self._xmp.find(quote, begin) + 1, end - 1)
                self.values.append(_Value(attribute, value, span, (begin, end), self._count))

    def end(self, position: int) -> None:
        element = self._open.pop()
        if element.has_children or element.tag.is_empty or not self._open:
            return
        list_of = self._open[-2].name if element.name == _LI and len(self._open) > 1 else ""
        name = list_of if list_of in _SUBJECTS else element.name
        if name in _SUBJECTS or self._is_wanted(name):
            whole = (element.tag.start, self._xmp.find(b">", position) + 1)
            text = "".join(element.text)
            self.values.append(_Value(name, text, (element.tag.end, position), whole, self._open[-1].number))

    def text(self, text: str) -> None:
        if self._open and not self._open[-1].has_children and len(self._open[-1].text) < 16:
            self._open[-1].text.append(text)

    def _is_wanted(self, name: str) -> bool:
        if name.startswith(_SIDES):  # which pages have, too
            return name in _NAMES and any(element.name == _APPLIED_TO for element in self._open)
        return name in _NAMES


class _Changes:
    """Turns what a finder found: `cuts` are start, end, and what stands there then; `lost` has phrases."""

    def __init__(self, turn: _Turn) -> None:
        self.cuts: list[tuple[int, int, str]] = []
        self.lost: list[str] = []
        self._turn = turn

    def of(self, values: list[_Value]) -> None:
        rules: tuple[tuple[Callable[[str], bool], Callable[[list[_Value]], None], str], ...] = (
            (lambda name: name.startswith(_AREA), self._area, PLACES_LOST),
            (lambda name: name == _RECTANGLE, self._rectangle, PLACES_LOST),
            (lambda name: name in _SUBJECTS, self._subject, PLACES_LOST),
            (lambda name: name in _CROP_NAMES, self._crop, CROP_LOST),
        )
        for belongs, change, phrase in rules:
            for group in _groups([value for value in values if belongs(value.name)]):
                before = len(self.cuts)
                try:
                    change(group)
                except (InvalidOperation, ValueError, KeyError):
                    del self.cuts[before:]
                    self.cuts += [(*value.whole, "") for value in group]
                    self.lost.append(phrase)
        if self._turn.swaps:
            self._swap(values)

    def _set(self, value: _Value, text: str) -> None:
        self.cuts.append((*value.span, text))

    def _area(self, group: list[_Value]) -> None:
        """A rectangle or circle around its center."""
        parts = {value.name.removeprefix(_AREA): value for value in group}
        if (unit := parts.get("unit")) is not None and unit.text.strip() not in ("normalized", ""):
            raise ValueError("pixels of an unknown size")
        x, y = self._turn.share(Decimal(parts["x"].text.strip()), Decimal(parts["y"].text.strip()))
        self._set(parts["x"], _written(x))
        self._set(parts["y"], _written(y))
        if self._turn.swaps and {"w", "h"} <= set(parts):
            self._set(parts["w"], parts["h"].text)
            self._set(parts["h"], parts["w"].text)

    def _rectangle(self, group: list[_Value]) -> None:
        """Left, top, width, and height."""
        for value in group:
            texts = _BETWEEN.split(value.text.strip())
            left, top, width, height = map(Decimal, texts)
            between = (_BETWEEN.findall(value.text.strip()) or [" "])[0]
            box = self._turned_box(left, top, left + width, top + height)
            sides = texts[:1:-1] if self._turn.swaps else texts[2:]
            self._set(value, between.join([*map(_written, box[:2]), *sides]))

    def _subject(self, group: list[_Value]) -> None:
        """The center in pixels, and one or two sides."""
        turn, (x, y, *sides) = self._turn, group
        across, down = turn_point(int(x.text), int(y.text), turn.orientation, turn.width - 1, turn.height - 1)
        self._set(x, str(across))
        self._set(y, str(down))
        if turn.swaps and len(sides) == 2:
            self._set(sides[0], sides[1].text)
            self._set(sides[1], sides[0].text)

    def _crop(self, group: list[_Value]) -> None:
        parts = {value.name: value for value in group}
        has_crop = parts.get(f"{_CROP}HasCrop")
        if not parts.keys() & set(_CROP_SIDES) or (has_crop and has_crop.text.strip().lower() == "false"):
            return
        angle = parts.get(f"{_CROP}CropAngle")
        if angle is not None and Decimal(angle.text.strip()):
            raise ValueError("a crop that is not upright")
        box = self._turned_box(*(Decimal(parts[name].text.strip()) for name in _CROP_SIDES))
        for name, side in zip(_CROP_SIDES, box, strict=True):
            self._set(parts[name], _written(side))

    def _turned_box(
        self, left: Decimal, top: Decimal, right: Decimal, bottom: Decimal
    ) -> tuple[Decimal, ...]:
        first, second = self._turn.share(left, top), self._turn.share(right, bottom)
        corners = list(zip(first, second, strict=True))
        return (*map(min, corners), *map(max, corners))

    def _swap(self, values: list[_Value]) -> None:
        for across, down in _SWAPPED:
            pairs = zip(
                [value for value in values if value.name == across],
                [value for value in values if value.name == down],
                strict=False,
            )
            for first, second in pairs:
                self._set(first, second.text)
                self._set(second, first.text)


def _groups(values: list[_Value]) -> Iterator[list[_Value]]:
    """Values of one element each, in the order of their elements."""
    for _, group in groupby(sorted(values, key=lambda value: value.parent), lambda value: value.parent):
        yield list(group)


def _written(value: Decimal) -> str:
    return f"{value:f}"

"""What a JPEG holds beside its picture, and what of that may stand beside the restored one."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from deblur_cli.photo import exif
from deblur_cli.photo.jpeg import APP0, COM, PHOTOSHOP_PREFIX, MpPicture, Segment, read_mp_index, read_stream
from deblur_cli.photo.jpeg_trailer import ISO_GAIN_MAP, read_trailer
from deblur_cli.photo.photo import CREDENTIALS, GAIN_MAP
from deblur_cli.photo.xmp import BrokenXmpError, item_semantics, upright_xmp

_APP1, _APP2, _APP3, _APP4, _APP5, _APP6, _APP9, _APP11 = (APP0 + n for n in (1, 2, 3, 4, 5, 6, 9, 11))
_JFIF, _EXIF, _ADOBE = b"JFIF", b"Exif\0\0", b"Adobe"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MPF = b"MPF\0"
_FLASHPIX = b"FPXR\0"
# What is written from the photo's metadata, by marker and beginning
_WRITTEN = {
    APP0: (_JFIF,),
    _APP1: (_EXIF, _XMP, b"http://ns.adobe.com/xmp/extension/\0"),
    _APP2: (b"ICC_PROFILE\0",),
    0xED: (PHOTOSHOP_PREFIX,),
    0xEE: (_ADOBE,),
}
_THERMAL = "its thermal data, which would not fit the turned picture"
# Beginnings of segments that count in the directions of the stored picture
_UNTURNED = {
    _APP1: {b"FLIR\0": _THERMAL, b"PARROT\0": _THERMAL},
    _APP3: {b"_JPSJPS_": "its stereo layout (JPS), which would not fit the turned picture"},
    0xE8: {b"SPIFF\0": "its SPIFF header, which would not fit the turned picture"},
}
_PREVIEWS = (b"\xff\xd8\xff", b"QVGA\0\xff\xd8\xff", b"BGTH\xff\xd8\xff")
# Beginnings in APP2 to APP5 that are neither the rest of a preview nor thermal data
_NAMED: tuple[bytes, ...] = (_FLASHPIX, _MPF, b"ICC_PROFILE\0", b"urn:iso:", b"SCALADO\0", b"RMETA\0")
_NAMED += (b"ssuniqueid\0", b"Meta\0\0", b"META\0\0", _EXIF, b"Stim\0", b"_JPSJPS_", b"QTI ")

_CARRIED, _UNSAID = None, ""  # fates of a segment; any other is its name among what is left out


@dataclass(frozen=True)
class JpegParts:
    """What a JPEG holds that its pixels, EXIF, XMP, ICC, Photoshop block and last comment do not.

    `segments` are to be written again before the picture: whole APPn and COM segments, in order.
    `trailer` goes behind the picture, through `jpeg_trailer.placed_trailer`. `left_out` names what a restored
    picture cannot have, as short phrases; thumbnails and previews, which show the photo as it was, go unsaid.
    """

    segments: tuple[bytes, ...] = ()
    trailer: bytes = b""
    left_out: tuple[str, ...] = ()


def read_parts(file: BinaryIO, *, turned: bool) -> JpegParts:
    """The parts of an open JPEG, whose position is kept; none for a file that is no JPEG.

    With `turned`, the picture is written turned upright: what lies in the directions of the stored one is
    left out by name. Never raises on damaged bytes: what cannot be followed is carried, or named as unknown.
    """
    before = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(before)
    stream = read_stream(data)
    sorter = _Sorter(stream.segments, turned=turned)
    fates = [(segment, sorter.fate(segment)) for segment in stream.segments]
    segments = tuple(sorter.carried(segment) for segment, fate in fates if fate is _CARRIED)
    left_out = [fate for _, fate in fates if fate]
    trailer = b""
    if stream.end is not None:
        trailer, names = read_trailer(data, stream.end, sorter.pictures, sorter.semantics(), turned=turned)
        left_out += names
    return JpegParts(segments, trailer, tuple(dict.fromkeys(left_out)))


class _Sorter:
    """Tells the fate of each segment, asked in order."""

    def __init__(self, segments: tuple[Segment, ...], *, turned: bool) -> None:
        self._turned = turned
        self.pictures: dict[int, MpPicture] = {}  # of the MPF index
        heads = [segment for segment in segments if not segment.in_scans]
        comments = [segment for segment in heads if segment.marker == COM]
        packets = [segment for segment in heads if _is_xmp(segment)]
        self._comment = comments[-1] if comments and comments[-1].content else None  # as Pillow takes it
        self._packet = packets[-1] if packets else None  # likewise
        self._is_infiray = any(_is_infiray_version(segment) for segment in heads)
        self._is_dji = any(
            segment.marker == _APP1 and segment.content.startswith(_EXIF) and b"DJI\0" in segment.content
            for segment in heads
        ) and any(_is_unnamed(segment, _APP3) for segment in heads)
        self._exif = b""  # the first one
        self._credentials: dict[bytes, str | None] = {}  # fate by box instance
        self._flashpix_previews = _flashpix_previews(segments)
        self._preview: Segment | None = None  # the first segment of one that is not complete
        self._last: Segment | None = None

    def semantics(self) -> tuple[str, ...]:
        """What XMP calls the items behind the picture."""
        items = item_semantics(self._packet.content[len(_XMP) :]) if self._packet is not None else ()
        return items[1:] if items[:1] == ("Primary",) else items

    def fate(self, segment: Segment) -> str | None:
        if segment.marker == COM:
            return _UNSAID if segment is self._comment else _CARRIED
        if segment.content.startswith(_WRITTEN.get(segment.marker, ())):
            return self._fate_of_written(segment)
        for rule in (self._fate_of_preview, _fate_of_app0, self._fate_of_app2, self._fate_of_app11):
            fate = rule(segment)
            if fate is not _CARRIED:
                return fate
        return self._fate_of_unturned(segment) if self._turned else _CARRIED

    def carried(self, segment: Segment) -> bytes:
        """The bytes to write for a segment that is carried."""
        if not _is_xmp(segment):
            return segment.whole
        try:
            content = _XMP + upright_xmp(segment.content[len(_XMP) :], turned=self._turned)
        except BrokenXmpError:
            return segment.whole
        return segment.whole[:2] + struct.pack(">H", len(content) + 2) + content

    def _fate_of_written(self, segment: Segment) -> str | None:
        if segment.in_scans and not segment.content.startswith((_JFIF, _ADOBE)):
            return "metadata in the middle of its picture data"
        if segment.content.startswith(tuple(_EXIF + header for header in exif.HEADERS)):
            self._exif = self._exif or segment.content
            return _UNSAID if segment.content == self._exif else "a further EXIF block"
        return _CARRIED if _is_xmp(segment) and segment is not self._packet else _UNSAID

    def _fate_of_preview(self, segment: Segment) -> str | None:
        """Previews in APP2 to APP5, which go on in segments of the same or the next marker."""
        if self._is_infiray:
            return _CARRIED  # its thermal data may begin with a picture
        first, last, self._last = self._preview, self._last, segment
        if _APP2 <= segment.marker <= _APP5 and segment.content.startswith(_PREVIEWS):
            start = segment.content.index(b"\xff\xd8\xff")
            self._preview = segment if read_stream(segment.content, start).end is None else None
            return _UNSAID
        follows = (
            first is not None
            and last is not None
            and segment.marker - last.marker in (0, 1)
            and _is_unnamed(segment, segment.marker)
        )
        if first is None or not follows or segment.marker > _APP5:
            self._preview = None
            return _CARRIED
        if len(segment.content) < len(first.content):  # all but the last are of one size
            self._preview = None
        return _UNSAID

    def _fate_of_app2(self, segment: Segment) -> str | None:
        content = segment.content
        if segment.marker in (_APP2, _APP4) and content.startswith(_FLASHPIX):
            return _UNSAID if _flashpix_stream(segment) in self._flashpix_previews else _CARRIED
        if segment.marker != _APP2:
            return _CARRIED
        if content.startswith(_MPF):
            self.pictures |= read_mp_index(content, segment.position)
            return _UNSAID  # what it points to is named by itself
        return GAIN_MAP if content.startswith(ISO_GAIN_MAP) else _CARRIED

    def _fate_of_app11(self, segment: Segment) -> str | None:
        """Boxes of JPEG XT (ISO/IEC 18477-3) and of JUMBF (ISO/IEC 19566-5), which may take many segments."""
        content = segment.content
        if segment.marker != _APP11:
            return _CARRIED
        if content.startswith(b"HDR_RI "):
            return "its JPEG-HDR data, which would not match the restored picture"
        if not content.startswith(b"JP") or len(content) < 16:
            return _CARRIED
        if content[12:16] != b"jumb":
            return "its JPEG XT data, which would not match the restored picture"
        instance = content[2:4]
        if instance not in self._credentials:
            long = content[8:12] == b"\0\0\0\1"  # the length takes 8 bytes more
            kind, label = (content[24:], content[41:]) if not long else (content[32:], content[49:])
            is_c2pa = kind.startswith(b"c2pa") or label.startswith((b"c2pa", b"cai"))
            self._credentials[instance] = CREDENTIALS if is_c2pa else _CARRIED
        return self._credentials[instance]

    def _fate_of_unturned(self, segment: Segment) -> str | None:
        for beginning, name in _UNTURNED.get(segment.marker, {}).items():
            if segment.content.startswith(beginning):
                return name
        marker, content = segment.marker, segment.content
        is_data = not content.startswith(_NAMED)
        if self._is_infiray and (_is_infiray_version(segment) or (_APP3 <= marker <= _APP9 and is_data)):
            return _THERMAL
        is_dji_data = marker in (_APP3, _APP5) and is_data
        is_dji_data |= (marker == _APP4 and content.startswith(b"\xaa\x55")) or (
            marker == _APP6 and content.startswith(b"DTAT\0")
        )
        return _THERMAL if self._is_dji and is_dji_data else _CARRIED


def _fate_of_app0(segment: Segment) -> str | None:
    return _UNSAID if segment.marker == APP0 and segment.content.startswith(b"JFXX\0") else _CARRIED


def _is_xmp(segment: Segment) -> bool:
    return segment.marker == _APP1 and segment.content.startswith(_XMP)


def _is_unnamed(segment: Segment, marker: int) -> bool:
    return segment.marker == marker and not segment.content.startswith(_NAMED + _PREVIEWS)


def _is_infiray_version(segment: Segment) -> bool:
    return segment.marker == _APP2 and segment.content[4:10] == b"IJPEG\0"


def _flashpix_stream(segment: Segment) -> int | None:
    """The number of the stream that a FlashPix segment holds a part of; None for the list of contents."""
    is_data = segment.content[6:7] == b"\2" and len(segment.content) >= 13
    return int.from_bytes(segment.content[7:9], "big") if is_data else None


def _flashpix_previews(segments: tuple[Segment, ...]) -> frozenset[int]:
    """The streams that hold a JPEG. Parts that are missing count as filled with a default (FlashPix, 1.0)."""
    numbers = set()
    for segment in segments:
        if segment.marker in (_APP2, _APP4) and segment.content.startswith(_FLASHPIX):
            number = _flashpix_stream(segment)
            begins = segment.content[9:13] == bytes(4)
            if number is not None and begins and b"\xff\xd8\xff" in segment.content[13:77]:
                numbers.add(number)
    return frozenset(numbers)

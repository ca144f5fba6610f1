"""EXIF of a developed camera RAW: what the file says of the photo, without what it says of the sensor's data.

Values are taken over byte for byte. What describes the sensor's data (color matrices, noise, opcodes) means
nothing for a developed picture and is passed over. Maker notes point into the RAW file and are named.
"""

import io
import os
import struct
from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import rawpy
from PIL.ExifTags import Base

from deblur_cli.photo import exif
from deblur_cli.photo.bmff import read_canon
from deblur_cli.photo.exif import BrokenExifError, ByteOrder, Directories, Value
from deblur_cli.photo.photo import CREDENTIALS

TAG_FAILURES = (OSError, BrokenExifError, struct.error)  # what `read_tags` raises
MAKER_NOTES = "its maker notes, whose offsets hold in the RAW file alone"
_ASCII, _SHORT, _RATIONAL, _UNDEFINED = 2, 3, 5, 7
_PHOTOSHOP, _C2PA = 34377, 52545
_UNIQUE_MODEL, _ORIGINAL_FILE = 50708, 50828

# Of the main directory: what is about the photo
_MAIN_TAGS = frozenset(
    {
        *(Base.ProcessingSoftware, Base.DocumentName, Base.ImageDescription, Base.Make, Base.Model),
        *(Base.PageName, Base.Software, Base.DateTime, Base.Artist, Base.HostComputer),
        *(Base.XResolution, Base.YResolution, Base.ResolutionUnit, Base.Rating, Base.RatingPercent),
        *(Base.Copyright, Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject),
        # TIFF/EP: battery, time zone, self-timer, number, secrecy, history
        *(33423, 34858, 34859, 37393, 37394, 37395),
        *(50341, 50827, 51105),  # hints for printers; DNG's name of the original file, label of the camera
    }
)
# Of the main directory, where TIFF/EP and DNG put them -> where EXIF has them
_EXPOSURE_TAGS: dict[int, int] = {
    **{tag: tag for tag in (33434, 33437, 34850, 34855, 36867, 36868, *range(37377, 37387), 37396)},
    **{37387: 41483, 37388: 41484, 37390: 41486, 37391: 41487, 37392: 41488, 37397: 41493, 37399: 41495},
    **{50735: Base.BodySerialNumber, 50736: Base.LensSpecification},
}
# Of the main directory: what describes the sensor's data, or the picture that stands there
_TECHNICAL_TAGS = exif.STRUCTURAL_TAGS | {
    *(Base.Orientation, 286, 287, 297, 300, 318, 319, 532),
    *(33421, 33422, 37389, 37398),  # TIFF/EP: pattern of colors, noise, version
    *range(50706, 50740),
    *(50741, *range(50778, _ORIGINAL_FILE), *range(50829, 51200), *range(52525, 52560)),
}
_UNFIT_EXIF_TAGS = frozenset(
    {
        *(Base.MakerNote, Base.ExifImageWidth, Base.ExifImageHeight),
        *(Base.ExifInteroperabilityOffset, Base.ColorSpace),
    }
)
_HEADERS = {  # RAW that is a TIFF but for its first bytes: Olympus, Panasonic
    **dict.fromkeys((b"IIRO", b"IIRS", b"IIU\0"), b"II*\0"),
    b"MMOR": b"MM\0*",
}


def read_raw_exif(path: Path, raw: rawpy.RawPy, orientation: int) -> tuple[bytes, tuple[str, ...]]:
    """An EXIF block with this orientation: camera, lens, time, exposure, GPS; and phrases for the lacking."""
    lost: list[str] = []
    try:
        with path.open("rb") as file:
            found = read_tags(file)
    except TAG_FAILURES as error:
        lost.append(f"its EXIF, XMP, and IPTC tags, which cannot be read ({error})")
        found = Directories("<")
    kept, unfit = photographic(found)
    _add_known(kept, raw)
    if Base.Make not in kept.main and not lost:
        unfit = (*unfit, "the name of its camera, which cannot be read")
    kept.main[Base.Orientation] = Value(_SHORT, struct.pack(kept.order + "H", orientation))
    return exif.build(kept), (*lost, *unfit)


def read_tags(file: BinaryIO) -> Directories:
    """The directories of a RAW file: a TIFF, Canon's CR3 or CRW, or Fujifilm's, Minolta's around one.

    Empty for a file of another kind. Raises TAG_FAILURES.
    """
    file.seek(0)
    header = file.read(32)
    if header[6:14] == b"HEAPCCDR":
        return _of_ciff(file)
    if header.startswith(b"FUJIFILMCCD-RAW"):
        return _of_fujifilm(file)
    if header.startswith(b"\0MRM"):
        return _of_minolta(file)
    if blocks := read_canon(file):
        return _of_canon(blocks)
    if header[:4] not in _HEADERS and header[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Directories("<")
    read = exif.file_reader(file)

    def patched(offset: int, size: int) -> bytes:
        content = read(offset, size)
        return content if offset else _HEADERS.get(content[:4], content[:4]) + content[4:]

    return exif.read_directories(patched)


def photographic(found: Directories) -> tuple[Directories, tuple[str, ...]]:
    """The tags that are about the photo, where EXIF has them; and what else a user may miss, as phrases."""
    main = {tag: value for tag, value in found.main.items() if tag in _MAIN_TAGS}
    exposure = {tag: value for tag, value in found.exif.items() if tag not in _UNFIT_EXIF_TAGS}
    for tag, number in _EXPOSURE_TAGS.items():
        if tag in found.main:
            exposure.setdefault(number, found.main[tag])
    if Base.Model not in main and _UNIQUE_MODEL in found.main:
        main[Base.Model] = found.main[_UNIQUE_MODEL]
    named = {
        _PHOTOSHOP: "its Photoshop resources",
        _C2PA: CREDENTIALS,
        _ORIGINAL_FILE: "the original RAW file inside it",
    }
    lost = [phrase for tag, phrase in named.items() if tag in found.main]
    known = _MAIN_TAGS | _TECHNICAL_TAGS | _EXPOSURE_TAGS.keys() | named.keys()
    if Base.MakerNote in found.exif or found.main.keys() - known:
        lost.append(MAKER_NOTES)
    if found.unread - _TECHNICAL_TAGS:
        lost.append("EXIF tags whose values lie outside the file")
    kept = Directories(found.order, _not_empty(main), _not_empty(exposure), _not_empty(found.gps))
    return kept, tuple(lost)


def _not_empty(values: dict[int, Value]) -> dict[int, Value]:
    """The values that have any bytes; those of an unknown type have none."""
    return {tag: value for tag, value in values.items() if value.content}


def _of_canon(blocks: dict[str, bytes]) -> Directories:
    """CR3: each directory is a TIFF of its own."""
    parts = {
        name: exif.read_directories(exif.file_reader(io.BytesIO(block)))
        for name, block in blocks.items()
        if name.startswith("CMT")
    }
    if not parts:
        return Directories("<")
    empty = Directories(next(iter(parts.values())).order)
    main, exposure, gps = (parts.get(name, empty) for name in ("CMT1", "CMT2", "CMT4"))
    if len({part.order for part in parts.values()}) > 1:
        raise BrokenExifError("its parts differ in byte order")
    notes = {int(Base.MakerNote): Value(_UNDEFINED, b"\0")} if "CMT3" in parts else {}
    unread = main.unread | exposure.unread | gps.unread
    return Directories(empty.order, main.main, exposure.main | notes, gps.main, unread)


def _of_fujifilm(file: BinaryIO) -> Directories:
    """RAF: the preview is a JPEG with all EXIF in its first segment."""
    file.seek(84)
    start, size = struct.unpack(">II", file.read(8))
    file.seek(start)
    preview = file.read(min(size, 2 + 2 + 65_535))
    mark = preview.find(b"Exif\0\0")
    if not preview.startswith(b"\xff\xd8\xff") or mark < 0:
        return Directories("<")
    return exif.read_directories(exif.file_reader(io.BytesIO(preview[mark + 6 :])))


def _of_minolta(file: BinaryIO) -> Directories:
    """MRW: one of the blocks before the sensor's data is a TIFF."""
    file.seek(4)
    end = 8 + struct.unpack(">I", file.read(4))[0]
    while file.tell() + 8 <= end:
        name, size = struct.unpack(">4sI", file.read(8))
        content = file.read(min(size, end))
        if name == b"\0TTW":
            return exif.read_directories(exif.file_reader(io.BytesIO(content)))
    return Directories("<")


_CIFF_MODEL, _CIFF_OWNER, _CIFF_SERIAL = 0x080A, 0x0810, 0x180B
_MOST_HEAPS = 64  # a camera writes five
_LONGEST_RECORD = 1024  # bytes, of those that are read


def _of_ciff(file: BinaryIO) -> Directories:
    """CRW: Canon's own directories. All but camera, owner, and serial number counts as maker notes."""
    file.seek(0)
    order: ByteOrder = "<" if file.read(2) == b"II" else ">"
    (start,) = struct.unpack(order + "I", file.read(4))
    found = _ciff_records(file, order, start)
    make, _, model = found.get(_CIFF_MODEL, b"").partition(b"\0")
    texts = {Base.Make: make, Base.Model: model, Base.Artist: found.get(_CIFF_OWNER, b"")}
    main = {int(tag): _ascii_value(text.partition(b"\0")[0]) for tag, text in texts.items()}
    exposure: dict[int, Value | None] = {Base.MakerNote: Value(_UNDEFINED, b"\0")}
    if len(serial := found.get(_CIFF_SERIAL, b"")) >= 4:
        (number,) = struct.unpack_from(order + "I", serial)
        # as the camera's label has it (ExifTool's CanonRaw)
        text = f"{number >> 16:x}-{number & 0xFFFF:05d}" if b"D30" in model else f"{number:010d}"
        exposure[Base.BodySerialNumber] = _ascii_value(text.encode())
    return Directories(order, _given(main), _given(exposure))


def _ciff_records(file: BinaryIO, order: ByteOrder, start: int) -> dict[int, bytes]:
    """The short records from byte `start` on by number, those of heaps within heaps included.

    Raises BrokenExifError.
    """
    heaps, records = [(start, file.seek(0, os.SEEK_END))], {}
    try:
        for begin, end in heaps:
            file.seek(end - 4)
            (table,) = struct.unpack(order + "I", file.read(4))
            file.seek(begin + table)
            (count,) = struct.unpack(order + "H", file.read(2))
            for tag, content in list(struct.iter_unpack(order + "H8s", file.read(10 * count))):
                size, offset = struct.unpack(order + "II", content)
                number = tag & 0x3FFF
                if tag & 0xC000 == 0x4000:  # the value stands in the table
                    records[number] = content
                elif number & 0x3800 in (0x2800, 0x3000) and len(heaps) < _MOST_HEAPS:
                    heaps.append((begin + offset, begin + offset + size))
                elif size <= _LONGEST_RECORD:
                    file.seek(begin + offset)
                    records[number] = file.read(size)
    except (struct.error, OSError, ValueError) as error:
        raise BrokenExifError(f"a directory is cut short ({error})") from error
    return records


def _given(values: Mapping[int, Value | None]) -> dict[int, Value]:
    return {tag: value for tag, value in values.items() if value is not None}


def _ascii_value(text: bytes) -> Value | None:
    return Value(_ASCII, text + b"\0") if text.strip() else None


def _add_known(kept: Directories, raw: rawpy.RawPy) -> None:
    """What LibRaw read of the exposure, where the tags say nothing."""
    other, order = raw.other, kept.order
    exposure: dict[int, Value | None] = {Base.LensModel: _ascii_value((raw.lens.model or "").encode())}
    if (iso := min(65535, round(other.iso_speed))) > 0:
        exposure[Base.ISOSpeedRatings] = Value(_SHORT, struct.pack(order + "H", iso))
        exposure[Base.ExposureTime] = _ratio(order, other.shutter_speed)
        exposure[Base.FNumber] = _ratio(order, other.aperture)
        exposure[Base.FocalLength] = _ratio(order, other.focal_length)
    if isinstance(other.timestamp, datetime) and other.timestamp.year > 1970:
        moment = other.timestamp.strftime("%Y:%m:%d %H:%M:%S")
        exposure[Base.DateTimeOriginal] = _ascii_value(moment.encode())
    _fill(kept.exif, exposure)
    _fill(kept.main, {Base.Artist: _ascii_value((other.artist or "").encode())})


def _fill(directory: dict[int, Value], values: Mapping[int, Value | None]) -> None:
    """Puts the values where there is none, or nothing but zeros and spaces."""
    for tag, value in _given(values).items():
        if tag not in directory or not directory[tag].content.strip(b"\0 "):
            directory[tag] = value


def _ratio(order: ByteOrder, value: float) -> Value | None:
    if not 0 < value < 1e6:
        return None
    ratio = Fraction(value).limit_denominator(10_000)
    return Value(_RATIONAL, struct.pack(order + "II", ratio.numerator, ratio.denominator))

"""A maker of camera RAW for tests: an uncompressed DNG with a Bayer mosaic, as small as rawpy decodes it.

Its camera sees linear sRGB, so that what comes of it can be worked out by hand.
"""

import struct

import numpy as np
from PIL.ExifTags import Base

WHITE, BLACK = 16_000, 400
SRGB_FROM_XYZ = [32406, -15372, -4986, -9689, 18758, 415, 557, -2040, 10570]  # ten-thousandths
CAMERA = {"make": "Lens & Sons", "model": "Box 1"}
TIME, LENS = "2024:05:17 12:30:00", "50mm F2"

# Four quarters in linear light 0-1: top left, top right, bottom left, bottom right
QUARTERS = np.array([[0.6, 0.1, 0.1], [0.1, 0.5, 0.1], [0.05, 0.1, 0.55], [0.18, 0.18, 0.18]])


def quarters(size: int = 64) -> np.ndarray:
    """Linear light of a picture of four plain quarters, size 1.5*size 3."""
    rows, columns = np.mgrid[:size, : size * 3 // 2]
    return QUARTERS[(rows >= size // 2) * 2 + (columns >= size * 3 // 4)]


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def make_dng(
    linear: np.ndarray,
    neutral=(1.0, 1.0, 1.0),
    orientation: int = 1,
    exif: bool = True,
    further: dict | None = None,
    notes: dict | None = None,
) -> bytes:
    """A DNG of linear light H W 3 seen through RGGB filters; `neutral` is how the camera sees white."""
    sensor = np.clip(linear * neutral, 0, 1)
    mosaic = sensor[:, :, 1].copy()
    mosaic[::2, ::2] = sensor[::2, ::2, 0]
    mosaic[1::2, 1::2] = sensor[1::2, 1::2, 2]
    samples = np.rint(mosaic * (WHITE - BLACK) + BLACK).astype("<u2").tobytes()
    height, width = mosaic.shape
    entries = {
        **{254: ("I", [0]), 256: ("I", [width]), 257: ("I", [height]), 258: ("H", [16]), 259: ("H", [1])},
        **{262: ("H", [32803]), 271: ("s", CAMERA["make"]), 272: ("s", CAMERA["model"]), 273: ("I", [0])},
        **{274: ("H", [orientation]), 277: ("H", [1]), 278: ("I", [height]), 279: ("I", [len(samples)])},
        **{284: ("H", [1]), 33421: ("H", [2, 2]), 33422: ("B", [0, 1, 1, 2]), 50706: ("B", [1, 4, 0, 0])},
        **{50708: ("s", "Lens & Sons Box 1"), 50714: ("H", [BLACK]), 50717: ("H", [WHITE])},
        **{50721: ("r", [(value, 10_000) for value in SRGB_FROM_XYZ])},
        **{50728: ("R", [(round(value * 10_000), 10_000) for value in neutral]), 50778: ("H", [21])},
    }
    if exif:
        entries |= {306: ("s", TIME), 34665: ("I", [0]), 34853: ("I", [0])}
    return _tiff(entries | (further or {}), samples, notes or {})


def _tiff(entries: dict, samples: bytes, notes: dict) -> bytes:
    start = 8 + 2 + 12 * len(entries) + 4
    tail = bytearray()

    def place(data: bytes) -> int:
        tail.extend(b"\0" * (len(tail) % 2))
        tail.extend(data)
        return start + len(tail) - len(data)

    directory = struct.pack("<H", len(entries))
    for tag, (kind, given) in sorted(entries.items()):
        values = given
        if tag == 273:
            values = [place(samples)]
        elif tag in (34665, 34853):
            values = [_sub_directory(tag, start + len(tail) + len(tail) % 2, place, notes)]
        data, count, code = _packed(kind, values)
        inline = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", place(data))
        directory += struct.pack("<HHI", tag, code, count) + inline
    return b"II*\0\x08\0\0\0" + directory + b"\0\0\0\0" + bytes(tail)


def _packed(kind: str, values) -> tuple[bytes, int, int]:
    if kind == "s":
        data = values.encode() + b"\0"
        return data, len(data), 2
    if kind in "rR":
        code = "i" if kind == "r" else "I"
        flat = [number for pair in values for number in pair]
        return struct.pack(f"<{len(flat)}{code}", *flat), len(values), 10 if kind == "r" else 5
    return struct.pack(f"<{len(values)}{kind}", *values), len(values), {"B": 1, "H": 3, "I": 4}[kind]


def _sub_directory(tag: int, offset: int, place, notes: dict) -> int:
    if tag == 34665:
        entries = {
            Base.ExposureTime: ("R", [(1, 250)]),
            Base.FNumber: ("R", [(28, 10)]),
            Base.ISOSpeedRatings: ("H", [400]),
            Base.DateTimeOriginal: ("s", TIME),
            Base.LensModel: ("s", LENS),
            **notes,
        }
    else:
        entries = {1: ("s", "N"), 2: ("R", [(48, 1), (30, 1), (15, 10)])}
    directory = struct.pack("<H", len(entries))
    tail = b""
    for number, (kind, values) in sorted(entries.items()):
        data, count, code = _packed(kind, values)
        inline = data.ljust(4, b"\0")
        if len(data) > 4:
            inline = struct.pack("<I", offset + 2 + 12 * len(entries) + 4 + len(tail))
            tail += data + b"\0" * (len(data) % 2)
        directory += struct.pack("<HHI", number, code, count) + inline
    return place(directory + b"\0\0\0\0" + tail)

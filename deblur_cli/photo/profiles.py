"""ICC profiles of RGB spaces, for pictures that name their space otherwise: RAW conversions and nclx tags.

A profile here is a version 4 display profile of three primaries and one curve (ICC.1:2022, 8.3.3).
imagecodecs' own carry the time of their making and no name of their space: the same photo would give other
bytes each time, and editors would show "RGB built-in".
"""

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_D65, _D50 = (0.3127, 0.3290), (0.3457, 0.3585)
_PCS_WHITE = np.array([0.9642, 1.0, 0.8249])  # the D50 of the profile connection space
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# Parameters of ICC's parametricCurveType: type 0 is a power, type 3 a power with a linear start.
_SRGB_CURVE = (3, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
_BT709_CURVE = (3, (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081))


def _power(exponent: float) -> tuple[int, tuple[float, ...]]:
    return 0, (exponent,)


class _Space(NamedTuple):
    """Name that programs show, white and primaries as x, y, and the curve to linear light."""

    title: str
    white: tuple[float, float]
    primaries: tuple[tuple[float, float], ...]
    curve: tuple[int, tuple[float, ...]]


_BT709 = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))

_SPACES = {
    "srgb": _Space("sRGB", _D65, _BT709, _SRGB_CURVE),
    "adobe": _Space(
        "Compatible with Adobe RGB (1998)",
        _D65,
        ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06)),
        _power(563 / 256),
    ),
    "prophoto": _Space(
        "ProPhoto RGB", _D50, ((0.734699, 0.265301), (0.159597, 0.840403), (0.036598, 0.000105)), _power(1.8)
    ),
    "p3": _Space("Display P3", _D65, _P3, _SRGB_CURVE),
}

# Code points of ITU-T H.273
_CICP_PRIMARIES = {1: ("BT.709", _BT709), 9: ("BT.2020", _BT2020), 12: ("Display P3", _P3)}
_CICP_CURVES = {1: _BT709_CURVE, 2: _SRGB_CURVE, 4: _power(2.2), 5: _power(2.8), 6: _BT709_CURVE}
_CICP_CURVES |= {8: _power(1.0), 13: _SRGB_CURVE, 14: _BT709_CURVE, 15: _BT709_CURVE}
_CICP_TITLES = {4: " gamma 2.2", 5: " gamma 2.8", 8: " linear"}
_USUAL = (1, 2)  # primaries that, with a usual curve, are what a picture without a profile is taken for
_USUAL_CURVES = (1, 2, 6, 13, 14, 15)


def space_profile(name: str) -> bytes:
    """The profile of "srgb", "adobe", "prophoto" or "p3". Raises KeyError for another name."""
    return _profile(_SPACES[name])


def cicp_profile(primaries: int, transfer: int) -> bytes | None:
    """The profile for an nclx tag's color primaries and transfer characteristics (ITU-T H.273).

    Returns None for what needs none, and for what a profile cannot say (HDR, rare primaries).
    """
    if primaries in _USUAL and transfer in _USUAL_CURVES:
        return None
    if primaries not in _CICP_PRIMARIES or transfer not in _CICP_CURVES:
        return None
    title, corners = _CICP_PRIMARIES[primaries]
    # Cameras tag stills with the video curve but encode them for screens, as with sRGB.
    curve = _SRGB_CURVE if transfer in _USUAL_CURVES else _CICP_CURVES[transfer]
    return _profile(_Space(title + _CICP_TITLES.get(transfer, ""), _D65, corners, curve))


def _profile(space: _Space) -> bytes:
    columns, adaptation = _colorants(space)
    curve = _curve(space.curve)
    tags = {
        b"desc": _text(space.title),
        b"cprt": _text("No copyright, use freely"),
        b"wtpt": _xyz(_PCS_WHITE),
    }
    tags[b"chad"] = b"sf32\0\0\0\0" + _fixed(adaptation.ravel())
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True):
        tags[name] = _xyz(column)
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, body = b"", b""
    start = 128 + 4 + 12 * len(tags)
    places: dict[bytes, int] = {}
    for name, content in tags.items():
        if content not in places:  # the three curves are one
            places[content] = start + len(body)
            body += content + b"\0" * (-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    head = struct.pack(
        ">I4s4s4s4s4s", start + len(body), b"\0\0\0\0", b"\x04\x40\0\0", b"mntr", b"RGB ", b"XYZ "
    )
    head += struct.pack(">6H4s", 2024, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _fixed(_PCS_WHITE)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def _colorants(space: _Space) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """XYZ of the primaries in columns, adapted to D50, and the matrix that adapted them."""
    corners = np.array([[x, y, 1 - x - y] for x, y in space.primaries]).T
    x, y = space.white
    white = np.array([x / y, 1, (1 - x - y) / y])
    matrix = corners * np.linalg.solve(corners, white)
    cones = np.diag((_BRADFORD @ _PCS_WHITE) / (_BRADFORD @ white))
    adaptation = np.linalg.inv(_BRADFORD) @ cones @ _BRADFORD
    return adaptation @ matrix, adaptation


def _fixed(values: NDArray[np.float64] | tuple[float, ...]) -> bytes:
    """ICC's s15Fixed16Numbers."""
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(values)


def _curve(curve: tuple[int, tuple[float, ...]]) -> bytes:
    kind, parameters = curve
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(parameters)


def _text(text: str) -> bytes:
    """ICC's multiLocalizedUnicodeType with one English record."""
    content = text.encode("utf-16-be")
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(content), 28) + content

"""Colors that mean something: confidence, direction, speed. Each is even to the eye."""

import numpy as np
from numpy.typing import NDArray

from deblur_cli.pictures.maps import Floats, Pixels8

Values = NDArray[np.floating]

# Confidence from barely to surely blurred: nine points of "inferno" between 0.28 and 0.98, the map that
# Nathaniel Smith and Stefan van der Walt made for matplotlib (CC0). Lightness climbs in even steps, so that
# equal steps of confidence look equal, also to color-blind eyes.
_CONFIDENCE_STOPS = np.array(
    [
        (98, 20, 110),
        (135, 33, 107),
        (169, 46, 94),
        (202, 64, 74),
        (229, 92, 48),
        (246, 126, 20),
        (252, 168, 13),
        (247, 211, 64),
        (245, 249, 146),
    ],
    dtype=np.float32,
)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601 weights of encoded R, G, B

# Lightness and chroma in OKLab (Bjorn Ottosson, "A perceptual color space for image processing", 2020).
# This lightness holds the most vivid circle inside sRGB.
_VIVID = (0.76, 0.125)
_STILL_LIGHTNESS = 0.28
_DARK = 64  # mean of the samples, 0-255, below which a photo was taken at night


def confidence_colors(confidence: Floats) -> Floats:
    """The color, 0-255, of confidences scaled so that 0 is epsilon and 1 is sure: ... -> ... 3."""
    place = np.clip(confidence, 0, 1) * (len(_CONFIDENCE_STOPS) - 1)
    before = np.minimum(place.astype(np.int64), len(_CONFIDENCE_STOPS) - 2)
    share = (place - before)[..., None].astype(np.float32)
    low, high = _CONFIDENCE_STOPS[before], _CONFIDENCE_STOPS[before + 1]
    color: Floats = low + share * (high - low)
    return color


def direction_colors(angle: Floats) -> Floats:
    """A color per direction, all equally light and vivid (a circle in OKLab): ... -> ... 3, 0-255.

    angle: radians, 0 to the right, growing downwards as rows do
    """
    lightness, chroma = _VIVID
    return _from_oklab(np.full_like(angle, lightness), chroma * np.cos(angle), chroma * np.sin(angle))


def motion_colors(angle: Floats, speed: Floats) -> Floats:
    """Direction as hue and speed (0-1) as lightness and vividness: ... -> ... 3, 0-255."""
    lightness, chroma = _VIVID
    light = _STILL_LIGHTNESS + (lightness - _STILL_LIGHTNESS) * speed
    return _from_oklab(light, chroma * speed * np.cos(angle), chroma * speed * np.sin(angle))


def as_rgb(pixels: Pixels8) -> Floats:
    """Return H W 3 or H W 1 as floats H W 3."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.float32)


def luma(photo: Floats) -> Floats:
    """The light of pixels: ... 3 -> ... 1."""
    light: Floats = (photo @ _LUMA)[..., None]
    return light


def subdued(photo: Floats, gray: float, brightness: float) -> Floats:
    """The photo with part of its color and light taken away."""
    return (photo + gray * (luma(photo) - photo)) * np.float32(brightness)


def dimming(pixels: Pixels8, brightness: float) -> float:
    """By how much to dim a photo (H W 3 or H W 1): as wanted, but less where it is dark already."""
    light = float(pixels[::16, ::16].mean())
    return brightness + (1 - brightness) * max(0.0, 1 - light / _DARK)


def tinted(photo: Floats, color: Floats, strength: float) -> Floats:
    """Color photo pixels and keep enough of their light and shade to tell what is in the picture."""
    shade = np.float32(0.6) + np.float32(0.4 / 255) * luma(photo)
    pixels: Floats = (1 - strength) * photo + strength * color * shade
    return pixels


def _from_oklab(lightness: Values, a: Values, b: Values) -> Floats:
    roots = [
        lightness + 0.3963377774 * a + 0.2158037573 * b,
        lightness - 0.1055613458 * a - 0.0638541728 * b,
        lightness - 0.0894841775 * a - 1.2914855480 * b,
    ]
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(np.stack(roots, axis=-1) ** 3 @ to_linear.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255, np.float32)

"""Makers of picture files and photos for the tests of deblur_cli.photo."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from deblur_cli.errors import PhotoError
from deblur_cli.photo.decode import decode
from deblur_cli.photo.photo import Metadata, Photo

CAMERA = Path(__file__).parents[2] / "shared" / "camera"
needs_camera = pytest.mark.skipif(not CAMERA.is_dir(), reason="the camera files are not here")

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "TIFF": ".tif", "BMP": ".bmp"}
LOSSLESS = ("PNG", "TIFF", "WEBP")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/">'
XMP += b'<a tiff:Orientation="6">\xc3\xa9</a></x:xmpmeta>'
MAKER_NOTE = bytes(range(200))

# How an upright picture is stored under each orientation, in Pillow's words.
_STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def damaged(
    content: bytes, changes: list[tuple[float, int]], kept: float = 1, towards_start: float = 2
) -> bytes:
    """Bytes cut off, some of them changed, each at a place in 0-1 that is drawn towards the start."""
    spoilt = bytearray(content)
    for where, value in changes:
        spoilt[int(len(spoilt) * where**towards_start)] = value
    return bytes(spoilt[: int(len(spoilt) * kept)])


def check_photo_or_known_error(path: Path) -> None:
    """Whatever a file holds, decoding it gives a photo of allowed size, or one line that names the file."""
    try:
        photo = decode(path, max_megapixels=1)
    except PhotoError as error:
        assert "\n" not in str(error)
        assert path.name in str(error)
    else:
        assert photo.megapixels <= 1


def random_pixels(height: int, width: int, channels: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth_pixels(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Waves that a JPEG keeps well, without any symmetry."""
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / (9 + c) + columns / (14 - c)) + columns / width for c in range(channels)]
    return np.clip(np.stack(waves, axis=2) * 60 + 100, 0, 255).astype(np.uint8)


def exif_block(orientation: int = 1, width: int = 8, height: int = 6) -> bytes:
    """EXIF with a maker, an exposure directory, sides, GPS and a maker note; no "Exif" prefix."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Lens & Sons"
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.ISOSpeedRatings: 400,
        ExifTags.Base.ExifImageWidth: width,
        ExifTags.Base.ExifImageHeight: height,
        ExifTags.Base.MakerNote: MAKER_NOTE,
    }
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (48.0, 30.0, 1.5)}
    return exif.tobytes()[6:]


def exif_tags(block: bytes) -> dict[str, object]:
    """What Pillow reads out of an EXIF block, directory by directory."""
    exif = Image.Exif()
    exif.load(block)
    return {
        "main": {tag: value for tag, value in exif.items() if tag not in (0x8769, 0x8825)},
        "exposure": dict(exif.get_ifd(ExifTags.IFD.Exif)),
        "gps": dict(exif.get_ifd(ExifTags.IFD.GPSInfo)),
    }


def to_pillow(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def stored(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_STORED[orientation])


def file_bytes(image: Image.Image, format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    if format == "WEBP":
        options = {"lossless": True, "exact": True} | options
    image.save(stream, format, **options)
    return stream.getvalue()


def make_photo(pixels: np.ndarray, source: Path, **fields: object) -> Photo:
    return Photo(pixels=pixels, source=source, **({"format": "PNG"} | fields))


def full_metadata() -> Metadata:
    return Metadata(icc=SRGB, exif=exif_block(), xmp=XMP, dpi=(300.0, 300.0))

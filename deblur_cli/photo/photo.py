"""A photo in memory: upright pixels and everything of its file that must survive."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# What no result carries, whatever the kind of file: phrases of `Photo.left_out`
MOTION_VIDEO = "the video of its motion photo"
GAIN_MAP = "its gain map for HDR screens"
DEPTH_MAP = "its depth map"
CREDENTIALS = "its C2PA credentials, which would not match the restored picture"


def white(samples: NDArray[np.generic]) -> int:
    """The value of full light (or full ink) in samples of this type: 255 or 65535."""
    return 255 if samples.dtype == np.uint8 else 65535


@dataclass(frozen=True)
class JpegSettings:
    """How the source JPEG was written, in terms of the upright picture, to write the result alike.

    quantization  component number (0 = Y or gray) -> 64 values, row by row, as Pillow gives and takes
                  them; components without an entry share the last one
    subsampling   Pillow's code (0 = 4:4:4, 1 = 4:2:2, 2 = 4:2:0), -1 where Pillow knows no code
    rgb           components are R, G, B themselves, not Y, Cb, Cr
    """

    quantization: dict[int, list[int]]
    subsampling: int
    progressive: bool
    rgb: bool = False


@dataclass(frozen=True, eq=False)
class ExtraChannels:
    """Channels beside color and alpha: spot colors, masks, a second alpha.

    samples  H W N of the photo's own type; kinds  their ExtraSamples codes in TIFF
    """

    samples: NDArray[np.generic]
    kinds: tuple[int, ...]


@dataclass(frozen=True)
class Stamp:
    """What tells a file from another one of its name: size in bytes, time of change, hash of its content."""

    size: int
    modified: int  # nanoseconds
    digest: bytes


@dataclass(frozen=True)
class Metadata:
    """Blocks of the source file that go into the result; None where the file had none."""

    icc: bytes | None = None  # ICC profile, byte for byte
    exif: bytes | None = None  # starts with the TIFF header; orientation set to 1, thumbnail taken out
    xmp: bytes | None = None
    xmp_extension: tuple[bytes, ...] = ()  # segments of a JPEG that carry on an XMP above 64 KB
    dpi: tuple[float, float] | None = None  # dots per inch across and down, of the upright picture
    density: tuple[int, int] | None = None  # the same where a JPEG names no unit: only their ratio counts
    dots_per_cm: tuple[int, int] | None = (
        None  # the same as `dpi` where a JPEG counts so, which inches would round
    )
    comment: bytes | None = None  # JPEG or GIF comment
    photoshop: bytes | None = None  # Photoshop's image resources, the home of IPTC captions
    jpeg_segments: tuple[bytes, ...] = ()  # segments of a JPEG that belong to programs of their own, whole
    jpeg_trailer: bytes = b""  # what cameras and programs keep behind a JPEG
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()  # name and content of PNG's text and color chunks
    cicp: tuple[int, int, int] | None = None  # primaries, transfer, matrix (ITU-T H.273) of HDR pictures
    light: tuple[tuple[bytes, bytes], ...] = ()  # name and content of AVIF's properties on brightness of HDR


@dataclass(frozen=True, eq=False)
class Photo:
    """One picture, turned upright.

    pixels       H W C, uint8 or uint16; C is 3 (RGB) or 1 (gray); the file's own encoded values, or what
                 stands for them where `stored` is given
    alpha        H W of the same type, or None
    stored       H W C of the same type: the file's own samples where they are of a kind that networks
                 do not know, CMYK (C is 4, 0 = no ink) or linear light (C is 3 or 1); None otherwise.
                 `pixels` is then a view of them, encoded as sRGB is
    orientation  EXIF orientation that the file had, 1-8; `pixels` are already turned
    extra        further channels of a TIFF, or None
    format       Pillow's name of the file's format, such as "JPEG" (which also stands for MPO), "RAW" for
                 camera RAW, "HEIF" for HEIC, "JXL", "JP2", "LJPEG" for lossless and 12-bit JPEG
    bits         bits per sample that the file holds, 8-16; more than 8 are spread over 16 in `pixels`
    lossless     the file holds these very pixels: false for JPEG, HEIC, AVIF and lossy WebP
    left_out     what the file holds and no result will, as phrases such as "its depth map"
    stamp        tells whether the source is still the file that was read; None for a photo without a file
    """

    pixels: NDArray[np.generic]
    source: Path
    format: str
    alpha: NDArray[np.generic] | None = None
    stored: NDArray[np.generic] | None = None
    extra: ExtraChannels | None = None
    orientation: int = 1
    bits: int = 8
    lossless: bool = True
    metadata: Metadata = field(default_factory=Metadata)
    jpeg: JpegSettings | None = None
    left_out: tuple[str, ...] = ()
    stamp: Stamp | None = None

    @property
    def is_cmyk(self) -> bool:
        """Whether the file holds inks."""
        return self.stored is not None and self.stored.shape[2] == 4

    @property
    def height(self) -> int:
        """Rows of the upright picture."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns of the upright picture."""
        return int(self.pixels.shape[1])

    @property
    def megapixels(self) -> float:
        """Pixels in millions."""
        return self.height * self.width / 1e6


def to_eight_bits(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The nearest 8-bit values of samples; the very array if it has 8 bits already."""
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    table = np.rint(np.arange(65536) / 257).astype(np.uint8)
    eight: NDArray[np.uint8] = table[array]
    return eight


def rgb_profile(photo: Photo) -> Metadata:
    """Return the profile of a drawing over a photo: an RGB one still describes it, others would not fit."""
    fits = photo.stored is None and photo.pixels.shape[2] == 3
    return Metadata(icc=photo.metadata.icc if fits else None)

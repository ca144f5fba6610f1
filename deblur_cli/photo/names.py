"""Which files of a folder are pictures, told by their names alone. Nothing here needs a package."""

from typing import Protocol

RAW_SUFFIXES = frozenset(
    {
        *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".kdc", ".mef"),
        *(".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf"),
        *(".srw", ".x3f"),
    }
)
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_PICTURE_SUFFIXES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif"),
        *(".jxl", ".jp2", ".j2k", ".jpf", ".jpx"),
    }
)
_UNREAD_SUFFIXES = frozenset(  # GIF is read where a file is named; in folders it is nearly always animated
    {".gif", ".psd", ".psb", ".exr", ".hdr", ".heics", ".avifs", ".jxr", ".jls"}
)


class Named(Protocol):
    """A path, or what has a name as paths do."""

    @property
    def name(self) -> str:
        """The last part."""

    @property
    def suffix(self) -> str:
        """The end of the name, with its dot."""


def is_picture_name(path: Named) -> bool:
    """Whether a folder walk should take the file: by suffix, in any case, hidden files left out.

    Hidden files go since the `._IMG.JPG` that macOS strews over memory cards are no pictures.
    """
    suffixes = _PICTURE_SUFFIXES | RAW_SUFFIXES | HEIC_SUFFIXES
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def is_unread_name(path: Named) -> bool:
    """Whether a file's suffix is that of a picture that no folder is searched for: PSD, GIF, EXR ..."""
    return path.suffix.lower() in _UNREAD_SUFFIXES

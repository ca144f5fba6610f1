"""The file formats as people call them, and the packages that some of them need. Imports nothing heavy."""

from importlib.util import find_spec
from typing import NamedTuple

# By what `Photo.format` calls them
NAMES = {
    "JPEG": "JPEG",
    "PNG": "PNG",
    "WEBP": "WebP",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "HEIF": "HEIC",
    "AVIF": "AVIF",
    "JXL": "JPEG XL",
    "JP2": "JPEG 2000",
    "RAW": "camera RAW",
}


class Extra(NamedTuple):
    """An extra of the package deblur-cli that lets a format be read, and the module that it installs."""

    name: str
    module: str

    @property
    def is_installed(self) -> bool:
        """Whether the module is there; it is not loaded."""
        return find_spec(self.module) is not None


EXTRAS = {"HEIF": Extra("heif", "pillow_heif"), "JXL": Extra("jxl", "pillow_jxl")}


def readable() -> list[str]:
    """The names of the formats that can be read with what is installed."""
    return [name for format, name in NAMES.items() if format not in EXTRAS or EXTRAS[format].is_installed]

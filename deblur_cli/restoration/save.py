"""A photo after restoration -> its file, the same for every command."""

from pathlib import Path

from deblur_cli.photo import encode
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Result


def is_copied(path: Path, photo: Photo, result: Result, *, strip: bool = False) -> bool:
    """Whether the source's own bytes are the result, since nothing had to be done."""
    return not result.changed and encode.is_copy_possible(photo, encode.format_of(path.name), strip=strip)


def save(
    path: Path,
    photo: Photo,
    result: Result,
    label: str,
    *,
    quality: int | None = None,
    overwrite: bool = False,
    note: bool = True,
    strip: bool = False,
    strict: bool = False,
) -> tuple[str, ...]:
    """Writes a photo as restored; what the options mean, returns, and raises is as of `encode.encode`.

    label: names the weights in the note on what was done, which is left out without `note`
    """
    if is_copied(path, photo, result, strip=strip):
        encode.copy_unchanged(photo, path, overwrite=overwrite)
        return ()
    what = f"{label}, {result.request}" if result.changed else "nothing restored"
    return encode.encode(
        result.photo,
        path,
        format=encode.format_of(path.name),
        quality=quality,
        overwrite=overwrite,
        note=encode.note_on(what) if note else None,
        strip=strip,
        strict=strict,
    )

"""Shrink a folder of sharp photos to a given size, to send it to a training machine.

    python examples/pack_photos.py PHOTOS PACKED --megabytes 45
    deblur train base-gpu --photos PACKED -o runs/base

All photos become JPEGs with the same longest side: the largest at which the whole folder fits.
"""

import argparse
import io
from pathlib import Path

from PIL import Image, ImageOps

from deblur_cli.errors import TrainingError
from deblur_cli.train.datasets import find_photos

SIDES = (3072, 2560, 2048, 1792, 1536, 1280, 1152, 1024, 896, 768, 640, 512)  # pixels
QUALITY = 92  # lower qualities leave blocks that a network would learn as detail


def packed(path: Path, side: int) -> bytes:
    """A photo as an upright JPEG of at most `side` pixels each way."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((side, side), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    upright.save(content, "JPEG", quality=QUALITY, optimize=True)
    return content.getvalue()


def largest_fit(paths: list[Path], limit: int) -> dict[str, bytes]:
    """File names and contents, at the largest side at which all of them fit into `limit` bytes."""
    for side in SIDES:
        contents = {f"{path.stem}.jpg": packed(path, side) for path in paths}
        if sum(map(len, contents.values())) <= limit:
            return contents
    raise SystemExit(
        f"error: {len(paths)} photos do not fit into {limit:,} bytes; raise --megabytes or use fewer photos"
    )


def main() -> None:
    """Write the packed photos and print their total size."""
    parser = argparse.ArgumentParser(description="Shrink a folder of sharp photos to a given size.")
    parser.add_argument("photos", type=Path, help="folder of sharp photos")
    parser.add_argument("packed", type=Path, help="folder for the JPEGs")
    parser.add_argument("--megabytes", type=float, default=45.0, help="size of the folder [%(default)s]")
    choices = parser.parse_args()
    try:
        paths = find_photos(choices.photos)
    except TrainingError as error:
        raise SystemExit(f"error: {error}") from error
    contents = largest_fit(paths, int(choices.megabytes * 1e6))
    choices.packed.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (choices.packed / name).write_bytes(content)
    print(f"{len(contents)} photos, {sum(map(len, contents.values())):,} bytes in {choices.packed}")


if __name__ == "__main__":
    main()

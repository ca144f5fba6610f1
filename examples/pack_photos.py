"""Shrink a folder of sharp photos to a given size, to send it to a training machine.

    python examples/pack_photos.py PHOTOS PACKED --megabytes 45
    deblur train base-gpu --photos PACKED -o runs/base

All photos become JPEGs with the same longest side: the largest at which the whole folder fits.
"""

import argparse
from pathlib import Path

from deblur_cli.errors import PhotoError, TrainingError
from deblur_cli.train.datasets import find_photos, packed, read_rgb

SIDES = range(512, 3072 + 1, 64)  # pixels


def largest_fit(paths: list[Path], limit: int) -> dict[str, bytes]:
    """File names and contents, at the largest side at which all of them fit into `limit` bytes.

    Raises PhotoError for a photo that cannot be read, TrainingError where they do not fit.
    """
    low, high, best = 0, len(SIDES), dict[str, bytes]()
    while low < high:
        middle = (low + high) // 2
        contents = {f"{path.stem}.jpg": packed(read_rgb(path), SIDES[middle]) for path in paths}
        if sum(map(len, contents.values())) <= limit:
            low, best = middle + 1, contents
        else:
            high = middle
    if best:
        return best
    raise TrainingError(
        f"{len(paths)} photos do not fit into {limit:,} bytes; raise --megabytes or use fewer photos"
    )


def main() -> None:
    """Write the packed photos and print their total size."""
    parser = argparse.ArgumentParser(description="Shrink a folder of sharp photos to a given size.")
    parser.add_argument("photos", type=Path, help="folder of sharp photos")
    parser.add_argument("packed", type=Path, help="folder for the JPEGs")
    parser.add_argument("--megabytes", type=float, default=45.0, help="size of the folder [%(default)s]")
    choices = parser.parse_args()
    try:
        contents = largest_fit(find_photos(choices.photos), int(choices.megabytes * 1e6))
    except (PhotoError, TrainingError) as error:
        raise SystemExit(f"error: {error}") from error
    choices.packed.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (choices.packed / name).write_bytes(content)
    print(f"{len(contents)} photos, {sum(map(len, contents.values())):,} bytes in {choices.packed}")


if __name__ == "__main__":
    main()

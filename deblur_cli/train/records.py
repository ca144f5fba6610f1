"""What a run leaves for people to look at: tables, and pictures of what the network does."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from deblur_cli.files import write_file
from deblur_cli.nets import Detector, Network, Restoration
from deblur_cli.nets.network import CELL
from deblur_cli.pictures import Pixels8, mask_overlay, trajectory_overlay
from deblur_cli.pictures.drawing import Floats
from deblur_cli.train.samples import Sample, to_pixels

EPSILON = 0.5  # threshold of the masks in the pictures


class Means:
    """Running means of named values."""

    def __init__(self) -> None:
        self.count, self.sums = 0, dict[str, float]()

    def add(self, values: dict[str, float]) -> None:
        """Count one more set of values."""
        self.count += 1
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def take(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: total / self.count for name, total in self.sums.items()}
        self.count, self.sums = 0, {}
        return means


def append_row(path: Path, row: dict[str, float]) -> None:
    """Append a row to a CSV file; new columns are added to the rows before."""
    names, rows = list[str](), list[dict[str, str]]()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            names, rows = list(reader.fieldnames or []), list(reader)
    if set(row) <= set(names):
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, names).writerow(row)
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys([*names, *row])))
    writer.writeheader()
    writer.writerows([*rows, row])
    write_file(path, [text.getvalue().encode()], overwrite=True)


@dataclass(frozen=True)
class SampleMaps:
    """The network's findings as the overlays read them; arrays h w and 2 h w."""

    probability: Floats
    start: Floats
    end: Floats


@torch.no_grad()
def restorer_sheet(network: Network, samples: Iterable[Sample]) -> Image.Image:
    """A row for each sample: blurred, restored, sharp, the detected mask, the true mask."""
    network.eval()
    rows = [restorer_row(network(sample.blurred, epsilon=EPSILON), sample) for sample in samples]
    return Image.fromarray(np.concatenate(rows, 0))


def restorer_row(result: Restoration, sample: Sample) -> Pixels8:
    """Five pictures side by side: H 5W 3; four of a network without a mask."""
    panels = [to_pixels(image) for image in (sample.blurred, result.image, sample.sharp)]
    if result.probability is not None:
        probability = result.probability[0, 0].float().cpu().numpy()
        still = np.zeros((2, *probability.shape), np.float32)
        panels.append(mask_overlay(panels[0], SampleMaps(probability, still, still), EPSILON))
    return np.concatenate([*panels, to_pixels(sample.mask.expand(-1, 3, -1, -1))], 1)


@torch.no_grad()
def detector_sheet(network: Detector, samples: Iterable[Sample]) -> Image.Image:
    """A row for each sample: blurred, the detected mask and trajectories, the true mask."""
    network.eval()
    return Image.fromarray(np.concatenate([detector_row(network, sample) for sample in samples], 0))


def detector_row(network: Detector, sample: Sample) -> Pixels8:
    """Four pictures side by side: H 4W 3."""
    found = network.detect(sample.blurred)
    parts = (found.probability, found.start, found.end)
    probability, start, end = (part[0].float().cpu().numpy() for part in parts if part is not None)
    maps = SampleMaps(probability[0], start * CELL, end * CELL)
    blurred = to_pixels(sample.blurred)
    drawn = mask_overlay(blurred, maps, EPSILON), trajectory_overlay(blurred, maps, EPSILON)
    return np.concatenate([blurred, *drawn, to_pixels(sample.mask.expand(-1, 3, -1, -1))], 1)

"""Score weights on a dataset of `deblur synth`, whose truth is known.

    deblur synth PHOTOS -o DATASET --seed 2026
    python examples/score.py DATASET [--weights NAME|FILE] [--epsilon 0.5]

PHOTOS are sharp photos that the weights have not learned from. "run" is what `deblur run` gives (8 bits,
restored pixels laid over the photo), "bare" the network's output as it is.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deblur_cli.feather import overlay_weights
from deblur_cli.metrics import mask_iou, weighted_psnr
from deblur_cli.photo.photo import Photo
from deblur_cli.restore import Deblurrer, Settings
from deblur_cli.train.sample_files import read_samples
from deblur_cli.train.scores import score
from deblur_cli.train.synthetic import Sample
from deblur_cli.weights import DEFAULT, load


def as_run(deblurrer: Deblurrer, sample: Sample, epsilon: float) -> tuple[float, float, float, int]:
    """What `deblur run` does: PSNR_w before and after, IoU of the mask, pixels changed off the overlay."""
    pixels = to_pixels(sample.blurred)
    photo = Photo(pixels=pixels, source=Path("synthetic"), format="PNG")
    result = deblurrer.run(photo, Settings(epsilon=epsilon))
    before = weighted_psnr(to_tensor(pixels), sample.sharp, sample.mask)
    after = weighted_psnr(to_tensor(result.photo.pixels), sample.sharp, sample.mask)
    mask = (result.maps.probability > epsilon).astype(np.float32)
    outside = overlay_weights(mask, slice(0, pixels.shape[0]), slice(0, pixels.shape[1])) == 0
    changed = (result.photo.pixels != pixels).any(axis=2) & outside
    marked = torch.from_numpy(mask)[None, None].repeat_interleave(8, 2).repeat_interleave(8, 3)
    return float(before), float(after), float(mask_iou(marked, sample.mask)), int(changed.sum())


def to_pixels(image: Tensor) -> np.ndarray:
    """1 3 H W in 0-1 -> H W 3 uint8."""
    return (image[0].permute(1, 2, 0) * 255).round().byte().numpy()


def to_tensor(pixels: np.ndarray) -> Tensor:
    """H W 3 uint8 -> 1 3 H W in 0-1."""
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


def main() -> None:
    """Print the scores as JSON."""
    parser = argparse.ArgumentParser(description="Score weights on a dataset of deblur synth.")
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--weights", default=DEFAULT)
    parser.add_argument("--epsilon", type=float, default=0.5)
    choices = parser.parse_args()

    weights = load(choices.weights)
    bare = score(weights.network, read_samples(choices.dataset), choices.epsilon)
    deblurrer = Deblurrer(weights, "auto", "fp32")
    rows = np.array([as_run(deblurrer, sample, choices.epsilon) for sample in read_samples(choices.dataset)])
    run = {
        "gain_psnr_w": float((rows[:, 1] - rows[:, 0]).mean()),
        "worst_gain": float((rows[:, 1] - rows[:, 0]).min()),
        "mask_iou": float(rows[:, 2].mean()),
        "changed_outside": int(rows[:, 3].sum()),
    }
    print(json.dumps({"run": run, "bare": asdict(bare)}, indent=2))


if __name__ == "__main__":
    main()

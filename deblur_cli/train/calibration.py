"""The epsilon that weights recommend: the largest gain that leaves sharp photos sharp."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli.metrics import weighted_psnr
from deblur_cli.restoration.mask import feather_weights, region_confidence
from deblur_cli.train.synthetic import Sample

CANDIDATES = tuple(number / 20 for number in range(1, 19))  # 0.05 to 0.9
MOST_TOUCHED = 0.02  # of the area of sharp photos, on average

# A picture B 3 H W -> the confidence of its cells, B 1 H/8 W/8, and what the network makes of it, B 3 H W
Outcome = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Calibration:
    """A recommended threshold and what it does, as `deblur run` lays restored pixels over a photo.

    kept_gain: dB of PSNR in the blur; sharp_touched: share of the area of sharp photos that changes
    """

    epsilon: float
    kept_gain: float
    sharp_touched: float


@torch.no_grad()
def calibrate(outcome: Outcome, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> Calibration:
    """The candidate of largest mean gain on the samples among those that hardly touch sharp pictures 1 3 H W.

    Where all touch more than MOST_TOUCHED, the one that touches least.
    """
    gains = np.mean([gains_of(outcome, sample) for sample in samples], 0)
    confidences = [outcome(picture)[0][0, 0].float().cpu().numpy() for picture in sharp]
    touched = [
        float(np.mean([blurred(found, epsilon).mean() for found in confidences])) if sharp else 0.0
        for epsilon in CANDIDATES
    ]
    allowed = [place for place, share in enumerate(touched) if share <= MOST_TOUCHED]
    best = max(allowed, key=lambda place: gains[place]) if allowed else int(np.argmin(touched))
    return Calibration(CANDIDATES[best], float(gains[best]), touched[best])


def blurred(confidence: NDArray[np.float32], epsilon: float) -> NDArray[np.bool_]:
    """The cells that count as blurred, h w."""
    return region_confidence(confidence, epsilon) > epsilon


def gains_of(outcome: Outcome, sample: Sample) -> list[float]:
    """Gain of PSNR_w in dB with each candidate, of one picture."""
    confidence, restored = outcome(sample.blurred)
    found, change = confidence[0, 0].float().cpu().numpy(), restored.float().clamp(0, 1) - sample.blurred
    before = weighted_psnr(sample.blurred, sample.sharp, sample.mask)
    height, width = change.shape[-2:]
    gains = []
    for epsilon in CANDIDATES:
        mask = blurred(found, epsilon).astype(np.float32)
        weights = torch.from_numpy(feather_weights(mask, slice(0, height), slice(0, width)))
        result = sample.blurred + change * weights.to(change.device)
        gains.append(float(weighted_psnr(result, sample.sharp, sample.mask) - before))
    return gains

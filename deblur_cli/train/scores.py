"""How well a network does on blur whose truth is known, and the epsilon that its weights recommend."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from deblur_cli import metrics
from deblur_cli.metrics import mask_iou, ssim_map, weighted_psnr
from deblur_cli.nets import Detection, Detector, Network, Restoration
from deblur_cli.nets.network import CELL
from deblur_cli.nets.richardson_lucy import richardson_lucy
from deblur_cli.restoration.mask import feather_weights, region_confidence
from deblur_cli.train.samples import Sample
from deblur_cli.train.settings import DetectorLoss

LENGTHS = ((0.0, 8.0), (8.0, 16.0), (16.0, float("inf")))  # pixels, of the gains by length
SOFT_DETAIL = 2 / 255  # second difference from which there is detail that motion would blur
CANDIDATES = tuple(number / 20 for number in range(1, 19))  # 0.05 to 0.9
MOST_TOUCHED = 0.02  # of the area of sharp photos, on average
CLEAR_GAIN, ENOUGH = 0.1, 16  # dB, and pictures, from which another epsilon than a detector's own is better

# A picture B 3 H W -> the confidence of its cells, B 1 H/8 W/8, and what the network makes of it, B 3 H W
Outcome = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Scores:
    """Means over a set of pictures. Gains are over the blurred input, in dB or points of SSIM.

    sharp_marked: share of sharp photos that is marked, NaN where there are none
    blurred_psnr_w: PSNR_w of the blurred input, in dB
    outside_psnr: output against input where nothing moved, in dB; how little sharp pixels change
    mask_precision, mask_recall: of the marked area, 0-1; precision is NaN where nothing is marked
    wrongly_marked: share of the unmoved area that is marked as blurred
    soft_marked: the same of its smooth or defocused parts, NaN where there are none
    endpoint_error: pixels, up to the sign of the motion, over the true mask; NaN where they are unknown
    gain_short, gain_medium, gain_long: gain_psnr_w where the blur is up to 8, 16 and more pixels long, NaN
    where no picture has such blur
    """

    pictures: int
    sharp_marked: float
    blurred_psnr_w: float
    gain_psnr_w: float
    gain_ssim_w: float
    outside_psnr: float
    mask_iou: float
    mask_precision: float
    mask_recall: float
    wrongly_marked: float
    soft_marked: float
    endpoint_error: float
    gain_short: float
    gain_medium: float
    gain_long: float


@dataclass(frozen=True)
class DetectorScores:
    """Means over a set of pictures, of what a detector finds with a confidence above a half.

    The fields are those of Scores, for blur of the lengths that are to be marked. gain_psnr_w is that of
    Richardson-Lucy along the motion that was found, which tells what the findings are worth.
    """

    pictures: int
    sharp_marked: float
    gain_psnr_w: float
    mask_iou: float
    mask_precision: float
    mask_recall: float
    wrongly_marked: float
    soft_marked: float
    endpoint_error: float


@torch.no_grad()
def score(
    network: Network, samples: Iterable[Sample], sharp: Sequence[Tensor] = (), epsilon: float = 0.5
) -> Scores:
    """Scores of the bare network output (no overlay on the input), whole pictures at once."""
    network.eval()
    rows = []
    for sample in samples:
        blurred = sample.blurred.contiguous(memory_format=torch.channels_last)
        rows.append(score_one(network(blurred, epsilon=epsilon), sample))
    means = torch.stack([torch.stack(row) for row in rows]).nanmean(0).tolist()
    return Scores(len(rows), marked_share(network, sharp, epsilon), *means)


def marked_share(network: Network, sharp: Sequence[Tensor], epsilon: float) -> float:
    """Share of sharp pictures 1 3 H W that a network takes for blurred; NaN without pictures or mask."""
    if not network.detects or not sharp:
        return float("nan")
    shares = []
    for picture in sharp:
        probability = network.detect(picture, epsilon).probability
        assert probability is not None  # it detects
        shares.append((probability > epsilon).float().mean())
    return float(torch.stack(shares).mean())


def score_one(result: Restoration, sample: Sample) -> list[Tensor]:
    """The fields of Scores from the third on, for a single picture."""
    image = result.image.float().clamp(0, 1)
    truth, blurred, mask = sample.sharp, sample.blurred, sample.mask
    before, after = weighted_psnr(blurred, truth, mask), weighted_psnr(image, truth, mask)
    inner = mask[..., 5:-5, 5:-5]  # where a whole SSIM window fits
    structure = ssim_map(image, truth) - ssim_map(blurred, truth)
    ssim_gain = (structure * inner).sum() / (3 * inner.sum()).clamp(min=1)
    marked = torch.zeros_like(mask) if result.mask is None else enlarge(result.mask, mask)
    common, off = (marked * mask).sum(), 1 - mask
    soft = off * soft_area(truth)
    lengths = (sample.end - sample.start).norm(dim=1, keepdim=True)
    values = [
        before,
        after - before,
        ssim_gain,
        weighted_psnr(image, blurred, off),
        mask_iou(marked, mask),
        common / marked.sum(),
        common / mask.sum(),
        (marked * off).sum() / off.sum(),
        (marked * soft).sum() / soft.sum(),
        endpoint_error(result, sample),
        *(gain_within(image, sample, (lengths > low) & (lengths <= high)) for low, high in LENGTHS),
    ]
    return [value.double().mean() for value in values]


def gain_within(image: Tensor, sample: Sample, area: Tensor) -> Tensor:
    """Gain of PSNR_w over a part of the mask B 1 H W; NaN where it is empty or motion is not known."""
    mask = sample.mask * area * (not sample.measured)
    return weighted_psnr(image, sample.sharp, mask) - weighted_psnr(sample.blurred, sample.sharp, mask)


def soft_area(sharp: Tensor) -> Tensor:
    """Where a sharp picture B 3 H W in 0-1 is smooth or out of focus: B 1 H W of zeros and ones.

    There the second differences of its luma, in the mean over 15x15 pixels, are below SOFT_DETAIL.
    """
    luma = sharp.mean(1, keepdim=True)
    padded = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., 1:-1, 2:] - 2 * luma + padded[..., 1:-1, :-2]).abs()
    down = (padded[..., 2:, 1:-1] - 2 * luma + padded[..., :-2, 1:-1]).abs()
    detail = F.avg_pool2d(across + down, 15, stride=1, padding=7, count_include_pad=False)
    return (detail < SOFT_DETAIL).float()


def enlarge(cells: Tensor, like: Tensor) -> Tensor:
    """A map of cells B C h w at the size of the picture."""
    height, width = like.shape[-2:]
    return F.interpolate(cells.float(), scale_factor=CELL)[..., :height, :width]


def endpoint_error(result: Restoration, sample: Sample) -> Tensor:
    """Mean distance of predicted and true ends of the trajectories, in pixels, up to the sign."""
    if result.start is None or result.end is None or sample.measured:
        return sample.mask.new_tensor(float("nan"))
    start, end = (enlarge(field, sample.mask) * CELL for field in (result.start, result.end))
    return metrics.endpoint_error(start, end, sample.start, sample.end, sample.mask).mean()


@torch.no_grad()
def score_detector(
    network: Detector, samples: Iterable[Sample], sharp: Sequence[Tensor], loss: DetectorLoss
) -> DetectorScores:
    """Scores of what a detector finds, whole pictures at once."""
    network.eval()
    rows = [score_findings(network.detect(sample.blurred), sample, loss) for sample in samples]
    means = torch.stack([torch.stack(row) for row in rows]).nanmean(0).tolist()
    return DetectorScores(len(rows), marked_share(network, sharp, 0.5), *means)


def score_findings(found: Detection, sample: Sample, loss: DetectorLoss) -> list[Tensor]:
    """The fields of DetectorScores from the third on, for a single picture."""
    assert found.probability is not None and found.start is not None and found.end is not None
    length = (sample.end - sample.start).norm(dim=1, keepdim=True)
    mask = sample.mask * (length >= loss.shortest_marked) * (length <= loss.longest_marked)
    doubtful = (sample.mask - mask) * (length >= loss.shortest_marked / loss.doubt)
    doubtful = doubtful * (length <= loss.longest_marked * loss.doubt)
    marked = enlarge((found.probability > 0.5).float(), mask) * (1 - doubtful)
    off = 1 - torch.maximum(mask, doubtful)
    soft = off * soft_area(sample.sharp)
    undone = richardson_lucy(sample.blurred, found.probability, found.start, found.end)
    gain = weighted_psnr(undone, sample.sharp, mask) - weighted_psnr(sample.blurred, sample.sharp, mask)
    start, end = (enlarge(part, mask) * CELL for part in (found.start, found.end))
    values = [
        gain,
        mask_iou(marked, mask),
        metrics.mask_precision(marked, mask),
        metrics.mask_recall(marked, mask),
        (marked * off).sum() / off.sum(),
        (marked * soft).sum() / soft.sum(),
        metrics.endpoint_error(start, end, sample.start, sample.end, mask),
    ]
    return [value.double().mean() for value in values]


@dataclass(frozen=True)
class Calibration:
    """A recommended threshold and what it does, as `deblur run` lays restored pixels over a photo.

    kept_gain: dB of PSNR in the blur; sharp_touched: share of the area of sharp photos that changes
    """

    epsilon: float
    kept_gain: float
    sharp_touched: float


@torch.no_grad()
def calibrate(
    outcome: Outcome, samples: Iterable[Sample], sharp: Sequence[Tensor], own: float | None = None
) -> Calibration:
    """The candidate of largest mean gain on the samples among those that hardly touch sharp pictures 1 3 H W.

    Where all touch more than MOST_TOUCHED, the one that touches least. `own` is what the detector of a guided
    network recommends. It stays, unless the candidate gains CLEAR_GAIN more on ENOUGH samples.
    """
    candidates = sorted({*CANDIDATES, *([] if own is None else [own])})
    rows = [gains_of(outcome, sample, candidates) for sample in samples]
    gains = np.mean(rows, 0)
    confidences = [outcome(picture)[0][0, 0].float().cpu().numpy() for picture in sharp]
    touched = [
        float(np.mean([blurred_cells(found, epsilon).mean() for found in confidences])) if sharp else 0.0
        for epsilon in candidates
    ]
    allowed = [place for place, share in enumerate(touched) if share <= MOST_TOUCHED]
    best = max(allowed, key=lambda place: gains[place]) if allowed else int(np.argmin(touched))
    if own is not None:
        kept = candidates.index(own)
        if len(rows) < ENOUGH or not gains[best] >= gains[kept] + CLEAR_GAIN:
            best = kept
    return Calibration(candidates[best], float(gains[best]), touched[best])


def blurred_cells(confidence: NDArray[np.float32], epsilon: float) -> NDArray[np.bool_]:
    """The cells that count as blurred, h w."""
    return region_confidence(confidence, epsilon) > epsilon


def gains_of(outcome: Outcome, sample: Sample, candidates: Sequence[float]) -> list[float]:
    """Gain of PSNR_w in dB with each candidate, of one picture."""
    confidence, restored = outcome(sample.blurred)
    found, change = confidence[0, 0].float().cpu().numpy(), restored.float().clamp(0, 1) - sample.blurred
    before = weighted_psnr(sample.blurred, sample.sharp, sample.mask)
    height, width = change.shape[-2:]
    gains = []
    for epsilon in candidates:
        mask = blurred_cells(found, epsilon).astype(np.float32)
        weights = torch.from_numpy(feather_weights(mask, slice(0, height), slice(0, width)))
        result = sample.blurred + change * weights.to(change.device)
        gains.append(float(weighted_psnr(result, sample.sharp, sample.mask) - before))
    return gains

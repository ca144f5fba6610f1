"""How well a network does on synthetic blur whose truth is known."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli import metrics
from deblur_cli.cells import CELL
from deblur_cli.metrics import mask_iou, ssim_map, weighted_psnr
from deblur_cli.nets import Detection, Detector, Network, Restoration
from deblur_cli.nets.richardson_lucy import richardson_lucy
from deblur_cli.train.losses import DetectorLoss
from deblur_cli.train.synthetic import BlurSettings, Sample, synthesise

LENGTHS = ((0.0, 8.0), (8.0, 16.0), (16.0, float("inf")))  # pixels, of the gains by length
SOFT_DETAIL = 2 / 255  # second difference from which there is detail that motion would blur


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


def fixed_set(
    photos: Sequence[Tensor], count: int, size: int, settings: BlurSettings, seed: int
) -> Iterator[Sample]:
    """`count` pictures one by one, each of which holds motion; the same seed gives the same set.

    Synthesis starts each picture from its own seed, so that picture n is the same in a set of any size.
    """
    for number in range(count):
        yield fixed_sample(photos, number, size, settings, seed)


def fixed_sample(
    photos: Sequence[Tensor], number: int, size: int, settings: BlurSettings, seed: int
) -> Sample:
    """Picture `number` of such a set."""
    generator = torch.Generator(device=photos[0].device).manual_seed(seed * 1_000_003 + number)
    sample = synthesise(photos, 1, size, settings, generator)
    while not sample.mask.any():
        sample = synthesise(photos, 1, size, settings, generator)
    return sample


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


def enlarge(stage: Tensor, like: Tensor) -> Tensor:
    """Stage 4 map B C h w at the size of the picture."""
    height, width = like.shape[-2:]
    return F.interpolate(stage.float(), scale_factor=CELL)[..., :height, :width]


def endpoint_error(result: Restoration, sample: Sample) -> Tensor:
    """Mean distance of predicted and true ends of the trajectories, in pixels, up to the sign."""
    if result.start is None or result.end is None or sample.measured:
        return sample.mask.new_tensor(float("nan"))
    start, end = (enlarge(field, sample.mask) * CELL for field in (result.start, result.end))
    return metrics.endpoint_error(start, end, sample.start, sample.end, sample.mask).mean()


def only_motion(settings: BlurSettings) -> BlurSettings:
    """The settings without motion of the whole frame, for sets that measure that of objects."""
    return replace(settings, shake=0.0, panning=0.0)


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

"""What training minimises (Section 3.4 of M²AENet)."""

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.cells import CELL
from deblur_cli.metrics import ssim
from deblur_cli.nets import Restoration
from deblur_cli.nets.motion import to_double_angle, trajectory
from deblur_cli.train.splatting import splat
from deblur_cli.train.synthetic import Sample

REBLUR_INSTANTS = 9  # N_2 of the paper

PSNR_FLOOR = 1e-5  # mean square below which (50 dB) nothing is gained any more
FIELD_FLOOR = 1e-4  # square of a distance in cells, so that the root has a gradient everywhere
MASK_SHARE = 0.25  # share of a stage pixel's 8x8 photo pixels from which it counts as blurred


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; the paper gives fft 0.1 and mask 0.01 (Section 3.4.1)."""

    ssim: float = 1.0
    fft: float = 0.1
    mask: float = 0.01
    dice: float = 0.0  # our own: overlap of the masks, which counts small objects as much as large ones
    reblur: float = 1.0
    smooth: float = 0.002  # alpha of Eq. 10, to which the paper gives no value
    motion: float = 0.02  # our own: distance to the displacements, where the synthesis knows them
    psnr: float = 0.0  # our own: bels of PSNR_w, which counts dark and faint blur as much as bright


def reconstruction_loss(image: Tensor, truth: Tensor, weights: LossWeights) -> Tensor:
    """Eq. 8: L1, one minus SSIM, and the L1 distance of the spectra."""
    spectra = torch.fft.rfft2(image, norm="ortho") - torch.fft.rfft2(truth, norm="ortho")
    frequency = torch.view_as_real(spectra).abs().mean()
    structure = 1 - ssim(image, truth).mean()
    return F.l1_loss(image, truth) + weights.ssim * structure + weights.fft * frequency


def psnr_loss(image: Tensor, sample: Sample) -> Tensor:
    """Logarithm (base 10) of the mean square error where something moved, averaged over the pictures.

    That is minus a tenth of PSNR_w. A picture without motion does not count.
    """
    area = sample.mask.sum((1, 2, 3)) * image.shape[1]
    square = ((image - sample.sharp).square() * sample.mask).sum((1, 2, 3)) / area.clamp(min=1)
    moved = (area > 0).float()
    return ((square + PSNR_FLOOR).log10() * moved).sum() / moved.sum().clamp(min=1)


def keep_unmoved(sample: Sample) -> Tensor:
    """What the network should give: sharp where something moved, the input itself elsewhere.

    Where both pictures come from cameras, masks are drawn by hand: the sharp one is the truth everywhere.

    Noise and compression of the unmoved part are not its business.
    """
    return sample.sharp if sample.measured else torch.lerp(sample.blurred, sample.sharp, sample.mask)


def stage_mask(mask: Tensor) -> Tensor:
    """True mask B 1 H W as the network's stage 4 sees it: B 1 H/8 W/8 of zeros and ones."""
    return (F.avg_pool2d(mask, CELL) > MASK_SHARE).float()


def mask_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Eq. 9: cross-entropy of the blur logits B 2 h w against a mask B 1 h w (channel 0 is blurred)."""
    return F.cross_entropy(logits, 1 - mask[:, 0].long())


def dice_loss(probability: Tensor, mask: Tensor) -> Tensor:
    """One minus the Dice overlap of B 1 h w in 0-1 with a mask B 1 h w, averaged over the pictures.

    Soft form of Milletari et al., "V-Net" (2016). A picture with an empty mask does not count.
    """
    common = (probability * mask).sum((1, 2, 3))
    overlap = 2 * common / (probability + mask).sum((1, 2, 3)).clamp(min=1)
    moved = mask.flatten(1).any(1).float()
    return ((1 - overlap) * moved).sum() / moved.sum().clamp(min=1)


def motion_loss(start: Tensor, end: Tensor, true_start: Tensor, true_end: Tensor, mask: Tensor) -> Tensor:
    """L1 distance of the displacements, all B 2 h w in stage pixels, averaged over the mask B 1 h w.

    A blurred picture looks the same forwards and backwards in time, so at each pixel the nearer of the
    two readings counts.
    """
    forward = (start - true_start).abs().sum(1) + (end - true_end).abs().sum(1)
    backward = (start - true_end).abs().sum(1) + (end - true_start).abs().sum(1)
    nearer = torch.minimum(forward, backward) * mask[:, 0]
    return nearer.sum() / mask.sum().clamp(min=1)


def reblur_loss(start: Tensor, end: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """Eq. 11: the sharp picture, moved through the exposure and averaged, should be the blurred one.

    start, end: B 2 h w in stage pixels; pictures B 3 H W, taken down to h w first. Pixels that move far
    cover those that do not (softmax splatting); an instant at which nothing lands on a pixel is left out.
    """
    blurred, sharp = (F.avg_pool2d(image, CELL) for image in (blurred, sharp))
    path = trajectory(start, end, REBLUR_INSTANTS)
    total, seen = torch.zeros_like(sharp), torch.zeros_like(sharp[:, :1])
    for displacement in path:
        moved, weight = splat(sharp, displacement, importance=displacement.norm(dim=1, keepdim=True))
        total, seen = total + moved, seen + (weight > 0)
    return F.mse_loss(total / seen.clamp(min=1), torch.where(seen > 0, blurred, torch.zeros_like(blurred)))


def total_variation(field: Tensor) -> Tensor:
    """Mean absolute difference of neighbours of B C h w (TV of Eq. 10)."""
    return field.diff(dim=2).abs().mean() + field.diff(dim=3).abs().mean()


def training_loss(result: Restoration, sample: Sample, weights: LossWeights) -> dict[str, Tensor]:
    """All terms by name; "total" is their weighted sum (Eq. 7), the others are unweighted.

    Terms of weight zero, and those of a network without mask or motion, are left out.
    """
    image = result.image.float()
    terms = {"reconstruction": reconstruction_loss(image, keep_unmoved(sample), weights)}
    if weights.psnr:
        terms["psnr"] = psnr_loss(image, sample)
    mask = stage_mask(sample.mask)
    if result.detection.logits is not None and result.probability is not None:
        terms["mask"] = mask_loss(result.detection.logits.float(), mask)
        if weights.dice:
            terms["dice"] = dice_loss(result.probability, mask)
    if result.start is not None and result.end is not None:
        terms |= motion_terms(result.start.float(), result.end.float(), sample, mask, weights)
    factors = {"reconstruction": 1.0, **asdict(weights)}
    total = sum((factors[name] * term for name, term in terms.items()), torch.zeros_like(image.sum()))
    return {"total": total, **terms}


def motion_terms(
    start: Tensor, end: Tensor, sample: Sample, mask: Tensor, weights: LossWeights
) -> dict[str, Tensor]:
    """The terms of the displacements B 2 h w: Eq. 10 and, where the truth is known, the distance to it."""
    terms = {
        "smooth": torch.stack(
            [total_variation(field) for field in trajectory(start, end, REBLUR_INSTANTS)]
        ).sum()
    }
    if weights.reblur:
        terms["reblur"] = reblur_loss(start, end, sample.blurred, sample.sharp)
    if weights.motion and not sample.measured:
        true_start = stage_displacement(sample.start, sample.mask)
        true_end = stage_displacement(sample.end, sample.mask)
        terms["motion"] = motion_loss(start, end, true_start, true_end, mask)
    return terms


def stage_displacement(displacement: Tensor, mask: Tensor) -> Tensor:
    """Photo displacement B 2 H W averaged over the mask of each stage pixel: B 2 H/8 W/8 in stage pixels."""
    covered = F.avg_pool2d(mask, CELL).clamp(min=1e-6)
    return F.avg_pool2d(displacement * mask, CELL) / covered / CELL


@dataclass(frozen=True)
class DetectorLoss:
    """What a detector is to mark, and the weights of its loss.

    shortest_marked, longest_marked: pixels; blur of these lengths is to be marked, as it can be undone at
    the scale at which it is seen
    doubt: up to so many times beyond either end, neither answer counts
    dice, motion: weights of the masks' overlap and of the distance to the displacements
    """

    shortest_marked: float = 3.0
    longest_marked: float = 24.0
    doubt: float = 1.4
    dice: float = 0.3
    motion: float = 1.0


def detector_terms(logit: Tensor, field: Tensor, sample: Sample, weights: DetectorLoss) -> dict[str, Tensor]:
    """Terms of a detector by name; "total" is their weighted sum.

    logit: B 1 h w; field: B 4 h w, displacements as `to_double_angle` gives them, in cells.
    """
    truth = [stage_displacement(part, sample.mask) for part in (sample.start, sample.end)]
    length = (truth[1] - truth[0]).norm(dim=1, keepdim=True) * CELL
    mask = stage_mask(sample.mask)
    marked = mask * (length >= weights.shortest_marked) * (length <= weights.longest_marked)
    near = (
        mask
        * (length >= weights.shortest_marked / weights.doubt)
        * (length <= weights.longest_marked * weights.doubt)
    )
    counts = 1 - near + marked  # cells beyond the range, but not far, do not
    entropy = F.binary_cross_entropy_with_logits(logit, marked, counts)
    overlap = dice_loss(logit.sigmoid() * counts, marked)
    distance = ((field - to_double_angle(*truth)).square().sum(1, keepdim=True) + FIELD_FLOOR).sqrt()
    motion = (distance * near).sum() / near.sum().clamp(min=1)
    total = entropy + weights.dice * overlap + weights.motion * motion
    return {"total": total, "mask": entropy, "dice": overlap, "motion": motion}

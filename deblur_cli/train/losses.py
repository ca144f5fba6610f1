"""What training minimizes: the loss of restorers (Section 3.4 of M²AENet) and that of detectors.

Each term is a function; `training_loss` and `detector_terms` add them up. Their weights are in settings.py:
`LossWeights` and `DetectorLoss`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.metrics import ssim
from deblur_cli.nets import Restoration
from deblur_cli.nets.motion import to_double_angle, trajectory
from deblur_cli.nets.network import CELL
from deblur_cli.train.samples import Sample
from deblur_cli.train.settings import DetectorLoss, LossWeights

REBLUR_INSTANTS = 9  # N_2 of the paper

PSNR_FLOOR = 1e-5  # mean square below which (50 dB) nothing is gained any more
FIELD_FLOOR = 1e-4  # square of a distance in cells, so that the root has a gradient everywhere
MASK_SHARE = 0.25  # share of a cell's pixels from which it counts as blurred


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


def cell_mask(mask: Tensor) -> Tensor:
    """True mask B 1 H W of cells: B 1 H/8 W/8 of zeros and ones."""
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
    """L1 distance of the displacements, all B 2 h w in cells, averaged over the mask B 1 h w.

    A blurred picture looks the same forwards and backwards in time, so at each pixel the nearer of the
    two readings counts.
    """
    forward = (start - true_start).abs().sum(1) + (end - true_end).abs().sum(1)
    backward = (start - true_end).abs().sum(1) + (end - true_start).abs().sum(1)
    nearer = torch.minimum(forward, backward) * mask[:, 0]
    return nearer.sum() / mask.sum().clamp(min=1)


def reblur_loss(start: Tensor, end: Tensor, blurred: Tensor, sharp: Tensor) -> Tensor:
    """Eq. 11: the sharp picture, moved through the exposure and averaged, should be the blurred one.

    start, end: B 2 h w in cells; pictures B 3 H W, taken down to h w first. Pixels that move far
    cover those that do not (softmax splatting); an instant at which nothing lands on a pixel is left out.
    """
    blurred, sharp = (F.avg_pool2d(image, CELL) for image in (blurred, sharp))
    path = trajectory(start, end, REBLUR_INSTANTS)
    total, seen = torch.zeros_like(sharp), torch.zeros_like(sharp[:, :1])
    for displacement in path:
        moved, weight = splat(sharp, displacement, importance=displacement.norm(dim=1, keepdim=True))
        total, seen = total + moved, seen + (weight > 0)
    return F.mse_loss(total / seen.clamp(min=1), torch.where(seen > 0, blurred, torch.zeros_like(blurred)))


def splat(image: Tensor, displacement: Tensor, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Throw each pixel of B C H W by B 2 H W, (dy, dx) in pixels, sharing it among four neighbors.

    importance: B 1 H W; where pixels meet, each counts in proportion to its exponential. None means that
    all count alike. Returns the weighted mean B C H W, zero where nothing landed, and the landed weight
    B 1 H W (with importance, relative to the largest of each picture). Differentiable in all three.
    """
    count, channels, height, width = image.shape
    y, x = torch.arange(height, device=image.device), torch.arange(width, device=image.device)
    pixels = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(displacement.dtype)
    target = displacement + pixels
    corner = target.detach().floor()
    fraction = target - corner
    strength = torch.ones_like(image[:, :1])
    if importance is not None:  # a common factor cancels in the mean and keeps the exponentials finite
        strength = (importance - importance.amax((1, 2, 3), keepdim=True)).exp()
    values = torch.cat([image * strength, strength], 1).flatten(2)
    landed = values.new_zeros(count, channels + 1, height * width)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        row, column = corner[:, 0] + down, corner[:, 1] + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        share = (fraction[:, 0] if down else 1 - fraction[:, 0]) * (
            fraction[:, 1] if right else 1 - fraction[:, 1]
        )
        index = (row * width + column).where(inside, torch.zeros_like(row)).long().flatten(1)
        part = values * (share * inside).flatten(1).unsqueeze(1)
        landed = landed.scatter_add(2, index.unsqueeze(1).expand_as(part), part)
    total, weight = landed.view(count, channels + 1, height, width).split([channels, 1], 1)
    return total / weight.clamp(min=torch.finfo(weight.dtype).tiny).where(weight > 0, 1.0), weight


def total_variation(field: Tensor) -> Tensor:
    """Mean absolute difference of neighbors of B C h w (TV of Eq. 10)."""
    return field.diff(dim=2).abs().mean() + field.diff(dim=3).abs().mean()


def training_loss(result: Restoration, sample: Sample, weights: LossWeights) -> dict[str, Tensor]:
    """All terms by name; "total" is their weighted sum (Eq. 7), the others are unweighted.

    Terms of weight zero, and those of a network without mask or motion, are left out.
    """
    image = result.image.float()
    terms = {"reconstruction": reconstruction_loss(image, keep_unmoved(sample), weights)}
    if weights.psnr:
        terms["psnr"] = psnr_loss(image, sample)
    mask = cell_mask(sample.mask)
    if result.detection.logits is not None and result.probability is not None:
        terms["mask"] = mask_loss(result.detection.logits.float(), mask)
        if weights.dice:
            terms["dice"] = dice_loss(result.probability, mask)
    if result.start is not None and result.end is not None:
        terms |= motion_terms(result.start.float(), result.end.float(), sample, mask, weights)
    factors = {"reconstruction": 1.0, **weights.model_dump()}
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
        true_start = cell_displacement(sample.start, sample.mask)
        true_end = cell_displacement(sample.end, sample.mask)
        terms["motion"] = motion_loss(start, end, true_start, true_end, mask)
    return terms


def cell_displacement(displacement: Tensor, mask: Tensor) -> Tensor:
    """Photo displacement B 2 H W averaged over the mask of each cell: B 2 H/8 W/8 in cells."""
    covered = F.avg_pool2d(mask, CELL).clamp(min=1e-6)
    return F.avg_pool2d(displacement * mask, CELL) / covered / CELL


def detector_terms(logit: Tensor, field: Tensor, sample: Sample, weights: DetectorLoss) -> dict[str, Tensor]:
    """Terms of a detector by name; "total" is their weighted sum.

    logit: B 1 h w; field: B 4 h w, displacements as `to_double_angle` gives them, in cells.
    """
    truth = [cell_displacement(part, sample.mask) for part in (sample.start, sample.end)]
    length = (truth[1] - truth[0]).norm(dim=1, keepdim=True) * CELL
    mask = cell_mask(sample.mask)
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

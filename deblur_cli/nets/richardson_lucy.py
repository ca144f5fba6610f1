"""Undo blur along a known motion, without anything learned: as a step of a network, and as a restorer.

Richardson, "Bayesian-Based Iterative Method of Image Restoration" (1972) and Lucy, "An iterative technique
for the rectification of observed distributions" (1974), with the reblur model of M²AENet: a blurred pixel is
the mean, in linear light, of what passes it along its trajectory (Eq. 4). Pixels that were not detected as
blurred count as sharp and at rest, so that only the others have to be computed.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.nets.motion import from_double_angle, to_double_angle, trajectory
from deblur_cli.nets.network import CELL, Detection, Network, Restoration, cells_of, fit
from deblur_cli.nets.pieces import piece

STEPS = 5  # more of them sharpen noise and errors of the motion
MOST_STEPS = 9.0  # of the restorer, in a picture without noise
HALVING_NOISE = 6 / 255  # standard deviation at which half as many are best
INSTANTS = 9  # N_2 of the paper
MOST_AT_ONCE = 4  # instants; each takes 20 bytes for a pixel
REST = INSTANTS // 2  # the instant of mid-exposure, at which nothing has moved
ONSET, FULL = 0.1, 0.5  # confidence from which the result is laid in, and from which it is there in full
FLOOR = 1e-3  # linear light; black stays black, whatever it is multiplied by
DAMPING = 0.01  # linear light that is added to both sides of a comparison, for the noise of dark pixels
LIMIT = 2.0  # factor by which a comparison may be off
BRIGHTEST = 4.0  # linear light; highlights were brighter than white


def to_linear(encoded: Tensor) -> Tensor:
    """Encoded sRGB values in 0-1 to linear light (IEC 61966-2-1)."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_encoded(linear: Tensor) -> Tensor:
    """Linear light to sRGB values, both in 0-1."""
    linear = linear.clamp(0, 1)
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    )


@piece("Richardson-Lucy")
@torch.no_grad()
def richardson_lucy(
    image: Tensor, probability: Tensor, start: Tensor, end: Tensor, steps: float = STEPS
) -> Tensor:
    """Undo the blur of a picture where it was detected: B 3 H W, encoded sRGB in 0-1 -> the same.

    probability: B 1 h w in 0-1, confidence that it is blurred
    start, end: B 2 h w, (dy, dx) from mid-exposure in cells; they may change places from cell to cell
    steps: how many; a fraction takes that much of the last one

    h and w are those of the picture's cells, or more. Computed in float32, for blurred pixels alone; all
    others are the input's, bit by bit. No gradients.
    """
    result = image.clone(memory_format=torch.contiguous_format)
    with torch.autocast(image.device.type, enabled=False):
        field = to_double_angle(start.float(), end.float())
        confidence = enlarge(probability.float(), image)
        for number in range(len(image)):
            blurred = (confidence[number, 0] > ONSET).nonzero()  # P 2, (y, x)
            if not len(blurred):
                continue
            index = blurred[:, 0] * image.shape[3] + blurred[:, 1]
            sure = confidence[number].flatten()[index]
            pixels = undo(image[number].float(), field[number], sure, blurred, steps)
            result[number].flatten(1).index_copy_(1, index, pixels.to(image.dtype))
    return result


def richardson_lucy_reference(
    image: Tensor, probability: Tensor, start: Tensor, end: Tensor, steps: float = STEPS
) -> Tensor:
    """The same the plain way, in whole pictures: B 3 H W float32 in 0-1."""
    confidence = enlarge(probability, image)
    blurred = confidence > ONSET
    start, end = from_double_angle(enlarge(to_double_angle(start, end), image) * CELL)
    path = trajectory(start * blurred, end * blurred, INSTANTS)
    linear = to_linear(image)
    seen = estimate = linear.clamp(min=FLOOR)
    for step in range(math.ceil(steps)):
        again = torch.stack([warp(estimate, -displacement) for displacement in path]).mean(0)
        ratio = torch.where(blurred, compare(seen, again), 1)
        factor = torch.stack([warp(ratio, displacement) for displacement in path]).mean(0)
        better = torch.where(blurred, (estimate * factor).clamp(FLOOR, BRIGHTEST), seen)
        estimate = torch.lerp(estimate, better, min(1.0, steps - step))
    return torch.where(blurred, to_encoded(linear + (estimate - seen) * opacity(confidence)), image)


def enlarge(values: Tensor, image: Tensor) -> Tensor:
    """Maps B C h w in cells, interpolated for each pixel of a picture: B C H W."""
    height, width = image.shape[-2:]
    values = F.interpolate(values, scale_factor=CELL, mode="bilinear", align_corners=False)
    return values[..., :height, :width]


def opacity(confidence: Tensor) -> Tensor:
    """How much of the result is laid in, 0-1."""
    return ((confidence - ONSET) / (FULL - ONSET)).clamp(0, 1)


def compare(seen: Tensor, again: Tensor) -> Tensor:
    """By what factor the blurred picture is brighter than the estimate blurred again."""
    return ((seen + DAMPING) / (again + DAMPING)).clamp(1 / LIMIT, LIMIT)


def warp(x: Tensor, displacement: Tensor) -> Tensor:
    """What lies at a displacement B 2 H W, (dy, dx) in pixels, from each pixel: B C H W -> the same."""
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    y, right = displacement[:, 0] + rows.view(-1, 1), displacement[:, 1] + columns
    grid = torch.stack([(2 * right + 1) / width - 1, (2 * y + 1) / height - 1], -1)  # -1..1 of grid_sample
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def undo(image: Tensor, field: Tensor, confidence: Tensor, blurred: Tensor, steps: float = STEPS) -> Tensor:
    """Richardson-Lucy for P blurred pixels of a picture 3 H W: their encoded values, 3 P.

    field: 4 h w, motion in cells as a double angle; confidence: P; blurred: P 2, (y, x).
    """
    start, end = displacements_at(field, blurred)
    linear, places = cut_box(image, blurred, torch.maximum(start.abs(), end.abs()))
    height, width = linear.shape[1:]
    before, after = sampling_grids(places, start, end, (height, width))
    index = places[:, 0] * width + places[:, 1]
    linear = linear.flatten(1)
    estimate, ratio = linear.clamp(min=FLOOR), torch.ones_like(linear)
    seen = current = estimate.index_select(1, index)
    for step in range(math.ceil(steps)):
        again = mean_over_instants(estimate.view(1, 3, height, width), before, current)
        compared = compare(seen, again)
        ratio.index_copy_(1, index, compared)
        factor = mean_over_instants(ratio.view(1, 3, height, width), after, compared)
        better = (current * factor).clamp(FLOOR, BRIGHTEST)
        current = better if steps - step >= 1 else torch.lerp(current, better, steps - step)
        estimate.index_copy_(1, index, current)
    return to_encoded(linear.index_select(1, index) + (current - seen) * opacity(confidence))


def displacements_at(field: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end at pixels P 2 (y, x), P 2 each in pixels, from a field 4 h w in cells.

    Interpolated as `enlarge` does. A motion that is no number counts as none.
    """
    height, width = (CELL * side for side in field.shape[1:])
    grid = to_grid(pixels, (height, width))[None, None]
    values = F.grid_sample(field[None], grid, padding_mode="border", align_corners=False)
    start, end = from_double_angle(values.nan_to_num(0, 0, 0) * CELL)  # 1 2 1 P
    return start[0, :, 0].t(), end[0, :, 0].t()


def to_grid(pixels: Tensor, shape: tuple[int, int]) -> Tensor:
    """Pixels P 2, (y, x), of a picture of that shape as positions of `grid_sample`: P 2, (x, y) in -1..1."""
    y, x = pixels.unbind(1)
    return torch.stack([(2 * x + 1) / shape[1] - 1, (2 * y + 1) / shape[0] - 1], 1)


def cut_box(image: Tensor, blurred: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """The part of a picture 3 H W within reach of blurred pixels, in linear light, and their places in it.

    blurred: P 2, (y, x); reach: P 2, how far each of them looks. Returns 3 h w and P 2.
    """
    margin = reach.amax(0).ceil().clamp(max=max(image.shape[1:])).long()
    first, last = (blurred.amin(0) - margin).clamp(min=0), blurred.amax(0) + margin
    (top, left), (bottom, right) = torch.stack([first, last + 1]).tolist()  # one wait for all four
    return to_linear(image[:, top:bottom, left:right]), blurred - first


def sampling_grids(
    places: Tensor, start: Tensor, end: Tensor, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Where P pixels of a picture of that shape came from, and where they went to, at each instant but REST.

    places, start, end: P 2, (y, x). Gives positions of `grid_sample`, n 1 P 2 each, kept within the picture.
    """
    size, center = torch.tensor(shape, device=places.device).flip(0), to_grid(places, shape)
    paths = trajectory(2 * start.flip(1) / size, 2 * end.flip(1) / size, INSTANTS)
    moving, limit = torch.cat([paths[:REST], paths[REST + 1 :]])[:, None], 1 - 1 / size
    return (center - moving).clamp(-limit, limit), (center + moving).clamp(-limit, limit)


def mean_over_instants(x: Tensor, grids: Tensor, at_rest: Tensor) -> Tensor:
    """Mean of what P pixels see of a picture 1 3 H W: 3 P; at_rest: 3 P, what they see at mid-exposure.

    grids: positions of `grid_sample` at the other instants, n 1 P 2.
    On a CPU, `grid_sample` gives a picture of a batch one thread, so there are as many of them.
    """
    total, count = at_rest.clone(), min(MOST_AT_ONCE, torch.get_num_threads()) if x.is_cpu else 1
    for first in range(0, len(grids), count):
        grid = grids[first : first + count]
        for seen in F.grid_sample(x.expand(len(grid), -1, -1, -1), grid, align_corners=False):
            total += seen[:, 0]
    return total / INSTANTS


@dataclass(frozen=True)
class RichardsonLucyConfig:
    """Nothing: the noise of a picture decides how many steps it gets."""


class RichardsonLucy(Network):
    """Undoes the blur within a mask along the motion that a detector found; there is nothing to learn."""

    architecture = "richardson_lucy"
    multiple = CELL
    detects = traces = False
    guided = True
    input_dtype = torch.float32
    bytes_per_pixel = 256
    smallest_part = 128

    def __init__(self, config: RichardsonLucyConfig) -> None:
        super().__init__()
        self.config = config

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """Raises RuntimeError: only a detector knows what is blurred."""
        raise RuntimeError("Richardson-Lucy detects nothing itself: it follows a detector")

    def follow(self, x: Tensor, detection: Detection, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """The detection, in x, B 3 H W in 0-1."""
        return replace(detection, image=x)

    def restore(self, detection: Detection, epsilon: float = 0.5, mask: Tensor | None = None) -> Restoration:
        """What is blurred for sure, or what the mask says, undone; nothing where the motion is unknown."""
        image, start, end = detection.image, detection.start, detection.end
        cells = cells_of((image.shape[-2], image.shape[-1]))
        if detection.probability is None:
            probability = image.new_ones(len(image), 1, *cells)
        else:
            probability = fit(detection.probability, cells)
        mask = (probability > epsilon).to(probability) if mask is None else fit(mask, cells)
        if start is None or end is None:
            return Restoration(image, mask, detection)
        sure = torch.maximum(probability, mask)  # what is restored is restored in full
        pictures, masks, confidences, *motion = (each.split(1) for each in (image, mask, sure, start, end))
        undone = [
            richardson_lucy(one, told, first, last, steps_for(noise_of(one, chosen)))
            for one, chosen, told, first, last in zip(pictures, masks, confidences, *motion, strict=True)
        ]
        return Restoration(torch.cat(undone), mask, detection)


def steps_for(noise: float) -> float:
    """How many steps are best in a picture with noise of that standard deviation, of 0-1.

    Measured on blur of 4 to 40 pixels with 0 to 12 / 255 of noise: see weights/richardson-lucy.md.
    """
    return MOST_STEPS / (1 + noise / HALVING_NOISE)


def noise_of(image: Tensor, mask: Tensor) -> float:
    """Standard deviation of the noise in a picture 1 3 H W, of 0-1, where a mask 1 1 h w is one.

    Immerkær, "Fast Noise Variance Estimation" (1996): a difference of two Laplacians sees noise and hardly
    any structure. The median over cells leaves out those with fine texture.
    """
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    amount = padded.diff(n=2, dim=2).diff(n=2, dim=3).abs().mean(1, keepdim=True) / 6  # 1 1 H W
    cells = F.avg_pool2d(amount, CELL, ceil_mode=True, count_include_pad=False)
    chosen = cells[mask > 0]
    return float(chosen.median()) * math.sqrt(math.pi / 2) if len(chosen) else 0.0

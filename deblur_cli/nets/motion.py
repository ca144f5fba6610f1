"""Motion trajectories and the depth-wise deformable convolution that follows them (Section 3.2-3.3)."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = 9  # N_1 of the paper: one instant of the exposure for each tap of a 3x3 kernel
CENTER = TAPS // 2  # the tap of mid-exposure, which samples the pixel itself
TURNS = 8  # orientations of a picture
MOVING = [tap for tap in range(TAPS) if tap != CENTER]


def displacement_at(time: float | Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Quadratic displacement at a time from -1, the start of the exposure, to 1, its end (Eq. 4).

    start = o(t_0), end = o(t_{N-1}): displacements from mid-exposure, any shape and unit; so is the result.
    """
    return (start + end) / 2 * time**2 + (end - start) / 2 * time


def trajectory(start: Tensor, end: Tensor, instants: int) -> Tensor:
    """The displacements of Eq. 4 at N evenly spaced instants: two of any shape S -> N S.

    The middle one of an odd number is zero.
    """
    time = torch.linspace(-1, 1, instants, device=start.device, dtype=start.dtype)
    return displacement_at(time.view(-1, *[1] * start.dim()), start, end)


def to_double_angle(start: Tensor, end: Tensor) -> Tensor:
    """Displacements without a sign of time: B 2 h w each, (dy, dx) in any unit -> B 4 h w in that unit.

    A blur looks the same forwards and backwards, so start and end may change places from one pixel to the
    next. With half = (end - start) / 2 of angle a, the channels are |half| cos 2a, |half| sin 2a and the mean
    (start + end) / 2 as (dy, dx): they stay when start and end change places, so they can be averaged,
    interpolated and learned. The gradient is finite everywhere, zero where nothing moves.
    """
    y, x = ((end - start) / 2).unbind(1)
    length = (x.square() + y.square()).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    double = torch.stack([(x.square() - y.square()) / length, 2 * x * y / length], 1)
    return torch.cat([double, (start + end) / 2], 1)


def from_double_angle(field: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end, B 2 h w each, of a field B 4 h w of `to_double_angle`: those that move to the right.

    Which of the two comes first is not in the field; of (end - start), dx is never negative here.
    """
    cosine, sine = field[:, 0], field[:, 1]
    square = cosine.square() + sine.square()
    moves = square > torch.finfo(field.dtype).tiny
    length = torch.where(moves, square, 1).sqrt() * moves
    angle = torch.atan2(torch.where(moves, sine, 0), torch.where(moves, cosine, 1)) / 2  # -90 to 90 degrees
    half = torch.stack([length * angle.sin(), (length * angle.cos()).clamp(min=0)], 1)
    mean = field[:, 2:]
    return mean - half, mean + half


def in_order_of(start: Tensor, end: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Start and end, B 2 h w each, exchanged where they move against the way from `first` to `last`."""
    against = ((end - start) * (last - first)).sum(1, keepdim=True) < 0
    return torch.where(against, end, start), torch.where(against, start, end)


def turn_picture(values: Tensor, turn: int) -> Tensor:
    """A picture B C H W in one of eight orientations.

    Bits of `turn` mirror left and right (1), mirror up and down (2), and then swap the axes (4).
    """
    values = values.flip([axis for bit, axis in ((1, -1), (2, -2)) if turn & bit])
    return values.transpose(-1, -2) if turn & 4 else values


def turn_field(field: Tensor, turn: int) -> Tensor:
    """Displacements B 2 h w, (dy, dx), of a picture that is turned by `turn_picture`."""
    sign = field.new_tensor([-1.0 if turn & 2 else 1.0, -1.0 if turn & 1 else 1.0]).view(1, 2, 1, 1)
    turned = turn_picture(field * sign, turn)
    return turned.flip(1) if turn & 4 else turned


def turn_back(values: Tensor, turn: int) -> Tensor:
    """The picture that `turn_picture` turned."""
    values = values.transpose(-1, -2) if turn & 4 else values
    return turn_picture(values, turn & 3)


def tap_positions(start: Tensor, end: Tensor) -> Tensor:
    """Where each tap of the motion-aware 3x3 kernel samples.

    start, end: B 2 H W, (dy, dx) in pixels of this resolution.
    Returns 9 B 2 H W, (y, x) in pixels: p + (k // 3 - 1, k % 3 - 1) + o(t_k)(p).
    """
    height, width = start.shape[-2:]
    y, x = torch.arange(height, device=start.device), torch.arange(width, device=start.device)
    pixels = torch.stack(torch.meshgrid(y, x, indexing="ij")).to(start.dtype)  # 2 H W
    tap = torch.arange(TAPS, device=start.device)
    kernel = torch.stack([tap // 3 - 1, tap % 3 - 1], dim=1).to(start.dtype)  # 9 2
    return trajectory(start, end, TAPS) + pixels + kernel.view(TAPS, 1, 2, 1, 1)


def deformable_reference(x: Tensor, positions: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Depth-wise deformable convolution, the plain way: nine bilinear samplings, zero outside the image.

    x: B C H W; positions: 9 B 2 H W as (y, x) in pixels; weight: C 1 3 3; bias: C. Returns B C H W.
    """
    height, width = x.shape[-2:]
    size = torch.tensor([width, height], device=x.device, dtype=positions.dtype)
    result = bias.view(1, -1, 1, 1).expand_as(x)
    for tap in range(TAPS):
        grid = positions[tap].flip(1).permute(0, 2, 3, 1)  # B 2 H W (y, x) -> B H W 2 (x, y)
        grid = (2 * grid + 1) / size - 1  # pixels -> the -1..1 of grid_sample
        sampled = F.grid_sample(x, grid.to(x.dtype), padding_mode="zeros", align_corners=False)
        result = result + sampled * weight[:, 0, tap // 3, tap % 3].view(1, -1, 1, 1)
    return result


@dataclass(frozen=True)
class SamplingPlan:
    """Bilinear sampling of all nine taps, worked out once for the 28 blocks that share it.

    For P = B H W pixels each tap is a sparse P x P matrix with four entries a row, one for each
    neighbor of the sampled position:

    columns: 9 P 4, the neighbors      weights: 9 P 4, zero outside the image; carry the motion's gradient
    order, rows, offsets: the transposed matrices, 9 4P, 9 4P and 9 P; None unless gradients are needed

    The weights keep the displacements' dtype, so that the gradients of all blocks add up in it.
    """

    columns: Tensor
    weights: Tensor
    order: Tensor | None = None
    rows: Tensor | None = None
    offsets: Tensor | None = None


def plan_sampling(start: Tensor, end: Tensor) -> SamplingPlan:
    """Sampling plan for displacements B 2 H W, float32 at least; ready for gradients where they are on."""
    batch, _, height, width = start.shape
    positions = tap_positions(start, end).permute(0, 1, 3, 4, 2)  # 9 B 2 H W -> 9 B H W 2
    corner = positions.detach().floor()
    fraction = positions - corner
    corner = corner.clamp(-2, max(height, width) + 1)  # far outside is as good as just outside
    first = torch.arange(batch, device=start.device).view(1, batch, 1, 1) * height * width
    columns, weights = [], []
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = corner[..., 0] + down, corner[..., 1] + right
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        vertical = fraction[..., 0] if down else 1 - fraction[..., 0]
        horizontal = fraction[..., 1] if right else 1 - fraction[..., 1]
        weights.append(vertical * horizontal * inside)
        columns.append(first + y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long())
    shape = (TAPS, batch * height * width, 4)
    column = torch.stack(columns, -1).reshape(shape)
    weight = torch.stack(weights, -1).reshape(shape)
    return SamplingPlan(column, weight, *(transpose(column) if torch.is_grad_enabled() else ()))


def transpose(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entries 9 P 4 of the matrices by columns: their order, their rows, and where each column begins."""
    ordered, order = columns.flatten(1).sort(dim=1)
    bounds = torch.arange(columns.shape[1], device=columns.device).expand(TAPS, -1).contiguous()
    return order, order // columns.shape[2], torch.searchsorted(ordered, bounds)


class DeformableRows(torch.autograd.Function):
    """Depth-wise deformable convolution as sparse matrix products, forwards and backwards.

    Autograd's own derivative of the lookup sorts its indices anew for each block; here the transposed
    matrices are part of the plan. Under autocast the features are of lower precision than the rest. All runs
    in theirs, as other layers do, but for the gradient of the plan's weights: that is a difference of similar
    sums over all channels and blocks.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, kernel: Tensor, bias: Tensor, plan: SamplingPlan
    ) -> Tensor:
        ctx.save_for_backward(x, weights, kernel, bias)
        ctx.plan = plan
        return gather_taps(x, weights, kernel, bias, plan.columns)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weights, kernel, bias = ctx.saved_tensors
        plan, gradient, factors = ctx.plan, gradient.contiguous(), kernel.to(x.dtype)
        for_x, for_kernel = gradient * factors[CENTER], torch.empty_like(kernel)
        for_kernel[CENTER] = (gradient * x).sum(0)
        for tap in MOVING:
            spread = F.embedding_bag(
                plan.rows[tap],
                gradient,
                plan.offsets[tap],
                mode="sum",
                per_sample_weights=weights[tap].flatten()[plan.order[tap]].to(x.dtype),
            )  # P C
            for_x.addcmul_(spread, factors[tap])
            for_kernel[tap] = (spread * x).sum(0)
        for_weights = None
        if ctx.needs_input_grad[1]:
            for_weights = weights_gradient(x.to(weights.dtype), gradient, kernel, plan.columns)
        return for_x, for_weights, for_kernel, gradient.sum(0, dtype=bias.dtype), None


def weights_gradient(x: Tensor, gradient: Tensor, kernel: Tensor, columns: Tensor) -> Tensor:
    """Gradient of the plan's weights, in the dtype of x: x, gradient P C; kernel 9 C -> 9 P 4.

    The gradient at a pixel times each of its neighbors and the tap of the kernel, summed over the channels.
    """
    gradient, kernel = gradient.to(x.dtype), kernel.to(x.dtype)
    result = torch.zeros(columns.shape, dtype=x.dtype, device=x.device)  # the tap at rest has none
    for tap in MOVING:
        for place in range(columns.shape[2]):  # all at once: four times the memory, no less time
            neighbors = x.index_select(0, columns[tap, :, place])
            result[tap, :, place] = neighbors.mul_(gradient) @ kernel[tap]
    return result


def gather_taps(x: Tensor, weights: Tensor, kernel: Tensor, bias: Tensor, columns: Tensor) -> Tensor:
    """One weighted lookup a tap gathers the four neighbors of every pixel: x P C -> P C; kernel 9 C."""
    # mixed with those of x they would be cast at each use
    weights, kernel, bias = weights.to(x.dtype), kernel.to(x.dtype), bias.to(x.dtype)
    result = torch.addcmul(bias, x, kernel[CENTER])
    for tap in MOVING:
        sampled = F.embedding_bag(columns[tap], x, mode="sum", per_sample_weights=weights[tap])
        result.addcmul_(sampled, kernel[tap])
    return result


def deformable_rows(x: Tensor, plan: SamplingPlan, weight: Tensor, bias: Tensor) -> Tensor:
    """The same convolution on pixels as rows: x (B H W) C -> (B H W) C; weight C 1 3 3, bias C."""
    kernel = weight.view(-1, TAPS).t().contiguous()  # C 1 3 3 -> 9 C; strided rows would not vectorize
    if plan.rows is None:
        return gather_taps(x, plan.weights, kernel, bias, plan.columns)
    return DeformableRows.apply(x, plan.weights, kernel, bias, plan)

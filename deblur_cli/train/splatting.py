"""Forward warping: every pixel is thrown to where its displacement points, and what lands there is averaged.

Softmax splatting of Niklaus and Liu, "Softmax Splatting for Video Frame Interpolation" (2020); average
splatting is its case without importance.
"""

import torch
from torch import Tensor


def splat(image: Tensor, displacement: Tensor, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Throw each pixel of B C H W by B 2 H W, (dy, dx) in pixels, sharing it among four neighbours.

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

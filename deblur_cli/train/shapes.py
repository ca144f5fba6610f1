"""Random silhouettes of moving things."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SEGMENT_SCALE = 4  # pixels of a texture to one of the grid on which its segments are found


def random_silhouette(
    count: int, size: int, generator: torch.Generator, spread: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Soft silhouettes and their centres: count 1 size size in 0-1, and count 2 as (y, x) in pixels.

    Each is a smooth blob or a polygon with rounded outline, of a tenth to almost a half of the side in
    radius; the centre may lie near the border. With a spread above one they are those of a picture up to so
    many times as large, of which this is the middle: larger, cut off, or out of sight.
    """
    device = generator.device
    uniform = torch.rand(6, count, generator=generator, device=device)
    scale = torch.ones(count, device=device)
    if spread > 1:
        scale = spread ** torch.rand(count, generator=generator, device=device)
    centre = (0.5 + scale.view(-1, 1) * (0.7 * uniform[:2].t() - 0.35)) * size
    radius = scale * (0.13 * (0.45 / 0.13) ** uniform[2]) * size
    softness = 0.4 + 1.6 * uniform[3]  # pixels over which the outline fades
    y, x = torch.meshgrid(*[torch.arange(size, device=device, dtype=torch.float32)] * 2, indexing="ij")
    down, right = y - centre[:, 0].view(-1, 1, 1), x - centre[:, 1].view(-1, 1, 1)
    aspect = (0.6 * (1 / 0.6) ** (2 * uniform[4])).view(-1, 1, 1)
    distance, angle = torch.hypot(down * aspect, right / aspect), torch.atan2(down, right)
    outline = torch.where(
        uniform[5].view(-1, 1, 1) < 0.6, blob(angle, generator), polygon(angle, generator)
    ) * radius.view(-1, 1, 1)
    silhouette = torch.sigmoid((outline - distance) / softness.view(-1, 1, 1) * 2)
    return silhouette.unsqueeze(1), centre


def blob(angle: Tensor, generator: torch.Generator) -> Tensor:
    """Radius of a smooth closed curve at each angle, around one; angle: B H W."""
    radius = torch.ones_like(angle)
    for harmonic in range(2, 7):
        draws = torch.rand(2, len(angle), 1, 1, generator=generator, device=generator.device)
        radius = radius + 0.5 / harmonic * draws[0] * torch.cos(harmonic * angle + 2 * math.pi * draws[1])
    return radius


def polygon(angle: Tensor, generator: torch.Generator) -> Tensor:
    """Radius of a random convex polygon of three to seven sides at each angle; angle: B H W."""
    radius = torch.full_like(angle, 1.5)  # no corner reaches farther
    sides = 3 + torch.randint(5, (len(angle), 1, 1), generator=generator, device=generator.device)
    for side in range(7):
        draws = torch.rand(2, len(angle), 1, 1, generator=generator, device=generator.device)
        normal = 2 * math.pi * (side + 0.7 * draws[0]) / sides
        facing = torch.cos(angle - normal)
        reach = (0.6 + 0.4 * draws[1]) / facing.clamp(min=0.05)
        radius = torch.where((facing > 0.05) & (side < sides), torch.minimum(radius, reach), radius)
    return radius


def segments(texture: Tensor, centre: Tensor, generator: torch.Generator) -> Tensor:
    """Silhouettes along the outlines of what a texture shows around a centre: B 1 H W in 0-1.

    texture: B 3 H W; centre: B 2 as (y, x) in pixels. Of the pixels most like the one at the centre, in
    colour and place, a tenth to a half belong to the silhouette.
    """
    count, _, height, width = texture.shape
    small = F.avg_pool2d(texture, SEGMENT_SCALE)
    rows, columns = small.shape[-2:]
    place = (centre / SEGMENT_SCALE).long()
    row, column = place[:, 0].clamp(0, rows - 1), place[:, 1].clamp(0, columns - 1)
    colour = small[torch.arange(count, device=texture.device), :, row, column].view(count, 3, 1, 1)
    unlike = (small - colour).square().sum(1)
    unlike = unlike / unlike.mean((1, 2), keepdim=True).clamp(min=1e-6)
    y = torch.arange(rows, device=texture.device).view(1, -1, 1) - row.view(-1, 1, 1)
    x = torch.arange(columns, device=texture.device).view(1, 1, -1) - column.view(-1, 1, 1)
    distance = unlike + 8 * (y.square() / rows**2 + x.square() / columns**2)
    share = 0.1 + 0.4 * torch.rand(count, generator=generator, device=generator.device).to(texture.device)
    sorted_distance = distance.flatten(1).sort(1).values
    limit = sorted_distance.gather(1, (share * (rows * columns - 1)).long().view(-1, 1)).view(-1, 1, 1)
    inside = torch.sigmoid((limit - distance) * 12)[:, None]
    full = F.interpolate(inside, size=(height, width), mode="bicubic", align_corners=False)
    return torch.sigmoid((full - 0.5) * 12)

"""What synthetic pictures are made of: patches of photos, patterns that look like motion, silhouettes."""

import math
from collections.abc import Sequence
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.train.trajectory import log_uniform

LOCAL = 32  # pixels over which a pattern takes the color of what it lies on
ORDERS = tuple(permutations(range(3)))  # of color channels
KINDS = 5  # stripes, grid, lines, hatching, smooth
SEGMENT_SCALE = 4  # pixels of a texture to one of the grid on which its segments are found


def cut_patches(
    photos: Sequence[Tensor],
    count: int,
    size: int,
    generator: torch.Generator,
    tries: int = 1,
    shrink: float = 2.0,
    enlarge: float = 1.25,
) -> Tensor:
    """Random patches, count 3 size size, float32 in 0-1.

    Each is cut at a random place, enlarged or shrunk by at most what is given, flipped and turned. Of
    several tries the one with most detail is kept, since a patch without shows no blur.
    """
    numbers = torch.rand(count, 4 * tries + 2, generator=generator, device=generator.device).tolist()
    sides = size / enlarge, size * shrink
    return torch.stack([cut_one(photos, size, drawn, sides) for drawn in numbers])  # a GPU waits once


def cut_one(photos: Sequence[Tensor], size: int, numbers: list[float], sides: tuple[float, float]) -> Tensor:
    """The most detailed of several patches 3 size size; numbers in 0-1, four for each and two to turn it."""
    *places, turns, mirrored = numbers
    windows = [window(photos, places[first : first + 4], sides) for first in range(0, len(places), 4)]
    best = max(windows, key=lambda cut: detail(cut, size)) if len(windows) > 1 else windows[0]
    turned = torch.rot90(resampled(best, size), int(4 * turns), (1, 2))
    return turned.flip(2) if mirrored < 0.5 else turned


def window(photos: Sequence[Tensor], numbers: list[float], sides: tuple[float, float]) -> Tensor:
    """A square of one of the photos, its side between two or as long as there is room: uint8 3 side side."""
    which, scale, down, right = numbers
    photo = photos[int(which * len(photos))]
    height, width = photo.shape[1:]
    smallest, largest = sides
    side = min(round(smallest + (largest - smallest) * scale), height, width)
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    return photo[:, top : top + side, left : left + side]


def detail(cut: Tensor, size: int) -> float:
    """About the mean difference of vertical neighbors once a window is resampled to that size."""
    step = max(1, cut.shape[1] // size)
    thinned = cut[1, ::step, ::step].float()  # green stands for all
    return float((thinned[1:] - thinned[:-1]).abs().mean())


def resampled(cut: Tensor, size: int) -> Tensor:
    """A window as float32 3 size size in 0-1."""
    values = cut.float() / 255
    if cut.shape[1] == size:
        return values
    resized = F.interpolate(
        values.unsqueeze(0), size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.squeeze(0).clamp(0, 1)


def recolored(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the pictures B 3 H W in 0-1 with their color channels swapped and other brightness."""
    lot, power, order = torch.rand(3, len(image), generator=generator, device=generator.device)
    orders = torch.tensor(ORDERS, device=image.device)[(len(ORDERS) * order).long()]
    swapped = image.gather(1, orders.view(-1, 3, 1, 1).expand_as(image))
    changed = swapped ** (0.5 * 4**power).view(-1, 1, 1, 1)
    return torch.where((lot < share).view(-1, 1, 1, 1), changed, image)


def patterned(image: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the pictures B 3 H W in 0-1 with a directional pattern, or smoothed to their gradients.

    Stripes and grids (cloth, fences, windows), lines and hatching (fur, grass, brushed metal) go into any
    direction and bend a little. They keep the colors of the picture, half of them its detail too.
    """
    chosen = torch.rand(len(image), generator=generator, device=generator.device) < share
    rows = chosen.to(image.device).nonzero().flatten()
    if not len(rows):
        return image
    plain = image[rows]
    uniform = torch.rand(6, len(rows), 1, 1, 1, generator=generator, device=generator.device).to(image.device)
    kind = (uniform[0] * KINDS).floor()
    pattern = torch.where(kind < 2, stripes(plain, kind > 0, generator), lines(plain, kind == 3, generator))
    base = torch.where((uniform[1] < 0.5) & (kind < KINDS - 1), plain, local_color(plain))
    contrast = (0.1 + 0.5 * uniform[2]) * (kind < KINDS - 1)
    ink = 0.3 + uniform[3:].flatten(1).t().view(-1, 3, 1, 1)  # B 3 1 1, its color
    changed = image.clone()
    changed[rows] = (base + contrast * ink * pattern * (0.15 + base)).clamp(0, 1)
    return changed


def local_color(image: Tensor) -> Tensor:
    """The picture B 3 H W without detail."""
    rows, columns = (max(2, side // LOCAL) for side in image.shape[-2:])
    small = F.adaptive_avg_pool2d(image, (rows, columns))
    return F.interpolate(small, size=image.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)


def wavy(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Coordinates along and across a direction of each picture's own, bent a little: B 1 H W in pixels."""
    count, _, height, width = image.shape
    draws = torch.rand(2, count, 1, 1, 1, generator=generator, device=generator.device).to(image.device)
    bends = torch.randn(count, 1, 4, 4, generator=generator, device=generator.device).to(image.device)
    bends = F.interpolate(bends, size=(height, width), mode="bicubic", align_corners=False)
    y = torch.arange(height, device=image.device, dtype=torch.float32).view(-1, 1)
    x = torch.arange(width, device=image.device, dtype=torch.float32).view(1, -1)
    cosine, sine = (math.pi * draws[0]).cos(), (math.pi * draws[0]).sin()
    along, across = x * cosine + y * sine, y * cosine - x * sine
    return along, across + 12 * draws[1].square() * bends


def stripes(image: Tensor, crossed: Tensor, generator: torch.Generator) -> Tensor:
    """Stripes, or two sets across each other where `crossed` (B 1 1 1): B 1 H W in -1 to 1."""
    along, across = wavy(image, generator)
    shape = (4, len(image), 1, 1, 1)
    draws = torch.rand(shape, generator=generator, device=generator.device).to(image.device)
    period = 3 * 8 ** draws[0]
    edge = 0.5 + (period / 3) * draws[1]  # how steeply one color turns into the other
    first = torch.tanh(edge * (torch.sin(2 * math.pi * across / period) + draws[2] - 0.5))
    period = period * (1 + draws[3])
    second = torch.tanh(edge * (torch.sin(2 * math.pi * along / period) + draws[2] - 0.5))
    return torch.where(crossed, torch.maximum(first, second), first)


def lines(image: Tensor, hard: Tensor, generator: torch.Generator) -> Tensor:
    """Noise that is long in one direction and fine across it, with edges where `hard`: B 1 H W in -1 to 1.

    Its spectrum falls off smoothly along the lines, other than that of motion, which has zeros.
    """
    count, _, height, width = image.shape
    draws = torch.rand(2, count, 1, 1, generator=generator, device=generator.device).to(image.device)
    grain = torch.randn(count, height, width, generator=generator, device=generator.device).to(image.device)
    down = torch.fft.fftfreq(height, device=image.device).view(-1, 1)
    right = torch.fft.rfftfreq(width, device=image.device).view(1, -1)
    thickness = 0.5 * 4 ** draws[0]
    length = thickness * 12 * 8 ** draws[1]
    spectrum = torch.exp(-((2 * math.pi * thickness * right).square()) / 2)
    spectrum = spectrum / (1 + (2 * math.pi * length / 4 * down).square())
    noise = torch.fft.irfft2(torch.fft.rfft2(grain) * spectrum, s=(height, width))
    noise = noise / noise.std((1, 2), keepdim=True).clamp(min=1e-6)
    along, across = wavy(image, generator)
    grid = torch.cat([2 * across / width, 2 * along / height], 1).permute(0, 2, 3, 1)
    turned = F.grid_sample(noise[:, None], grid, padding_mode="reflection", align_corners=False)
    return torch.tanh(turned * torch.where(hard, 4.0, 0.7))


def random_silhouette(
    count: int, size: int, generator: torch.Generator, spread: float = 1.0, smallest: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Soft silhouettes and their centers: count 1 size size in 0-1, and count 2 as (y, x) in pixels.

    Each is a smooth blob or a polygon with rounded outline, of a tenth to almost a half of the side in
    radius; the center may lie near the border. They are those of a picture `smallest` to `spread` times as
    large: smaller, or, as this is the middle of a larger one, larger, cut off, or out of sight.
    """
    device = generator.device
    uniform = torch.rand(6, count, generator=generator, device=device)
    scale = torch.ones(count, device=device)
    if spread > smallest:
        scale = log_uniform(torch.rand(count, generator=generator, device=device), (smallest, spread))
    center = (0.5 + scale.clamp(min=1).view(-1, 1) * (0.7 * uniform[:2].t() - 0.35)) * size
    radius = scale * (0.13 * (0.45 / 0.13) ** uniform[2]) * size
    softness = 0.4 + 1.6 * uniform[3]  # pixels over which the outline fades
    y, x = torch.meshgrid(*[torch.arange(size, device=device, dtype=torch.float32)] * 2, indexing="ij")
    down, right = y - center[:, 0].view(-1, 1, 1), x - center[:, 1].view(-1, 1, 1)
    aspect = (0.6 * (1 / 0.6) ** (2 * uniform[4])).view(-1, 1, 1)
    distance, angle = torch.hypot(down * aspect, right / aspect), torch.atan2(down, right)
    is_blob = uniform[5] < 0.6
    outline = torch.empty_like(angle)
    for shape, rows in ((blob, is_blob.nonzero()[:, 0]), (polygon, (~is_blob).nonzero()[:, 0])):
        outline[rows] = shape(angle[rows], generator)
    outline *= radius.view(-1, 1, 1)
    silhouette = torch.sigmoid((outline - distance) / softness.view(-1, 1, 1) * 2)
    return silhouette.unsqueeze(1), center


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


def segments(texture: Tensor, center: Tensor, generator: torch.Generator) -> Tensor:
    """Silhouettes along the outlines of what a texture shows around a center: B 1 H W in 0-1.

    texture: B 3 H W; center: B 2 as (y, x) in pixels. Of the pixels most like the one at the center, in
    color and place, a tenth to a half belong to the silhouette.
    """
    count, _, height, width = texture.shape
    small = F.avg_pool2d(texture, SEGMENT_SCALE)
    rows, columns = small.shape[-2:]
    place = (center / SEGMENT_SCALE).long()
    row, column = place[:, 0].clamp(0, rows - 1), place[:, 1].clamp(0, columns - 1)
    color = small[torch.arange(count, device=texture.device), :, row, column].view(count, 3, 1, 1)
    unlike = (small - color).square().sum(1)
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

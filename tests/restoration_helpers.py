"""Photos, findings and networks for the tests of deblur_cli.restoration."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from networks import guided_by, lively, lively_detector, lively_lmd_vit, weights_of

from deblur_cli.photo.photo import Photo
from deblur_cli.restoration import Tiling
from deblur_cli.restoration.deblurrer import Deblurrer, Request
from deblur_cli.restoration.findings import Findings

TOLD = {"encoder": (1, 1, 2), "decoder": (1, 1, 1), "stem": 2, "guided": True}
RESTORERS = {
    "m2aenet": lambda: lively(pooling=64),
    "told": lambda: lively(pooling=64, **TOLD),
    "nafnet": lambda: lively("nafnet", pooling=64),
    "lmd_vit": lively_lmd_vit,
}
SUBSETS = [(1,), (2,), (8,), (1, 2), (2, 4), (1, 8), (1, 2, 4, 8)]  # of the scales
DEPTHS = st.sampled_from([np.uint8, np.uint16])


def photo_of(pixels, **fields):
    return Photo(pixels=pixels, source="photo.png", format="PNG", **fields)


def picture(height, width, channels=3, seed=0, dtype=np.uint8):
    """Smooth colors with a patch of fine texture."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.random((1, channels, 7, 9), dtype=np.float32))
    smooth = F.interpolate(coarse, (height, width), mode="bilinear")[0].permute(1, 2, 0).numpy()
    patch = (slice(height // 4, height // 2), slice(width // 3, width // 2))
    smooth[patch] = rng.random(smooth[patch].shape, dtype=np.float32)
    return (smooth * np.iinfo(dtype).max).astype(dtype)


def as_input(pixels):
    """Pixels H W 3 as a network sees them, 1 3 H W."""
    image = torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)
    return image.permute(2, 0, 1)[None]


def cells_of(height, width):
    return -(-height // 8), -(-width // 8)


def findings_of(height, width, seed=0, scale=None, reach=6.0):
    """Findings of a photo with a few regions that are surely blurred, and some doubt elsewhere."""
    rng = np.random.default_rng(seed)
    rows, columns = cells_of(height, width)
    probability = 0.2 * rng.random((rows, columns), dtype=np.float32)
    for _ in range(3):
        top, left = rng.integers(0, rows), rng.integers(0, columns)
        probability[top : top + rng.integers(1, 12), left : left + rng.integers(1, 12)] = 0.95
    motion = rng.uniform(-reach, reach, (2, rows, columns)).astype(np.float32)
    scales = 2 ** rng.uniform(0, 3, (rows, columns)) if scale is None else np.full((rows, columns), scale)
    return Findings((height, width), probability, motion, -motion, scales.astype(np.float32))


def deblurrer_of(network, precision="fp32", scales=(1, 2, 4, 8), **tiling):
    weights = network if hasattr(network, "sha256") else weights_of(network)
    return Deblurrer(weights, "cpu", precision, Tiling(**tiling), scales)


def guided(kind, detector=None):
    return guided_by(detector or lively_detector(pooling=48), RESTORERS[kind]())


def run(deblurrer, photo, **request):
    """Both steps."""
    return deblurrer.restore(photo, deblurrer.detect(photo), Request(**request))

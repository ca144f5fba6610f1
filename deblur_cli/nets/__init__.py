"""Networks: tensors in, tensors out. They know neither files nor weights files."""

from typing import Any

from deblur_cli.nets.detector import Detector, DetectorConfig
from deblur_cli.nets.fast import accelerate
from deblur_cli.nets.guided import Guided, restorer_of
from deblur_cli.nets.lmd_vit import LMDConfig, LMDViT, WindowRestoration
from deblur_cli.nets.m2aenet import Config, M2AENet
from deblur_cli.nets.m2aenet_guided import GuidedM2AENet
from deblur_cli.nets.network import CELL, Detection, Network, Restoration, place

ARCHITECTURES = ("m2aenet", "nafnet")  # what `create` makes, and what is trained
DETECTOR = "detector"
LMD_VIT = "lmd_vit"

__all__ = [
    "ARCHITECTURES",
    "CELL",
    "DETECTOR",
    "LMD_VIT",
    "Config",
    "Detection",
    "Detector",
    "DetectorConfig",
    "Guided",
    "GuidedM2AENet",
    "LMDConfig",
    "LMDViT",
    "M2AENet",
    "Network",
    "Restoration",
    "WindowRestoration",
    "accelerate",
    "create",
    "create_detector",
    "create_lmd_vit",
    "place",
    "restorer_of",
]


def create_lmd_vit(**sizes: Any) -> LMDViT:
    """An LMD-ViT with fresh parameters; `sizes` are those of `LMDConfig`, as published unless given.

    Raises ValueError for sizes that do not fit together.
    """
    for name in sizes.keys() & {"depths", "heads"}:
        sizes[name] = tuple(sizes[name])  # JSON has lists
    return LMDViT(LMDConfig(**sizes))


def create_detector(**sizes: Any) -> Detector:
    """A detector with fresh parameters; `sizes` are those of `DetectorConfig`."""
    return Detector(DetectorConfig(**sizes))


def create(
    architecture: str,
    *,
    width: int = 32,
    encoder: tuple[int, ...] = (1, 1, 1, 28),
    middle: int = 1,
    decoder: tuple[int, ...] = (1, 1, 1, 1),
    pooling: int | None = None,
    mask: bool = True,
    motion: bool = True,
    mask_conv3: bool = False,
    mask_conv4: bool = False,
    stem: int = 1,
    guided: bool = False,
) -> M2AENet:
    """A network with fresh parameters.

    `architecture` is "m2aenet" or "nafnet"; `pooling` is the averaging window in full-resolution
    pixels (384 for weights trained on patches of 256), None for the whole image.
    The switches are those of `Config`, for ablations of M²AENet; NAFNet has none of its parts. With a stem
    of 2, and guided by a detector, both learn faster. Raises ValueError for an unknown architecture, for
    masked convolutions without a mask, and for stages that do not bring mask and motion to 1/8.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    if architecture == "nafnet":
        mask = motion = mask_conv3 = mask_conv4 = False
    if (mask_conv3 or mask_conv4) and not mask:
        raise ValueError("mask_conv3 and mask_conv4 need a mask")
    sizes = (width, tuple(encoder), middle, tuple(decoder), pooling)
    kind = GuidedM2AENet if guided else M2AENet
    return kind(Config(*sizes, mask, motion, mask_conv3, mask_conv4, stem, guided))

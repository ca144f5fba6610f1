"""Networks: tensors in, tensors out. They know neither files nor weights files."""

from deblur_cli.nets.m2aenet import STAGE_SCALE, Config, Detection, M2AENet, Restoration, place

ARCHITECTURES = ("m2aenet", "nafnet")

__all__ = ["ARCHITECTURES", "STAGE_SCALE", "Config", "Detection", "M2AENet", "Restoration", "create", "place"]


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
) -> M2AENet:
    """A network with fresh parameters.

    `architecture` is "m2aenet" or "nafnet"; `pooling` is the averaging window in full-resolution
    pixels (384 for weights trained on patches of 256), None for the whole image.
    The switches are those of `Config`, for ablations of M²AENet; NAFNet has none of its parts.
    Raises ValueError for an unknown architecture, and for masked convolutions without a mask.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    if architecture == "nafnet":
        mask = motion = mask_conv3 = mask_conv4 = False
    if (mask_conv3 or mask_conv4) and not mask:
        raise ValueError("mask_conv3 and mask_conv4 need a mask")
    sizes = (width, tuple(encoder), middle, tuple(decoder), pooling)
    return M2AENet(Config(*sizes, mask, motion, mask_conv3, mask_conv4))

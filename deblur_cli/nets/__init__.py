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
) -> M2AENet:
    """A network with fresh parameters.

    `architecture` is "m2aenet" or "nafnet"; `pooling` is the averaging window in full-resolution
    pixels (384 for weights trained on patches of 256), None for the whole image.
    Raises ValueError for an unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    aware = architecture == "m2aenet"
    return M2AENet(Config(width, tuple(encoder), middle, tuple(decoder), pooling, mask=aware, motion=aware))

"""Networks: tensors in, tensors out. They know neither files nor weights files."""

from dataclasses import replace
from typing import Any

from deblur_cli.nets.detector import Detector, DetectorConfig
from deblur_cli.nets.fast import accelerate
from deblur_cli.nets.guided import Guided, GuidedM2AENet, WholeFrame, restorer_of
from deblur_cli.nets.lmd_vit import LMDConfig, LMDViT, WindowRestoration
from deblur_cli.nets.m2aenet import Config, M2AENet
from deblur_cli.nets.network import Detection, Network, Restoration, place
from deblur_cli.nets.richardson_lucy import RichardsonLucy, RichardsonLucyConfig

ARCHITECTURES = ("m2aenet", "nafnet")  # what `create` makes, and what is trained
DETECTOR = "detector"
LMD_VIT = "lmd_vit"
RICHARDSON_LUCY = RichardsonLucy.architecture


def create(architecture: str, **sizes: Any) -> M2AENet:
    """A network with fresh parameters: "m2aenet" or "nafnet", of the `sizes` of `Config`.

    NAFNet has no mask and no motion, whatever the sizes say. With a stem of 2, and guided by a detector, both
    learn faster. Raises ValueError for an unknown architecture and for sizes that do not fit together.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    config = Config(**with_tuples(sizes))
    if architecture == "nafnet":
        config = replace(config, mask=False, motion=False, mask_conv3=False, mask_conv4=False)
    return (GuidedM2AENet if config.guided else M2AENet)(config)


def create_detector(**sizes: Any) -> Detector:
    """A detector with fresh parameters; `sizes` are those of `DetectorConfig`."""
    return Detector(DetectorConfig(**sizes))


def create_lmd_vit(**sizes: Any) -> LMDViT:
    """An LMD-ViT with fresh parameters; `sizes` are those of `LMDConfig`, as published unless given.

    Raises ValueError for sizes that do not fit together.
    """
    return LMDViT(LMDConfig(**with_tuples(sizes)))


def with_tuples(sizes: dict[str, Any]) -> dict[str, Any]:
    """The same with a tuple in the place of each list, which is what JSON has."""
    return {name: tuple(size) if isinstance(size, list) else size for name, size in sizes.items()}

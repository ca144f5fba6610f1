"""M²AENet, and NAFNet as its configuration without mask and motion.

Shang et al., "Motion-Aware Adaptive Pixel Pruning for Efficient Local Motion Deblurring" (2025), and
Chen et al., "Simple Baselines for Image Restoration" (2022).
"""

from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.blocks import (
    Guidance,
    MaskPredictor,
    MotionBlock,
    NAFBlock,
    threshold_mask,
)
from deblur_cli.nets.motion import SamplingPlan, plan_sampling
from deblur_cli.nets.network import CELL, Detection, Network, Restoration, pad_to

BYTES_PER_CHANNEL = 64  # at the peak, for each pixel of the first stage and channel of the width, in float32
SWITCHES = {"mask": True, "motion": True, "mask_conv3": False, "mask_conv4": False}  # stored if they differ
ADDITIONS = {"stem": 1, "guided": False}  # to what the papers have; stored if they differ
STEMS = (1, 2, 4)


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network; travels with the weights.

    width: channels of the first stage; they double with each
    encoder, middle, decoder: blocks of each stage
    pooling: averaging window in full-resolution pixels (384 for weights trained on patches of 256), None for
    the whole image
    mask, motion: the parts that NAFNet does not have
    mask_conv3, mask_conv4: the point-wise convolutions behind the attention and before the deformable one
    spare sharp pixels too. These are positions (2) and (3) of the paper's Table 4, as far as its counts of
    operations tell; the paper keeps to position (1) alone.
    stem: before the first layer, squares of so many pixels a side become channels of one (pixel-unshuffle),
    so that no layer works at full resolution; stage s is at 1 / (stem 2^s)
    guided: mask and motion come from a detector, and the picture undone along that motion is seen as well
    (`GuidedM2AENet`)
    """

    width: int = 32
    encoder: tuple[int, ...] = (1, 1, 1, 28)
    middle: int = 1
    decoder: tuple[int, ...] = (1, 1, 1, 1)
    pooling: int | None = None
    mask: bool = True
    motion: bool = True
    mask_conv3: bool = False
    mask_conv4: bool = False
    stem: int = 1
    guided: bool = False

    @property
    def architecture(self) -> str:
        """The name that `create` knows it by."""
        return "m2aenet" if self.mask or self.motion else "nafnet"


class M2AENet(Network):
    """Mask- and motion-aware network (Fig. 2): detect what is blurred, restore that.

    A U-Net of NAFNet's blocks. From the features that enter its last encoder stage, at 1/8, the mask
    predictor detects what is blurred and the motion analyzer how it moved; that guides the blocks of the
    stage. Parameters are named as in the published NAFNet checkpoints; those of mask and motion are added.
    """

    config: Config
    sees = 3  # channels of a picture

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_config(config)
        self.config, self.architecture = config, config.architecture
        self.multiple = config.stem << len(config.encoder)
        self.detects, self.traces, self.masks = config.mask, config.motion, config.mask
        self.bytes_per_pixel = BYTES_PER_CHANNEL * config.width // config.stem**2
        if config.pooling is not None:
            self.smallest_part = config.pooling * 2 // 3  # the patches of training, of which it is 1.5 times
        self.depth = config.encoder[-1]  # how many blocks of the last stage run; the others must do nothing
        width, stages, parts = config.width, len(config.encoder), config.stem**2
        self.intro = nn.Conv2d(self.sees * parts, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3 * parts, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        for stage, count in enumerate(config.encoder):
            self.encoders.append(self.blocks(stage, count, aware=stage == stages - 1))
            self.downs.append(nn.Conv2d(width << stage, 2 * width << stage, 2, stride=2))
        self.middle_blks = self.blocks(stages, config.middle)
        for stage, count in zip(reversed(range(stages)), config.decoder, strict=True):
            expand = nn.Conv2d(2 * width << stage, 4 * width << stage, 1, bias=False)
            self.ups.append(nn.Sequential(expand, nn.PixelShuffle(2)))
            self.decoders.append(self.blocks(stage, count))
        self.add_guides(width << stages - 1, self.window(stages - 1))

    def blocks(self, stage: int, count: int, *, aware: bool = False) -> nn.Sequential:
        """NAFNet's blocks of a stage, or the mask- and motion-aware ones."""
        config, sizes = self.config, (self.config.width << stage, self.window(stage))
        switches = (config.motion, config.mask_conv3, config.mask_conv4)
        return nn.Sequential(
            *[MotionBlock(*sizes, *switches) if aware else NAFBlock(*sizes) for _ in range(count)]
        )

    def add_guides(self, channels: int, window: int | None) -> None:
        """The layers that detect what is blurred and how it moved."""
        if self.config.mask:
            self.mask_predictor = MaskPredictor(channels, window)
        if self.config.motion:
            self.motion_analyzer = nn.Conv2d(channels, 4, 3, padding=1)

    def window(self, stage: int) -> int | None:
        """The averaging window in pixels of a stage, None for the whole image."""
        pooling = self.config.pooling
        return pooling and pooling // (self.config.stem << stage)

    def config_as_stored(self) -> dict[str, object]:
        """Sizes, and what else is not as usual."""
        config = asdict(self.config)
        switches = SWITCHES if self.architecture == "m2aenet" else dict.fromkeys(SWITCHES, False)
        usual = switches | ADDITIONS
        return {key: value for key, value in config.items() if key not in usual or value != usual[key]}

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:  # noqa: ARG002
        """Detect what is blurred (Eq. 1) and how it moved: x B 3 H W in 0-1. The same for every epsilon."""
        image, size = self.pad(x), (x.shape[-2], x.shape[-1])
        features, skips = self.encode(image)
        logits = probability = start = end = None
        if self.config.mask:
            logits = self.mask_predictor(features)
            probability = logits.float().softmax(1)[:, :1]  # Eq. 1: of channel 0, that a pixel is blurred
        if self.config.motion:
            start, end = self.motion_analyzer(features).float().chunk(2, 1)
        return Detection(image, size, probability, start, end, logits, features, skips)

    def restore(self, detection: Detection, epsilon: float = 0.5, mask: Tensor | None = None) -> Restoration:
        """Restore what is blurred with a confidence above epsilon, or where the mask B 1 H/8 W/8 is one."""
        assert detection.features is not None
        mask = self.choose_mask(detection, epsilon) if mask is None else mask
        features, guidance = detection.features, Guidance(mask, self.sampling(detection))
        for block in self.deep_blocks():
            features = block(features, guidance)
        image = detection.image + self.decode(features, detection.skips)
        height, width = detection.size
        return Restoration(image[..., :height, :width], mask, detection)

    def pad(self, x: Tensor) -> Tensor:
        """Zeros below and to the right of a picture, up to whole multiples of what the network halves."""
        return pad_to(x, self.multiple, "constant")

    def encode(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The stages before the last: features that enter it, B C H/8 W/8, and the outputs of the others."""
        stem, skips = self.config.stem, []
        features = self.intro(F.pixel_unshuffle(image, stem) if stem > 1 else image)
        for blocks, down in zip(self.encoders[:-1], self.downs[:-1], strict=True):
            features = blocks(features)
            skips.append(features)
            features = down(features)
        return features, tuple(skips)

    def choose_mask(self, detection: Detection, epsilon: float) -> Tensor | None:
        """Sampled while training (Eq. 2), thresholded otherwise (Eq. 3); None where nothing is masked.

        In training on what another network detected, the threshold is drawn for each picture. A cell is then
        blurred as often as in Eq. 2, within masks such as an epsilon makes.
        """
        probability = detection.probability
        if not self.config.mask or probability is None:
            return None
        if not self.training:
            return threshold_mask(probability, epsilon)
        if detection.logits is not None:
            return F.gumbel_softmax(detection.logits.float(), hard=True, dim=1)[:, :1]  # 0 or 1, Eq. 2
        return threshold_mask(probability, torch.rand(len(probability), 1, 1, 1, device=probability.device))

    def sampling(self, detection: Detection) -> SamplingPlan | None:
        """Where the taps of the deformable convolutions sample, along the trajectories (Eq. 4)."""
        if not self.config.motion or detection.start is None or detection.end is None:
            return None
        return plan_sampling(detection.start, detection.end)

    def deep_blocks(self) -> list[MotionBlock]:
        """The mask- and motion-aware blocks of the last encoder stage that run."""
        return [cast(MotionBlock, block) for block in self.encoders[-1].children()][: self.depth]

    def decode(self, features: Tensor, skips: tuple[Tensor, ...]) -> Tensor:
        """From the last encoder stage, B C H/8 W/8, to the change of the picture, B 3 H W."""
        decoded = self.middle_blks(self.downs[-1](features))
        for up, blocks, skip in zip(self.ups, self.decoders, (features, *reversed(skips)), strict=True):
            decoded = blocks(up(decoded) + skip)
        change, stem = self.ending(decoded), self.config.stem
        return F.pixel_shuffle(change, stem) if stem > 1 else change


def check_config(config: Config) -> None:
    """Raise ValueError for sizes and switches that do not fit together.

    Mask and motion need a last encoder stage with one pixel for each cell.
    """
    if config.stem not in STEMS:
        raise ValueError(f"stem is {config.stem}: it must be 1, 2 or 4")
    if (config.mask_conv3 or config.mask_conv4) and not config.mask:
        raise ValueError("mask_conv3 and mask_conv4 need a mask")
    stages = (CELL // config.stem).bit_length()
    if (config.mask or config.motion or config.guided) and len(config.encoder) != stages:
        raise ValueError(f"mask and motion are at 1/{CELL}: stem {config.stem} needs {stages} stages")

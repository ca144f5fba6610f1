"""M²AENet, and NAFNet as its configuration without mask and motion.

Shang et al., "Motion-Aware Adaptive Pixel Pruning for Efficient Local Motion Deblurring" (2025), and
Chen et al., "Simple Baselines for Image Restoration" (2022).
"""

from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.blocks import Guidance, MotionBlock, identity_kernel
from deblur_cli.nets.layers import Average, NAFBlock
from deblur_cli.nets.mask import MaskPredictor, blur_probability, sample_mask, threshold_mask
from deblur_cli.nets.motion import plan_sampling
from deblur_cli.nets.network import STAGE_SCALE, Detection, Network, Restoration
from deblur_cli.nets.pruned import plan_pruning

BYTES_PER_CHANNEL = 64  # at the peak, for each pixel and each channel of the width, in float32
SWITCHES = {"mask": True, "motion": True, "mask_conv3": False, "mask_conv4": False}  # stored if they differ


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network; travels with the weights.

    `pooling` is the averaging window in full-resolution pixels, None for the whole image.
    mask, motion: the parts that NAFNet does not have; mask_conv3, mask_conv4: let the point-wise convolutions
    behind the attention and before the deformable one spare sharp pixels too. These are positions (2) and (3)
    of the paper's Table 4, as far as its counts of operations tell; the paper keeps to position (1) alone.
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

    @property
    def architecture(self) -> str:
        """The name that `create` knows it by."""
        return "m2aenet" if self.mask or self.motion else "nafnet"

    def to_dict(self) -> dict[str, object]:
        """As plain values, to be stored beside weights."""
        return asdict(self)


class M2AENet(Network):
    """Mask- and motion-aware network: detect what is blurred, restore that.

    Parameter names are those of the published NAFNet checkpoints; mask predictor, motion analyzer and
    deformable kernels come on top.
    """

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.multiple = 1 << len(config.encoder)
        width, pooling, stages = config.width, config.pooling, len(config.encoder)
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        for stage, count in enumerate(config.encoder):
            channels, window = width << stage, pooling and pooling >> stage
            aware = stage == stages - 1 and (config.mask or config.motion)
            blocks = [
                MotionBlock(channels, window, config.motion, config.mask_conv3, config.mask_conv4)
                if aware
                else NAFBlock(channels, window)
                for _ in range(count)
            ]
            self.encoders.append(nn.ModuleList(blocks) if aware else nn.Sequential(*blocks))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
        deepest, window = width << stages, pooling and pooling >> stages
        self.middle_blks = nn.Sequential(*[NAFBlock(deepest, window) for _ in range(config.middle)])
        for stage, count in zip(reversed(range(stages)), config.decoder, strict=True):
            channels, window = width << stage, pooling and pooling >> stage
            expand = nn.Conv2d(2 * channels, 4 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(expand, nn.PixelShuffle(2)))
            self.decoders.append(nn.Sequential(*[NAFBlock(channels, window) for _ in range(count)]))
        aware_channels, window = width << (stages - 1), pooling and pooling >> (stages - 1)
        if config.mask:
            self.mask_predictor = MaskPredictor(aware_channels, window)
        if config.motion:
            self.motion_analyzer = nn.Conv2d(aware_channels, 4, 3, padding=1)
            for block in self.encoders[-1].children():
                identity_kernel(cast(MotionBlock, block).dconv)
        self.depth = config.encoder[-1]  # how many blocks of stage 4 run; the others must be the identity

    @property
    def architecture(self) -> str:
        return self.config.architecture

    @property
    def detects(self) -> bool:
        return self.config.mask

    @property
    def traces(self) -> bool:
        return self.config.motion

    @property
    def bytes_per_pixel(self) -> int:
        return BYTES_PER_CHANNEL * self.config.width

    @property
    def smallest_part(self) -> int | None:
        window = self.config.pooling  # 1.5 times the training patch, which parts then are no smaller than
        return None if window is None else window * 2 // 3

    def config_as_stored(self) -> dict[str, object]:
        """Sizes, and of M²AENet the switches that are not as usual."""
        config = self.config.to_dict()
        usual = SWITCHES if self.architecture == "m2aenet" else dict.fromkeys(SWITCHES, False)
        return {key: value for key, value in config.items() if key not in usual or value != usual[key]}

    def detect(self, x: Tensor, epsilon: float = 0.5, pruned: bool = True) -> Detection:  # noqa: ARG002
        """Where is it blurred, and how did it move? x: B 3 H W in 0-1. The same for every epsilon."""
        size = (x.shape[-2], x.shape[-1])
        image = F.pad(x, (0, -size[1] % self.multiple, 0, -size[0] % self.multiple))
        features, skips = self.intro(image), []
        for blocks, down in zip(self.encoders[:-1], self.downs[:-1], strict=True):
            features = blocks(features)
            skips.append(features)
            features = down(features)
        logits = self.mask_predictor(features) if self.config.mask else None
        start, end = (
            self.motion_analyzer(features).float().chunk(2, 1) if self.config.motion else (None, None)
        )
        probability = blur_probability(logits) if logits is not None else None
        return Detection(image, features, tuple(skips), size, logits, probability, start, end)

    def restore(
        self,
        detection: Detection,
        epsilon: float = 0.5,
        pruned: bool = False,
        mask: Tensor | None = None,
    ) -> Restoration:
        """Second half: restore the pixels whose probability of blur is above epsilon.

        A mask B 1 H/8 W/8 of zeros and ones, if given, takes the place of that choice.
        """
        mask = self.choose_mask(detection, epsilon) if mask is None else mask
        features = self.deep_stage(detection, mask, pruned)
        decoded = self.middle_blks(self.downs[-1](features))
        for up, blocks, skip in zip(
            self.ups, self.decoders, (features, *reversed(detection.skips)), strict=True
        ):
            decoded = blocks(up(decoded) + skip)
        image = self.ending(decoded) + detection.image
        height, width = detection.size
        return Restoration(image[..., :height, :width], mask, detection)

    def choose_mask(self, detection: Detection, epsilon: float) -> Tensor | None:
        """Sampled while training (Eq. 2), thresholded otherwise (Eq. 3); None without a predictor."""
        if detection.logits is None or detection.probability is None:
            return None
        return (
            sample_mask(detection.logits) if self.training else threshold_mask(detection.probability, epsilon)
        )

    def deep_stage(self, detection: Detection, mask: Tensor | None, pruned: bool) -> Tensor:
        """Encoder stage 4 under the guidance of mask and motion: B C H/8 W/8 -> the same."""
        features = detection.features
        if not (self.config.mask or self.config.motion):
            for block in self.deep_blocks():
                features = block(features)
            return features
        sampling = None
        if detection.start is not None and detection.end is not None:
            sampling = plan_sampling(detection.start, detection.end, features.dtype, torch.is_grad_enabled())
        if pruned and mask is not None and mask.all():
            mask = None  # nothing to prune, and nothing to gather and scatter for it
        pruning = plan_pruning(mask) if pruned and mask is not None else None
        guidance = Guidance(mask, pruning, sampling)
        for block in self.deep_blocks():
            features = block(features, guidance)
        return features

    def deep_blocks(self) -> list[NAFBlock]:
        """The blocks of encoder stage 4 that run."""
        return [cast(NAFBlock, block) for block in self.encoders[-1].children()][: self.depth]

    def skip_identity_blocks(self) -> None:
        """Leave out trailing blocks of stage 4 whose residual scales are all zero: same result, less work."""
        self.depth = self.config.encoder[-1]
        while self.depth and is_identity(self.deep_blocks()[-1]):
            self.depth -= 1

    def pool_in_cells(self) -> None:
        """Approximate local pooling: one mean for every 8 x 8 pixels of the photo, interpolated between.

        Running sums at full resolution would cost more than the layers that they serve.
        """
        for module in self.modules():
            if isinstance(module, Average) and module.window and self.config.pooling:
                module.step = max(1, STAGE_SCALE * module.window // self.config.pooling)


def is_identity(block: NAFBlock) -> bool:
    """Whether a block returns its input because both its residual scales are zero."""
    return not (block.beta.any() or block.gamma.any())

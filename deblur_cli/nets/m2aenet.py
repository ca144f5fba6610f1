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
from deblur_cli.nets.pruned import plan_pruning

STAGE_SCALE = 8  # pixels of the photo to one of the stage that masks and motion live at


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


@dataclass(frozen=True)
class Detection:
    """First half of the network. Tensors are padded to whole multiples of 16 pixels.

    image: B 3 H W; features: B C H/8 W/8 entering encoder stage 4; skips: outputs of stages 1-3
    logits: B 2 H/8 W/8; probability: B 1 H/8 W/8 in 0-1
    start, end: B 2 H/8 W/8, (dy, dx) from mid-exposure in pixels of this stage (8 photo pixels)
    size: height and width before padding. Without mask or motion those fields are None.
    """

    image: Tensor
    features: Tensor
    skips: tuple[Tensor, ...]
    size: tuple[int, int]
    logits: Tensor | None
    probability: Tensor | None
    start: Tensor | None
    end: Tensor | None

    @property
    def bytes(self) -> int:
        """Memory that picture and features take."""
        return sum(part.nbytes for part in (self.image, self.features, *self.skips))

    def window(self, rows: slice, columns: slice) -> "Detection":
        """The same for a rectangle of the picture, in pixels from a multiple of 16 to one or to its end."""
        multiple = 2 * STAGE_SCALE
        ends = (-(-side.stop // multiple) * multiple for side in (rows, columns))
        begins = (rows.start, columns.start)
        spans = [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]

        def cut(values: Tensor, scale: int) -> Tensor:
            down, across = (slice(span.start // scale, span.stop // scale) for span in spans)
            return values[..., down, across].contiguous(memory_format=torch.channels_last)

        maps = (self.logits, self.probability, self.start, self.end)
        return Detection(
            cut(self.image, 1),
            cut(self.features, STAGE_SCALE),
            tuple(cut(skip, 1 << stage) for stage, skip in enumerate(self.skips)),
            (rows.stop - rows.start, columns.stop - columns.start),
            *(None if values is None else cut(values, STAGE_SCALE) for values in maps),
        )


@dataclass(frozen=True)
class Restoration:
    """Result of the network: image B 3 H W, unclamped, as large as the input; the rest as in Detection.

    mask: B 1 H/8 W/8 of zeros and ones, the pixels that were restored.
    """

    image: Tensor
    mask: Tensor | None
    detection: Detection

    @property
    def probability(self) -> Tensor | None:
        """Confidence that a pixel is blurred, B 1 H/8 W/8 in 0-1."""
        return self.detection.probability

    @property
    def start(self) -> Tensor | None:
        """o(t_0): displacement to the start of the exposure, B 2 H/8 W/8."""
        return self.detection.start

    @property
    def end(self) -> Tensor | None:
        """o(t_8): displacement to the end of the exposure, B 2 H/8 W/8."""
        return self.detection.end


class M2AENet(nn.Module):
    """Mask- and motion-aware network: detect what is blurred, restore that.

    Parameter names are those of the published NAFNet checkpoints; mask predictor, motion analyzer and
    deformable kernels come on top.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
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

    def forward(self, x: Tensor, epsilon: float = 0.5, pruned: bool = False) -> Restoration:
        """Restore x, B 3 H W in 0-1. In training mode the mask is sampled (Eq. 2), else thresholded."""
        return self.restore(self.detect(x), epsilon, pruned)

    def detect(self, x: Tensor) -> Detection:
        """Where is it blurred, and how did it move? x: B 3 H W in 0-1."""
        size = (x.shape[-2], x.shape[-1])
        multiple = 1 << len(self.encoders)
        image = F.pad(x, (0, -size[1] % multiple, 0, -size[0] % multiple))
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

    def fold_scales(self) -> None:
        """Multiply residual scales into the convolutions before them, for inference: same result, less work.

        The parameters are then no longer those of the weights file.
        """
        for module in self.modules():
            if isinstance(module, NAFBlock):
                module.fold_scales()

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


def place(network: M2AENet, device: str, dtype: torch.dtype = torch.float32) -> M2AENet:
    """The network moved to a device in a precision, its kernels laid out channels-last."""
    network = network.to(device, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    return network

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
from deblur_cli.nets.motion import from_double_angle, plan_sampling, to_double_angle
from deblur_cli.nets.network import STAGE_SCALE, Detection, Network, Restoration, fit
from deblur_cli.nets.pruned import plan_pruning
from deblur_cli.nets.richardson_lucy import enlarge, richardson_lucy

BYTES_PER_CHANNEL = 64  # at the peak, for each pixel of the first stage and channel of the width, in float32
BYTES_GUIDED = 256  # for each photo pixel: undoing the blur, and what is seen besides the photo
SWITCHES = {"mask": True, "motion": True, "mask_conv3": False, "mask_conv4": False}  # stored if they differ
ADDITIONS = {"stem": 1, "guided": False}  # to what the papers have; stored if they differ
STEMS = (1, 2, 4)
TOLD = 5  # maps of a detector: probability, and motion as a double angle


@dataclass(frozen=True)
class Config:
    """Everything that shapes the network; travels with the weights.

    `pooling` is the averaging window in full-resolution pixels, None for the whole image.
    mask, motion: the parts that NAFNet does not have; mask_conv3, mask_conv4: let the point-wise convolutions
    behind the attention and before the deformable one spare sharp pixels too. These are positions (2) and (3)
    of the paper's Table 4, as far as its counts of operations tell; the paper keeps to position (1) alone.
    stem: before the first layer every so many pixels each way become channels of one (pixel-unshuffle), so
    that no layer works at full resolution; stage s is at 1 / (stem 2^s)
    guided: mask and motion are those of a detector, and the picture undone along that motion is seen as well
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

    def to_dict(self) -> dict[str, object]:
        """As plain values, to be stored beside weights."""
        return asdict(self)


class M2AENet(Network):
    """Mask- and motion-aware network: detect what is blurred, restore that.

    Parameter names are those of the published NAFNet checkpoints; mask predictor, motion analyzer and
    deformable kernels come on top. A guided network has neither of the first two, but `follow`s a detector.
    """

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_stages(config)
        self.config = config
        self.multiple = config.stem << len(config.encoder)
        width, stages, parts = config.width, len(config.encoder), config.stem**2
        inputs = 3 + 1 + 3 if config.guided else 3  # photo, probability, undone photo
        self.intro = nn.Conv2d(inputs * parts, width, 3, padding=1)
        self.ending = nn.Conv2d(width, 3 * parts, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.ups, self.downs = nn.ModuleList(), nn.ModuleList()
        for stage, count in enumerate(config.encoder):
            channels, window = width << stage, self.window(stage)
            if stage == stages - 1 and (config.mask or config.motion):
                switches = (config.motion, config.mask_conv3, config.mask_conv4)
                aware = [MotionBlock(channels, window, *switches) for _ in range(count)]
                self.encoders.append(nn.ModuleList(aware))
            else:
                self.encoders.append(nn.Sequential(*[NAFBlock(channels, window) for _ in range(count)]))
            self.downs.append(nn.Conv2d(channels, 2 * channels, 2, stride=2))
        deepest, window = width << stages, self.window(stages)
        self.middle_blks = nn.Sequential(*[NAFBlock(deepest, window) for _ in range(config.middle)])
        for stage, count in zip(reversed(range(stages)), config.decoder, strict=True):
            channels, window = width << stage, self.window(stage)
            expand = nn.Conv2d(2 * channels, 4 * channels, 1, bias=False)
            self.ups.append(nn.Sequential(expand, nn.PixelShuffle(2)))
            self.decoders.append(nn.Sequential(*[NAFBlock(channels, window) for _ in range(count)]))
        self.add_findings(width << (stages - 1), self.window(stages - 1))
        self.depth = config.encoder[-1]  # how many blocks of the last stage run; the others must do nothing

    def add_findings(self, channels: int, window: int | None) -> None:
        """The layers that find mask and motion, or are told them, and neutral kernels to begin with."""
        config = self.config
        if config.guided:
            self.told = nn.Conv2d(TOLD, channels, 1)
            nn.init.zeros_(self.ending.weight)  # untrained, it returns its input
            nn.init.zeros_(cast(Tensor, self.ending.bias))
        if config.mask and not config.guided:
            self.mask_predictor = MaskPredictor(channels, window)
        if config.motion and not config.guided:
            self.motion_analyzer = nn.Conv2d(channels, 4, 3, padding=1)
        for block in self.encoders[-1].children() if config.motion else ():
            identity_kernel(cast(MotionBlock, block).dconv)

    def window(self, stage: int) -> int | None:
        """The averaging window in pixels of a stage, None for the whole image."""
        pooling = self.config.pooling
        return pooling and pooling // (self.config.stem << stage)

    @property
    def architecture(self) -> str:
        return self.config.architecture

    @property
    def detects(self) -> bool:
        return self.config.mask and not self.config.guided

    @property
    def traces(self) -> bool:
        return self.config.motion and not self.config.guided

    @property
    def masks(self) -> bool:
        return self.config.mask

    @property
    def guided(self) -> bool:
        return self.config.guided

    @property
    def bytes_per_pixel(self) -> int:
        config = self.config
        return BYTES_PER_CHANNEL * config.width // config.stem**2 + config.guided * BYTES_GUIDED

    @property
    def smallest_part(self) -> int | None:
        window = self.config.pooling  # 1.5 times the training patch, which parts then are no smaller than
        return None if window is None else window * 2 // 3

    def config_as_stored(self) -> dict[str, object]:
        """Sizes, and of what else there is to choose that which is not as usual."""
        config = self.config.to_dict()
        switches = SWITCHES if self.architecture == "m2aenet" else dict.fromkeys(SWITCHES, False)
        usual = switches | ADDITIONS
        return {key: value for key, value in config.items() if key not in usual or value != usual[key]}

    def detect(self, x: Tensor, epsilon: float = 0.5, pruned: bool = True) -> Detection:  # noqa: ARG002
        """Where is it blurred, and how did it move? x: B 3 H W in 0-1. The same for every epsilon."""
        if self.config.guided:
            raise RuntimeError("a guided network finds nothing itself: it follows what a detector found")
        image = self.pad(x)
        features, skips = self.encode(image)
        logits = self.mask_predictor(features) if self.config.mask else None
        start, end = (
            self.motion_analyzer(features).float().chunk(2, 1) if self.config.motion else (None, None)
        )
        probability = blur_probability(logits) if logits is not None else None
        return Detection(image, features, skips, (x.shape[-2], x.shape[-1]), logits, probability, start, end)

    def follow(
        self,
        x: Tensor,
        detection: Detection,
        epsilon: float = 0.5,
        pruned: bool = True,
        undone: Tensor | None = None,
    ) -> Detection:
        """The first half on x, B 3 H W in 0-1, with what another network found in it.

        undone: B 3 H W, `richardson_lucy` of x and these findings, where a guided network need not work it
        out. Without a probability all is blurred, without start and end nothing moved.
        """
        if not self.config.guided:
            return super().follow(x, detection, epsilon, pruned)
        image = self.pad(x)
        cells = (image.shape[-2] // STAGE_SCALE, image.shape[-1] // STAGE_SCALE)
        probability, start, end = told_maps(detection, cells)
        if undone is None:
            undone = richardson_lucy(x, probability, start, end)
        dtype = self.intro.weight.dtype
        seen = torch.cat([image, enlarge(probability, image).to(x.dtype), self.pad(undone.to(x.dtype))], 1)
        features, skips = self.encode(seen.to(dtype))
        maps = torch.cat([probability, to_double_angle(start, end)], 1)
        features = features + self.told(maps.to(dtype))
        return Detection(image, features, skips, (x.shape[-2], x.shape[-1]), None, probability, start, end)

    def pad(self, x: Tensor) -> Tensor:
        """Zeros below and to the right of a picture, up to whole multiples of what the network halves."""
        return F.pad(x, (0, -x.shape[-1] % self.multiple, 0, -x.shape[-2] % self.multiple))

    def encode(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The stages before the last: features that enter it, B C H/8 W/8, and the outputs of the others."""
        stem, skips = self.config.stem, []
        features = self.intro(F.pixel_unshuffle(image, stem) if stem > 1 else image)
        for blocks, down in zip(self.encoders[:-1], self.downs[:-1], strict=True):
            features = blocks(features)
            skips.append(features)
            features = down(features)
        return features, tuple(skips)

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
        change, stem = self.ending(decoded), self.config.stem
        image = (F.pixel_shuffle(change, stem) if stem > 1 else change) + detection.image
        height, width = detection.size
        return Restoration(image[..., :height, :width], mask, detection)

    def choose_mask(self, detection: Detection, epsilon: float) -> Tensor | None:
        """Sampled while training (Eq. 2), thresholded otherwise (Eq. 3); None where nothing is masked.

        While training on what another network found, the threshold is drawn for each picture: a cell is then
        blurred as often as in Eq. 2, within masks such as an epsilon makes.
        """
        probability = detection.probability
        if not self.config.mask or probability is None:
            return None
        if not self.training:
            return threshold_mask(probability, epsilon)
        if detection.logits is not None:
            return sample_mask(detection.logits)
        return threshold_mask(probability, torch.rand(len(probability), 1, 1, 1, device=probability.device))

    def deep_stage(self, detection: Detection, mask: Tensor | None, pruned: bool) -> Tensor:
        """Last encoder stage under the guidance of mask and motion: B C H/8 W/8 -> the same."""
        features = detection.features
        if not (self.config.mask or self.config.motion):
            for block in self.deep_blocks():
                features = block(features)
            return features
        sampling = None
        if self.config.motion and detection.start is not None and detection.end is not None:
            start, end = detection.start, detection.end
            if self.config.guided:  # the taps of a kernel need a direction in time, and always the same
                start, end = from_double_angle(to_double_angle(start, end))
            sampling = plan_sampling(start, end, torch.is_grad_enabled())
        if pruned and mask is not None and mask.all():
            mask = None  # nothing to prune, and nothing to gather and scatter for it
        pruning = plan_pruning(mask) if pruned and mask is not None else None
        guidance = Guidance(mask, pruning, sampling)
        for block in self.deep_blocks():
            features = block(features, guidance)
        return features

    def deep_blocks(self) -> list[NAFBlock]:
        """The blocks of the last encoder stage that run."""
        return [cast(NAFBlock, block) for block in self.encoders[-1].children()][: self.depth]

    def skip_identity_blocks(self) -> None:
        """Leave out trailing blocks of the last encoder stage whose scales are all zero: same result."""
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


def check_stages(config: Config) -> None:
    """Raise ValueError where the last encoder stage is not that of the maps, which such a network needs."""
    if config.stem not in STEMS:
        raise ValueError(f"stem is {config.stem}: it must be 1, 2 or 4")
    aware = config.mask or config.motion or config.guided
    stages = (STAGE_SCALE // config.stem).bit_length()
    if aware and len(config.encoder) != stages:
        raise ValueError(f"mask and motion live at 1/{STAGE_SCALE}: stem {config.stem} needs {stages} stages")


def told_maps(found: Detection, shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Probability, start and end in float32, in cells of that shape, and what stands for those not told."""
    count, device = len(found.image), found.image.device
    probability, start, end = (
        torch.full((count, channels, *shape), value, device=device)
        if part is None
        else fit(part.float(), shape)
        for part, channels, value in ((found.probability, 1, 1.0), (found.start, 2, 0.0), (found.end, 2, 0.0))
    )
    return probability, start, end


def is_identity(block: NAFBlock) -> bool:
    """Whether a block returns its input because both its residual scales are zero."""
    return not (block.beta.any() or block.gamma.any())

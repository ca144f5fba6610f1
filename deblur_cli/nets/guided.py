"""A detector and the restorer that follows it, as one network."""

from dataclasses import replace

from torch import Tensor

from deblur_cli.nets.detector import Detector
from deblur_cli.nets.network import Detection, Network, Restoration


class Guided(Network):
    """What moved is found by the detector; the restorer takes mask and motion from it.

    Sizes and name are the restorer's.
    """

    def __init__(self, detector: Detector, restorer: Network) -> None:
        super().__init__()
        self.detector, self.restorer = detector, restorer
        self.config = restorer.config
        self.multiple = max(detector.multiple, restorer.multiple)

    @property
    def architecture(self) -> str:
        return self.restorer.architecture

    @property
    def detects(self) -> bool:
        return True

    @property
    def traces(self) -> bool:
        return True

    @property
    def bytes_per_pixel(self) -> int:
        return max(self.detector.bytes_per_pixel, self.restorer.bytes_per_pixel)

    @property
    def smallest_part(self) -> int | None:
        return self.restorer.smallest_part

    def detect(self, x: Tensor, epsilon: float = 0.5, pruned: bool = True) -> Detection:
        """What the detector finds in x, B 3 H W in 0-1; the restorer has not looked at it yet."""
        return self.detector.detect(x, epsilon, pruned)

    def restore(
        self, detection: Detection, epsilon: float = 0.5, pruned: bool = False, mask: Tensor | None = None
    ) -> Restoration:
        """What the restorer makes of it: both of its halves, under the detector's mask and motion."""
        followed = self.restorer.follow(detection.image, detection, epsilon, pruned)
        result = self.restorer.restore(followed, epsilon, pruned, mask)
        height, width = detection.size
        return replace(result, image=result.image[..., :height, :width], detection=detection)

    def skip_identity_blocks(self) -> None:
        self.restorer.skip_identity_blocks()

    def pool_in_cells(self) -> None:
        self.restorer.pool_in_cells()

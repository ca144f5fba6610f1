"""What is taught: how a network answers a batch, what that costs, how it scores on held-out pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, Generic, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.errors import TrainingError
from deblur_cli.nets import (
    DETECTOR,
    Detection,
    Detector,
    Guided,
    M2AENet,
    Network,
    Restoration,
    create,
    create_detector,
    place,
)
from deblur_cli.nets.richardson_lucy import richardson_lucy
from deblur_cli.train.calibration import CANDIDATES
from deblur_cli.train.losses import detector_terms, training_loss
from deblur_cli.train.records import detector_sheet, restorer_sheet
from deblur_cli.train.scores import DetectorScores, Scores, score, score_detector
from deblur_cli.train.settings import TrainSettings
from deblur_cli.train.synthetic import Sample

N = TypeVar("N", bound=Network)


class Lesson(Generic[N]):
    """What the training loop asks of a lesson. A batch's answer is whatever the pass of `student` returns."""

    def __init__(self, settings: TrainSettings, device: str) -> None:
        self.settings, self.device = settings, device

    def create(self, pooling: int | None = None) -> N:
        """A fresh network; `pooling` is its averaging window in pixels, None for the whole picture."""
        raise NotImplementedError

    def student(self, network: N) -> nn.Module:
        """The pass of training as a module: B 3 H W, a mask B 1 H/8 W/8, what was found, -> an answer.

        Mask and findings may be None.
        """
        raise NotImplementedError

    def find(self, blurred: Tensor) -> Detection | None:  # noqa: ARG002
        """What the network is told of a batch B 3 H W; None where it finds all by itself."""
        return None

    def terms(self, answer: Any, sample: Sample) -> dict[str, Tensor]:
        """The loss by name; "total" is what is minimized."""
        raise NotImplementedError

    def score(self, network: N, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> Any:
        """A dataclass of scores on blurred pictures whose truth is known, and on sharp ones, 1 3 H W each."""
        raise NotImplementedError

    @property
    def masks(self) -> bool:
        """Whether there is a mask, for which an epsilon can be recommended."""
        return True

    def outcome(self, network: N, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Confidence B 1 H/8 W/8 and restored picture of B 3 H W, of a network with a mask."""
        raise NotImplementedError

    def sheet(self, network: N, samples: Iterable[Sample]) -> Image.Image:
        """A picture of what the network makes of some samples."""
        raise NotImplementedError


def lesson_of(settings: TrainSettings, device: str) -> Lesson[Any]:
    """What the settings ask to teach on a device. Raises TrainingError, WeightsError."""
    kind = DetectorLesson if settings.network.architecture == DETECTOR else RestorerLesson
    return kind(settings, device)


class RestorerPass(nn.Module):
    """Restore within the network's own mask or a given one.

    Unless the settings let the gradient through, mask and motion learn from their own truth alone. A guided
    network follows what was found, which is not in training.
    """

    def __init__(self, network: M2AENet, guidance_gradient: bool) -> None:
        super().__init__()
        self.network, self.guidance_gradient = network, guidance_gradient

    def forward(
        self, blurred: Tensor, mask: Tensor | None = None, found: Detection | None = None
    ) -> Restoration:
        if found is not None:
            result = self.network.restore(self.network.follow(blurred, found), mask=mask)
            return replace(
                result, detection=replace(result.detection, probability=None, start=None, end=None)
            )
        detection = self.network.detect(blurred)
        if detection.logits is None or detection.start is None or detection.end is None:
            return self.network.restore(detection)
        guide = detection
        if not self.guidance_gradient:
            parts = (detection.logits, detection.start, detection.end)
            logits, start, end = (part.detach() for part in parts)
            guide = replace(detection, logits=logits, start=start, end=end)
        return replace(self.network.restore(guide, mask=mask), detection=detection)


class RestorerLesson(Lesson[M2AENet]):
    """M²AENet or NAFNet: from the blurred picture to the sharp one. A guided one follows a detector."""

    def __init__(self, settings: TrainSettings, device: str) -> None:
        super().__init__(settings, device)
        self.detector = load_detector(settings.follows, device) if settings.network.guided else None

    def create(self, pooling: int | None = None) -> M2AENet:
        """Only the first `depth` blocks of the last encoder stage are in training; the others do nothing."""
        network = create(**asdict(self.settings.network), pooling=pooling)
        network.depth = min(self.settings.depth, self.settings.network.encoder[-1])
        for block in list(network.encoders[-1].children())[network.depth :]:
            block.requires_grad_(False)
        return network

    def student(self, network: M2AENet) -> nn.Module:
        return RestorerPass(network, self.settings.guidance_gradient)

    @torch.no_grad()
    def find(self, blurred: Tensor) -> Detection | None:
        return None if self.detector is None else self.detector.detect(blurred)

    def terms(self, answer: Restoration, sample: Sample) -> dict[str, Tensor]:
        return training_loss(answer, sample, self.settings.loss)

    def score(self, network: M2AENet, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> Scores:
        return score(self.whole(network), samples, sharp)

    @property
    def masks(self) -> bool:
        return self.settings.network.mask and self.settings.network.architecture != "nafnet"

    def outcome(self, network: M2AENet, picture: Tensor) -> tuple[Tensor, Tensor]:
        result = self.whole(network)(picture, epsilon=min(CANDIDATES))
        assert result.probability is not None
        return result.probability, result.image

    def sheet(self, network: M2AENet, samples: Iterable[Sample]) -> Image.Image:
        return restorer_sheet(self.whole(network), samples)

    def whole(self, network: M2AENet) -> Network:
        """The network with the detector that it follows, if any."""
        return network if self.detector is None else Guided(self.detector, network)


def load_detector(name: str, device: str) -> Detector:
    """The detector of that name or file. Raises TrainingError where it is none, WeightsError."""
    detector = weights.load(name).network
    if not isinstance(detector, Detector):
        raise TrainingError(f"setting 'follows' names {name}, which is not a detector")
    return place(detector.eval().requires_grad_(False), device)


class DetectorPass(nn.Module):
    """Logit and motion of a batch; a detector needs neither mask nor findings."""

    def __init__(self, network: Detector) -> None:
        super().__init__()
        self.network = network

    def forward(self, blurred: Tensor, *_: object) -> tuple[Tensor, Tensor]:
        logit, field = self.network(blurred)
        return logit, field


class DetectorLesson(Lesson[Detector]):
    """The detector: from the blurred picture to what moved, and along which path."""

    def create(self, pooling: int | None = None) -> Detector:
        return create_detector(**asdict(self.settings.detector), pooling=pooling)

    def student(self, network: Detector) -> nn.Module:
        return DetectorPass(network)

    def terms(self, answer: tuple[Tensor, Tensor], sample: Sample) -> dict[str, Tensor]:
        return detector_terms(*answer, sample, self.settings.detector_loss)

    def score(self, network: Detector, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> DetectorScores:
        return score_detector(network, samples, sharp, self.settings.detector_loss)

    def outcome(self, network: Detector, picture: Tensor) -> tuple[Tensor, Tensor]:
        """A detector restores nothing; what it found is judged by Richardson-Lucy along the motion."""
        found = network.detect(picture)
        assert found.probability is not None and found.start is not None and found.end is not None
        return found.probability, richardson_lucy(picture, found.probability, found.start, found.end)

    def sheet(self, network: Detector, samples: Iterable[Sample]) -> Image.Image:
        return detector_sheet(network, samples)

"""What is taught: how a network answers a batch, what that costs, and how it scores on held-out pictures."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from deblur_cli import weights
from deblur_cli.errors import TrainingError, WeightsError
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
from deblur_cli.nets.network import CELL
from deblur_cli.nets.richardson_lucy import richardson_lucy
from deblur_cli.pictures import Pixels8, mask_overlay, trajectory_overlay
from deblur_cli.pictures.drawing import Floats
from deblur_cli.train.losses import cell_mask, detector_terms, training_loss
from deblur_cli.train.samples import Sample, to_pixels
from deblur_cli.train.scores import CANDIDATES, DetectorScores, Scores, score, score_detector
from deblur_cli.train.settings import TrainSettings
from deblur_cli.weights.model_card import history_of

EPSILON = 0.5  # threshold of the masks in the pictures

logger = logging.getLogger(__name__)
N = TypeVar("N", bound=Network)


class Lesson(ABC, Generic[N]):
    """What the training loop asks of a lesson.

    masks: whether the network has a mask, for which an epsilon can be recommended
    epsilon: what the detector that it follows recommends, None for none
    """

    masks = True
    epsilon: float | None = None

    def __init__(self, settings: TrainSettings, device: str) -> None:
        self.settings, self.device = settings, device

    @abstractmethod
    def create(self, pooling: int | None = None) -> N:
        """A fresh network; `pooling` is its averaging window in pixels, None for the whole picture."""

    def student(self, network: N) -> nn.Module:
        """The module whose pass is trained; on several GPUs, it is what gradients are averaged for."""
        return network

    @abstractmethod
    def answer(self, student: nn.Module, sample: Sample, true_mask: bool) -> Any:
        """What the student makes of a batch, within the true mask or its own."""

    @abstractmethod
    def terms(self, answer: Any, sample: Sample) -> dict[str, Tensor]:
        """The loss of an answer by name; "total" is what is minimized."""

    @abstractmethod
    def score(self, network: N, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> Any:
        """A dataclass of scores on blurred pictures whose truth is known, and on sharp ones, 1 3 H W each."""

    @abstractmethod
    def outcome(self, network: N, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Confidence B 1 H/8 W/8 and restored picture of B 3 H W, of a network with a mask."""

    @abstractmethod
    def sheet(self, network: N, samples: Iterable[Sample]) -> Image.Image:
        """A picture of what the network makes of some samples."""


def lesson_of(settings: TrainSettings, device: str) -> Lesson[Any]:
    """What the settings ask to teach on a device. Raises TrainingError, WeightsError."""
    kind = DetectorLesson if settings.network.architecture == DETECTOR else RestorerLesson
    return kind(settings, device)


def begin_from(name: str, network: Network) -> list[dict[str, Any]]:
    """Take over trained weights, and return the runs that made them, oldest first.

    A detector may have layers that the trained one lacks; those start at zero. Raises TrainingError for
    weights of another network, WeightsError.
    """
    loaded = weights.load(name)
    trained, wanted = loaded.network.state_dict(), network.state_dict()
    grows = isinstance(network, Detector)
    known = [(key, value.shape) for key, value in wanted.items() if key in trained or not grows]
    if [(key, value.shape) for key, value in trained.items()] != known:
        raise TrainingError(f"{name} holds another network than the settings describe: adapt [network]")
    network.load_state_dict(trained, strict=not grows)
    try:
        return history_of(loaded.notes)
    except WeightsError as error:
        logger.warning("%s: %s; the new weights will describe only this run", name, error)
        return []


class RestorerPass(nn.Module):
    """Restore B 3 H W within the network's own mask or a given one, B 1 H/8 W/8.

    Unless the settings let the gradient through, mask and motion learn from their own truth alone. A guided
    network follows the detection of another network, which is not in training.
    """

    def __init__(self, network: M2AENet, guidance_gradient: bool) -> None:
        super().__init__()
        self.network, self.guidance_gradient = network, guidance_gradient

    def forward(self, blurred: Tensor, mask: Tensor | None, detection: Detection | None) -> Restoration:
        if detection is not None:
            result = self.network.restore(self.network.follow(blurred, detection), mask=mask)
            untaught = replace(result.detection, probability=None, start=None, end=None)
            return replace(result, detection=untaught)
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
        self.detector: Detector | None = None
        if settings.network.guided:
            self.detector, self.epsilon = load_detector(settings.follows, device)
        self.masks = settings.network.mask and settings.network.architecture != "nafnet"

    def create(self, pooling: int | None = None) -> M2AENet:
        """Only the first `depth` blocks of the last encoder stage are in training; the others do nothing."""
        network = create(**self.settings.network.model_dump(), pooling=pooling)
        network.depth = min(self.settings.depth, self.settings.network.encoder[-1])
        for block in list(network.encoders[-1].children())[network.depth :]:
            block.requires_grad_(False)
        return network

    def student(self, network: M2AENet) -> nn.Module:
        return RestorerPass(network, self.settings.guidance_gradient)

    def answer(self, student: nn.Module, sample: Sample, true_mask: bool) -> Restoration:
        blurred = sample.blurred.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            detection = None if self.detector is None else self.detector.detect(blurred)
        return student(blurred, cell_mask(sample.mask) if true_mask else None, detection)

    def terms(self, answer: Restoration, sample: Sample) -> dict[str, Tensor]:
        return training_loss(answer, sample, self.settings.loss)

    def score(self, network: M2AENet, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> Scores:
        return score(self.whole(network), samples, sharp)

    def outcome(self, network: M2AENet, picture: Tensor) -> tuple[Tensor, Tensor]:
        result = self.whole(network)(picture, epsilon=min(CANDIDATES))
        assert result.probability is not None
        return result.probability, result.image

    def sheet(self, network: M2AENet, samples: Iterable[Sample]) -> Image.Image:
        return restorer_sheet(self.whole(network), samples)

    def whole(self, network: M2AENet) -> Network:
        """The network with the detector that it follows, if any."""
        return network if self.detector is None else Guided(self.detector, network)


def load_detector(name: str, device: str) -> tuple[Detector, float | None]:
    """The detector of that name or file, and the epsilon that it recommends.

    Raises TrainingError where it is none, WeightsError.
    """
    loaded = weights.load(name)
    detector = loaded.network
    if not isinstance(detector, Detector):
        raise TrainingError(f"setting 'follows' names {name}, which is not a detector")
    return place(detector.eval().requires_grad_(False), device), loaded.epsilon


class DetectorLesson(Lesson[Detector]):
    """The detector: from the blurred picture to what moved, and along which path."""

    def create(self, pooling: int | None = None) -> Detector:
        return create_detector(**self.settings.detector.model_dump(), pooling=pooling)

    def answer(
        self,
        student: nn.Module,
        sample: Sample,
        true_mask: bool,  # noqa: ARG002 - a detector is given no mask
    ) -> tuple[Tensor, Tensor]:
        return student(sample.blurred.contiguous(memory_format=torch.channels_last))

    def terms(self, answer: tuple[Tensor, Tensor], sample: Sample) -> dict[str, Tensor]:
        return detector_terms(*answer, sample, self.settings.detector_loss)

    def score(self, network: Detector, samples: Iterable[Sample], sharp: Sequence[Tensor]) -> DetectorScores:
        return score_detector(network, samples, sharp, self.settings.detector_loss)

    def outcome(self, network: Detector, picture: Tensor) -> tuple[Tensor, Tensor]:
        """A detector restores nothing; Richardson-Lucy along the motion tells what its findings are worth."""
        found = network.detect(picture)
        assert found.probability is not None and found.start is not None and found.end is not None
        return found.probability, richardson_lucy(picture, found.probability, found.start, found.end)

    def sheet(self, network: Detector, samples: Iterable[Sample]) -> Image.Image:
        return detector_sheet(network, samples)


@dataclass(frozen=True)
class SampleMaps:
    """The network's findings as the overlays read them; arrays h w and 2 h w."""

    probability: Floats
    start: Floats
    end: Floats


@torch.no_grad()
def restorer_sheet(network: Network, samples: Iterable[Sample]) -> Image.Image:
    """A row for each sample: blurred, restored, sharp, the detected mask, the true mask."""
    network.eval()
    rows = [restorer_row(network(sample.blurred, epsilon=EPSILON), sample) for sample in samples]
    return Image.fromarray(np.concatenate(rows, 0))


def restorer_row(result: Restoration, sample: Sample) -> Pixels8:
    """Five pictures side by side: H 5W 3; four of a network without a mask."""
    panels = [to_pixels(image) for image in (sample.blurred, result.image, sample.sharp)]
    if result.probability is not None:
        probability = result.probability[0, 0].float().cpu().numpy()
        still = np.zeros((2, *probability.shape), np.float32)
        panels.append(mask_overlay(panels[0], SampleMaps(probability, still, still), EPSILON))
    return np.concatenate([*panels, to_pixels(sample.mask.expand(-1, 3, -1, -1))], 1)


@torch.no_grad()
def detector_sheet(network: Detector, samples: Iterable[Sample]) -> Image.Image:
    """A row for each sample: blurred, the detected mask and trajectories, the true mask."""
    network.eval()
    return Image.fromarray(np.concatenate([detector_row(network, sample) for sample in samples], 0))


def detector_row(network: Detector, sample: Sample) -> Pixels8:
    """Four pictures side by side: H 4W 3."""
    found = network.detect(sample.blurred)
    parts = (found.probability, found.start, found.end)
    probability, start, end = (part[0].float().cpu().numpy() for part in parts if part is not None)
    maps = SampleMaps(probability[0], start * CELL, end * CELL)
    blurred = to_pixels(sample.blurred)
    drawn = mask_overlay(blurred, maps, EPSILON), trajectory_overlay(blurred, maps, EPSILON)
    return np.concatenate([blurred, *drawn, to_pixels(sample.mask.expand(-1, 3, -1, -1))], 1)

"""What every network is: it detects what is blurred, then restores that."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.motion import in_order_of

CELL = 8  # pixels of the photo to one of the stage that masks and motion live at


@dataclass(frozen=True)
class Detection:
    """First half of a network. Tensors are padded to whole multiples of what the network halves.

    image: B 3 H W; probability: B 1 H/8 W/8 in 0-1, confidence that it is blurred there
    features, skips: what the second half goes on with (of M²AENet those that enter its last encoder stage,
    B C H/8 W/8, and the outputs of the stages before); of a detector they are empty
    logits: B 2 H/8 W/8, what the probability is made of; None where another network found it
    start, end: B 2 H/8 W/8, (dy, dx) from mid-exposure in pixels of this stage (8 photo pixels)
    size: height and width before padding. What a network does not tell is None.
    """

    image: Tensor
    features: Tensor
    skips: tuple[Tensor, ...]
    size: tuple[int, int]
    logits: Tensor | None
    probability: Tensor | None
    start: Tensor | None
    end: Tensor | None


def fit(values: Tensor, shape: torch.Size | tuple[int, int]) -> Tensor:
    """Maps B C h w with the padding of another network: beyond the photo nothing is blurred or moves."""
    return F.pad(values, (0, shape[1] - values.shape[-1], 0, shape[0] - values.shape[-2]))


@dataclass(frozen=True)
class Restoration:
    """Result of a network: image B 3 H W, unclamped, as large as the input; the rest as in Detection.

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


class Network(nn.Module):
    """A network in two halves, as photos need it: `detect` everywhere, `restore` where it is blurred.

    config: everything that shapes it, a dataclass whose fields are arguments of `create`
    multiple: pixels; its input is padded to whole multiples of it
    """

    config: Any
    multiple: int

    @property
    def architecture(self) -> str:
        """The name that `create` knows it by."""
        raise NotImplementedError

    @property
    def detects(self) -> bool:
        """Whether it tells what is blurred."""
        raise NotImplementedError

    @property
    def traces(self) -> bool:
        """Whether it tells how it moved."""
        raise NotImplementedError

    @property
    def guided(self) -> bool:
        """Whether it finds nothing itself and has to be told what is blurred, by `follow`."""
        return False

    @property
    def masks(self) -> bool:
        """Whether it restores within a mask, its own or a detector's."""
        return True

    @property
    def input_dtype(self) -> torch.dtype:
        """Number format of the pictures that it is given."""
        return next(self.parameters()).dtype

    @property
    def bytes_per_pixel(self) -> int:
        """Memory at the peak for each pixel of a picture, in float32."""
        raise NotImplementedError

    @property
    def smallest_part(self) -> int | None:
        """Side in pixels from which a part of a tile comes out much as in the tile; None where none does."""
        return None

    def constants(self) -> dict[str, Tensor]:
        """Tensors of its state that are not trained: a file of its weights holds these very numbers."""
        return {}

    def config_as_stored(self) -> dict[str, Any]:
        """The arguments of `create` that a weights file keeps."""
        raise NotImplementedError

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:
        """Where is it blurred? x: B 3 H W in 0-1; epsilon matters where it is followed.

        Raises RuntimeError where the network is guided.
        """
        raise NotImplementedError

    def follow(self, x: Tensor, detection: Detection, epsilon: float = 0.5) -> Detection:
        """The first half on x, B 3 H W in 0-1, with what another network found in it.

        Its probability, start and end take the place of this network's own, as far as both tell them. Which
        of start and end comes first stays with this network, whose kernels learned with that.
        """
        own = self.detect(x, epsilon)

        def instead(mine: Tensor | None, found: Tensor | None) -> Tensor | None:
            return mine if mine is None or found is None else fit(found, mine.shape[-2:])

        start, end = instead(own.start, detection.start), instead(own.end, detection.end)
        if start is not None and end is not None and own.start is not None and own.end is not None:
            start, end = in_order_of(start, end, own.start, own.end)
        return replace(
            own,
            logits=own.logits if detection.probability is None else None,
            probability=instead(own.probability, detection.probability),
            start=start,
            end=end,
        )

    def at(self, detection: Detection, epsilon: float) -> Detection:  # noqa: ARG002
        """What would have been detected with that epsilon."""
        return detection

    def restore(self, detection: Detection, epsilon: float = 0.5, mask: Tensor | None = None) -> Restoration:
        """Restore what is blurred with a confidence above epsilon, or where the mask B 1 H/8 W/8 is one."""
        raise NotImplementedError

    def forward(self, x: Tensor, epsilon: float = 0.5) -> Restoration:
        """Restore x, B 3 H W in 0-1, by both halves."""
        return self.restore(self.detect(x, epsilon), epsilon)


N = TypeVar("N", bound=Network)


def place(network: N, device: str, dtype: torch.dtype = torch.float32) -> N:
    """The network moved to a device in a precision, its kernels laid out channels-last."""
    network = network.to(device, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    return network

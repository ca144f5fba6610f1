"""What every network is: it detects what is blurred, then restores that."""

from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.motion import in_order_of

CELL = 8  # photo pixels, the side of a cell: masks and motion have one value for each


def cells_of(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells in a picture of height x width pixels; the last ones may be part cells."""
    return -(-size[0] // CELL), -(-size[1] // CELL)


def pad_to(x: Tensor, multiple: int, mode: str = "replicate") -> Tensor:
    """A picture B C H W continued below and to the right, up to sides that are whole multiples."""
    right, below = (-side % multiple for side in (x.shape[-1], x.shape[-2]))
    return F.pad(x, (0, right, 0, below), mode) if right or below else x


@dataclass(frozen=True)
class Detection:
    """First half of a network. Tensors are padded to whole multiples of what the network halves.

    image: B 3 H W
    size: height and width before padding
    probability: B 1 H/8 W/8 in 0-1, confidence that a cell is blurred
    start, end: B 2 H/8 W/8, displacements o(t_0) and o(t_N-1) from mid-exposure as (dy, dx) in cells
    logits: B 2 H/8 W/8, from which the probability was computed
    features, skips: what the second half goes on with (in M²AENet those that enter its last encoder stage,
    B C H/8 W/8, and the outputs of the stages before)

    What a network does not detect is None.
    """

    image: Tensor
    size: tuple[int, int]
    probability: Tensor | None = None
    start: Tensor | None = None
    end: Tensor | None = None
    logits: Tensor | None = None
    features: Tensor | None = None
    skips: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Restoration:
    """Result of a network: image B 3 H W, unclamped, as large as the input; the rest as in Detection.

    mask: B 1 H/8 W/8 of zeros and ones, the cells that were restored.
    """

    image: Tensor
    mask: Tensor | None
    detection: Detection

    @property
    def probability(self) -> Tensor | None:
        return self.detection.probability

    @property
    def start(self) -> Tensor | None:
        return self.detection.start

    @property
    def end(self) -> Tensor | None:
        return self.detection.end


class Network(nn.Module):
    """A network in two halves, as photos need it: `detect` everywhere, `restore` where it is blurred.

    config: everything that shapes it, a dataclass whose fields are arguments of `create`
    architecture: the name that `create` knows it by
    multiple: pixels; its input is padded to whole multiples of it
    detects, traces: whether it detects what is blurred, and how that moved
    guided: whether it detects nothing itself and has to be told, by `follow`
    masks: whether it restores within a mask, its own or a detector's
    bytes_per_pixel: memory at the peak for each pixel of a picture, in float32
    smallest_part: side in pixels from which a part of a tile is restored much as in the tile; None if never
    """

    config: Any
    architecture: str
    multiple: int
    detects: bool
    traces: bool
    guided = False
    masks = True
    bytes_per_pixel: int
    smallest_part: int | None = None

    @property
    def input_dtype(self) -> torch.dtype:
        """Number format of the pictures that it is given."""
        return next(self.parameters()).dtype

    def constants(self) -> dict[str, Tensor]:
        """Tensors of its state that are not trained: a file of its weights holds these very numbers."""
        return {}

    def config_as_stored(self) -> dict[str, Any]:
        """The arguments of `create` that a weights file keeps."""
        return asdict(self.config)

    def detect(self, x: Tensor, epsilon: float = 0.5) -> Detection:
        """Detect what is blurred in x, B 3 H W in 0-1; epsilon matters where it shapes what comes after.

        Raises RuntimeError where the network is guided.
        """
        raise NotImplementedError

    def follow(self, x: Tensor, detection: Detection, epsilon: float = 0.5) -> Detection:
        """The first half on x, B 3 H W in 0-1, with what another network detected in it.

        Its probability, start and end replace this network's own, as far as both give them. Which of start
        and end comes first stays as this network has it, whose kernels learned with that.
        """
        own = self.detect(x, epsilon)

        def instead(mine: Tensor | None, theirs: Tensor | None) -> Tensor | None:
            return mine if mine is None or theirs is None else fit(theirs, mine.shape[-2:])

        start, end = instead(own.start, detection.start), instead(own.end, detection.end)
        if start is not None and end is not None and own.start is not None and own.end is not None:
            start, end = in_order_of(start, end, own.start, own.end)
        return replace(
            own,
            probability=instead(own.probability, detection.probability),
            start=start,
            end=end,
            logits=own.logits if detection.probability is None else None,
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


def fit(values: Tensor, shape: torch.Size | tuple[int, int]) -> Tensor:
    """Maps B C h w with the padding of another network: beyond the photo nothing is blurred or moves."""
    return F.pad(values, (0, shape[1] - values.shape[-1], 0, shape[0] - values.shape[-2]))


def place(network: N, device: str, dtype: torch.dtype = torch.float32) -> N:
    """Move the network to a device in a precision, its kernels laid out channels-last."""
    network = network.to(device, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's types
    return network

"""The mask predictor: how likely is each pixel blurred by motion? (Section 3.1 of M²AENet)"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.nets.layers import Average


class MaskPredictor(nn.Module):
    """Blur logits for each pixel of the features entering encoder stage 4 (Eq. 1).

    Half of the embedded channels stay local, the other half are replaced by their average over the
    image (or over `pooling` pixels of this resolution), so that each pixel is judged against the whole.
    """

    def __init__(self, channels: int, pooling: int | None = None) -> None:
        super().__init__()
        self.in_conv = nn.Sequential(
            nn.Linear(channels, channels), nn.GELU(), nn.LayerNorm(channels), nn.Linear(channels, channels)
        )
        self.out_conv = nn.Sequential(
            nn.Linear(channels, channels // 2),
            nn.GELU(),
            nn.Linear(channels // 2, channels // 4),
            nn.GELU(),
            nn.Linear(channels // 4, 2),
        )
        self.average = Average(pooling)

    def forward(self, features: Tensor) -> Tensor:
        """B C H W -> logits B 2 H W; channel 0 speaks for blurred, channel 1 for sharp."""
        embedded = self.in_conv(features.permute(0, 2, 3, 1))  # B C H W -> B H W C
        local, shared = embedded.chunk(2, dim=-1)
        shared = self.average(shared.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        logits = self.out_conv(torch.cat([local, shared.expand_as(local)], dim=-1))
        return logits.permute(0, 3, 1, 2)  # B H W 2 -> B 2 H W


def blur_probability(logits: Tensor) -> Tensor:
    """Softmax of Eq. 1 in float32: logits B 2 H W -> probability of blur B 1 H W in 0-1."""
    return logits.float().softmax(dim=1)[:, :1]


def sample_mask(logits: Tensor) -> Tensor:
    """Gumbel-softmax mask of Eq. 2 for training: exactly 0 or 1, with gradients: B 2 H W -> B 1 H W."""
    return F.gumbel_softmax(logits.float(), tau=1.0, hard=True, dim=1)[:, :1]


def threshold_mask(probability: Tensor, epsilon: float | Tensor) -> Tensor:
    """Mask of Eq. 3: 1 where the probability is above epsilon, else 0. epsilon: one for all, or B 1 1 1."""
    return (probability > epsilon).to(probability.dtype)

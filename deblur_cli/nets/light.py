"""Encoded sRGB values and linear light, in which blur adds up."""

import torch
from torch import Tensor


def to_linear(encoded: Tensor) -> Tensor:
    """Encoded sRGB values in 0-1 to linear light (IEC 61966-2-1)."""
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_encoded(linear: Tensor) -> Tensor:
    """Linear light to sRGB values, both in 0-1."""
    linear = linear.clamp(0, 1)
    return torch.where(
        linear <= 0.0031308, linear * 12.92, 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    )

"""What is measured on one restored picture."""

import math

import torch
from torch import Tensor

from deblur_cli.evaluation.cases import Truth
from deblur_cli.evaluation.methods import Outcome
from deblur_cli.metrics import (
    endpoint_error,
    mask_iou,
    mask_precision,
    mask_recall,
    psnr,
    ssim,
    weighted_psnr,
    weighted_ssim,
)
from deblur_cli.restoration.mask import feather_weights
from deblur_cli.train.scores import enlarge, soft_area

EQUAL = 100.0  # dB, for pictures without any difference, so that means stay finite
CHANGED = 0.25 / 255  # from which difference on a pixel is another one; less is rounding

MEASURES = {  # column: words, format
    "input_psnr": ("PSNR before, dB", ".3f"),
    "input_ssim": ("SSIM before", ".4f"),
    "input_psnr_w": ("PSNR_w before, dB", ".3f"),
    "input_ssim_w": ("SSIM_w before", ".4f"),
    "psnr": ("PSNR, dB", ".3f"),
    "ssim": ("SSIM", ".4f"),
    "psnr_w": ("PSNR_w, dB", ".3f"),
    "ssim_w": ("SSIM_w", ".4f"),
    "gain_psnr": ("PSNR gained, dB", "+.3f"),
    "gain_psnr_w": ("PSNR_w gained, dB", "+.3f"),
    "gain_ssim_w": ("SSIM_w gained", "+.4f"),
    "mask_iou": ("mask IoU", ".3f"),
    "mask_precision": ("mask precision", ".3f"),
    "mask_recall": ("mask recall", ".3f"),
    "wrongly_marked": ("unmoved, marked", ".3f"),
    "soft_marked": ("  smooth, marked", ".3f"),
    "outside_psnr": ("unmoved, kept, dB", ".3f"),
    "changed_outside": ("changed off mask", ".0f"),
    "endpoint_error": ("endpoints off, px", ".2f"),
    "true_share": ("blurred area", ".3f"),
    "blur_length": ("blur length, px", ".1f"),
    "marked_share": ("marked area", ".3f"),
    "gmacs": ("work, GMACs", ".1f"),
    "relative_macs": ("work, of dense", ".3f"),
    "seconds": ("seconds", ".2f"),
}


def measure(outcome: Outcome, truth: Truth, seconds: float) -> dict[str, float]:
    """Every measure by column; NaN where it has no meaning, as without a mask or displacements.

    The picture is compared as it is; LMD-ViT's evaluation does the same, in 0-1 and over all channels.
    """
    sharp, blurred = (image[None].float() / 255 for image in (truth.sharp, truth.blurred))
    mask = None if truth.mask is None else truth.mask[None].float()
    values = dict.fromkeys(MEASURES, math.nan)
    for prefix, image in (("input_", blurred), ("", outcome.image)):
        values[f"{prefix}psnr"] = float(psnr(image, sharp).clamp(max=EQUAL))
        values[f"{prefix}ssim"] = float(ssim(image.double(), sharp.double()))
        if mask is not None:
            values[f"{prefix}psnr_w"] = float(weighted_psnr(image, sharp, mask).clamp(max=EQUAL))
            values[f"{prefix}ssim_w"] = float(weighted_ssim(image.double(), sharp.double(), mask))
    for name in ("psnr", "psnr_w", "ssim_w"):
        values[f"gain_{name}"] = values[name] - values[f"input_{name}"]
    if mask is not None:
        values |= measure_motion(outcome, truth, mask)
        values["outside_psnr"] = float(weighted_psnr(outcome.image, blurred, 1 - mask).clamp(max=EQUAL))
    if outcome.mask is not None:
        values |= measure_marked(outcome.mask, sharp, mask)
        values["changed_outside"] = float(changed_outside(outcome.image, outcome.mask, blurred))
    if outcome.macs is not None and outcome.dense is not None:
        values |= {"gmacs": outcome.macs / 1e9, "relative_macs": outcome.macs / outcome.dense}
    return values | {"seconds": seconds}


def measure_motion(outcome: Outcome, truth: Truth, mask: Tensor) -> dict[str, float]:
    """What moved, and how well its trajectories were found, as far as network and dataset know of them."""
    values = {"true_share": float(mask.mean())}
    if truth.start is None or truth.end is None:
        return values
    values["blur_length"] = float((truth.end - truth.start).norm(dim=0)[mask[0, 0] > 0].mean())
    if outcome.start is not None and outcome.end is not None:
        start, end = enlarge(outcome.start, mask), enlarge(outcome.end, mask)
        values["endpoint_error"] = float(endpoint_error(start, end, truth.start[None], truth.end[None], mask))
    return values


def measure_marked(cells: Tensor, sharp: Tensor, mask: Tensor | None) -> dict[str, float]:
    """What is marked by cells 1 1 h w, and how much of it should be, if the true mask 1 1 H W is known.

    wrongly_marked, soft_marked: shares of what did not move, and of its smooth or defocused parts
    """
    marked = enlarge(cells, sharp)
    values = {"marked_share": float(marked.mean())}
    if mask is None:
        return values
    unmoved = 1 - mask
    soft = unmoved * soft_area(sharp)
    return values | {
        "mask_iou": float(mask_iou(marked, mask)),
        "mask_precision": float(mask_precision(marked, mask)),
        "mask_recall": float(mask_recall(marked, mask)),
        "wrongly_marked": float((marked * unmoved).sum() / unmoved.sum()),
        "soft_marked": float((marked * soft).sum() / soft.sum()),
    }


def changed_outside(image: Tensor, cells: Tensor, blurred: Tensor) -> int:
    """How many pixels were changed off the feathered mask."""
    height, width = blurred.shape[-2:]
    laid_over = feather_weights(cells[0, 0].numpy(), slice(0, height), slice(0, width))
    changed = ((image - blurred).abs() > CHANGED).any(1)[0]
    return int((changed & torch.from_numpy(laid_over == 0)).sum())

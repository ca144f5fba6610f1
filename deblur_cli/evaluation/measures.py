"""What is measured on one restored picture."""

import math

import torch
import torch.nn.functional as F
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
from deblur_cli.nets.network import CELL
from deblur_cli.restoration.mask import feather_weights
from deblur_cli.train.scores import soft_area

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
    "work": ("work, of dense", ".3f"),
    "seconds": ("seconds", ".2f"),
}


def measure(outcome: Outcome, truth: Truth, seconds: float) -> dict[str, float]:
    """Every measure by column; NaN where it has no meaning, as without a mask or displacements.

    The picture is compared as it is; LMD-ViT's evaluation does the same, in 0-1 and over all channels.
    """
    sharp, blurred = (image[None].float() / 255 for image in (truth.sharp, truth.blurred))
    values = dict.fromkeys(MEASURES, math.nan)
    for prefix, image in (("input_", blurred), ("", outcome.image)):
        values[f"{prefix}psnr"] = float(psnr(image, sharp).clamp(max=EQUAL))
        values[f"{prefix}ssim"] = float(ssim(image.double(), sharp.double()))
        if truth.mask is not None:
            mask = truth.mask[None].float()
            values[f"{prefix}psnr_w"] = float(weighted_psnr(image, sharp, mask).clamp(max=EQUAL))
            values[f"{prefix}ssim_w"] = float(weighted_ssim(image.double(), sharp.double(), mask))
    for name in ("psnr", "psnr_w", "ssim_w"):
        values[f"gain_{name}"] = values[name] - values[f"input_{name}"]
    values |= measure_guidance(outcome, truth) | measure_unmoved(outcome, truth)
    if outcome.macs is not None and outcome.dense is not None:
        values |= {"gmacs": outcome.macs / 1e9, "work": outcome.macs / outcome.dense}
    values["seconds"] = seconds
    return values


def measure_guidance(outcome: Outcome, truth: Truth) -> dict[str, float]:
    """How well mask and trajectories were found, as far as network and dataset know of them."""
    values: dict[str, float] = {}
    size = (truth.blurred.shape[1], truth.blurred.shape[2])
    true = None if truth.mask is None else truth.mask[None].float()
    if true is not None:
        values |= {"true_share": float(true.mean()), "blur_length": blur_length(truth)}
    if outcome.mask is not None:
        marked = enlarge(outcome.mask, size)
        values["marked_share"] = float(marked.mean())
        if true is not None:
            values["mask_iou"] = float(mask_iou(marked, true))
            values["mask_precision"] = float(mask_precision(marked, true))
            values["mask_recall"] = float(mask_recall(marked, true))
    if true is None or outcome.start is None or outcome.end is None:
        return values
    if truth.start is not None and truth.end is not None:
        start, end = enlarge(outcome.start, size), enlarge(outcome.end, size)
        values["endpoint_error"] = float(endpoint_error(start, end, truth.start[None], truth.end[None], true))
    return values


def blur_length(truth: Truth) -> float:
    """Mean displacement from start to end of the exposure within the true mask, in pixels; NaN if unknown."""
    if truth.mask is None or truth.start is None or truth.end is None:
        return math.nan
    return float((truth.end - truth.start).norm(dim=0)[truth.mask[0] > 0].mean())


def measure_unmoved(outcome: Outcome, truth: Truth) -> dict[str, float]:
    """How much is marked and changed that should not be.

    outside_psnr: output against input where nothing moved; wrongly_marked, soft_marked: shares of that
    area and of its smooth or defocused parts; changed_outside: changed pixels off the feathered mask
    """
    values: dict[str, float] = {}
    size = (truth.blurred.shape[1], truth.blurred.shape[2])
    blurred = truth.blurred[None].float() / 255
    marked = None if outcome.mask is None else enlarge(outcome.mask, size)
    if outcome.mask is not None:
        laid_over = feather_weights(outcome.mask[0, 0].numpy(), slice(0, size[0]), slice(0, size[1]))
        changed = ((outcome.image - blurred).abs() > CHANGED).any(1)[0]
        values["changed_outside"] = float((changed & torch.from_numpy(laid_over == 0)).sum())
    if truth.mask is None:
        return values
    unmoved = 1 - truth.mask[None].float()
    values["outside_psnr"] = float(weighted_psnr(outcome.image, blurred, unmoved).clamp(max=EQUAL))
    if marked is not None:
        soft = unmoved * soft_area(truth.sharp[None].float() / 255)
        values["wrongly_marked"] = float((marked * unmoved).sum() / unmoved.sum())
        values["soft_marked"] = float((marked * soft).sum() / soft.sum())
    return values


def enlarge(stage: Tensor, size: tuple[int, int]) -> Tensor:
    """Stage map B C h w at a picture's size, every cell as 8 x 8 equal pixels."""
    return F.interpolate(stage.float(), scale_factor=CELL)[..., : size[0], : size[1]]

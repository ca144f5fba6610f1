"""The macs of a photo against what torch counts while it is restored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from networks import guided_by, lively, lively_detector, lively_lmd_vit, weights_of
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.nets.macs import count_restoration, count_spared
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration.deblurrer import Deblurrer, Request
from deblur_cli.restoration.findings import Findings
from deblur_cli.restoration.forecast import detection_macs, parts_macs, restored_parts
from deblur_cli.restoration.limits import Tiling


def counted(action):
    """Macs of matrix products and convolutions, two operations each."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        action()
    return counter.get_total_flops() // 2


def noise(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Photo(pixels=pixels, source=Path("noise"), format="PNG")


def half_moved(height, width, scale):
    """Findings of a photo of which the upper half moved."""
    cells = (-(-height // 8), -(-width // 8))
    probability, still = np.zeros(cells, np.float32), np.zeros((2, *cells), np.float32)
    probability[: cells[0] // 2] = 1
    return Findings((height, width), probability, still, still, np.full(cells, scale, np.float32))


@pytest.mark.parametrize(("scales", "keep_sharp"), [((1,), False), ((1, 2, 4), True)])
def test_a_run_is_counted_as_torch_counts_it_over_all_scales(scales, keep_sharp):
    # NAFNet, as torch counts neither deformable convolution nor what is gathered
    weights = guided_by(lively_detector(pooling=48), lively("nafnet", pooling=48))
    deblurrer, photo = Deblurrer(weights, "cpu", "fp32", Tiling(128, 32), scales), noise(260, 330)
    assert counted(lambda: deblurrer.detect(photo)) == detection_macs(deblurrer, 260, 330)
    findings, request = half_moved(260, 330, 1.5), Request(0.5, keep_sharp)
    results = []
    found = counted(lambda: results.append(deblurrer.restore(photo, findings, request)))
    assert parts_macs(deblurrer, restored_parts(deblurrer, photo, findings, request)) == found > 0
    parts = list(restored_parts(deblurrer, photo, findings, request))
    assert len(parts) == results[0].tiles_restored
    assert {scale for scale, *_ in parts} <= set(scales)


def test_a_run_with_pruning_is_cheaper_than_without():
    deblurrer = Deblurrer(weights_of(lively(pooling=64)), "cpu", "fp32", Tiling(128, 32), (1,))
    photo, findings = noise(128, 128), half_moved(128, 128, 1.0)
    network, mask = deblurrer.restorer.network, torch.from_numpy(findings.probability)[None, None]
    found = parts_macs(deblurrer, restored_parts(deblurrer, photo, findings, Request(0.5, keep_sharp=False)))
    spared = count_spared(network, 128, 128, mask)
    assert found == count_restoration(network, 128, 128) - spared
    assert spared > 0


def test_windows_of_a_run_are_not_counted():
    deblurrer = Deblurrer(weights_of(lively_lmd_vit()), "cpu", "fp32", Tiling(128, 32), (1,))
    assert detection_macs(deblurrer, 128, 128) is None
    parts = restored_parts(deblurrer, noise(128, 128), half_moved(128, 128, 1.0), Request())
    assert parts_macs(deblurrer, parts) is None

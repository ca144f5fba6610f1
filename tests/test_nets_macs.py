"""Counted macs against what torch counts while networks run, and against published numbers."""

import runpy
from pathlib import Path

import pytest
import torch
from networks import detection_of, lively, lively_detector, lively_lmd_vit, told
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.nets import Guided, accelerate, create
from deblur_cli.nets.blocks import plan_pruning
from deblur_cli.nets.macs import count_detection, count_restoration, count_spared, count_windows

SIZE = (60, 90)  # no multiples of 16: counted with the padding
RESTORERS = {
    "nafnet": lambda: lively("nafnet", pooling=48),
    "m2aenet": lambda: lively(encoder=(1, 1, 2, 3)),
    "without motion": lambda: lively(motion=False),
    "without mask": lambda: lively(mask=False, pooling=48),
    "masked (1), (2)": lambda: lively(mask_conv3=True),
    "masked (1), (3)": lambda: lively(mask_conv4=True),
    "told": lambda: told(pooling=48),
    "told without mask": lambda: told(mask=False),
    "told, stem 4": lambda: told(4),
}


def counted(action):
    """Macs of matrix products and convolutions, two operations each."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        action()
    return counter.get_total_flops() // 2


def run(network, mask):
    """Both halves of a restorer under a mask; what a guided one is told is made up."""
    image = torch.rand(1, 3, *SIZE)
    begun = network.follow(image, detection_of(image)) if network.guided else network.detect(image)
    network.restore(begun, mask=mask if network.masks else None)


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("kind", RESTORERS)
@torch.inference_mode()
def test_what_runs_under_a_mask_is_counted(kind, share):
    network = accelerate(RESTORERS[kind]())
    mask = (torch.rand(1, 1, 8, 12) < share).float()
    found = counted(lambda: run(network, mask))
    for block in network.deep_blocks():  # torch counts neither lookups nor products that are not summed
        found += block.dconv.weight.numel() * 8 * 12 if network.config.motion else 0
        if network.config.mask:
            computed = 8 * 12 if plan_pruning(mask).mostly_blurred else 0  # by torch's own kernel
            found += block.conv2.weight.numel() * (int(mask.sum()) - computed)
    assert count_restoration(network, *SIZE) - count_spared(network, *SIZE, mask) == found


@pytest.mark.parametrize("network", [lively(), lively_detector(width=12, context=3, pooling=48)])
def test_detection_is_counted(network):
    assert count_detection(network, *SIZE) == counted(lambda: network.detect(torch.rand(1, 3, *SIZE)))


@pytest.mark.parametrize("epsilon", [-1.0, 0.5, 1.0])
def test_kept_windows_are_counted(epsilon):
    network, results = accelerate(lively_lmd_vit()), []
    with sdpa_kernel(SDPBackend.MATH):  # torch's counter does not know the fused kernels of all processors
        found = counted(lambda: results.append(network(torch.rand(1, 3, *SIZE), epsilon)))
    shares = [float(decision.mean()) for decision in results[0].decisions]
    assert count_windows(network, *SIZE, shares) == found
    assert (count_restoration(network, *SIZE) == found) == (epsilon == -1)
    assert count_detection(network, *SIZE) is None


def test_blocks_that_are_left_out_cost_nothing():
    network = create("m2aenet", width=8, encoder=(1, 1, 1, 4)).eval()
    network.encoders[-1][0].beta.data.fill_(1)
    alone = lively(encoder=(1, 1, 1, 1))
    assert count_restoration(accelerate(network), *SIZE) == count_restoration(alone, *SIZE)


def test_behind_a_detector_the_restorer_counts_from_its_first_layer_on():
    network = Guided(lively_detector(), lively("nafnet"))
    detection = network.detect(torch.rand(1, 3, *SIZE))
    assert counted(lambda: network.restore(detection)) == count_restoration(network.restorer, *SIZE)


def test_nafnet_of_the_paper_costs_what_the_paper_says():
    # Table 2 of M²AENet: NAFNet, 17.11 million parameters, 0.764 T for 2152 x 1436 pixels; a counter that
    # also counts what is added and multiplied one by one comes out a little higher
    with torch.device("meta"):
        network = create("nafnet")
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(17.11, abs=0.01)
    assert count_restoration(network, 1436, 2152) / 1e12 == pytest.approx(0.764, rel=0.01)


def test_the_published_table_is_what_is_counted():
    folder = Path(__file__).parents[1]
    lines = runpy.run_path(str(folder / "examples" / "macs_table.py"))["table"]()
    assert "\n".join(lines) in (folder / "docs" / "benchmarks.md").read_text(encoding="utf-8")

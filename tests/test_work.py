"""Counted work against torch's own counter and against published numbers."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import guided_by, lively, lively_detector, lively_lmd_vit, weights_of
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deblur_cli.nets import Detection, Guided, accelerate, create
from deblur_cli.nets.pruned import plan_pruning
from deblur_cli.nets.work import count, count_dense, count_detector, count_pruned, count_windows
from deblur_cli.photo.photo import Photo
from deblur_cli.restoration import Deblurrer, Findings, Request, Tiling
from deblur_cli.restoration.work import dense_work, detection_work, restoration_work, restored_parts


def stirred(network):
    """The network with residual scales that are not zero, so that no block is left out."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith(("beta", "gamma")):
                parameter.fill_(0.3)
    return network


def counted_by_torch(action):
    """Multiply-accumulates of matrix products and convolutions, two operations each."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        action()
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("pooling", [None, 64])
@pytest.mark.parametrize("cells", [False, True])
def test_nafnet_is_counted_as_torch_counts_it(pooling, cells):
    network = lively("nafnet", pooling=pooling)
    if cells:
        accelerate(network)
    image = torch.rand(1, 3, 96, 120)  # not a multiple of 16: counted with its padding
    assert count(network, 96, 120).total == counted_by_torch(lambda: network(image))


@pytest.mark.parametrize(("seed", "share"), [(0, 0.0), (1, 0.05), (2, 0.14), (3, 0.3), (4, 0.8), (5, 1.0)])
def test_pruned_execution_is_counted_as_torch_counts_it(seed, share):
    network = accelerate(lively(encoder=(1, 1, 2, 3)))
    mask = (torch.rand(1, 1, 8, 12, generator=torch.Generator().manual_seed(seed)) < share).float()
    plan = plan_pruning(mask)
    detection = network.detect(torch.rand(1, 3, 64, 96))
    found = counted_by_torch(lambda: network.restore(detection, mask=mask))
    work = count(network, 64, 96, len(plan.blurred), len(plan.dilated))
    # torch counts neither lookups nor the element-wise products that the pruned depth-wise kernel is made of
    densely = 3 * 9 * 128 * 8 * 12 if plan.mostly_blurred else 0  # the depth-wise kernel on sharp pixels too
    assert work.restoration - work.deformable - work.depthwise + densely == found
    assert work.deformable == 3 * 9 * 128 * 8 * 12  # blocks, taps, channels, pixels
    assert work.depthwise == 3 * 9 * 128 * int(mask.sum())


def test_detection_is_counted_as_torch_counts_it():
    network = lively()
    found = counted_by_torch(lambda: network.detect(torch.rand(1, 3, 64, 96)))
    assert count(network, 64, 96).detection == found


@pytest.mark.parametrize("switches", [{}, {"mask": False}, {"motion": False}])
@pytest.mark.parametrize("stem", [2, 4])
def test_guided_networks_are_counted_as_torch_counts_them(stem, switches):
    encoder = (1, 1, 2)[stem // 2 - 1 :]
    decoder = (1,) * len(encoder)
    network = accelerate(
        stirred(
            create("m2aenet", width=8, encoder=encoder, decoder=decoder, stem=stem, guided=True, **switches)
        )
    )
    image, mask = torch.rand(1, 3, 60, 90), torch.zeros(1, 1, 8, 12)  # with its padding 64 x 96
    mask[..., 3, 4:9] = 1  # few enough for the depth-wise kernel to be gathered
    maps = {"probability": mask, "start": torch.zeros(1, 2, 8, 12), "end": torch.zeros(1, 2, 8, 12)}
    found = Detection(image, image[:, :0], (), (60, 90), None, **maps)
    followed = []
    detection = counted_by_torch(lambda: followed.append(network.follow(image, found)))
    chosen = mask if network.config.mask else None
    restoration = counted_by_torch(lambda: network.restore(followed[0], mask=chosen))
    work = count_pruned(network, (60, 90), mask)
    assert work.detection == detection
    unseen = work.depthwise if network.config.mask else 0  # gathered: torch does not count it
    assert work.restoration - work.deformable - unseen == restoration


@pytest.mark.parametrize("pooling", [None, 48])
def test_a_detector_is_counted_as_torch_counts_it(pooling):
    network = lively_detector(width=12, before=2, context=3, after=1, pooling=pooling)
    found = counted_by_torch(lambda: network.detect(torch.rand(1, 3, 90, 120)))  # padded to 96 x 128
    assert count_detector(network, 90, 120) == found


def noise(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Photo(pixels=pixels, source=Path("noise"), format="PNG")


def half_moved(height, width, scale):
    """Findings of a photo of which the upper half moved."""
    cells = (-(-height // 8), -(-width // 8))
    probability, still = np.zeros(cells, np.float32), np.zeros((2, *cells), np.float32)
    probability[: cells[0] // 2] = 1
    return Findings((height, width), probability, still, still, np.full(cells, scale, np.float32))


@pytest.mark.parametrize("scales", [(1,), (1, 2), (2,), (1, 2, 4)])
@pytest.mark.parametrize("keep_sharp", [True, False])
def test_a_run_is_counted_as_torch_counts_it_over_all_scales(scales, keep_sharp):
    # NAFNet, as torch counts neither deformable convolution nor what is gathered
    weights = guided_by(lively_detector(pooling=48), lively("nafnet", pooling=48))
    deblurrer, photo = Deblurrer(weights, "cpu", "fp32", Tiling(128, 32), scales), noise(260, 330)
    assert counted_by_torch(lambda: deblurrer.detect(photo)) == detection_work(deblurrer, 260, 330)
    findings, request = half_moved(260, 330, 1.5), Request(0.5, keep_sharp)
    results = []
    found = counted_by_torch(lambda: results.append(deblurrer.restore(photo, findings, request)))
    assert restoration_work(deblurrer, photo, findings, request) == found > 0
    parts = list(restored_parts(deblurrer, photo, findings, request))
    assert len(parts) == results[0].tiles_restored
    assert {scale for scale, *_ in parts} <= set(scales)


def test_a_run_with_pruning_is_cheaper_than_without():
    deblurrer = Deblurrer(weights_of(lively(pooling=64)), "cpu", "fp32", Tiling(128, 32), (1,))
    photo, findings = noise(128, 128), half_moved(128, 128, 1.0)
    restoring = restoration_work(deblurrer, photo, findings, Request(0.5, keep_sharp=False))
    mask = torch.from_numpy(findings.probability)[None, None]
    assert restoring == count_pruned(deblurrer.restorer.network, (128, 128), mask).total
    assert restoring < dense_work(deblurrer, 128, 128) == count(deblurrer.restorer.network, 128, 128).total


def test_windows_of_a_run_are_not_counted():
    deblurrer = Deblurrer(weights_of(lively_lmd_vit()), "cpu", "fp32", Tiling(128, 32), (1,))
    assert detection_work(deblurrer, 128, 128) is None
    assert restoration_work(deblurrer, noise(128, 128), half_moved(128, 128, 1.0), Request()) is None
    assert dense_work(deblurrer, 128, 128) == count_windows(lively_lmd_vit(), 128, 128)


@pytest.mark.parametrize("kind", ["m2aenet", "nafnet"])
def test_behind_a_detector_the_restorer_counts_from_its_first_layer_on(kind):
    network = Guided(lively_detector(), lively(kind))
    mask = torch.ones(1, 1, 8, 12)
    detection = network.detect(torch.rand(1, 3, 64, 96))
    found = counted_by_torch(lambda: network.restore(detection, mask=mask))
    work = count_pruned(network.restorer, (64, 96), mask)
    assert found == work.total - work.deformable  # which torch counts as lookups
    assert count_dense(network.restorer, 64, 96) == work.total


def test_blocks_that_are_left_out_cost_nothing():
    network = create("m2aenet", width=8, encoder=(1, 1, 1, 4)).eval()
    network.encoders[-1][0].beta.data.fill_(1)
    everything = count(network, 64, 64)
    accelerate(network)
    assert network.depth == 1
    assert count(network, 64, 64).masked == everything.masked // 4


def test_nafnet_of_the_paper_costs_what_the_paper_says():
    # Table 2 of M²AENet: NAFNet, 17.11 million parameters, 0.764 T for 2152 x 1436 pixels; a counter that
    # also counts what is added and multiplied one by one comes out a little higher
    network = create("nafnet")
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(
        17.11, abs=0.01
    )
    assert count(network, 1436, 2152).total / 1e12 == pytest.approx(0.764, rel=0.01)


@pytest.mark.parametrize("switches", [{"mask_conv3": True}, {"mask_conv4": True}, {"motion": False}])
def test_ablations_are_counted_as_torch_counts_them(switches):
    network = accelerate(stirred(create("m2aenet", width=8, encoder=(1, 1, 1, 2), **switches)))
    mask = torch.zeros(1, 1, 8, 12)
    mask[..., 3, 4:9] = 1  # few enough for the depth-wise kernel to be gathered
    plan = plan_pruning(mask)
    detection = network.detect(torch.rand(1, 3, 64, 96))
    found = counted_by_torch(lambda: network.restore(detection, mask=mask))
    work = count(network, 64, 96, len(plan.blurred), len(plan.dilated))
    assert work.restoration - work.deformable - work.depthwise == found


@pytest.mark.parametrize("epsilon", [-1.0, 0.5, 1.0])
def test_windows_are_counted_as_torch_counts_them(epsilon):
    network = accelerate(lively_lmd_vit())
    image = torch.rand(1, 3, 60, 90, generator=torch.Generator().manual_seed(0))
    results = []
    with sdpa_kernel(SDPBackend.MATH):  # torch's counter does not know the fused kernels of all processors
        found = counted_by_torch(lambda: results.append(network(image, epsilon)))
    shares = [float(decision.mean()) for decision in results[0].decisions]
    assert count_windows(network, 60, 90, shares) == found
    if epsilon == -1:
        assert count_windows(network, 60, 90) == found


def test_the_published_table_is_what_is_counted():
    folder = Path(__file__).parents[1]
    lines = runpy.run_path(str(folder / "examples" / "work_table.py"))["table"]()
    assert "\n".join(lines) in (folder / "docs" / "benchmarks.md").read_text(encoding="utf-8")

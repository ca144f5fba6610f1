"""Accelerated networks against the plain ones that they are made from."""

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
import vectors
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import detection_of, lively, lively_detector, lively_lmd_vit, seeded, told

from deblur_cli.nets import Guided, accelerate, place
from deblur_cli.nets.blocks import Average, NAFBlock
from deblur_cli.nets.fast import CellAverage, KeptWindowBlock, cell_for
from deblur_cli.nets.lmd_vit import KeptWindows, WindowBlock, WindowGrid

RESTORERS = {
    "m2aenet": lively,
    "without mask": lambda **sizes: lively(mask=False, **sizes),
    "without motion": lambda **sizes: lively(motion=False, **sizes),
    "masked (1), (2)": lambda **sizes: lively(mask_conv3=True, **sizes),
    "masked (1), (3)": lambda **sizes: lively(mask_conv4=True, **sizes),
    "masked (1), (2), (3)": lambda **sizes: lively(mask_conv3=True, mask_conv4=True, **sizes),
    "nafnet": lambda **sizes: lively("nafnet", **sizes),
    "told, stem 1": lambda **sizes: told(1, **sizes),
    "told, stem 2": lambda **sizes: told(2, **sizes),
    "told, stem 4": lambda **sizes: told(4, mask_conv3=True, mask_conv4=True, **sizes),
    "told without motion": lambda **sizes: told(2, motion=False, **sizes),
    "nafnet, told": lambda **sizes: told(2, "nafnet", **sizes),
}
OTHERS = {
    "lmd_vit": lively_lmd_vit,
    "detector": lively_detector,
    "m2aenet behind a detector": lambda: Guided(lively_detector(), lively(pooling=64)).eval(),
    "told behind a detector": lambda: Guided(lively_detector(), told(2, pooling=64)).eval(),
    "nafnet behind a detector": lambda: Guided(lively_detector(), lively("nafnet", pooling=64)).eval(),
    "lmd_vit behind a detector": lambda: Guided(lively_detector(), lively_lmd_vit()).eval(),
}


def fast(network, exact=True):
    """An accelerated copy."""
    return accelerate(copy.deepcopy(network), exact=exact)


@cache
def pair(kind, **sizes):
    """A network and its accelerated copy, made once."""
    network = (OTHERS | RESTORERS)[kind](**sizes)
    return network, fast(network)


def begun(network, image, seed=0):
    """The first half of a restorer on a picture; what a guided one is told is made up."""
    return network.follow(image, detection_of(image, seed)) if network.guided else network.detect(image)


@pytest.mark.parametrize("kind", RESTORERS)
@given(
    share=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0, None]),
    epsilon=st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0]),
    batch=st.sampled_from([1, 3]),
    height=st.integers(17, 90),
    width=st.integers(17, 90),
    pooling=st.sampled_from([None, 48]),
)
@settings(max_examples=6)
@torch.no_grad()
def test_restorers_restore_the_same(kind, share, epsilon, batch, height, width, pooling):
    """Under masks from empty (share 0) to full, and under their own at some epsilon (share None)."""
    network, quick = pair(kind, pooling=pooling)
    image = torch.rand(batch, 3, height, width, generator=seeded(height))
    begin, begin_quick = begun(network, image, width), begun(quick, image, width)
    mask = None
    if share is not None and network.masks:
        mask = (torch.rand(begin.probability.shape, generator=seeded(width)) < share).float()
    plain, found = network.restore(begin, epsilon, mask), quick.restore(begin_quick, epsilon, mask)
    assert found.image.shape == image.shape
    assert vectors.relative_error(found.image - image, plain.image - image) < 1e-4
    for name in ("mask", "probability", "start", "end"):
        ours, theirs = getattr(found, name), getattr(plain, name)
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if "behind" in kind])
@given(height=st.integers(20, 80), width=st.integers(20, 80), epsilon=st.sampled_from([0.2, 0.5, 0.8, 1.0]))
@settings(max_examples=4)
@torch.no_grad()
def test_behind_a_detector_they_restore_the_same(kind, height, width, epsilon):
    network, quick = pair(kind)
    image = torch.rand(1, 3, height, width, generator=seeded(height))
    found = network.detect(image)  # one, as a confidence near epsilon may be rounded to its other side
    plain, result = network.restore(found, epsilon), quick.restore(found, epsilon)
    torch.testing.assert_close(result.image, plain.image, atol=2e-5, rtol=1e-4)
    assert torch.equal(result.mask, (found.probability > epsilon).float())
    torch.testing.assert_close(quick.detect(image).probability, found.probability, atol=1e-5, rtol=1e-4)


@given(
    epsilon=st.sampled_from([-1.0, 0.2, 0.5, 0.8, 1.0]),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    batch=st.integers(1, 2),
)
@settings(max_examples=8)
@torch.no_grad()
def test_lmd_vit_restores_the_same(epsilon, height, width, batch):
    network, quick = pair("lmd_vit")
    image = torch.rand(batch, 3, height, width, generator=seeded(height))
    plain, result = network(image, epsilon), quick(image, epsilon)
    assert plain.image.shape == image.shape
    assert [part.shape for part in plain.decisions] == [part.shape for part in result.decisions]
    assert all(map(torch.equal, plain.decisions, result.decisions))
    assert vectors.relative_error(result.image, plain.image) < 1e-5


@given(
    batch=st.integers(1, 2),
    down=st.integers(1, 4),
    across=st.integers(1, 4),
    shift=st.sampled_from([0, 2]),
    share=st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    modulated=st.booleans(),
    seed=st.integers(0, 99),
)
@torch.no_grad()
def test_a_window_block_computes_kept_windows_alone_for_any_decision(
    batch, down, across, shift, share, modulated, seed
):
    torch.manual_seed(seed)
    sizes = {"predicts": True, "modulated": modulated}
    block, quick = WindowBlock(8, 2, 4, shift, **sizes), KeptWindowBlock(8, 2, 4, shift, **sizes)
    block.attn.relative_position_bias_table.normal_()
    quick.load_state_dict(block.state_dict())
    x = torch.randn(batch, 4 * down, 4 * across, 8)
    confidence = torch.rand(batch * down * across)
    grid = WindowGrid(batch, 4 * down, 4 * across, 4, shift, x.device)
    chosen = KeptWindows(grid, confidence, confidence < share)
    found = quick(x.clone(), chosen)
    torch.testing.assert_close(found, block(x, chosen), rtol=1e-5, atol=1e-5)
    untouched = chosen.grid.spread(chosen.kept.float())[:, 0] == 0
    assert torch.equal(found[untouched], x[untouched])  # and nothing of them was computed


@pytest.mark.parametrize("pooling", [None, 48])
@torch.no_grad()
def test_a_detector_finds_the_same(pooling):
    network, picture = lively_detector(pooling=pooling), torch.rand(2, 3, 96, 64)
    before, after = network.detect(picture), fast(network, exact=False).detect(picture)
    torch.testing.assert_close(after.probability, before.probability, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(after.end, before.end, atol=1e-4, rtol=1e-3)


@given(window=st.sampled_from([18, 27, 36, 48]), height=st.integers(97, 150), width=st.integers(97, 150))
@settings(max_examples=20)
def test_means_of_cells_are_close_to_those_of_pixels_up_to_the_border(window, height, width):
    coarse, fine = (torch.rand(1, 3, *size, generator=seeded(width)) for size in ((6, 6), (height, width)))
    x = F.interpolate(coarse, size=(height, width), mode="bilinear") + fine
    exact, cells = Average(window)(x), CellAverage(window, cell_for(window))
    near = cells.enlarge(cells(x), height, width)
    assert cells.cell > 1
    assert (near - exact).abs().mean() < 0.2 * (exact - x.mean()).abs().mean()


def test_a_detector_pools_in_cells():
    network = fast(lively_detector(wide=0, pooling=288), exact=False)
    averages = [block.sca[0] for block in network.modules() if isinstance(block, NAFBlock)]
    assert {(average.window, average.cell) for average in averages} == {(36, 4), (18, 2)}


@pytest.mark.parametrize("kind", [*RESTORERS, *OTHERS])
@torch.no_grad()
def test_in_half_precision_it_is_as_near_to_float32_as_the_plain_network(kind):
    plain, quick = pair(kind)
    image = torch.rand(1, 3, 72, 88, generator=seeded(2))

    def answer(network, dtype=torch.float32):
        network = place(copy.deepcopy(network), "cpu", dtype)
        if kind == "detector":
            return network.detect(image).logits
        if kind in OTHERS:  # all counts as blurred, as rounding may tip a decision
            return network(image.to(network.input_dtype), -1.0).image.float() - image
        begin = begun(network, image.to(network.input_dtype), seed=3)
        mask = torch.zeros(begin.features[:, :1].shape)
        mask[..., 2:5, 3:9] = 1
        return network.restore(begin, mask=mask if network.masks else None).image.float() - image

    exact, rough, found = answer(plain), answer(plain, torch.bfloat16), answer(quick, torch.bfloat16)
    assert found.isfinite().all()
    assert vectors.relative_error(found, exact) < 2 * vectors.relative_error(rough, exact) + 1e-3


@torch.no_grad()
def test_it_is_the_network_that_was_given_ready_for_inference_and_a_second_time_does_nothing():
    network, image = lively(pooling=64).train(), torch.rand(1, 3, 64, 96)
    names = list(network.state_dict())
    quick = accelerate(network)
    assert quick is network
    assert not any(module.training for module in network.modules())
    assert list(network.state_dict()) == names
    once = network(image).image
    assert torch.equal(accelerate(network)(image).image, once)
    assert torch.equal(copy.deepcopy(network)(image).image, once)


@pytest.mark.parametrize("kind", ["m2aenet", "told, stem 2"])
@torch.no_grad()
def test_pooling_in_cells_is_close_to_exact_local_pooling(kind):
    rows = torch.linspace(0, 1, 200).view(1, 1, -1, 1)
    image = (rows * torch.rand(1, 3, 200, 168) + 1 - rows) / 2  # averages that change across the picture
    network, everywhere = RESTORERS[kind](pooling=72), RESTORERS[kind]()
    answers = (
        each.restore(begun(each, image), -1.0).image
        for each in (network, fast(network), fast(network, exact=False), everywhere)
    )
    plain, exact, near, whole = answers
    assert vectors.relative_error(exact, plain) < 1e-5
    assert 0 < (near - exact).norm() < 0.2 * (whole - exact).norm()
    assert (near - exact).abs().mean() < 1 / 255


@torch.no_grad()
def test_trailing_blocks_that_do_nothing_are_left_out():
    network = lively(encoder=(1, 1, 1, 3))
    for block in network.encoders[-1][1:]:
        block.beta.zero_()
        block.gamma.zero_()
    image = torch.rand(1, 3, 48, 48)
    quick = fast(network)
    assert (network.depth, quick.depth) == (3, 1)
    assert vectors.relative_error(quick(image).image, network(image).image) < 1e-6

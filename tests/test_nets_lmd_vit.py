"""LMD-ViT: the numbers of its authors' own code, its windows and its map."""

import json
from math import prod

import pytest
import torch
import vectors
from hypothesis import given
from hypothesis import strategies as st
from networks import lively_lmd_vit

from deblur_cli.nets import accelerate, create_lmd_vit
from deblur_cli.nets.lmd_vit import KeptWindows, WindowBlock, WindowGrid


@torch.no_grad()
def test_agrees_with_the_authors_code():
    vector = vectors.load("lmd_vit")
    network = vectors.rebuild_weights(create_lmd_vit(), vector)
    for form in (lambda plain: plain, accelerate):
        result = form(network)(vectors.rebuild_input(vector), epsilon=0.5)
        assert len(result.decisions) == 16
        for number, decision in enumerate(result.decisions):
            expected = torch.from_numpy(vector[f"decision_{number}"])
            assert torch.equal(decision, expected.float()), f"predictor {number}"
        assert vectors.relative_error(result.image, vector["output"]) < 1e-5
        assert vectors.relative_error(result.gate, vector["gate"]) < 1e-5


def test_parameters_have_the_published_names_and_shapes():
    path = vectors.FOLDER / "lmd_vit.keys.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        network = create_lmd_vit()
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == expected
    assert sum(prod(value.shape) for value in network.parameters()) == 54_549_163


@torch.no_grad()
def test_epsilon_is_the_threshold_of_the_windows_and_of_the_map():
    network, image = lively_lmd_vit(), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    shares = []
    for epsilon in (-1.0, 0.5, 1.0):
        result = network(image, epsilon)
        assert result.probability.shape == result.mask.shape == (1, 1, 8, 12)
        assert torch.equal(result.mask, (result.probability > epsilon).float())
        shares.append(float(torch.cat([part.flatten() for part in result.decisions]).mean()))
    assert shares[0] == 1 > shares[1] > shares[2] == 0
    assert not result.mask.any()


@torch.no_grad()
def test_the_map_is_the_mean_of_the_confidence_in_the_windows_that_hold_a_pixel():
    network, image = lively_lmd_vit(depths=(1, 1, 1), heads=(1, 1, 1)), torch.rand(1, 3, 32, 48)
    found = network.detect(image)
    features, expected = network.input_proj(image).permute(0, 2, 3, 1), 0
    first = network.encoderlayer_0.blocks[0].choose(features, 0.5).confidence.view(1, 1, 8, 12)  # 4 px
    after, _ = network.encoderlayer_0(features, 0.5)
    halved = network.resample("dowsample_0", after)
    second = network.conv.blocks[0].choose(halved, 0.5).confidence.view(1, 1, 4, 6)  # 8 px
    expected = (torch.nn.functional.avg_pool2d(first, 2) + second) / 2
    torch.testing.assert_close(found.probability, expected)


@torch.no_grad()
def test_halves_make_the_whole_and_another_epsilon_is_detected_anew():
    network, image = lively_lmd_vit(), torch.rand(1, 3, 40, 50, generator=torch.Generator().manual_seed(1))
    found = network.detect(image, 0.5)
    for epsilon in (0.5, 0.2):
        whole = network(image, epsilon)
        assert torch.equal(network.restore(found, epsilon).image, whole.image)
    assert not torch.equal(whole.image, network(image, 0.5).image)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0, 2]))
def test_merging_is_the_inverse_of_partitioning(batch, down, across, shift):
    x = torch.randn(batch, 4 * down, 4 * across, 3)
    grid = WindowGrid(batch, 4 * down, 4 * across, 4, shift, x.device)
    windows = grid.partition(x)
    assert torch.equal(grid.merge(windows), x)
    assert torch.equal(x.reshape(-1, 3)[grid.rows], windows)


def test_pixels_of_opposite_borders_do_not_see_each_other():
    """With shifted windows, a change at the right border must not reach the left one."""
    torch.manual_seed(0)
    block = WindowBlock(8, 2, 4, 2, predicts=True, modulated=False).eval()
    block.mlp.dwconv[0].weight.data.zero_()  # which mixes neighbors whatever the border
    x = torch.randn(1, 12, 12, 8)
    changed = x.clone()
    changed[:, :, -1] = torch.randn(1, 12, 8)
    grid = WindowGrid(1, 12, 12, 4, 2, x.device)
    chosen = KeptWindows(grid, torch.ones(9), torch.ones(9, dtype=torch.bool))
    with torch.no_grad():
        difference = (block(changed, chosen) - block(x, chosen)).abs().amax((0, 1, 3))
    assert difference[-2] > 1e-3
    assert difference[:2].max() < 1e-6


@pytest.mark.parametrize(
    "sizes",
    [
        {"depths": (1, 1)},
        {"depths": (1, 0, 1)},
        {"heads": (1,)},
        {"window": 3},
        {"embed": 5, "heads": (2,) * 9},
        {"depths": (1,), "heads": (1,), "window": 4},
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_together_are_refused(sizes):
    with pytest.raises(ValueError, match=r"layers|pixels|heads"):
        create_lmd_vit(**sizes)

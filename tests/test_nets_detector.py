"""The detector: findings that fit the picture, weights that come back, layers that begin as nothing."""

import pytest
import torch
import torch.nn.functional as F
from networks import lively_detector
from torch import nn

from deblur_cli import weights
from deblur_cli.nets import create_detector
from deblur_cli.nets.detector import cells_as_channels, slopes
from deblur_cli.nets.motion_cues import motion_cues
from deblur_cli.nets.network import CELL
from deblur_cli.train.lessons import begin_from


def noise(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pixels_of_a_cell_are_channels_as_after_an_unshuffle(layout):
    picture = torch.rand(2, 3, 48, 80).contiguous(memory_format=layout)
    cells = cells_as_channels(picture)
    assert torch.equal(cells, F.pixel_unshuffle(picture, CELL))
    assert cells.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_findings_of_any_size_cover_the_picture_and_move_to_the_right():
    found = lively_detector().detect(noise(40, 52))
    assert found.size == (40, 52)
    assert found.probability.shape == (1, 1, 8, 8)  # up to whole multiples of 32 pixels
    assert 0 <= found.probability.min() < found.probability.max() <= 1
    torch.testing.assert_close(found.logits.softmax(1)[:, :1], found.probability)
    assert (found.end - found.start)[:, 1].min() >= 0  # of the two senses always the same


def test_weights_of_a_detector_come_back_as_they_were(tmp_path):
    network = lively_detector(pooling=48)
    weights.save(tmp_path / "d.safetensors", network, {"epsilon": "0.3"}, half=False)
    loaded = weights.load(str(tmp_path / "d.safetensors"))
    assert loaded.architecture == "detector" and loaded.network.config == network.config
    picture = noise(48, 48)
    assert torch.equal(loaded.network.detect(picture).probability, network.detect(picture).probability)
    with pytest.raises(RuntimeError, match="restores nothing"):
        network.restore(network.detect(picture))


@torch.no_grad()
def test_a_detector_grows_by_layers_that_begin_as_nothing(tmp_path):
    known = lively_detector(context=2, wide=0, edges=0, pooling=48)
    weights.save(tmp_path / "d.safetensors", known, {}, half=False)
    grown = create_detector(width=8, before=1, context=4, after=1, wide=1, edges=4, pooling=48).eval()
    begin_from(str(tmp_path / "d.safetensors"), grown)
    picture = noise(64, 96)
    assert torch.equal(grown.detect(picture).probability, known.detect(picture).probability)
    for begun in (grown.edges[-1], grown.wide.up[0], grown.context[2].conv5):
        nn.init.normal_(begun.weight, std=0.3)
        nn.init.ones_(grown.context[2].gamma)
        assert not torch.equal(grown.detect(picture).probability, known.detect(picture).probability)
        nn.init.zeros_(begun.weight)
        nn.init.zeros_(grown.context[2].gamma)


def test_edges_are_seen_alike_in_faint_and_strong_pictures():
    picture = noise(64, 64)
    strong, faint = (slopes(seen, motion_cues(seen)) for seen in (picture, 0.5 + picture / 8))
    assert torch.allclose(strong, faint, rtol=0.05, atol=0.05)
    assert strong.square().sum(1).mean().item() == pytest.approx(1, rel=0.1)

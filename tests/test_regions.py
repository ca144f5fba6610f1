"""Parts of tiles: nothing that changes lies outside them, and what they give is what the tile would."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import lively, weights_of

from deblur_cli.restoration.mask import overlay_weights
from deblur_cli.nets import M2AENet
from deblur_cli.nets.layers import NAFBlock
from deblur_cli.photo.photo import Photo
from deblur_cli.regions import CONTEXT, changed_part
from deblur_cli.restore import Deblurrer, Settings
from deblur_cli.runner import Runner
from deblur_cli.task import Task
from deblur_cli.restoration.tiles import ALIGNMENT, Grid


@given(
    st.integers(20, 700),
    st.integers(20, 700),
    st.sampled_from([128, 256, 512]),
    st.sampled_from([0, 96, 200]),
    st.integers(0, 10**6),
)
@settings(max_examples=60)
def test_a_part_holds_whatever_changes_with_its_surroundings(height, width, size, least, seed):
    cells = (-(-height // 8), -(-width // 8))
    mask = (np.random.default_rng(seed).random(cells) < 0.003).astype(np.float32)
    for tile in Grid(height, width, size, 32):
        changes = np.zeros((height, width), bool)
        changes[tile.index] = overlay_weights(mask, *tile.index) * tile.weights > 0
        part = changed_part(tile, mask, least)
        if part is None:
            assert not changes.any()
            continue
        assert changes[part.index].sum() == changes.sum() > 0
        sides = zip(np.nonzero(changes), (part.rows, part.columns), (tile.rows, tile.columns), strict=True)
        for places, span, whole in sides:
            assert whole.start <= span.start <= max(whole.start, places.min() - CONTEXT)
            assert whole.stop >= span.stop >= min(whole.stop, places.max() + 1 + CONTEXT)
            assert span.stop - span.start >= min(least, whole.stop - whole.start)
            assert span.start % ALIGNMENT == 0
            assert span.stop == whole.stop or span.stop % ALIGNMENT == 0
            offset = span.start - whole.start
            np.testing.assert_array_equal(
                span.weights, whole.weights[offset : offset + span.stop - span.start]
            )


def short_sighted(network):
    """Leave out what looks beyond a few pixels: channel attention, motion, and the coarse 3x3 kernels."""
    with torch.no_grad():
        for block in network.modules():
            if isinstance(block, NAFBlock):
                block.sca[1].weight.zero_()
                block.sca[1].bias.fill_(1)
        for block in [*network.encoders[-1], *network.middle_blks]:
            taps = torch.zeros(3, 3)
            taps[1, 1] = 1
            block.conv2.weight.mul_(taps)
        network.motion_analyzer.weight.zero_()
        network.motion_analyzer.bias.zero_()
    return network


@pytest.mark.parametrize("kept_bytes", [0, 1 << 30])
def test_a_part_comes_out_as_in_its_tile(monkeypatch, kept_bytes):
    pixels = np.random.default_rng(5).integers(0, 256, (480, 560, 3), np.uint8)
    photo = Photo(pixels=pixels, source=Path("photo.png"), format="PNG")
    blurred = np.zeros((60, 70), np.float32)
    blurred[25:33, 30:40] = 1
    monkeypatch.setattr(Task, "judge", lambda self, maps: np.concatenate([blurred[None], maps[1:]]))
    monkeypatch.setattr("deblur_cli.task.KEPT_BYTES", kept_bytes)
    pixels_run = []
    attempt = Runner.attempt

    def spy(self, network, image, *rest):
        pixels_run.append(image.shape[-2] * image.shape[-1])
        return attempt(self, network, image, *rest)

    monkeypatch.setattr(Runner, "attempt", spy)
    deblurrer = Deblurrer(weights_of(short_sighted(lively(pooling=96))), "cpu", "fp32")
    parts, work = deblurrer.run(photo, Settings(tile=320)), sum(pixels_run)
    pixels_run.clear()
    monkeypatch.setattr(M2AENet, "smallest_part", None)
    whole = deblurrer.run(photo, Settings(tile=320))
    assert parts.tiles_restored == whole.tiles_restored == 4
    assert work < 0.5 * sum(pixels_run)
    assert parts.changed
    difference = np.abs(parts.photo.pixels.astype(int) - whole.photo.pixels)
    assert difference.max() <= 1  # rounding
    assert (difference > 0).mean() < 0.001


def test_kept_features_spare_detection_and_change_nothing(monkeypatch):
    deblurrer = Deblurrer(weights_of(lively(pooling=96)), "cpu", "fp32")
    pixels = np.random.default_rng(8).integers(0, 256, (500, 620, 3), np.uint8)
    pixels[150:380, 200:420] //= 6
    photo = Photo(pixels=pixels, source=Path("photo.png"), format="PNG")
    looks = []
    find = Runner.find
    monkeypatch.setattr(Runner, "find", lambda *values: looks.append(1) or find(*values))
    choices = Settings(tile=256)
    kept, count = deblurrer.run(photo, choices), len(looks)
    looks.clear()
    monkeypatch.setattr("deblur_cli.task.KEPT_BYTES", 0)
    found_again = deblurrer.run(photo, choices)
    assert kept.changed and 0 < kept.blurred_share < 1
    assert len(looks) == found_again.tiles + found_again.tiles_restored
    assert count < len(looks) - kept.tiles_restored // 2
    assert np.array_equal(kept.photo.pixels, found_again.photo.pixels)

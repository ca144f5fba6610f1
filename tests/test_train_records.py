"""Logs and pictures of a run."""

import csv

import numpy as np
import torch
from train_helpers import NETWORK, tensors

from deblur_cli.nets import create
from deblur_cli.train.lessons import restorer_sheet
from deblur_cli.train.loop import Means, append_row
from deblur_cli.train.settings import BlurSettings
from deblur_cli.train.synthetic import fixed_set


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_means_are_over_what_came_since_the_last():
    means = Means()
    means.add({"a": 1.0, "b": 4.0})
    means.add({"a": 3.0, "b": 4.0})
    assert means.take() == {"a": 2.0, "b": 4.0}
    means.add({"a": 5.0})
    assert means.take() == {"a": 5.0}


def test_rows_with_new_columns_keep_the_old_ones_readable(tmp_path):
    path = tmp_path / "run" / "log.csv"
    append_row(path, {"step": 1, "mask": 0.5})
    append_row(path, {"step": 2, "mask": 0.4})
    append_row(path, {"step": 3, "dice": 0.3})
    append_row(path, {"step": 4, "mask": 0.2, "dice": 0.1})
    assert [(row["step"], row["mask"], row["dice"]) for row in rows_of(path)] == [
        ("1", "0.5", ""),
        ("2", "0.4", ""),
        ("3", "", "0.3"),
        ("4", "0.2", "0.1"),
    ]
    assert [entry.name for entry in path.parent.iterdir()] == ["log.csv"]


def test_a_sheet_shows_input_output_truth_and_masks_of_each_sample():
    network = create("m2aenet", width=NETWORK.width, encoder=NETWORK.encoder).eval()
    samples = list(fixed_set(tensors(), 2, 48, BlurSettings(), seed=0))
    sheet = np.asarray(restorer_sheet(network, samples))
    assert sheet.shape == (2 * 48, 5 * 48, 3)
    for row, sample in enumerate(samples):
        panels = np.split(sheet[48 * row : 48 * (row + 1)], 5, axis=1)
        for panel, image in ((0, sample.blurred), (2, sample.sharp), (4, sample.mask.expand(-1, 3, -1, -1))):
            expected = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
            assert np.array_equal(panels[panel], expected)


def test_a_network_without_mask_leaves_its_panel_out():
    network = create("nafnet", width=NETWORK.width, encoder=NETWORK.encoder).eval()
    with torch.no_grad():
        sheet = restorer_sheet(network, fixed_set(tensors(), 1, 32, BlurSettings(), seed=0))
    assert sheet.size == (4 * 32, 32)

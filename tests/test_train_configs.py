"""The settings that come with deblur: each of them trains, in both precisions."""

import math

import pytest
import torch
from train_helpers import changed, small_run, write_photos

from deblur_cli import weights
from deblur_cli.nets import create_detector
from deblur_cli.train import loop
from deblur_cli.train.settings import SHIPPED, read_settings

STEPS = 3


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Photos to learn from, and a detector to follow."""
    folder = tmp_path_factory.mktemp("sources")
    detector = folder / "detector.safetensors"
    weights.save(detector, create_detector(width=8, before=1, context=1, after=1), {})
    return {"photos": str(write_photos(folder / "photos")), "follows": str(detector)}


def begin(path, precision, folder, sources):
    """Begin a run as a shipped file says, but for its size."""
    settings = read_settings(path)
    blur, encoder = settings.blur, (*settings.network.encoder[:-1], 2)
    settings = changed(
        settings,
        network=changed(settings.network, width=4, encoder=encoder),
        detector=changed(settings.detector, width=8),
        patches=changed(settings.patches, count=0),
        blur=changed(blur, longest=min(blur.longest, 16.0), defocus_radius=min(blur.defocus_radius, 8.0)),
        **{"patch": 32, "batch": 2, "warmup": 0, "start": "", **sources},
    )
    return loop.Trainer(settings, folder, "cpu", precision)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_configuration_trains_alike_in_both_precisions(path, sources, tmp_path, monkeypatch):
    small_run(monkeypatch)
    first = []
    for precision in (torch.float32, torch.bfloat16):
        run = begin(path, precision, tmp_path, sources)
        trained = {name: value for name, value in run.network.named_parameters() if value.requires_grad}
        before = {name: value.detach().clone() for name, value in trained.items()}
        rows, unlearned = [], set(trained)
        for _ in range(STEPS):  # in one of them alone, the mask may be empty
            rows.append(run.train_step())
            unlearned -= {
                name for name, value in trained.items() if value.grad is not None and value.grad.any()
            }
        assert run.lost_steps == 0 and all(math.isfinite(term) for row in rows for term in row.values())
        assert unlearned == set()
        assert [name for name, value in trained.items() if torch.equal(value, before[name])] == []
        first.append(rows[0]["total"])
    assert first[1] == pytest.approx(first[0], rel=0.01)

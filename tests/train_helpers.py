"""A training run small enough for a test: nine tiny photos, a tiny network."""

import numpy as np
import torch
from PIL import Image

from deblur_cli.train import data, loop
from deblur_cli.train.settings import BlurSettings, NetworkSettings, TrainSettings

HELD_OUT = 2
NETWORK = NetworkSettings(width=4, encoder=(1, 1, 1, 2))


def picture(size=(64, 64), seed=0):
    """Soft color waves with a hard-edged bright square: H W 3, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    waves = [
        np.sin(2 * np.pi * (rng.uniform(1, 4) * y + rng.uniform(1, 4) * x + rng.random())) for _ in range(3)
    ]
    pixels = 120 + 60 * np.stack(waves, -1) + rng.normal(0, 4, (*size, 3))
    pixels[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] += 70
    return pixels.clip(0, 255).astype(np.uint8)


def tensors(count=4, size=(64, 64), gray=False):
    """Photos as synthesis takes them: uint8 3 H W."""
    found = [torch.from_numpy(picture(size, seed)).permute(2, 0, 1).contiguous() for seed in range(count)]
    return [photo[:1].expand(3, -1, -1) for photo in found] if gray else found


def write_photos(folder, count=6):
    folder.mkdir()
    for number in range(count):
        Image.fromarray(picture(seed=number)).save(folder / f"{number}.png")
    return folder


def small_run(monkeypatch):
    """Make scores cheap and few photos enough."""
    monkeypatch.setattr(data, "HELD_OUT", HELD_OUT)
    monkeypatch.setattr(data, "SCORED", (1, 32))


def settings(photos, **changes):
    tiny = TrainSettings(
        network=NETWORK,
        blur=BlurSettings(longest=8.0),
        photos=str(photos),
        steps=6,
        patch=32,
        batch=2,
        warmup=2,
        log_every=2,
    )
    return changed(tiny, **changes)


def changed(settings, **changes):
    """The same settings with other values, unchecked."""
    return settings.model_copy(update=changes)


def trainer(photos, folder, **changes):
    return loop.Trainer(settings(photos, **changes), folder, "cpu", torch.float32)


def same_weights(first, second):
    """Whether two networks hold the same numbers, bit for bit."""
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(name == other and torch.equal(a, b) for (name, a), (other, b) in pairs)

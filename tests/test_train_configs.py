"""The settings that come with deblur: each of them trains, in both precisions."""

import math
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.backends.registry import lookup_backend
from train_helpers import small_run, write_photos

from deblur_cli import weights
from deblur_cli.nets import create_detector
from deblur_cli.train import loop
from deblur_cli.train.settings import SHIPPED, read_settings

pytestmark = [  # torch's own, while it compiles
    pytest.mark.filterwarnings("ignore:.*not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
]
CONFIGS = sorted(SHIPPED.glob("*.toml"))
STEPS = 3


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Photos to learn from, and a detector to follow."""
    folder = tmp_path_factory.mktemp("sources")
    detector = folder / "detector.safetensors"
    weights.save(detector, create_detector(width=8, before=1, context=1, after=1), {})
    return {"photos": str(write_photos(folder / "photos")), "follows": str(detector)}


@pytest.fixture
def begin(sources, tmp_path, monkeypatch):
    """Begin a run as a shipped file says, but for its size."""
    small_run(monkeypatch)

    def begin(path, precision, **changes):
        settings = read_settings(path)
        network = replace(settings.network, width=4, encoder=(*settings.network.encoder[:-1], 2))
        longest, radius = min(settings.blur.longest, 16.0), min(settings.blur.defocus_radius, 8.0)
        settings = replace(
            settings,
            network=network,
            detector=replace(settings.detector, width=8),
            patches=replace(settings.patches, count=0),
            blur=replace(settings.blur, longest=longest, defocus_radius=radius),
            **{"patch": 32, "batch": 2, "warmup": 0, "start": "", **sources, **changes},
        )
        return loop.Trainer(settings, tmp_path / f"{precision}{settings.compile}", "cpu", precision)

    return begin


@pytest.fixture(scope="module", autouse=True)
def forgotten():
    """What was compiled is shared by the runs of this file and not left behind."""
    yield
    torch._dynamo.reset()


def traced(graph, inputs):
    """What torch.compile makes of a block before it writes C++, which takes a minute for a network.

    Fails for shapes that may change, which the writer cannot do.
    """
    assert not any(isinstance(value, torch.SymInt) for value in inputs)
    return lookup_backend("aot_eager")(graph, inputs)


@contextmanager
def compiling(backend, limit):
    """Compile by a backend, and fail where torch would give up and leave a block uncompiled."""
    plain = nn.Module.compile

    def compile(module, **options):
        plain(module, backend=backend, **options)

    settings = torch._dynamo.config.patch(cache_size_limit=limit, fail_on_cache_limit_hit=True)
    with pytest.MonkeyPatch.context() as patched, settings:
        patched.setattr(nn.Module, "compile", compile)
        yield


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_trains_alike_in_both_precisions_and_compiled(path, begin):
    def train(precision, compile=False):
        run = begin(path, precision, compile=compile)
        trained = {name: value for name, value in run.network.named_parameters() if value.requires_grad}
        before = {name: value.detach().clone() for name, value in trained.items()}
        rows = [run.train_step() for _ in range(STEPS)]
        assert run.lost_steps == 0 and all(math.isfinite(term) for row in rows for term in row.values())
        unlearned = [name for name, value in trained.items() if value.grad is None or not value.grad.any()]
        assert unlearned == []
        assert [name for name, value in trained.items() if torch.equal(value, before[name])] == []
        return [row["total"] for row in rows]

    exact, rough = train(torch.float32), train(torch.bfloat16)
    assert rough[0] == pytest.approx(exact[0], rel=0.01)
    with compiling(traced, limit=256):  # blocks are those of all runs here
        assert train(torch.bfloat16, compile=True) == pytest.approx(rough, rel=1e-3)


def test_no_block_is_left_uncompiled(begin):
    torch._dynamo.reset()
    with compiling("eager", limit=8):  # which is torch's own
        begin(SHIPPED / "ablation-nafnet.toml", torch.bfloat16, compile=True).train_step()

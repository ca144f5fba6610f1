import json
import os
import signal
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import guided_by, lively, lively_detector, lively_lmd_vit, weights_of
from PIL import Image
from typer.testing import CliRunner

from deblur_cli import weights as catalog
from deblur_cli.benchmark import profiling, run, scene
from deblur_cli.benchmark.profiling import Share
from deblur_cli.benchmark.run import Timing
from deblur_cli.cli.app import app
from deblur_cli.nets.macs import count_detection, count_restoration
from deblur_cli.restoration import SCALES, Tiling
from deblur_cli.restoration.device import clock
from deblur_cli.restoration.scales import scale_shares
from deblur_cli.restoration.tiles import Grid

SMALL = ["--size", "640x128", "--repeats", "1", "--tile", "128", "--overlap", "32", "--device", "cpu"]


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    catalog.save(path, lively(), {}, half=False)
    return path


def setting_of(weights):
    return scene.Setting(weights, Tiling(128, 32), "cpu", "fp32")


def bench(weights_file, *words):
    return CliRunner().invoke(app, [str(word) for word in ("bench", *SMALL, "-w", weights_file, *words)])


def test_bench_prints_the_ratio_first_and_as_json(weights_file):
    plain = bench(weights_file)
    assert plain.exit_code == 0, plain.stderr
    first, _, looking, *lines = plain.stdout.splitlines()
    assert "times as fast as dense float32 (640x128, 10% blurred by 10 pixels)" in first
    seconds = {line[:26].rstrip(): float(line[26:].split()[0]) for line in lines[:-4]}
    assert float(looking.split()[0]) == pytest.approx(seconds["detect"] / seconds["detect, scale 1"], rel=0.3)
    parts = seconds["decode"] + seconds["deblur"] + seconds["encode"]
    assert seconds["decode, deblur and encode"] == pytest.approx(parts, abs=0.02)
    assert seconds["restore: deblur - detect"] == pytest.approx(
        seconds["deblur"] - seconds["detect"], abs=0.02
    )
    facts = json.loads(bench(weights_file, "--json").stdout)
    seconds = {name: timing["seconds"][0] for name, timing in facts["timings"].items()}
    assert {"deblur", "detect", "dense auto", "nafnet float32", "decode", "encode"} < set(seconds)
    assert facts["ratios"]["deblur"] == pytest.approx(seconds["dense float32"] / seconds["deblur"])
    assert facts["detection_ratio"] == pytest.approx(seconds["detect"] / seconds["detect, scale 1"])
    assert 0 < facts["tiles_restored"] < facts["tiles"]
    assert facts["blur_length"] == 10
    assert sum(facts["scale_shares"].values()) == pytest.approx(0.1, abs=0.01)


def test_work_is_counted_for_each_variant(weights_file):
    macs = {
        name: timing["macs"]
        for name, timing in json.loads(bench(weights_file, "--json").stdout)["timings"].items()
    }
    assert macs["detect"] < macs["deblur"] < macs["dense float32"]
    assert macs["decode"] is None
    network = lively("nafnet")
    widths = [span.stop - span.start for span in Grid(128, 640, 128, 32).columns]
    assert macs["nafnet float32"] == sum(count_restoration(network, 128, width) for width in widths)


@pytest.fixture(scope="module")
def detector_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("detectors") / "finder.safetensors"
    catalog.save(path, lively_detector(), {}, half=False)
    return path


def test_a_detector_is_timed_and_counted_apart_from_the_restorer(weights_file, detector_file):
    done = bench(weights_file, "--detector", detector_file, "--json")
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    own = json.loads(bench(weights_file, "--json").stdout)["timings"]
    found = facts["timings"]
    assert facts["weights"] == f"{weights_file} + {detector_file}"
    assert found["cues"]["seconds"][0] > 0 and found["cues"]["macs"] is None and "cues" not in own
    widths = [span.stop - span.start for span in Grid(128, 640, 128, 32).columns]
    detector = lively_detector()
    finest = sum(count_detection(detector, 128, width) for width in widths)
    assert found["detect"]["macs"] == finest + sum(  # and at half the size, the smallest that is looked at
        count_detection(detector, 64, span.stop - span.start) for span in Grid(64, 320, 128, 32).columns
    )
    for name in ("dense float32", "dense auto", "nafnet float32"):
        assert found[name]["macs"] == own[name]["macs"]  # the restorer alone
    assert found["detect"]["macs"] < found["deblur"]["macs"] < found["dense float32"]["macs"]


TOLD = {"encoder": (1, 1, 2), "decoder": (1, 1, 1), "stem": 2, "guided": True}


def test_a_restorer_that_is_told_is_run_densely_without_its_detector():
    weights = guided_by(lively_detector(), lively(pooling=64, **TOLD))
    found = run.run_benchmark(setting_of(weights), (256, 128), 0.3, 10, 1)
    restorer = weights.network.restorer
    widths = [span.stop - span.start for span in Grid(128, 256, 128, 32).columns]
    dense = sum(count_restoration(restorer, 128, width) for width in widths)
    assert found.timings["dense float32"].macs == dense
    assert found.timings["nafnet float32"].macs < dense
    image, plain = torch.rand(1, 3, 64, 64), run.plain_network(restorer, "cpu")
    with torch.no_grad():
        torch.testing.assert_close(run.densely(plain, image), run.densely(restorer, image))


def test_the_profile_tells_the_detectors_parts(weights_file, detector_file):
    done = bench(weights_file, "--detector", detector_file, "--profile", "--json")
    parts = {part["name"]: part["seconds"] for part in json.loads(done.stdout)["parts"]}
    for name in ("cues", "edges", "blocks at 1/8", "context at 1/16", "context at 1/32", "head"):
        assert parts[f"detector, {name}"] > 0
    assert {"encoder stage 1", "encoder stage 4", "decoder stage 1"} < set(parts)


def test_single_variants_can_be_chosen(weights_file):
    done = bench(weights_file, "--only", "detect", "--json")
    assert list(json.loads(done.stdout)["timings"]) == ["detect"]
    wrong = bench(weights_file, "--only", "everything")
    assert wrong.exit_code == 2
    assert "'detect', 'detect, scale 1', " in wrong.stderr
    ignored = bench(weights_file, "--only", "detect", "--sweep", "blurred")
    assert ignored.exit_code == 2
    assert "can't be used together" in ignored.stderr


def test_a_sweep_over_megapixels_is_fitted_and_drawn(weights_file, tmp_path):
    plot = tmp_path / "sweep.png"
    done = bench(
        weights_file, "--sweep", "megapixels", "--values", "0.02,0.04,0.08", "--json", "--plot", plot
    )
    assert done.exit_code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["values"] == pytest.approx([0.02, 0.04, 0.08], rel=0.02)
    assert len(facts["timings"]) == 3
    with Image.open(plot) as image:
        assert image.convert("L").getextrema() != (255, 255)
    shares = bench(weights_file, "--sweep", "blurred", "--values", "0,1")
    assert "0% blurred" in shares.stdout
    assert "100% blurred" in shares.stdout


def test_the_fitted_line_is_that_of_the_medians():
    timings = tuple(Timing("", (value, 100.0, 0.0)) for value in (3.0, 5.0, 7.0))
    found = run.fit(run.MEGAPIXELS, [1.0, 2.0, 3.0], timings)
    assert (found.slope, found.intercept, found.r_squared) == pytest.approx((2, 1, 1))
    assert found.spread == pytest.approx(3 / np.mean([3, 5 / 2, 7 / 3]) - 1)


def test_the_profile_names_operators_and_parts(weights_file):
    facts = json.loads(bench(weights_file, "--profile", "--json").stdout)
    parts = [part["name"] for part in facts["parts"]]
    assert {"encoder stage 1", "encoder stage 4", "decoder stage 1", "mask predictor"} < set(parts)
    shares = [operator["share"] for operator in facts["operators"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 1 + 1e-6
    assert any("conv" in operator["name"] for operator in facts["operators"])
    first, *lines = bench(weights_file, "--profile").stdout.splitlines()
    assert first.startswith("where most of ") and "all else" in lines[5]
    assert any("encoder stage 4" in line for line in lines)


def test_the_pieces_of_the_tool_add_up_to_its_time():
    weights = guided_by(lively_detector(), lively(pooling=64, **TOLD))
    found = profiling.profile_run(setting_of(weights), (256, 256), 0.3, 10)
    names = [piece.name for piece in found.pieces]
    for name in ("motion cues, full size", "motion cues, 1/2", "detector's layers, 1/4", "masked blocks"):
        assert name in names
    assert {"stem and first stages", "decoder", "Richardson-Lucy", "laying over", "pyramid"} < set(names)
    assert 0.5 < sum(piece.share for piece in found.pieces) <= 1
    assert sum(piece.seconds for piece in found.pieces) <= found.seconds


@dataclass
class Event:
    """What the profiler tells of a name."""

    key: str
    place: str = "CPU"
    cpu_time_total: float = 0
    device_time_total: float = 0
    self_device_time_total: float = 0
    count: int = 1

    @property
    def device_type(self):
        return SimpleNamespace(name=self.place)


def test_a_gpu_is_profiled_by_its_own_time_and_the_rest_by_that_of_the_cpu():
    events = [
        Event("whole run", cpu_time_total=10e6, device_time_total=5e6),
        Event("piece: decoder", cpu_time_total=1e6, device_time_total=4e6),
        Event("piece: decoder", "CUDA", device_time_total=4e6),  # the same on the GPU's own line
        Event("piece: laying over", cpu_time_total=3e6),
        Event("part: middle", cpu_time_total=1e6, device_time_total=3e6),
        Event("aten::conv", cpu_time_total=1e6, device_time_total=4e6, self_device_time_total=4e6),
        Event("volta_gemm", "CUDA", device_time_total=4e6, self_device_time_total=4e6),
    ]
    found = profiling.summed_up(events, on_gpu=True)
    assert found.seconds == 10
    assert found.pieces == (Share("decoder", 4, 0.4, 1), Share("laying over", 3, 0.3, 1))
    assert found.operators == (Share("aten::conv", 4, 1, 1),)
    assert found.parts == (Share("middle", 3, 0.75, 1),)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--size", "big"),
        ("--size", "4x4"),
        ("--size", "-5x9"),
        ("--size", "70000x16"),
        ("--size", "60000x60000"),
        ("--size", f"{10**30}x16"),
        ("--blurred", "2"),
        ("--length", "0"),
        ("--length", "nan"),
        ("--length", "5000"),
        ("--repeats", "0"),
        ("--tile", "7"),
        ("--values", "1,2"),
        ("--plot", "a.png"),
    ],
)
def test_bad_values_are_usage_errors(option, value, weights_file):
    result = CliRunner().invoke(app, ["bench", option, value, "-w", str(weights_file)])
    assert result.exit_code == 2
    assert value in result.stderr or "at least" in result.stderr or "--sweep" in result.stderr


@pytest.mark.parametrize("values", ["1", "a,b", "0.5,0.5", "0,2"])
def test_a_sweep_needs_two_values_in_range(values, weights_file):
    result = bench(weights_file, "--sweep", "blurred", "--values", values)
    assert result.exit_code == 2
    assert values in result.stderr


def test_the_blurred_share_is_what_was_asked_for():
    setting = setting_of(weights_of(lively()))

    def restored(size, share):
        found = run.run_benchmark(setting, size, share, 10, 1, only=["deblur"])
        assert found.timings["deblur"].seconds[0] > 0
        return found.tiles_restored

    assert scene.disc(80, 16, 0.25).mean() == pytest.approx(0.25)
    tiles = len(Grid(128, 640, 128, 32))
    assert 0 < restored((640, 128), 0.25) < tiles
    assert restored((128, 128), 0.1) == 1
    assert restored((640, 128), 0.0) == 0
    assert restored((640, 128), 1.0) == tiles


@given(st.floats(0.1, 300), st.sets(st.sampled_from(SCALES), min_size=1))
def test_longer_blur_is_restored_at_coarser_scales(length, scales):
    low, high = (scene.suited_scale(factor * length, sorted(scales)) for factor in (1, 3))
    assert min(scales) <= low <= high <= max(scales)
    assert scene.suited_scale(1, SCALES) == 1
    assert scene.suited_scale(1000, SCALES) == max(SCALES)


def test_what_is_taken_for_found_is_what_was_asked_for():
    setting = setting_of(weights_of(lively()))
    staged = scene.stage(setting.deblurrer(), (600, 520), 0.2, 40)
    found = staged.findings
    assert found.probability.mean() == pytest.approx(0.2, abs=0.001)
    assert found.length == pytest.approx(40)
    assert scale_shares(found.scale, SCALES)[1].max() == 0  # not at full size
    result = staged.run(setting.deblurrer())
    assert result.blurred_share == pytest.approx(0.2, abs=0.02)
    timed = run.run_benchmark(setting, (600, 520), 0.2, 40, 1, only=["deblur", "dense float32"])
    assert timed.tiles_restored == result.tiles_restored
    shorter = run.run_benchmark(setting, (600, 520), 0.2, 5, 1, only=["deblur"])
    assert timed.timings["deblur"].macs < shorter.timings["deblur"].macs


@pytest.mark.parametrize("guided", [False, True])
def test_lmd_vit_is_timed_alone_and_behind_a_detector(guided):
    network = lively_lmd_vit()
    weights = guided_by(lively_detector(), network) if guided else weights_of(network)
    found = run.run_benchmark(setting_of(weights), (128, 128), 0.3, 10, 1)
    assert found.tiles_restored == 1
    assert {"deblur", "detect", "detect, scale 1", "dense float32", "dense auto"} < set(found.timings)
    assert "nafnet float32" not in found.timings
    assert found.timings["dense float32"].macs == count_restoration(network, 128, 128)
    assert found.timings["deblur"].macs is None
    parts = profiling.profile_run(setting_of(weights), (128, 128), 0.3, 10).parts
    assert {"encoderlayer_0", "decoderlayer_0", "output_proj"} < {part.name for part in parts}


def test_a_network_that_marks_nothing_is_timed_without_detection():
    found = run.run_benchmark(setting_of(weights_of(lively("nafnet"))), (128, 128), 0.3, 10, 1)
    assert not {"detect", "detect, scale 1", "cues"} & set(found.timings)
    assert found.detection_ratio is None
    assert found.tiles_restored == 1


def test_the_dense_run_computes_what_the_network_computes():
    network = lively(encoder=(1, 1, 1, 3))
    plain = run.plain_network(network, "cpu")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(image).image, network(image).image)


def test_no_repeat_pays_for_a_first_call(monkeypatch):
    first, plain = [], run.run_dense
    monkeypatch.setattr(
        run, "run_dense", lambda network, level, tiles: first.append(network) or plain(network, level, tiles)
    )
    names = ["dense auto", "dense float32", "nafnet float32"]
    run.run_benchmark(setting_of(weights_of(lively())), (64, 64), 0.5, 10, 2, only=names)
    assert first == first[:3] * 3  # each once before either repeat
    assert len(set(map(id, first))) == 3


def test_what_terminates_a_bench_cleans_up_after_it(weights_file, monkeypatch):
    left = []

    def terminated(*words):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        finally:
            left.append("cleaned up")

    monkeypatch.setattr(run, "run_benchmark", terminated)
    assert bench(weights_file).exit_code == 143
    assert left


def test_the_clock_is_read_once_the_device_has_done_its_work(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    began = clock("cpu")
    assert not waited and clock("cuda:1") >= began
    assert waited == ["cuda:1"]

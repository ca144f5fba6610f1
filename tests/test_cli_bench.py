import json

import pytest
from networks import lively
from typer.testing import CliRunner

from deblur_cli import benchmark
from deblur_cli import weights as catalogue
from deblur_cli.cli.app import app
from deblur_cli.restore import Settings


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    catalogue.save(path, lively(), {}, half=False)
    return path


def test_bench_prints_the_ratio_first_and_as_json(weights_file):
    arguments = [
        "bench",
        "--size",
        "640x128",
        "--repeats",
        "1",
        "--tile",
        "128",
        "--overlap",
        "32",
        "-w",
        weights_file,
    ]
    plain = CliRunner().invoke(app, [str(word) for word in arguments])
    assert plain.exit_code == 0, plain.stderr
    assert "times as fast as dense float32 (640x128, 10% blurred)" in plain.stdout.splitlines()[0]
    facts = json.loads(CliRunner().invoke(app, [str(word) for word in [*arguments, "--json"]]).stdout)
    assert facts["ratio_deblur"] == pytest.approx(
        facts["dense"]["seconds"][0] / facts["deblur"]["seconds"][0]
    )
    assert 0 < facts["tiles_restored"] < facts["tiles"]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--size", "big"),
        ("--size", "4x4"),
        ("--size", "-5x9"),
        ("--blurred", "2"),
        ("--repeats", "0"),
        ("--tile", "7"),
    ],
)
def test_bad_values_are_usage_errors(option, value, weights_file):
    result = CliRunner().invoke(app, ["bench", option, value, "-w", str(weights_file)])
    assert result.exit_code == 2
    assert value in result.stderr or "at least" in result.stderr


def test_the_blurred_share_is_what_was_asked_for():
    network = lively()
    loaded = catalogue.LoadedWeights("tiny", "m2aenet", "", network)
    found = benchmark.run_benchmark(
        loaded, (640, 128), 0.25, 1, Settings(tile=128, overlap=32), "cpu", "fp32"
    )
    assert benchmark.disc(80, 16, 0.25).mean() == pytest.approx(0.25)
    assert found.tiles_restored < found.tiles
    small = benchmark.run_benchmark(loaded, (64, 64), 0.1, 1, Settings(), "cpu", "fp32")
    assert small.tiles_restored == 1
    nothing = benchmark.run_benchmark(
        loaded, (640, 128), 0.0, 1, Settings(tile=128, overlap=32), "cpu", "fp32"
    )
    assert nothing.tiles_restored == 0


def test_the_dense_run_computes_what_the_network_computes():
    import torch

    network = lively(encoder=(1, 1, 1, 3))
    plain = benchmark.plain_network(network, "cpu")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(plain(image).image, network(image).image)

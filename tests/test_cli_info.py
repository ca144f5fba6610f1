"""`deblur info`: what it tells people and programs."""

import json
import platform
import tomllib
from pathlib import Path

import cli_helpers
import pytest
import torch
from cli_helpers import deblur, install
from huggingface_hub import constants

from deblur_cli import __version__, weights
from deblur_cli.cli import info
from deblur_cli.errors import WeightsError
from deblur_cli.restoration.device import choose_device, choose_precision, describe_devices


@pytest.fixture(autouse=True)
def network(monkeypatch):
    install(monkeypatch)


def test_info_names_version_device_precision_memory_weights_and_cache(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/somewhere/hub")
    chosen = choose_device("auto")
    precision = choose_precision(chosen, "auto")
    result = deblur("info")
    assert (result.exit_code, result.stderr) == (0, "")
    text = " ".join(result.stdout.split())
    for fact in (
        f"deblur {__version__}",
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"{torch.get_num_threads()} thread",
        "GiB",
        f"chosen {chosen}, {precision.name} ({precision.reason})",
        *describe_devices(),
        "m2aenet-guided (m2aenet, 9.5 MB, the default): " + cli_helpers.__file__,
        "nafnet-gopro (nafnet, 68.7 MB): file is missing",
    ):
        assert fact in text
    assert result.stdout.splitlines()[-1].split(maxsplit=1) == ["cache", "/somewhere/hub"]


def test_formats_that_need_an_extra_are_told_with_what_to_install(monkeypatch):
    facts = json.loads(deblur("info", "--json").stdout)
    declared = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {extra["name"] for extra in facts["extras"]} == declared.keys() - {"dev"}
    assert {"JPEG", "HEIC", "JPEG XL", "camera RAW"} <= set(facts["reads"])
    assert facts["writes"] == ["JPEG", "PNG", "WebP", "TIFF", "AVIF"]
    monkeypatch.setattr(info, "find_spec", lambda name: None)
    shown = deblur("info").stdout
    (reads,) = (line for line in shown.splitlines() if line.startswith("reads "))
    assert "WebP" in reads and "HEIC" not in reads and "JPEG XL" not in reads
    for line in (
        'reading HEIC; to add it, run pip install ".[heif]" in your clone of deblur',
        'reading JPEG XL; to add it, run pip install ".[jxl]" in your clone of deblur',
        'drawing plots; to add it, run pip install ".[plot]" in your clone of deblur',
        'photos in buckets and on the web; to add it, run pip install ".[remote]" in your clone of deblur',
        '`deblur run --cluster`; to add it, run pip install ".[cluster]" in your clone of deblur',
        'the page of `deblur ui`; to add it, run pip install ".[ui]" in your clone of deblur',
    ):
        assert f"missing   {line}\n" in shown


def test_what_a_run_would_use_is_told_with_its_files(monkeypatch):
    monkeypatch.undo()  # the real catalog
    used = json.loads(deblur("info", "--json").stdout)["used"]
    assert Path(used["weights_path"]).is_file() and Path(used["detector_path"]).is_file()
    shown = deblur("info").stdout
    assert f"restorer {used['weights']}: {used['weights_path']}\n" in shown
    assert f"detector {used['detector']}: {used['detector_path']}\n" in shown
    assert f"epsilon {used['epsilon']:g}\n" in shown


def test_one_thread_is_called_one_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    shown = deblur("info").stdout
    assert "1 thread used" in shown and "(1 thread)" in shown


def test_info_as_json_is_one_object():
    result = deblur("info", "--json")
    assert result.stdout.count("\n") == 1
    facts = json.loads(result.stdout)
    assert (facts["version"], facts["device"]) == (__version__, choose_device("auto"))
    assert facts["precision"] == choose_precision(facts["device"], "auto").name
    assert 0 < facts["memory_free_bytes"] <= facts["memory_bytes"]
    assert [(entry["name"], entry["default"], entry["path"]) for entry in facts["weights"]] == [
        ("m2aenet-guided", True, cli_helpers.__file__),
        ("nafnet-gopro", False, None),
    ]


def test_info_still_answers_where_the_weights_are_missing(monkeypatch):
    def fail():
        raise WeightsError("the embedded weights are missing: install deblur again")

    monkeypatch.setattr(weights, "installed", fail)
    result = deblur("info")
    assert result.exit_code == 0
    assert "the embedded weights are missing: install deblur again" in result.stdout


def test_ctrl_c_is_one_line(monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "gather", interrupt)
    result = deblur("info")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted.\n")


def test_processor_is_named_where_the_system_tells_and_also_where_not(tmp_path, monkeypatch):
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Acme 9000 @ 3 GHz\nmodel name\t: other\n")
    monkeypatch.setattr(info, "CPU_INFO", listing)
    assert info.cpu_name() == "Acme 9000 @ 3 GHz"
    monkeypatch.setattr(info, "CPU_INFO", tmp_path / "none")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert info.cpu_name() == platform.machine()

"""`deblur bench --self-check`: all is well here, and a path that computes something else is named."""

import json

import numpy as np
import pytest
import torch
from cli_helpers import deblur
from networks import guided_by, lively, lively_detector, told

from deblur_cli.benchmark import self_check
from deblur_cli.benchmark.fast_paths import fast_paths
from deblur_cli.benchmark.scene import Setting
from deblur_cli.benchmark.self_check import Check, SelfCheck, Tiles, check_path
from deblur_cli.nets import fast, motion, motion_cues, richardson_lucy
from deblur_cli.restoration import Tiling, tiles

TOOL = ("tool, mask", "tool, picture, mean", "tool, picture, largest")


def weights():
    return guided_by(lively_detector(), told(pooling=48))


def test_all_is_well_here():
    result = deblur("bench", "--self-check", "--device", "cpu", "--json")
    assert result.exit_code == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["passed"] and facts["weights"] == "m2aenet-guided + detector-small"
    checks = {(check["what"], check["precision"]): check for check in facts["checks"]}
    assert {precision for _, precision in checks} == {"fp32", "bf16"}
    for what in ("detector", "restorer", "NAFNet", "LMD-ViT", "tiles", *TOOL):
        assert all((what, precision) in checks for precision in ("fp32", "bf16"))
    assert all(check["error"] <= check["limit"] and check["reason"] for check in facts["checks"])
    assert checks["Richardson-Lucy", "fp32"]["error"] > 0  # it is not the plain way itself
    assert checks["tool, picture, mean", "bf16"]["error"] > 0


def test_half_precision_is_checked_where_it_is_asked_for():
    expected = {}
    for path in fast_paths(weights()):
        check = check_path(path, "cpu", "fp16", expected)
        assert check.passed, check
        assert check.precision == ("fp32" if path.always_float32 else "fp16")


def wrong(plain):
    """A function that gives something else."""
    return lambda *words, **more: 1.5 * plain(*words, **more) + 0.5


BREAKS = {
    "scales folded in": (fast.FoldedBlock, "add"),
    "pooling in cells": (fast.CellAverage, "enlarge"),
    "masked blocks, few pixels": (fast, "depthwise"),
    "masked blocks, many pixels": (fast.F, "linear"),
    "idle blocks left out": (fast.FoldedBlock, "weigh"),
    "deformable rows": (motion, "gather_taps"),
    "windows kept": (fast.KeptWindowBlock, "attend"),
    "motion cues": (motion_cues, "smoothed"),
    "Richardson-Lucy": (richardson_lucy, "mean_over_instants"),
    "restorer": (fast.PrunedBlock, "extract"),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_path_that_computes_something_else_is_noticed(what, monkeypatch):
    (path,) = [path for path in fast_paths(weights()) if path.what == what]
    expected = {}
    assert check_path(path, "cpu", "fp32", expected).passed
    place, name = BREAKS[what]
    monkeypatch.setattr(place, name, wrong(getattr(place, name)))
    check = check_path(path, "cpu", "fp32", expected)
    assert not check.passed and check.error > check.limit


def rounded(values):
    """Float32 with the 10 bits of TF32."""
    bits = values.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("what", ["NAFNet", "LMD-ViT"])
def test_float32_that_is_rounded_to_tf32_is_noticed(what, monkeypatch):
    (path,) = [path for path in fast_paths(weights()) if path.what == what]
    expected, plain = {what: path.plain()}, torch.nn.functional.conv2d

    def conv2d(x, weight, *rest, **more):
        return plain(rounded(x), rounded(weight), *rest, **more)

    monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
    check = check_path(path, "cpu", "fp32", expected)
    assert check.limit < check.error < 0.1


def test_a_seam_between_tiles_is_noticed(monkeypatch):
    assert Tiles("cpu").check("fp32").passed
    plain = tiles.Mosaic.add

    def add(self, tile, values):
        plain(self, tile, values * np.linspace(1, 0.5, values.shape[1], dtype=np.float32)[:, None])

    monkeypatch.setattr(tiles.Mosaic, "add", add)  # darker towards the right border of each tile
    assert not Tiles("cpu").check("fp32").passed


def test_what_fails_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(fast, "depthwise", wrong(fast.depthwise))
    result = deblur("bench", "--self-check", "--device", "cpu", "--precision", "fp32")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    (row,) = [line for line in lines if line.startswith("masked blocks, few pixels ")]
    assert "FAILED" in row and "NAFNet                      fp32" in result.stdout
    assert any(line.startswith("FAILED: restorer, fp32: the error may be at most 1.0e-03") for line in lines)
    (said,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "checks failed (masked blocks, few pixels" in said and "NAFNet" not in said
    assert "and report this" in said


def test_what_a_device_refuses_is_told(monkeypatch):
    def refuse(*_):
        raise RuntimeError("\"depthwise\" not implemented for 'Half'\nsee the manual")

    monkeypatch.setattr(fast, "depthwise", refuse)
    found = self_check.run_self_check(Setting(weights(), Tiling(), "cpu", "fp32"))
    refused = [check for check in found.failed if check.error is None]
    assert {check.what for check in refused} >= {"masked blocks, few pixels", "restorer"}
    assert {check.problem for check in refused} == {"\"depthwise\" not implemented for 'Half'"}


@pytest.mark.parametrize(
    ("device", "failed", "cure"),
    [
        ("cuda:0", {"bf16"}, "use --precision fp32, and report this"),
        ("cuda:0", {"bf16", "fp32"}, "use --device cpu, and report this"),
        ("cpu", {"fp32"}, "results of this machine may be wrong, and report this"),
    ],
)
def test_the_advice_suits_the_device(device, failed, cure):
    errors = {precision: 1.0 if precision in failed else 0.0 for precision in ("fp32", "bf16")}
    checks = [Check("rows", precision, error, 0.1, "", 0) for precision, error in errors.items()]
    found = SelfCheck(device, "", "", tuple(checks))
    assert found.advice == f"{len(failed)} of 2 checks failed (rows): {cure}"


def test_an_error_that_is_no_number_has_not_passed():
    assert not Check("rows", "fp32", float("nan"), 0.1, "", 0).passed


@pytest.mark.parametrize("other", [("--profile",), ("--sweep", "blurred"), ("--only", "detect")])
def test_it_is_done_alone(other):
    result = deblur("bench", "--self-check", *other)
    assert result.exit_code == 2 and "can't be used together" in result.stderr


def test_weights_that_detect_by_themselves_are_checked_too():
    found = {path.what for path in fast_paths(guided_by(lively_detector(), lively()))}
    assert {"detector", "restorer"} <= found

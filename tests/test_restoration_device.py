"""Which device and precision are chosen, and what is said where that cannot be."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from deblur_cli.errors import DeviceError
from deblur_cli.restoration import device
from deblur_cli.restoration.device import (
    choose_device,
    choose_precision,
    free_memory,
    keep_freed_memory,
    return_freed_memory,
    to_cpu,
    to_device,
    whole_float32,
)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def gpus(monkeypatch, count, capability=(9, 0)):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name: capability)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "mps:0", ""])
def test_unknown_devices_are_refused_with_the_known_ones(no_gpu, name):
    with pytest.raises(DeviceError, match=r"unknown device .*use auto, cpu, cuda, cuda:N or mps"):
        choose_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_gpus_come_with_advice(no_gpu, name):
    with pytest.raises(DeviceError, match="available here: use --device cpu"):
        choose_device(name)


def test_auto_takes_the_best_device_there_is(no_gpu, monkeypatch):
    assert choose_device("auto") == "cpu"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("mps") == "mps"
    gpus(monkeypatch, 2)
    assert choose_device("auto") == choose_device("cuda") == "cuda:0"
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"
    with pytest.raises(DeviceError, match="only 2 CUDA device"):
        choose_device("cuda:2")


@pytest.mark.parametrize(("fast", "expected"), [(True, "bf16"), (False, "fp32")])
def test_cpus_run_bfloat16_only_in_hardware(monkeypatch, fast, expected):
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: fast)
    chosen = choose_precision("cpu")
    assert chosen.name == expected
    assert "bfloat16" in chosen.reason and ("no bfloat16" in chosen.reason) != fast


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_gpus_run_bfloat16_from_ampere_on(monkeypatch, capability, expected):
    gpus(monkeypatch, 1, capability)
    assert choose_precision("cuda:0").name == expected


def test_a_precision_that_is_asked_for_is_taken(monkeypatch):
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        chosen = choose_precision("cpu", name)
        assert (chosen.name, chosen.dtype, chosen.reason) == (name, dtype, "as asked")
    with pytest.raises(DeviceError, match=r"unknown precision 'int8'.*fp32"):
        choose_precision("cpu", "int8")


def test_bfloat16_is_looked_up_in_what_torch_knows_of_the_cpu(monkeypatch):
    for known, expected in (
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx2": True}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert device.cpu_has_bfloat16() is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # older versions of torch have none
    assert device.cpu_has_bfloat16() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is found on Linux")
def test_glibc_is_told_to_keep_freed_memory(monkeypatch):
    if "libc.so.6" not in Path("/proc/self/maps").read_text():
        pytest.skip("not glibc")
    assert keep_freed_memory() is True
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
    assert return_freed_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is found on Linux")
def test_what_glibc_kept_goes_back_to_the_system():
    if not keep_freed_memory():
        pytest.skip("not glibc")
    pieces = [np.ones(1 << 18) for _ in range(200)]  # 2 MiB each
    top = np.ones(1 << 16)  # else all of them would be one piece at the end of the heap
    del pieces
    before = psutil.Process().memory_info().rss
    assert return_freed_memory()
    assert before - psutil.Process().memory_info().rss > 300 << 20
    assert top.all()


def test_what_torch_keeps_on_a_gpu_counts_as_free(monkeypatch):
    """Otherwise tiles would be smaller, and results others, for every photo but the first."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda name: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda name: 200)
    assert free_memory("cuda:0") == 1500


def test_cuda_fetches_values_from_pinned_memory(monkeypatch):
    done, plain, values = [], torch.Tensor.to, torch.rand(3)

    def to(self, device, **how):
        done.append((device, how))
        return plain(self, "cpu")

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: done.append("pinned") or self)
    monkeypatch.setattr(torch.Tensor, "to", to)
    assert torch.equal(to_device(values, "cuda:1"), values)
    assert done == ["pinned", ("cuda:1", {"non_blocking": True})]
    assert torch.equal(to_device(values, "cpu"), values) and "pinned" not in done[2:]
    assert to_cpu(values) is values


def test_float32_on_cuda_is_not_rounded_to_tf32_while_a_network_runs():
    before = torch.backends.cudnn.allow_tf32
    with whole_float32():
        assert not torch.backends.cudnn.allow_tf32 and torch.backends.cudnn.enabled
    assert torch.backends.cudnn.allow_tf32 == before

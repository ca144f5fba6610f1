"""Clocks and memory."""

import ctypes
import logging
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Timing:
    """Seconds of each repeat of one way to do something, and the most bytes held meanwhile.

    memory is what came on top of the bytes held before (libraries, weights, photo): of the GPU where there
    is one, else of the process; None where the system does not tell.
    """

    name: str
    seconds: tuple[float, ...]
    memory: int | None = None
    macs: int | None = None

    @property
    def median(self) -> float:
        """Middle of the repeats."""
        return statistics.median(self.seconds)


Action = Callable[[], object]


def interleave(
    actions: dict[str, Action], repeats: int, device: str, step: Callable[[str], None]
) -> dict[str, Timing]:
    """Time every action once, then all of them again, so that a busy machine slows all of them alike.

    Memory is measured in the first repeat, which therefore has to ask the system for all of its pages.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    memory: dict[str, int | None] = dict.fromkeys(actions)
    for repeat in range(repeats):
        for name, action in actions.items():
            step(f"{name}, {repeat + 1} of {repeats}")
            before = begin_memory(device) if repeat == 0 else None
            synchronize(device)
            started = time.perf_counter()
            action()
            synchronize(device)
            seconds[name].append(time.perf_counter() - started)
            if before is not None:
                memory[name] = peak_memory(device) - before
    return {name: Timing(name, tuple(seconds[name]), memory[name]) for name in actions}


def begin_memory(device: str) -> int | None:
    """Forget the peak so far and return the bytes held now; None where the peak cannot be forgotten."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    if not sys.platform.startswith("linux"):
        return None
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator kept of the action before
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)
    except (OSError, AttributeError) as error:
        LOG.info("peak memory is not measured: %s", error)
        return None
    return int(psutil.Process().memory_info().rss)


def peak_memory(device: str) -> int:
    """Most bytes held since `begin_memory`."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    line = next(line for line in lines if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024  # "VmHWM:  123 kB"


def synchronize(device: str) -> None:
    """Wait until the device has done all that it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def describe_machine(device: str) -> str:
    """Processor or GPU, threads and torch version."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"

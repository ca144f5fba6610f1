"""Which device and which precision a run uses, and why."""

import ctypes
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from deblur_cli.errors import DeviceError, OutOfMemoryError

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers of glibc's malloc.h
KEEP = 1 << 30  # bytes that the allocator may keep instead of returning them to the system
# what the CPU, CUDA and its libraries, and MPS say of it in errors without a type of their own
OUT_OF_MEMORY = (
    *("not enough memory", "can't allocate memory"),
    *("CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"),
    "MPS backend out of memory",
)


@dataclass(frozen=True)
class Precision:
    """Number format of a run, a key of DTYPES, and the reason for it."""

    name: str
    reason: str

    @property
    def dtype(self) -> torch.dtype:
        return DTYPES[self.name]


def choose_device(name: str = "auto") -> str:
    """The torch device that "auto", "cpu", "cuda", "cuda:N" or "mps" stands for.

    Raises DeviceError where it does not exist here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return "cpu"
    if kind == "mps" and not number:
        if torch.backends.mps.is_available():
            return "mps"
        raise DeviceError("no Apple GPU (mps) is available here: use --device cpu")
    if kind == "cuda" and (number.isdecimal() or name == "cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(number or 0) < count:
            return f"cuda:{int(number or 0)}"
        have = f"only {count} CUDA device(s) are" if count else "no CUDA device is"
        raise DeviceError(f"{have} available here: use --device cpu or see `deblur info`")
    raise DeviceError(f"unknown device {name!r}: use auto, cpu, cuda, cuda:N or mps")


def choose_precision(device: str, name: str = "auto") -> Precision:
    """The number format for a device: bfloat16 where the device is fast in it, else float32.

    Raises DeviceError for an unknown name.
    """
    if name != "auto":
        if name not in DTYPES:
            raise DeviceError(f"unknown precision {name!r}: use auto, fp32, bf16 or fp16")
        return Precision(name, "as asked")
    if device.startswith("cuda"):
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return Precision("bf16", "this GPU multiplies bfloat16 at full speed")
        return Precision("fp32", "this GPU has no fast bfloat16")
    if device == "cpu" and cpu_has_bfloat16():
        return Precision("bf16", "this CPU multiplies bfloat16 in hardware")
    if device == "cpu":
        return Precision("fp32", "this CPU has no bfloat16 hardware (AVX512-BF16 or AMX)")
    return Precision("fp32", "the safe choice for this device")


def cpu_has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; other CPUs would only emulate it, slowly."""
    # Older versions of torch have no such list.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def free_memory(device: str) -> int:
    """Bytes that a run may use on the device, among them those that torch keeps from earlier tensors."""
    if device.startswith("cuda"):
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + kept)
    return int(psutil.virtual_memory().available)


def to_device(values: Tensor, device: str) -> Tensor:
    """Values of the CPU on a device. CUDA fetches them from pinned memory, and nothing waits for it."""
    if device.startswith("cuda"):
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def to_cpu(values: Tensor) -> Tensor:
    """Values on the CPU, once they are there. From a CUDA device they come into pinned memory."""
    if values.is_cuda:
        values, device = values.to("cpu", non_blocking=True), values.device
        torch.cuda.current_stream(device).synchronize()
    return values.cpu()


@contextmanager
def whole_float32() -> Iterator[None]:
    """Let cuDNN convolve float32 as such, instead of rounding to the 10 bits of TF32; CPUs do so anyway.

    It does not try out algorithms either: it would do so anew for each size, and parts of tiles differ.
    """
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
        yield


def clock(device: str) -> float:
    """The time in seconds, once the device has done all that it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def describe_devices() -> list[str]:
    """One line for each device that a run can use."""
    threads = torch.get_num_threads()
    lines = [f"cpu ({threads} thread{'' if threads == 1 else 's'})"]
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(number)
        lines.append(f"cuda:{number} ({properties.name}, {properties.total_memory / 2**30:.1f} GiB)")
    if torch.backends.mps.is_available():
        lines.append("mps (Apple GPU)")
    return lines


def keep_freed_memory() -> bool:
    """Let glibc's allocator keep the buffers of one layer for the next one; false where it is not glibc.

    Otherwise each large buffer is returned to the system and its pages are cleared again on first use,
    which costs about as much time as the layers at full resolution themselves.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        logger.info("the C library has no mallopt: freed buffers go back to the system")
        return False
    return all(mallopt(option, KEEP) == 1 for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))


def return_freed_memory() -> bool:
    """Give back to the system what `keep_freed_memory` kept; false where the allocator is not glibc's.

    Each thread keeps its own, in pieces that tiles of another size do not fit into, so that it grows from
    photo to photo. The next layers take about 0.1 s longer.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        logger.info("the C library has no malloc_trim: freed buffers stay with this process")
        return False
    trim(ctypes.c_size_t(0))
    return True


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn the ways in which Python and torch say "out of memory" into one."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError("out of memory") from error
    except RuntimeError as error:
        if any(words in str(error) for words in OUT_OF_MEMORY):
            raise OutOfMemoryError("out of memory") from error
        raise

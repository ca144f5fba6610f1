"""`deblur info`: what deblur found on this machine."""

import platform
from pathlib import Path
from typing import Any

from deblur_cli import __version__
from deblur_cli.cli import options
from deblur_cli.errors import WeightsError

CPU_INFO = Path("/proc/cpuinfo")


def info(json: options.Json = False, debug: options.Debug = False) -> None:
    """Show version, devices, precision, memory, installed weights and folders."""
    del debug  # read where errors are translated
    from deblur_cli.cli.output import Output

    facts = gather()
    Output(json=json).tell(facts, *lines(facts))


def gather() -> dict[str, Any]:
    """Return everything that `deblur info` tells, ready for JSON."""
    import psutil
    import torch
    from huggingface_hub import constants

    from deblur_cli.restoration import device as devices

    device = devices.choose_device("auto")
    precision = devices.choose_precision(device, "auto")
    memory = psutil.virtual_memory()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": torch.get_num_threads(),
        "memory_bytes": memory.total,
        "memory_free_bytes": memory.available,
        "devices": devices.describe_devices(),
        "device": device,
        "precision": precision.name,
        "precision_reason": precision.reason,
        **found_weights(),
        "used": used_weights(),
        "cache": constants.HF_HUB_CACHE,
    }


def found_weights() -> dict[str, Any]:
    """Describe the weights of the catalog, or say why there is none."""
    from deblur_cli import weights

    try:
        entries = weights.installed()
    except WeightsError as error:  # what a user may have called this command for
        return {"weights": [], "weights_problem": str(error)}
    described = [
        {
            "name": entry.name,
            "architecture": entry.architecture,
            "path": str(path) if (path := weights.local(entry)) and path.is_file() else None,
            "embedded": entry.hub is None,
            "bytes": entry.bytes,
            "training": entry.training,
            "default": entry.name == weights.DEFAULT,
        }
        for entry in entries
    ]
    return {"weights": described, "weights_problem": None}


def used_weights() -> dict[str, Any]:
    """Tell what `deblur run` uses unless told otherwise, or what is wrong with that."""
    from deblur_cli import weights
    from deblur_cli.restoration.deblurrer import Request

    try:
        notes = weights.notes_of(weights.DEFAULT)
        detector = weights.detector_for(notes)
        finder = weights.DEFAULT if detector is None else detector
        epsilon = weights.epsilon_in(notes if detector is None else weights.notes_of(finder), finder)
    except WeightsError as error:
        return {"weights": weights.DEFAULT, "detector": None, "epsilon": None, "problem": str(error)}
    epsilon = Request.epsilon if epsilon is None else epsilon
    return {"weights": weights.DEFAULT, "detector": detector, "epsilon": epsilon, "problem": None}


def lines(facts: dict[str, Any]) -> list[str]:
    """Lay the facts out for people, one per line."""
    table = [
        ("deblur", facts["version"]),
        ("Python", f"{facts['python']} on {facts['system']}"),
        ("torch", facts["torch"]),
        (
            "CPU",
            f"{facts['cpu']}, {_count(facts['cores'], 'core')}, {_count(facts['threads'], 'thread')} used",
        ),
        ("memory", f"{_gib(facts['memory_bytes'])}, {_gib(facts['memory_free_bytes'])} of it free"),
        *(("device", str(device)) for device in facts["devices"]),
        ("chosen", f"{facts['device']}, {facts['precision']} ({facts['precision_reason']})"),
        *(("weights", _weights_line(entry)) for entry in facts["weights"]),
        *([] if facts["weights_problem"] else [("used", _used_line(facts["used"]))]),
        ("cache", facts["cache"]),
    ]
    if facts["weights_problem"]:
        table.insert(-1, ("weights", facts["weights_problem"]))
    return [f"{name:<9} {value}" for name, value in table]


def _weights_line(entry: dict[str, Any]) -> str:
    mark = ", the default" if entry["default"] else ""
    missing = "file is missing" if entry["embedded"] else f"run `deblur weights pull {entry['name']}`"
    where = entry["path"] or missing
    size = f"{entry['bytes'] / 1e6:.1f} MB" if entry["bytes"] else "size unknown"
    return f"{entry['name']} ({entry['architecture']}, {size}{mark}): {where}"


def _used_line(used: dict[str, Any]) -> str:
    if used["problem"]:
        return str(used["problem"])
    finder = f"detector {used['detector']}" if used["detector"] else "their own mask"
    return f"{used['weights']}, {finder}, epsilon {used['epsilon']:g}"


def _count(number: int | None, thing: str) -> str:
    return f"{number or 'unknown'} {thing}{'' if number == 1 else 's'}"


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def cpu_name() -> str:
    """Return the processor's name as its maker gives it, else its architecture."""
    try:
        text = CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())

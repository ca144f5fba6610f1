"""`deblur info`: what deblur found on this machine."""

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deblur_cli import __version__
from deblur_cli.cli import options
from deblur_cli.cli.output import file_size
from deblur_cli.errors import WeightsError, how_to_install

EXTRAS = (  # name, what it adds, the module that it installs, and the format that needs it
    ("heif", "reading HEIC", "pillow_heif", "HEIF"),
    ("jxl", "reading JPEG XL", "pillow_jxl", "JXL"),
    ("plot", "drawing plots", "matplotlib", None),
    ("remote", "photos in buckets and on the web", "s3fs", None),
    ("cluster", "`deblur run --cluster`", "ray", None),
    ("ui", "the page of `deblur ui`", "nicegui", None),
)
CPU_INFO = Path("/proc/cpuinfo")


def info(json: options.Json = False, debug: options.Debug = False) -> None:
    """Show what there is on this machine: devices, memory, formats, weights, and folders."""
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
        **found_formats(),
        **found_weights(),
        "used": used_weights(),
        "cache": constants.HF_HUB_CACHE,
    }


def found_formats() -> dict[str, Any]:
    """Tell which formats are read and written, and which extras there are, installed or not."""
    from deblur_cli.photo.header import NAMES
    from deblur_cli.photo.writers import WRITERS

    extras = [
        {"name": name, "adds": adds, "installed": find_spec(module) is not None}
        for name, adds, module, _ in EXTRAS
    ]
    missing = [form for *_, module, form in EXTRAS if form and find_spec(module) is None]
    return {
        "reads": [name for form, name in NAMES.items() if form not in missing],
        "writes": [NAMES[form] for form in WRITERS],
        "extras": extras,
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
    """Tell what `deblur run` uses unless told otherwise and where it lies, or what is wrong with that."""
    from deblur_cli import weights
    from deblur_cli.restoration.deblurrer import Request

    try:
        notes = weights.notes_of(weights.DEFAULT)
        detector = weights.detector_for(notes)
        finder = weights.DEFAULT if detector is None else detector
        epsilon = weights.epsilon_in(notes if detector is None else weights.notes_of(finder), finder)
        places = [name and weights.source_of(name).path for name in (weights.DEFAULT, detector)]
    except WeightsError as error:
        nothing = dict.fromkeys(("weights_path", "detector", "detector_path", "epsilon"))
        return {"weights": weights.DEFAULT, **nothing, "problem": str(error)}
    weights_path, detector_path = (place and str(place) for place in places)
    return {
        "weights": weights.DEFAULT,
        "weights_path": weights_path,
        "detector": detector,
        "detector_path": detector_path,
        "epsilon": Request.epsilon if epsilon is None else epsilon,
        "problem": None,
    }


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
        ("reads", ", ".join(facts["reads"])),
        ("writes", ", ".join(facts["writes"])),
        *(("missing", _extra_line(extra)) for extra in facts["extras"] if not extra["installed"]),
        *(("weights", _weights_line(entry)) for entry in facts["weights"]),
        *([] if facts["weights_problem"] else [("used", line) for line in _used_lines(facts["used"])]),
        ("cache", facts["cache"]),
    ]
    if facts["weights_problem"]:
        table.insert(-1, ("weights", facts["weights_problem"]))
    return [f"{name:<9} {value}" for name, value in table]


def _weights_line(entry: dict[str, Any]) -> str:
    mark = ", the default" if entry["default"] else ""
    missing = "file is missing" if entry["embedded"] else f"run `deblur weights pull {entry['name']}`"
    where = entry["path"] or missing
    size = file_size(entry["bytes"]) if entry["bytes"] else "size unknown"
    return f"{entry['name']} ({entry['architecture']}, {size}{mark}): {where}"


def _extra_line(extra: dict[str, Any]) -> str:
    return f"{extra['adds']}; to add it, run {how_to_install(extra['name'])}"


def _used_lines(used: dict[str, Any]) -> list[str]:
    if used["problem"]:
        return [str(used["problem"])]
    finder = f"detector {used['detector']}: {used['detector_path']}"
    return [
        f"restorer {used['weights']}: {used['weights_path']}",
        finder if used["detector"] else "no detector: the restorer detects blur itself",
        f"epsilon {used['epsilon']:g}",
    ]


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

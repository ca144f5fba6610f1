"""Run the command line with the stand-in network in the workers of a real Ray cluster, too.

The worker that first reads the photo named in DEBLUR_TEST_FATAL dies of it.
"""

import os
import signal
import sys
from pathlib import Path

import cli_helpers
import pytest
import ray

from deblur_cli.cli.run import steps


def in_worker() -> None:
    """Prepare a worker: called by Ray as each one starts."""
    cli_helpers.install(pytest.MonkeyPatch())
    read, marker = steps.decode, Path(os.environ["DEBLUR_TEST_FATAL"])

    def decode(path, *words):
        if path.name == marker.name and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(path, *words)

    steps.decode = decode


if __name__ == "__main__":
    init = ray.init
    ray.init = lambda *words, **options: init(
        *words, **options, num_cpus=2, runtime_env={"worker_process_setup_hook": "ray_run.in_worker"}
    )
    sys.argv[0] = "deblur"
    cli_helpers.main()

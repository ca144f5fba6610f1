"""The entry point, before any command is there."""

import subprocess
import sys

from cli_helpers import process_environment

INTERRUPTED = """
import sys

late = sys.argv[1]

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == late:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from deblur_cli.__main__ import main
sys.argv = ["deblur", "--version"]
main()
"""


def test_ctrl_c_while_the_program_is_being_loaded_ends_without_a_word():
    for module in ("deblur_cli.cli.app", "typer", "deblur_cli.cli.weights"):
        command = [sys.executable, "-c", INTERRUPTED, module]
        result = subprocess.run(command, env=process_environment(), capture_output=True, check=False)
        assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"")

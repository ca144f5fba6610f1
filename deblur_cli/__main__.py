"""Entry point of the `deblur` command and of `python -m deblur_cli`."""

import gc
import os
import sys

INTERRUPTED = 130  # that of cli.output, which takes a while to be imported

# torch then asks Linux for large pages, which spares a photo some 6% of its time; read when torch starts.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from deblur_cli.cli.app import app  # here, so that Ctrl-C meanwhile ends like any other

        app(prog_name="deblur")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # else Python looks for garbage among all that torch made once more, for some 0.3 s


if __name__ == "__main__":
    main()

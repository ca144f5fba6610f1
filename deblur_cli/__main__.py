"""Entry point of the `deblur` command and of `python -m deblur_cli`."""

import sys

INTERRUPTED = 130  # that of cli.errors, which takes a while to be imported


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        from deblur_cli.cli.app import app  # here, so that Ctrl-C meanwhile ends like any other

        app(prog_name="deblur")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()

"""Entry point of the `deblur` command and of `python -m deblur_cli`."""

from deblur_cli.cli.app import app


def main() -> None:
    """Run the command line and exit with its code."""
    app(prog_name="deblur")


if __name__ == "__main__":
    main()

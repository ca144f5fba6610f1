"""Registers the commands; each lives in a file of its own.

A command's file may import at its top only what its options need. Whatever needs torch, numpy or
Pillow is imported inside the command, so that `deblur --help` answers at once.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from deblur_cli import __version__
from deblur_cli.cli.bench import bench
from deblur_cli.cli.epsilon import epsilon
from deblur_cli.cli.evaluate import evaluate
from deblur_cli.cli.help import PanelCommand
from deblur_cli.cli.info import info
from deblur_cli.cli.options import Version
from deblur_cli.cli.output import OK, USAGE, Terminated, describe, exit_code
from deblur_cli.cli.run.command import run
from deblur_cli.cli.synth import synth
from deblur_cli.cli.train import train
from deblur_cli.cli.weights import app as weights


class GuardedGroup(TyperGroup):
    """The group of all commands; every exception leaves it as one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; in standalone mode exit with its code."""

        def action() -> object:
            return super(GuardedGroup, self).main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )

        if not standalone_mode:
            return action()
        words = sys.argv[1:] if args is None else args
        sys.exit(guard(action, debug="--debug" in words))

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Here, as of any KeyboardInterrupt Typer makes an exit code that means Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            typer.echo("Terminated." if isinstance(error, Terminated) else "Interrupted.", err=True)
            raise typer.Exit(exit_code(error)) from error


def guard(action: Callable[[], object], *, debug: bool) -> int:
    """Run a whole command and return its exit code; whatever it raises becomes one line on stderr."""
    try:
        code = action()
    except (KeyboardInterrupt, typer.Abort) as error:
        return exit_code(error)
    except Exception as error:  # noqa: BLE001 - the outermost frame: a user is shown a line, not a traceback
        if debug:
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)  # noqa: T201 - Rich may not be loaded yet
        return exit_code(error)
    return code if isinstance(code, int) else OK


# Typer's Rich help doubles the time that --help takes, hence plain text.
app = typer.Typer(cls=GuardedGroup, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def start(context: typer.Context, version: Version = False) -> None:
    """Deblur what moved in a photo and leave the rest as it was."""
    if version:
        typer.echo(f"deblur {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


app.command(cls=PanelCommand)(run)
app.command()(epsilon)
app.command()(info)
app.command()(evaluate)
app.command()(bench)
app.command()(train)
app.command()(synth)
app.add_typer(weights, name="weights")

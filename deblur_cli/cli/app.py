"""Registers the commands; each lives in a file of its own.

A command's file may import at its top only what its options need. Whatever needs torch, numpy or
Pillow is imported inside the command, so that `deblur --help` answers at once.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import typer
from typer.core import TyperOption

from deblur_cli import __version__
from deblur_cli.cli.bench import bench
from deblur_cli.cli.compare import compare
from deblur_cli.cli.epsilon import epsilon
from deblur_cli.cli.evaluate import evaluate
from deblur_cli.cli.help import PanelCommand, PanelGroup, with_examples
from deblur_cli.cli.info import info
from deblur_cli.cli.options import Version
from deblur_cli.cli.output import OK, USAGE, Terminated, describe, exit_code
from deblur_cli.cli.run.command import run
from deblur_cli.cli.run.settings import SettingsCommand
from deblur_cli.cli.synth import synth
from deblur_cli.cli.train import train
from deblur_cli.cli.ui import ui
from deblur_cli.cli.weights import app as weights
from deblur_cli.errors import UsageError
from deblur_cli.stores import is_address

HELP = "help"  # what many type for --help; no command of its own
RUN = "run"  # the command that photos without a command mean
SUMMARY = "Restore what moved in photos, and leave every other pixel as it was."
EXAMPLES = (
    ("deblur dog.jpg", "write dog_deblurred.jpg next to it"),
    ("deblur holiday/ -r -o sharper/", "a folder and the folders inside it"),
    ("deblur dog.jpg --epsilon 0.2", "restore more than by default"),
)


class GuardedGroup(PanelGroup):
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

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Find the command among the words; photos and options of photos alone are for `run`."""
        if args and args[0] == HELP:
            args = [*args[1:], "--help"]
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if args and args[0] not in own | self.commands.keys():
            if not ctx.resilient_parsing:
                self._check_for_run(args)
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def _check_for_run(self, args: Sequence[str]) -> None:
        """Raise UsageError for words that can hardly be meant for `run`."""
        first = args[0]
        if first and not first.startswith("-") and not os.path.lexists(first) and not is_address(first):
            like = get_close_matches(first, self.commands, 1)
            hint = f"did you mean `deblur {like[0]}`?" if like else "`deblur --help` shows the commands"
            raise UsageError(f"no such command or file: {first}; {hint}")
        options = [one for one in self.commands[RUN].params if isinstance(one, TyperOption)]
        followed = {name for option in options if not option.is_flag for name in option.opts}
        for before, word in pairwise(args):
            if word in self.commands and before not in followed and not os.path.lexists(word):
                raise UsageError(f"{word} is a command, so it comes first: deblur {word} ...")

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Show both ways to call: with photos, and with a command."""
        formatter.write_usage(ctx.command_path, "[OPTIONS] PHOTO|FOLDER...")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGUMENTS]...", prefix="       ")

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
app = typer.Typer(
    cls=GuardedGroup,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(
    invoke_without_command=True,
    help=with_examples(SUMMARY, *EXAMPLES, ("deblur run --help", "show all options for photos")),
    epilog="A photo that is named like a command needs a path: deblur ./info",
)
def start(context: typer.Context, version: Version = False) -> None:
    """Show the version, or the help where there is nothing else to do."""
    if version:
        typer.echo(f"deblur {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


app.command(
    cls=SettingsCommand,
    help=with_examples(SUMMARY, *EXAMPLES),
    short_help="Restore photos; the word `run` may be left out.",
)(run)
app.command(cls=PanelCommand, short_help="Draw what several values of epsilon would restore.")(epsilon)
app.command(cls=PanelCommand, short_help="Look at photos and correct their masks in the browser.")(ui)
app.command(cls=PanelCommand, short_help="Make a web page that compares two pictures.")(compare)
app.command(cls=PanelCommand, short_help="Show devices, formats, and weights of this machine.")(info)
app.command(cls=PanelCommand, short_help="Measure how good weights are on a dataset.")(evaluate)
app.command(cls=PanelCommand, short_help="Time a photo on this machine.")(bench)
app.command(cls=PanelCommand, short_help="Train a network on your own sharp photos.")(train)
app.command(cls=PanelCommand, short_help="Make a dataset of motion blur from sharp photos.")(synth)
app.add_typer(weights, name="weights")

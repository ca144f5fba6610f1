"""The help of a command: examples, then its options in panels, as plain text; Rich takes too long to load."""

import re
from collections import defaultdict
from typing import Any

from typer.core import TyperCommand, TyperGroup

from deblur_cli.cli.options import COMMON, MESSAGES, PANELS

OTHERS = "Options"  # the panel of those that name none, above all others
NAMES = 22  # columns
_DEFAULT = re.compile(r"\[default: \(?(.*?)(\.0)?\)?]")  # Typer puts words into parentheses


def with_examples(text: str, *examples: tuple[str, str]) -> str:
    """Return a help text with commands below it, each with what it does."""
    width = max(len(command) for command, _ in examples)
    lines = (f"  {command:<{width}}  {purpose}" for command, purpose in examples)
    return "\n".join([text, "", "\b", "Examples:", *lines])  # "\b": these lines are not wrapped


def write_panels(command: Any, ctx: Any, formatter: Any) -> None:
    """Write the options of a command, each panel as a section, with its arguments in the first one."""
    panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
    arguments = []
    for parameter in command.get_params(ctx):
        if (row := parameter.get_help_record(ctx)) is None:
            continue
        if parameter.param_type_name == "argument":
            arguments.append((_argument(parameter), parameter.help or ""))
            continue
        panel = parameter.rich_help_panel
        if panel is None and MESSAGES in panels and parameter is command.get_help_option(ctx):
            panel = MESSAGES
        panels[panel or OTHERS].append((re.sub("[<>]", "", row[0]), _DEFAULT.sub(r"[default: \1]", row[1])))
    if OTHERS in panels:
        panels[OTHERS] += panels.pop(COMMON, [])
    order = [name for name in (OTHERS, *PANELS) if name in panels]
    panels[order[0]][:0] = arguments
    for name in order:
        with formatter.section(name):
            formatter.write_dl([(first.ljust(NAMES), text) for first, text in panels[name]], NAMES)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.nargs == 1 or name.endswith("...") else f"{name}..."


class PanelCommand(TyperCommand):
    """A command whose help shows its options by panel, in the order of PANELS."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what follows the command: arguments in brackets where they may be left out."""
        arguments = [one for one in self.get_params(ctx) if one.param_type_name == "argument"]
        return [
            "[OPTIONS]",
            *(_argument(one) if one.required else f"[{_argument(one)}]" for one in arguments),
        ]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the panels."""
        write_panels(self, ctx, formatter)


class PanelGroup(TyperGroup):
    """A command of several, which come before its options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the names of the commands, and the options below them."""
        self.format_commands(ctx, formatter)
        write_panels(self, ctx, formatter)

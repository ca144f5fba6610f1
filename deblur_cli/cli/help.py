"""The help of a command: its options in panels, as plain text. Rich would take as long as all the rest."""

from collections import defaultdict
from typing import Any

from typer.core import TyperCommand

from deblur_cli.cli.options import PANELS

OTHERS = "Options"  # those that name no panel


class PanelCommand(TyperCommand):
    """A command whose help shows its options by panel, in the order of PANELS."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each panel as a section; panels that are not among PANELS come first."""
        panels = defaultdict(list)
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is None:
                continue
            is_argument = parameter.param_type_name == "argument"
            default = "Arguments" if is_argument else OTHERS
            panels[getattr(parameter, "rich_help_panel", None) or default].append(row)
        order = [name for name in panels if name not in PANELS] + [name for name in PANELS if name in panels]
        for name in order:
            with formatter.section(name):
                formatter.write_dl(panels[name])

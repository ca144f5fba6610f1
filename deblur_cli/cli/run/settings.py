"""`deblur.toml`: options of `deblur run` for those who always give the same.

Its table [run] holds long names of options and their values, which count as if they were typed, unless the
command line says otherwise. The file lies in the current folder or is named with --config. One that deblur
finds by itself may have come with downloaded photos, so it may set `HARMLESS` options alone: none that says
what is read, where results go, what is replaced or downloaded, how much memory is used, or what is told.
"""

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperOption

from deblur_cli.cli.help import PanelCommand
from deblur_cli.cli.options import parse_path
from deblur_cli.cli.output import describe
from deblur_cli.cli.run.flags import check_flags
from deblur_cli.errors import DeblurError, UsageError

NAME = "deblur.toml"
TABLE = "run"
LARGEST = 1 << 16  # bytes
HARMLESS = frozenset(
    {
        *("epsilon", "strength", "thorough", "scales", "keep-sharp"),
        *("mask", "mask-format", "trajectory", "trajectory-style", "data", "only-maps", "report"),
        *("suffix", "format", "quality", "strip-metadata", "sidecars", "strict", "note"),
        *("raw-white-balance", "raw-exposure", "raw-color-space"),
        *("include", "exclude", "prefer", "skip-existing", "again", "jobs", "verbose"),
        *("device", "precision", "tile", "overlap"),
    }
)
_OF_NO_FILE = frozenset({"config", "no-config", "help"})
_CONTRADICTIONS = (
    *(("overwrite", "skip_existing"), ("overwrite", "resume"), ("verbose", "quiet")),
    ("strip_metadata", "sidecars"),
    *(("only_maps", name) for name in ("format", "quality", "strength", "thorough", "sidecars")),
)
# What goes without a word where the command line gives the first: findings note an epsilon of their own.
_GIVES_WAY = (
    *_CONTRADICTIONS,
    *(pair[::-1] for pair in _CONTRADICTIONS),
    *(("findings", "epsilon"), ("mask_file", "keep_sharp")),
)


@dataclass(frozen=True)
class Settings:
    """A settings file in use.

    values: by long name of option; is_found: the user did not name it; used: those that count in this run,
    by name of parameter
    """

    path: Path
    values: Mapping[str, object]
    is_found: bool = False
    used: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say which file is used, and what for."""
        names = ", ".join(name.replace("_", "-") for name in self.used)
        return f"{self.path} sets {names or 'nothing here'}"


def read_settings(name: str) -> Settings:
    """Read a settings file that the user names. Raises UsageError for one that cannot be used."""
    path = parse_path(name)
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path}: is too large for a settings file")
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path}: is not valid TOML: {error}") from error
    if strange := next((key for key in table if key != TABLE), None):
        raise UsageError(f"{path}: {strange}: unknown; options go below a line that says [{TABLE}]")
    values = table.get(TABLE, {})
    if not isinstance(values, dict):
        raise UsageError(f"{path}: {TABLE} must be a table: write [{TABLE}] and options below it")
    return Settings(path, {key.replace("_", "-"): value for key, value in values.items()})


def apply_settings(context: typer.Context, named: Settings | None) -> Settings | None:
    """Make the values of the file that is named, or lies here, the defaults of all other options.

    Raises UsageError for unknown keys and for values that no option takes.
    """
    if context.resilient_parsing or context.params.get("no_config"):
        return named
    settings = named
    if settings is None and os.path.isfile(NAME):  # noqa: PTH113 - Path.is_file raises where it may not look
        settings = replace(read_settings(NAME), is_found=True)
    if settings is None:
        return None
    options = {
        name.removeprefix("--"): option
        for option in context.command.params
        if isinstance(option, TyperOption)
        for name in option.opts
        if name.startswith("--") and name.removeprefix("--") not in _OF_NO_FILE
    }
    context.default_map = {}
    for key, value in settings.values.items():
        try:
            option = _option(key, options, settings)
            words = _as_typed(value, option)
            option.process_value(context, words)
        except (DeblurError, typer.TyperException) as error:
            raise UsageError(f"{settings.path}: {key}: {describe(error)}") from error
        context.default_map[option.name] = words
    return settings


def _option(key: str, options: Mapping[str, TyperOption], settings: Settings) -> TyperOption:
    if key in options and settings.is_found and key not in HARMLESS:
        raise UsageError(
            f"this option works only in a file you name with --config; add --config {settings.path}, or"
            " --no-config to ignore the file"
        )
    if key in options:
        return options[key]
    positive = key.removeprefix("no-")
    if key != positive and positive in options:
        raise UsageError(f"unknown; write {positive} = false")
    like = get_close_matches(key, options, 1)
    raise UsageError(
        f"unknown{f'; did you mean {like[0]}?' if like else ', as deblur run has no such option'}"
    )


def _as_typed(value: object, option: TyperOption) -> bool | str | list[str]:
    """Return what the command line would give for a value of TOML."""
    if option.is_flag:
        if isinstance(value, bool):
            return value
        raise UsageError(f"must be true or false, not {_shown(value)}")
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        raise UsageError(f"must be text or a number, not {_shown(value)}")
    words = [str(part) for part in parts]
    return words if option.multiple else ",".join(words)


def _shown(value: object) -> str:
    return json.dumps(value, default=str)


class SettingsCommand(PanelCommand):
    """A command whose options may come from a settings file."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line, unless a word on it can hardly be meant as a photo."""
        if not ctx.resilient_parsing:
            check_flags(args, [one for one in self.params if isinstance(one, TyperOption)])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command with what the command line and the file say together."""
        settings = ctx.params["config"]
        if settings is None or not ctx.default_map:
            return super().invoke(ctx)
        options = {option.name: option for option in self.params}
        for name in set(_giving_way(ctx)) & ctx.default_map.keys():
            del ctx.default_map[name]
            ctx.params[name] = options[name].process_value(ctx, options[name].get_default(ctx))
        used = [name for name in ctx.default_map if _source(ctx, name) == "DEFAULT_MAP"]
        ctx.params["config"] = replace(settings, used=tuple(used))
        _check(ctx.params)
        return super().invoke(ctx)


def _check(values: Mapping[str, Any]) -> None:
    """Raise UsageError, with the name of the file, where its options contradict each other."""
    from deblur_cli.cli.run.options import RunOptions

    settings = values["config"]
    try:
        RunOptions(**values)
    except UsageError as error:
        if not any(f"--{name.replace('_', '-')}" in str(error) for name in settings.used):
            raise
        raise UsageError(f"{settings.path}: {error}") from error


def _source(ctx: Any, name: str) -> str | None:
    source = ctx.get_parameter_source(name)
    return None if source is None else str(source.name)


def _giving_way(ctx: Any) -> Iterator[str]:
    """Name the options of the file that cannot go together with what the command line gives."""
    from deblur_cli.cli.run.command import DASH, READS_AGAIN, USES_STDOUT

    for given, other in _GIVES_WAY:
        if _source(ctx, given) == "COMMANDLINE":
            yield other
    if ctx.params["output"] == DASH:
        yield from (*USES_STDOUT, *READS_AGAIN)
    if DASH in ctx.params["inputs"]:
        yield from ("sidecars", *READS_AGAIN)

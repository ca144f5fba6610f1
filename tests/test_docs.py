import re
import runpy
from pathlib import Path

import pytest
import typer

from deblur_cli.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    path for folder in (".", "docs", "examples", "weights") for path in sorted((ROOT / folder).glob("*.md"))
]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def option_names(command) -> set[str]:
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_the_options_that_documents_show(page):
    blocks = re.findall(r"^ *```sh\n(.*?)```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    for line in "\n".join(blocks).replace("\\\n", "").splitlines():
        _, found, words = line.partition("#")[0].partition("deblur ")
        if not found:
            continue
        command, words = typer.main.get_command(app), words.partition("|")[0].split()
        while hasattr(command, "commands"):
            name = words.pop(0) if words[0] in command.commands else "run"
            command = command.commands[name]
        shown = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert shown <= option_names(command), line


def test_the_tables_of_costs_are_what_the_script_prints():
    script = runpy.run_path(str(ROOT / "examples" / "scale.py"))
    page = (ROOT / "docs" / "SCALE.md").read_text("utf-8")
    for lines in (script["cpu_table"](), script["limits_table"]()):
        assert "\n".join(lines) in page
    assert f"For T = 0.5 that would be {script['gpu_lines'](0.5)[0].rpartition(' ')[2]}." in page


def test_modules_that_the_architecture_names_exist():
    for name in re.findall(r"`(\w+(?:/\w+)*\.py)", (ROOT / "ARCHITECTURE.md").read_text("utf-8")):
        assert (ROOT / "deblur_cli" / name).is_file(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_imports_that_documents_show_work(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        exec("\n".join(re.findall(r"^(?:import|from) .+$", block, re.MULTILINE)), {})

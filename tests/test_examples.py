"""The examples are read by people who copy them: what stands in them must be what the code takes."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer.main
from scripts import script

from fieldtune.cli import app
from fieldtune.config import load_config, make_config, parse_overrides
from fieldtune.training.devices import requirements
from fieldtune.training.devices.requirements import require_devices

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("medicine", "law", "finance", "own")
ROOT = EXAMPLES.parent


def commands(name: str) -> list[list[str]]:
    """The commands of a README: lines of code blocks, and code in a sentence that begins with `fieldtune `."""
    text = (EXAMPLES / name / "README.md").read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", text, re.M | re.S)
    said = re.findall(r"`(fieldtune \w[^`]*)`", re.sub(r"^```\n.*?^```", "", text, flags=re.M | re.S))
    return [shlex.split(line) for block in blocks for line in block.splitlines()] + [shlex.split(line) for line in said]


def parsed(words: list[str]) -> dict[str, Any]:
    """What the command line makes of the words, without running them."""
    group: Any = typer.main.get_command(app)
    command = group.commands[words[1]]
    return dict(command.make_context(words[1], list(words[2:])).params)


def test_there_is_one_for_each_field_and_one_to_copy() -> None:
    assert sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()) == sorted((*NAMES, "cluster"))
    assert all((EXAMPLES / name / "README.md").exists() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_config_is_one(name: str) -> None:
    config = load_config(EXAMPLES / name / "fieldtune.toml")
    assert config.out == str(EXAMPLES / name / "run")
    assert all(path.startswith(str(EXAMPLES / name)) for path in config.documents.paths)


@pytest.mark.parametrize("name", ["ddp", "fsdp", "deepspeed"])
def test_the_configs_for_several_gpus_are_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "h", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(requirements, "require_deepspeed", lambda: None)
    require_devices(load_config(EXAMPLES / "cluster" / f"{name}.toml"))
    if name == "deepspeed":
        for path in sorted((EXAMPLES / "cluster").glob("zero*.json")):
            law = load_config(EXAMPLES / "law" / "m3.toml", {"training": {"deepspeed": str(path)}})
            require_devices(law)


def test_what_is_commented_out_in_the_config_to_copy_is_a_setting_too() -> None:
    section, tried = "", 0
    for line in (EXAMPLES / "own" / "fieldtune.toml").read_text("utf-8").splitlines():
        if header := re.match(r"(?:# )?\[(\w+)\]", line):
            section = header[1]
        elif off := re.match(r"# (\w+ = .+)", line):
            config = make_config({section: tomllib.loads(off[1])})
            assert getattr(config, section) != getattr(make_config({}), section)
            tried += 1
    assert tried >= 10


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_its_readme_are_real(name: str) -> None:
    found = commands(name)
    assert any(words[:2] == ["fieldtune", "run"] for words in found)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in found:
        if words[0] == "fieldtune" and words[1] == "demo":
            parsed(words)
        elif words[0] == "fieldtune":
            given = parsed(words)
            if "config" in given:
                assert str(given["config"]) == "fieldtune.toml"
                load_config(EXAMPLES / name / "fieldtune.toml", parse_overrides(given["set_"] or []))
        elif words[0] == "python":
            assert words[1] == "fetch.py"
            script(f"examples/{name}/fetch.py").parser().parse_args(words[2:])
        else:
            assert words[:2] == ["pip", "install"]
            (wanted,) = re.findall(r"fieldtune\[(.*)\]", words[2])
            assert set(wanted.split(",")) <= extras.keys()


def test_a_command_that_is_not_real_is_seen() -> None:
    with pytest.raises(KeyError):
        parsed(["fieldtune", "improve", "fieldtune.toml"])
    with pytest.raises(Exception, match="--untill"):
        parsed(["fieldtune", "run", "fieldtune.toml", "--untill", "corpus"])


@pytest.mark.parametrize("name", ["medicine", "law"])
def test_it_is_the_demo_laid_open(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fieldtune.demo import law, medicine

    monkeypatch.setattr(medicine, "_codes", lambda: iter(()))
    monkeypatch.setattr(medicine, "_labels", lambda codes: ({}, {}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(law, "law_database", Path)
    monkeypatch.setattr(law, "read_articles", lambda path: [])
    monkeypatch.setattr(law, "label", lambda questions, passages: ({}, {}))
    data = tmp_path / "data"
    demo = {"medicine": medicine.prepare_medicine, "law": law.prepare_law}[name](data)
    text = (EXAMPLES / name / "fieldtune.toml").read_text("utf-8").replace('"data/', f'"{data.as_posix()}/')
    (tmp_path / "fieldtune.toml").write_text(text, "utf-8")
    example = load_config(tmp_path / "fieldtune.toml")
    assert example.model_copy(update={"out": "", "card": demo.card}) == demo.model_copy(update={"out": ""})


def edgar(requests: list[str]) -> Any:
    """EDGAR with one company: its newer filings on the first page, its older ones on another."""
    columns = ("form", "reportDate", "accessionNumber", "primaryDocument")

    def page(*filings: tuple[str, str, str, str]) -> dict[str, list[str]]:
        return {name: [filing[place] for filing in filings] for place, name in enumerate(columns)}

    recent = page(
        ("8-K", "2023-02-01", "0-1", "no.htm"), ("10-K", "2022-12-31", "0000012-23-7", "new.htm"),
        ("10-K/A", "2021-12-31", "0-3", "no.htm"),
    )  # fmt: skip
    older = page(("10-K", "2021-12-31", "0000012-22-8", "old.htm"))
    pages = {
        "https://data.sec.gov/submissions/CIK0000000012.json": {
            "name": "Acme, Inc. / DE", "filings": {"recent": recent, "files": [{"name": "older.json"}]},
        },
        "https://data.sec.gov/submissions/older.json": older,
    }  # fmt: skip

    def read(url: str) -> bytes:
        requests.append(url)
        return json.dumps(pages[url]).encode() if url in pages else f"<p>{url}</p>".encode()

    return read


def test_filings_are_found_by_company_and_year_and_fetched_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch, asked = script("examples/finance/fetch.py"), []
    words = ["--user-agent", "A b@c.org", "--to", str(tmp_path), "--filing", "12:2022", "--filing", "12:2021"]
    fetch.main(words, edgar(asked))
    found = {path.name: path.read_text() for path in tmp_path.iterdir()}
    archive = "https://www.sec.gov/Archives/edgar/data/12"
    assert found == {
        "12-Acme-Inc-DE-2022-10-K.htm": f"<p>{archive}/0000012237/new.htm</p>",
        "12-Acme-Inc-DE-2021-10-K.htm": f"<p>{archive}/0000012228/old.htm</p>",
    }
    asked.clear()
    fetch.main(words, edgar(asked))
    assert asked == []
    assert "next: fieldtune run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--filing", "12:2022"], "--user-agent"),
        (["--user-agent", "A b@c.org", "--filing", "Acme"], "is not of the form CIK:YEAR"),
        (["--user-agent", "A b@c.org", "--filing", "12:1999"], "Acme, Inc. / DE (CIK 12) has no 10-K"),
    ],
)
def test_what_cannot_be_fetched_is_said(words: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        script("examples/finance/fetch.py").main([*words, "--to", str(tmp_path)], edgar([]))
    assert says in str(ended.value.code)
    assert list(tmp_path.iterdir()) == []


def test_without_the_internet_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = script("examples/finance/fetch.py")
    monkeypatch.setattr(fetch, "INDEX", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(fetch, "PAUSE", 0)
    with pytest.raises(SystemExit) as ended:
        fetch.main(["--user-agent", "A b@c.org", "--to", str(tmp_path)])
    assert "cannot be reached" in str(ended.value.code) and "data/filings" in str(ended.value.code)

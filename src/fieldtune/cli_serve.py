"""The commands `serve` and `ask`."""

from __future__ import annotations

import json as jsons
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fieldtune.cli_options import RunFolder, Set
from fieldtune.console import note, say

if TYPE_CHECKING:
    from fieldtune.config import Config

_LOCAL = ("127.0.0.1", "localhost", "::1")


def serve(
    run: RunFolder,
    host: Annotated[str, typer.Option(help="The address to listen on.  [default: 127.0.0.1]")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="0: any free one.  [default: 8765]")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Take [llm] and [serving] from this TOML file, not from the run.")
    ] = None,
    new_key: Annotated[
        str, typer.Option("--new-key", metavar="NAME", help="Make an API key, print it once, and end.")
    ] = "",
    labels: Annotated[
        bool, typer.Option("--labels", help="Let people mark results right or wrong on the page; RUN/labels keeps it.")
    ] = False,
    adapter: Annotated[
        list[str] | None,
        typer.Option("--adapter", metavar="NAME=FOLDER", help="Serve an adapter of the same base too; repeatable."),
    ] = None,
    set_: Set = None,
) -> None:
    """Serve a finished run over HTTP: search, answers, embeddings as OpenAI's clients expect them; a page at /."""
    resolved = _settings(
        run, config, set_, host=host, port=port, labels=labels or None, adapters=_adapters(adapter or [])
    )
    if new_key:
        from fieldtune.serving import keys

        file = keys.keys_file(run, resolved.serving)
        say(keys.new_key(file, new_key))
        note(f"its hash is in {file}; the key itself is not kept: it cannot be shown again")
        return
    _require_packages()
    # The server has its own way to end; one that is still loading ends at once, which supervisors take for no failure.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import logging

    from fieldtune.serving.opening import open_service
    from fieldtune.serving.server import Server

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("fieldtune.serving").setLevel(logging.INFO)
    note("loading index and model")
    with open_service(run, resolved) as service:
        threshold = service.volume.threshold
        note(threshold.sentence if threshold else "no dev questions: the server cannot say when an answer is not there")
        if resolved.serving.host not in _LOCAL and not service.keys.wanted:
            note(
                "everyone who reaches this address can read the documents: make API keys with --new-key NAME",
                style="bold red",
            )
        server = Server(
            service, ready=lambda address: say(f"serving {len(service.volume.index):,} passages at {address}")
        )
        server.run_until_stopped()


def ask(
    run: RunFolder,
    question: Annotated[str, typer.Argument(help="What to answer from the run's documents.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="Take [llm] and [serving] from this TOML file, not from the run.")
    ] = None,
    set_: Set = None,
) -> None:
    """Answer a question from a run's documents, with citations; without an LLM the best passages are the answer."""
    resolved = _settings(run, config, set_)
    _require_packages()
    from fieldtune.serving.once import ask_once

    answer = ask_once(run, resolved, question)
    if json:
        say(jsons.dumps(answer.model_dump(), ensure_ascii=False))
        return
    if answer.answer:
        say(answer.answer)
    if answer.note:
        note(answer.note)
    for one in answer.sentences:
        if one.reason:
            note(f"not supported ({one.reason}): {answer.answer[one.start : one.end]}", style="bold")
    for number, passage in enumerate(answer.passages, 1):
        page = f", page {passage.page}" if passage.page is not None else ""
        say(f"\n[{number}] {passage.title or passage.id}   {passage.score:.3f}", style="bold")
        say(f"    {passage.source}{page}  [{passage.id}]", style="dim")
        start, end = passage.sentence or (0, 300)
        say(f"    {' '.join(passage.text[start:end].split())}")


def _settings(run: Path, file: Path | None, set_: list[str] | None, **given: Any) -> Config:
    """The run's settings; those of service and LLM from a file where one is given, then from the command line."""
    from fieldtune.config import load_config, make_config, merge, parse_overrides
    from fieldtune.stages.record import recorded_config

    settings = recorded_config(run)
    if file is not None:
        loaded = load_config(file).model_dump(by_alias=True)
        settings = settings | {name: loaded[name] for name in ("llm", "serving")}
    words = {name: value for name, value in given.items() if value not in ("", None, {})}
    over = merge(parse_overrides(set_ or []), {"serving": words} if words else {})
    made = make_config(merge(settings, over), where="--set")
    if over.get("encoding", {}).get("export"):  # that of the run may have been of its base, and be gone
        from fieldtune.encoding.exported import require_export

        require_export(made.encoding.export, made.encoding.max_loss)
    return made


def _adapters(given: list[str]) -> dict[str, str]:
    """Raises ConfigError for what is not NAME=FOLDER, and for a name that is given twice."""
    from fieldtune.errors import ConfigError

    found: dict[str, str] = {}
    for word in given:
        name, _, folder = word.partition("=")
        if not name or not folder:
            raise ConfigError(f"--adapter {word!r} is not of the form NAME=FOLDER", "e.g. --adapter law=runs/law")
        if name in found:
            raise ConfigError(f"--adapter {name} is given twice", "give each adapter a name of its own")
        found[name] = folder
    return found


def _require_packages() -> None:
    """Raises MissingExtraError naming the command that installs what is missing."""
    import importlib.util

    from fieldtune.errors import MissingExtraError

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(f"{package}, which fieldtune serve runs on,", "serve")

